"""The artifact store: workers write below an attempt, seal, and write ``outcome.json`` last; readers get verified local paths.

``execution`` is the writing side; ``local_files`` and ``remote_files`` do the work. No name is trusted without its outcome, as
s3fs completes a multipart upload when an exception leaves ``with fs.open(...)``. fsspec is imported for remote roots only.
"""

from __future__ import annotations

import atexit
import copy
import functools
import hashlib
import json
import os
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from flowcore.artifacts.digests import is_sha256
from flowcore.artifacts.execution import OUTCOME, Execution, new_artifact
from flowcore.artifacts.local_files import LocalFiles, changed, missing, remove_tree
from flowcore.artifacts.places import check_segment, local_path, normal_root, protocol_of, reason
from flowcore.artifacts.remote_files import RemoteFiles
from flowcore.artifacts.types import Artifact, ArtifactRef
from flowcore.errors import ArtifactError, CodeError, StorageError

CODE = ".code"


class ArtifactStore:
    """Artifacts and code below one pipeline_root: a directory or any URL that fsspec knows.

    ``storage_options`` go to fsspec. ``cache_dir`` keeps fetched contents for other stores and runs; without one they live in a
    private directory until ``close``. Stores may be used by several threads, and pickled.
    """

    def __init__(self, root: str, storage_options: Mapping[str, Any] | None = None, *, cache_dir: str | None = None) -> None:
        """
        Raises:
            StorageError: the root is empty. What else is wrong with it shows in ``check``.
        """
        self.root = normal_root(os.fspath(root))
        self.protocol = protocol_of(self.root)
        self.is_local = self.protocol == "file"
        self.storage_options = dict(storage_options or {})
        self._cache_dir = None if cache_dir is None else os.path.abspath(cache_dir)
        self._files: LocalFiles | RemoteFiles = LocalFiles() if self.is_local else RemoteFiles(self.root, self.storage_options)
        self._lock = threading.Lock()
        self._private: dict[str, None] = {}
        self._private_cache: str | None = None
        self._pid = os.getpid()
        weakref.finalize(self, _remove_private, self._private, self._pid)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(ArtifactStore, cache_dir=self._cache_dir), (self.root, self.storage_options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the private cache and the scratch files of unfinished executions."""
        with self._lock:
            self._private_cache = None
            _remove_private(self._private, self._pid)

    def check(self) -> None:
        """Make the root and prove that it can be written and read.

        Raises:
            StorageError: it cannot, or the driver of its protocol is missing; the message says why and what to do.
        """
        probe, data = f"{self.root}/.probe-{os.urandom(8).hex()}", os.urandom(16)
        self._files.make_root(self.root)
        try:
            self._files.write(probe, data)
            if self._files.read(probe) != data:
                raise StorageError(f"{self.root!r}: a file written there read back differently; choose another pipeline_root")
        except FileNotFoundError as error:
            text = f"{self.root!r}: a file written there was gone at once ({reason(error)}); choose another pipeline_root"
            raise StorageError(text) from error
        finally:
            with suppress(StorageError, OSError):
                self._files.remove(probe)

    def join(self, *parts: str) -> str:
        """The URI below the root of ``parts``, each one path segment.

        Raises:
            ArtifactError: a part cannot be a path segment.
        """
        return "/".join([self.root.rstrip("/") if self.is_local else self.root, *map(check_segment, parts)])

    def begin(self, attempt_uri: str, execution: str | None = None) -> Execution:
        """A new execution of an attempt; nothing is written until an output is asked for.

        Raises:
            ArtifactError: ``execution`` is given and no path segment.
        """
        return Execution(self, self._files, attempt_uri, os.urandom(4).hex() if execution is None else check_segment(execution))

    def open_input(self, ref: ArtifactRef) -> Artifact:
        """The artifact as a task body sees it: its own copy, fetched on the first use of ``path``."""
        artifact = new_artifact(ref.schema_title)
        artifact.name, artifact._uri, artifact.metadata = ref.name, ref.uri, copy.deepcopy(ref.metadata)
        artifact._ref, artifact._fetch = ref, functools.partial(self.fetch, ref)
        return artifact

    def fetch(self, ref: ArtifactRef) -> str:
        """A local path to the artifact, ending in its file name; local artifacts are not copied.

        External artifacts are not verified.

        Raises:
            ArtifactError: the task that made it wrote metadata only, or the contents are missing or are not what was recorded.
            StorageError: the storage cannot be reached.
        """
        local = local_path(ref.uri)
        if ref.sha256 is not None:
            return self._files_of(ref.uri).fetch(ref, None if local is not None else self._cache())
        if not ref.external:
            text = f"artifact {ref.name!r} has no contents: the task that made it wrote nothing to {ref.uri!r}"
            raise ArtifactError(f"{text}; write to the output's path there, or read only its metadata here")
        if local is not None:
            return local
        folder = os.path.join(self._cache(), "unverified", hashlib.sha256(ref.uri.encode()).hexdigest())
        return self._files_of(ref.uri).download(ref.uri, folder)

    def verify(self, ref: ArtifactRef) -> None:
        """Read all contents where they lie and compare size and digest; artifacts recorded without a digest pass.

        Raises:
            ArtifactError: the contents are missing or are not what was recorded.
            StorageError: the storage cannot be reached.
        """
        if ref.sha256 is None:
            return
        found = self._files_of(ref.uri).contents(ref)
        if found is None:
            raise missing(ref)
        if (found.size_bytes, found.sha256, found.is_directory) != (ref.size_bytes, ref.sha256, ref.is_directory):
            raise changed(ref, f"{found.size_bytes} bytes with sha256 {found.sha256}, not {ref.size_bytes} with {ref.sha256}")

    def outcomes(self, attempt_uri: str) -> list[tuple[str, dict[str, Any]]]:
        """The sealed executions of an attempt and their outcomes, sorted by name; unsealed and half-written ones do not count.

        Raises:
            StorageError: the storage cannot be reached.
        """
        found = []
        for name in sorted(self._files.folders(attempt_uri)):
            with suppress(FileNotFoundError, ValueError, RecursionError):
                outcome = json.loads(self._files.read(f"{attempt_uri}/{name}/{OUTCOME}"))
                if isinstance(outcome, dict):
                    found.append((name, outcome))
        return found

    def put_blob(self, data: bytes) -> str:
        """Keep ``data`` under its sha256, which is returned; what is there already stays, unless it is damaged.

        Raises:
            StorageError: it cannot be written.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        uri = self.join(CODE, sha256)
        with suppress(FileNotFoundError):
            if self._files.read(uri) == data:
                return sha256
        self._files.write(uri, data)
        return sha256

    def get_blob(self, sha256: str) -> bytes:
        """What ``put_blob`` kept.

        Raises:
            CodeError: it is missing, or its contents do not have this digest.
            StorageError: the storage cannot be reached.
        """
        if not is_sha256(sha256):
            raise CodeError(f"{sha256[:80]!r} is no sha256; the code reference is damaged, submit the run again")
        uri = self.join(CODE, sha256)
        try:
            data = self._files.read(uri)
        except FileNotFoundError as error:
            raise CodeError(f"code {uri!r} is missing; submit the run again") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CodeError(f"code {uri!r} is not what was put there; it will not be run, submit the run again")
        return data

    def _files_of(self, uri: str) -> LocalFiles | RemoteFiles:
        """Artifacts of other roots, reused or external, are read where they are; this root's options serve its own protocol."""
        if uri == self.root or uri.startswith(self.root.rstrip("/") + "/"):
            return self._files
        if local_path(uri) is not None:
            return self._files if isinstance(self._files, LocalFiles) else LocalFiles()
        return RemoteFiles(uri, self.storage_options if protocol_of(uri) == self.protocol else {})

    def _cache(self) -> str:
        if self._cache_dir is not None:
            return self._cache_dir
        with self._lock:
            if self._private_cache is None:
                self._private_cache = self.make_private("flowcore-fetched-")
            return self._private_cache

    def make_private(self, prefix: str) -> str:
        """A new temporary directory, removed by ``drop_private``, ``close`` or at the end of the process.

        Raises:
            StorageError: none can be made.
        """
        try:
            folder = tempfile.mkdtemp(prefix=prefix)
        except OSError as error:
            raise StorageError(f"no temporary directory can be made: {reason(error)}; set TMPDIR to one that works") from error
        self._private[folder] = None
        return folder

    def drop_private(self, folder: str) -> None:
        """Remove a directory of ``make_private``."""
        self._private.pop(folder, None)
        remove_tree(folder)


def fetch_uri(uri: str) -> str:
    """A local path for an artifact made by hand: the path itself, or an unverified copy that lives as long as this process.

    Raises:
        ArtifactError: there is no URI, or nothing is there.
        StorageError: the storage cannot be reached.
    """
    if not uri:
        raise ArtifactError("this artifact has no uri and so no path; give it one: Artifact(uri=...)")
    local = local_path(uri)
    if local is not None:
        return local
    folder = os.path.join(_process_dir(os.getpid()), hashlib.sha256(uri.encode()).hexdigest())
    return RemoteFiles(uri, {}).download(uri, folder)


@functools.cache
def _process_dir(pid: int) -> str:
    folder = tempfile.mkdtemp(prefix="flowcore-uri-")
    atexit.register(_remove_private, {folder: None}, pid)
    return folder


def _remove_private(folders: dict[str, None], pid: int) -> None:
    """A fork shares its parent's directories and leaves them alone."""
    while folders and pid == os.getpid():
        remove_tree(folders.popitem()[0])


__all__ = ["ArtifactStore", "Execution", "fetch_uri"]
