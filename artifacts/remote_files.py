"""The store's verbs on any fsspec file system. fsspec is imported on first use; names are never globbed.

``fs.get``, ``fs.put`` and ``fs.rm`` expand ``*`` and ``[`` in names, so only the one-file verbs are used.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any

from flowcore.artifacts.digests import Contents, digest_entries, digest_path, is_sha256, scan
from flowcore.artifacts.local_files import changed, make_read_only, missing, move_in, remove_tree
from flowcore.artifacts.places import WITHOUT_DIRECTORIES, file_name, open_filesystem, protocol_of, reading, writing
from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import ArtifactError, StorageError

_BLOCK_BYTES = 4 * 1024 * 1024


class RemoteFiles:
    """Files below a URL."""

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self._root, self._options = root, options
        self._directories = protocol_of(root) not in WITHOUT_DIRECTORIES
        self._in_memory = protocol_of(root) == "memory"
        self._opening = threading.Lock()

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        with self._opening:
            return open_filesystem(self._root, self._options)

    @property
    def _fs(self) -> Any:
        return self._opened[0]

    def _path(self, uri: str) -> str:
        fs, root = self._opened
        if uri == self._root:
            return root
        if uri.startswith(self._root.rstrip("/") + "/"):
            return root.rstrip("/") + "/" + uri[len(self._root) :].lstrip("/")
        return str(fs._strip_protocol(uri))

    def make_root(self, root: str) -> None:
        with writing(root):
            if self._directories:
                self._fs.makedirs(self._path(root), exist_ok=True)

    def read(self, uri: str) -> bytes:
        """Raises FileNotFoundError where nothing is."""
        with reading(uri):
            return bytes(self._fs.cat_file(self._path(uri)))

    def write(self, uri: str, data: bytes) -> None:
        with writing(uri):
            path = self._path(uri)
            self._make_parent(path)
            self._fs.pipe_file(path, data)

    def folders(self, uri: str) -> list[str]:
        """The names of the directories in ``uri``; none where it does not exist."""
        with reading(uri):
            path = self._path(uri)
            self._fs.invalidate_cache(path)
            try:
                found = self._fs.ls(path, detail=True)
            except FileNotFoundError:
                return []
            return [file_name(entry["name"]) for entry in found if entry["type"] == "directory"]

    def remove(self, uri: str) -> None:
        """Remove a file or everything below a prefix, as far as that is possible."""
        fs, path = self._fs, self._path(uri)
        fs.invalidate_cache(path)
        for name in fs.find(path):
            with suppress(Exception):
                fs.rm_file(name)
        if fs.isdir(path):
            for folder in sorted(fs.find(path, withdirs=True), reverse=True):
                with suppress(Exception):
                    fs.rmdir(folder)
            with suppress(Exception):
                fs.rmdir(path)

    def place(self, uri: str, scratch: str | None) -> str:
        """Where an output is written: a scratch file of the output's name."""
        with writing(scratch or uri):
            folder = os.path.join(scratch or "", "outputs")
            os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, file_name(uri))

    def keep(self, source: str, uri: str, what: str) -> Contents | None:
        """Upload what lies at ``source`` as ``uri``; None where nothing is there."""
        with writing(uri):
            found = scan(source, what)
            contents = digest_path(source, what)
            if found is None or contents is None:
                return None
            for entry in found[1]:
                target = self._path(f"{uri}/{entry.relative}" if entry.relative else uri)
                self._make_parent(target)
                self._fs.put_file(entry.path, target)
                size_bytes = self._fs.info(target)["size"]
                if size_bytes != entry.size_bytes:
                    raise StorageError(f"{uri!r}: {entry.size_bytes} bytes were sent and {size_bytes} arrived; try again")
            return contents._replace(mtime_ns=None, inode=None)

    def fetch(self, ref: ArtifactRef, cache: str | None) -> str:
        """A verified local copy, in a directory of the cache that its digest names."""
        sha256 = ref.sha256 or ""
        if cache is None or not is_sha256(sha256):
            raise ArtifactError(f"artifact {ref.name!r}: {sha256!r} is no sha256; the record of {ref.uri!r} is damaged")
        folder = os.path.join(cache, sha256[:2], sha256)
        target = os.path.join(folder, file_name(ref.uri))
        if _holds(target, ref):
            return target
        temporary = os.path.join(folder, f".part-{os.urandom(8).hex()}")
        try:
            contents = self._copy(ref.uri, temporary, ref.is_directory)
            if contents is None or (ref.is_directory and ref.size_bytes and not contents.size_bytes):
                raise missing(ref)
            if (contents.size_bytes, contents.sha256) != (ref.size_bytes, sha256):
                raise changed(ref, "its contents differ")
            with writing(target):
                make_read_only(temporary, ref.name)
                try:
                    os.replace(temporary, target)
                except OSError:
                    # A directory cannot be replaced: if another fetch was faster, its copy stays, as it may be in use.
                    if not _holds(target, ref):
                        move_in(temporary, target)
        finally:
            remove_tree(temporary)
        return target

    def contents(self, ref: ArtifactRef) -> Contents | None:
        """Size and digest as they are now; None where nothing is there."""
        return self._copy(ref.uri, None, ref.is_directory)

    def download(self, uri: str, folder: str) -> str:
        """An unverified local copy in ``folder``, in the place of an older one.

        Raises:
            ArtifactError: nothing is there.
        """
        target = os.path.join(folder, file_name(uri))
        temporary = os.path.join(folder, f".part-{os.urandom(8).hex()}")
        with reading(uri):
            path = self._path(uri)
            is_directory = not self._fs.isfile(path) and self._fs.isdir(path)
        try:
            if self._copy(uri, temporary, is_directory) is None:
                raise ArtifactError(f"nothing is at {uri!r}; check the URI")
            with writing(target):
                move_in(temporary, target)
        finally:
            remove_tree(temporary)
        return target

    def _copy(self, uri: str, target: str | None, is_directory: bool) -> Contents | None:
        """Read everything at ``uri``, into ``target`` where given, and digest it on the way."""
        with reading(uri):
            base, files = self._path(uri), []
            if not is_directory:
                try:
                    return digest_entries(False, [("", *self._stream(base, target))])
                except (FileNotFoundError, IsADirectoryError):
                    return None
            if target is not None:
                os.makedirs(target)
            self._fs.invalidate_cache(base)
            for name in self._fs.find(base):
                relative = name[len(base) :].lstrip("/")
                if not relative or not name.startswith(base) or any(part in ("", ".", "..") for part in relative.split("/")):
                    raise ArtifactError(f"{uri!r} holds {name!r}, which cannot be a file of a directory; remove it")
                files.append((relative, *self._stream(name, None if target is None else os.path.join(target, relative))))
            return digest_entries(True, files)

    def _stream(self, path: str, target: str | None) -> tuple[int, str]:
        if target is not None:
            os.makedirs(os.path.dirname(target), exist_ok=True)
        digest, size_bytes = hashlib.sha256(), 0
        with self._open(path) as source, open(target or os.devnull, "wb") as copy:
            while block := source.read(_BLOCK_BYTES):
                digest.update(block)
                copy.write(block)
                size_bytes += len(block)
        return size_bytes, digest.hexdigest()

    def _open(self, path: str) -> Any:
        # fsspec's memory files are shared objects with one position for all readers.
        return io.BytesIO(self._fs.cat_file(path)) if self._in_memory else self._fs.open(path, "rb")

    def _make_parent(self, path: str) -> None:
        if self._directories:
            self._fs.makedirs(self._fs._parent(path), exist_ok=True)


def _holds(target: str, ref: ArtifactRef) -> bool:
    with reading(target), suppress(ArtifactError, FileNotFoundError):
        found = digest_path(target, ref.name)
        return found is not None and (found.sha256, found.is_directory) == (ref.sha256, ref.is_directory)
    return False
