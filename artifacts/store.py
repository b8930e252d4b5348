"""The artifact store: workers write below an attempt, seal, and write ``outcome.json`` last; readers get verified local paths.

``execution`` is the writing side; ``local_files`` and ``remote_files`` do the work. No name is trusted without its outcome, as
s3fs completes a multipart upload when an exception leaves ``with fs.open(...)``. fsspec is imported for remote roots only.
"""

from __future__ import annotations

import atexit
import copy
import functools
import hashlib
import os
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from flowcore.artifacts.digests import is_sha256
from flowcore.artifacts.execution import OUTCOME, Execution, new_artifact, read_outcome
from flowcore.artifacts.fetch_cache import DEFAULT_BYTES, UNTIL_CLOSE, FetchCache
from flowcore.artifacts.local_files import LocalFiles, changed, missing, remove_tree
from flowcore.artifacts.places import check_segment, local_path, normal_root, protocol_of, reason
from flowcore.artifacts.remote_files import RemoteFiles
from flowcore.artifacts.types import Artifact, ArtifactRef
from flowcore.errors import ArtifactError, CodeError, StorageError, UsageError

CODE = ".code"


class ArtifactStore:
    """Artifacts and code below one pipeline_root: a directory or any URL that fsspec knows.

    ``storage_options`` go to fsspec; secrets in them may be references, ``{"env": NAME}`` or ``{"file": PATH}``, which are
    resolved where the file system is opened and nowhere else. ``cache_dir`` keeps fetched contents for other stores and runs;
    without one they live in a private directory until ``close``. ``cache_bytes`` bounds either (default 10 GiB): what was used
    longest ago goes first, but nothing that a living artifact of ``open_input`` has fetched. ``private_dir`` is where private
    directories are made, for an owner that removes it; the private cache is then shared by all stores there. Stores may be used
    by several threads, and pickled.
    """

    def __init__(
        self,
        root: str,
        storage_options: Mapping[str, Any] | None = None,
        *,
        cache_dir: str | None = None,
        cache_bytes: int | None = None,
        private_dir: str | None = None,
    ) -> None:
        """
        Raises:
            StorageError: the root is empty. What else is wrong with it shows in ``check``.
            UsageError: ``cache_bytes`` is not positive.
        """
        if cache_bytes is not None and cache_bytes <= 0:
            raise UsageError(f"a fetch cache of {cache_bytes} bytes holds nothing; give a positive number of bytes")
        self.root = normal_root(os.fspath(root))
        self.protocol = protocol_of(self.root)
        self.is_local = self.protocol == "file"
        self.storage_options = dict(storage_options or {})
        self.cache_dir = None if cache_dir is None else os.path.abspath(os.path.expanduser(cache_dir))
        self.cache_bytes = cache_bytes
        self._private_dir = private_dir
        self._files: LocalFiles | RemoteFiles = LocalFiles() if self.is_local else RemoteFiles(self.root, self.storage_options)
        self._lock = threading.Lock()
        self._private: dict[str, None] = {}
        self._fetched: FetchCache | None = None
        self._pid = os.getpid()
        weakref.finalize(self, _remove_private, self._private, self._pid)

    def __reduce__(self) -> tuple[Any, ...]:
        make = functools.partial(ArtifactStore, cache_dir=self.cache_dir, cache_bytes=self.cache_bytes)
        return make, (self.root, self.storage_options)

    def __repr__(self) -> str:
        return f"<artifact store {self.root!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove the private cache and the scratch files of unfinished executions."""
        with self._lock:
            if self._fetched is not None:
                self._fetched.close()
                self._fetched = None
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
            with suppress(Exception):  # drivers raise what they like, and the first failure is the one to tell
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
        if local_path(ref.uri) is None:
            holder = os.urandom(8).hex()
            artifact._fetch = functools.partial(self.fetch, ref, holder)
            weakref.finalize(artifact, self._release, holder).atexit = False
        else:
            artifact._fetch = functools.partial(self.fetch, ref)
        artifact._ref = ref
        return artifact

    def _release(self, holder: str) -> None:
        if self._fetched is not None:
            self._fetched.release(holder)

    def fetch(self, ref: ArtifactRef, holder: str = UNTIL_CLOSE) -> str:
        """A local path to the artifact, ending in its file name; local artifacts are not copied.

        External artifacts are not verified. A copy stays until this store is closed.

        Raises:
            ArtifactError: the task that made it wrote metadata only, or the contents are missing or are not what was recorded.
            StorageError: the storage cannot be reached.
        """
        local = local_path(ref.uri)
        if ref.sha256 is not None:
            return self._files_of(ref.uri).fetch(ref, None if local is not None else self._cache(), holder)
        if not ref.external:
            text = f"artifact {ref.name!r} has no contents: the task that made it wrote nothing to {ref.uri!r}"
            raise ArtifactError(f"{text}; write to the output's path there, or read only its metadata here")
        if local is not None:
            return local
        cache, key = self._cache(), f"unverified/{hashlib.sha256(ref.uri.encode()).hexdigest()}"
        cache.pin(key, holder)
        with cache.fetching(key):
            path = self._files_of(ref.uri).download(ref.uri, cache.place(key))
        cache.make_room(os.path.getsize(path))
        return path

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
            raise changed(ref, found)

    def outcomes(self, attempt_uri: str) -> list[tuple[str, dict[str, Any]]]:
        """The sealed executions of an attempt and their outcomes, sorted by name; unsealed and half-written ones do not count.

        Raises:
            ArtifactError: an outcome is whole and not what was sealed.
            StorageError: the storage cannot be reached.
        """
        found = []
        for name in sorted(self._files.folders(attempt_uri)):
            uri = f"{attempt_uri}/{name}/{OUTCOME}"
            with suppress(FileNotFoundError):
                outcome = read_outcome(self._files.read(uri), uri)
                if outcome is not None:
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

    def _cache(self) -> FetchCache:
        with self._lock:
            if self._fetched is None:
                folder = self.cache_dir or (self._private_dir and os.path.join(self._private_dir, "fetched"))
                folder = folder or self.make_private("flowcore-fetched-")
                self._fetched = FetchCache(folder, DEFAULT_BYTES if self.cache_bytes is None else self.cache_bytes)
            return self._fetched

    def make_private(self, prefix: str) -> str:
        """A new temporary directory, removed by ``drop_private``, ``close`` or at the end of the process.

        Raises:
            StorageError: none can be made.
        """
        try:
            folder = tempfile.mkdtemp(prefix=prefix, dir=self._private_dir)
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
