"""The store's verbs on any fsspec file system. fsspec is imported on first use; names are never globbed.

``fs.get``, ``fs.put`` and ``fs.rm`` expand ``*`` and ``[`` in names, so those names only meet the one-file verbs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flowcore.artifacts.digests import Contents, Entry, digest_entries, digest_path, fingerprint, is_sha256, scan
from flowcore.artifacts.fetch_cache import FetchCache
from flowcore.artifacts.local_files import changed, make_read_only, missing, move_in, remove_tree
from flowcore.artifacts.places import WITHOUT_DIRECTORIES, file_name, open_filesystem, protocol_of, reading, writing
from flowcore.artifacts.retries import again
from flowcore.artifacts.transfers import PART_BYTES, download, each, upload
from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import ArtifactError, StorageError

_MAGIC = frozenset("*?[")


class RemoteFiles:
    """Files below a URL."""

    def __init__(self, root: str, options: Mapping[str, Any]) -> None:
        self._root, self._options = root, options
        self._directories = protocol_of(root) not in WITHOUT_DIRECTORIES
        self._opening = threading.Lock()
        self._open: tuple[int, Any, str] | None = None

    @property
    def _opened(self) -> tuple[Any, str]:
        found = self._open
        # Drivers with a loop of their own do not survive a fork.
        if found is None or found[0] != os.getpid():
            with self._opening:
                found = self._open = (os.getpid(), *open_filesystem(self._root, self._options))
        return found[1:]

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
            return again(lambda: bytes(self._fs.cat_file(self._path(uri))))

    def write(self, uri: str, data: bytes) -> None:
        with writing(uri):
            path = self._path(uri)
            self._make_parent(path)
            again(lambda: self._fs.pipe_file(path, data))

    def folders(self, uri: str) -> list[str]:
        """The names of the directories in ``uri``; none where it does not exist."""
        with reading(uri):
            path = self._path(uri)
            self._fs.invalidate_cache(path)
            try:
                found = again(lambda: self._fs.ls(path, detail=True))
            except FileNotFoundError:
                return []
            return [file_name(entry["name"]) for entry in found if entry["type"] == "directory"]

    def remove(self, uri: str) -> None:
        """Remove a file or everything below a prefix, as far as that is possible."""
        fs, path = self._fs, self._path(uri)
        fs.invalidate_cache(path)
        names = again(lambda: fs.find(path))
        plain = [name for name in names if not _MAGIC.intersection(name)]
        try:
            if len(plain) > 1:
                again(lambda: fs.rm(plain))
                names = [name for name in names if _MAGIC.intersection(name)]
        except Exception:  # noqa: BLE001  not all stores remove many at once
            fs.invalidate_cache(path)

        def remove(name: str) -> None:
            with suppress(Exception):
                again(lambda: fs.rm_file(name))

        each(remove, names)
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

    def keep(self, source: str, uri: str, what: str, written: Contents | None = None) -> Contents | None:
        """Upload what lies at ``source`` as ``uri``, hashed on the way, whatever was ``written``; None where nothing is there."""
        with writing(uri):
            found = scan(source, what)
        if found is None:
            return None
        is_directory, entries = found
        parents: set[str] = set()

        def send(entry: Entry) -> tuple[str, int, str]:
            place = f"{uri}/{entry.relative}" if entry.relative else uri
            with writing(place):
                target = self._path(place)
                self._make_parent(target, parents)
                return entry.relative, *upload(self._fs, entry, target, what)

        # Files of several parts go one after another, as their parts go together and memory is bounded.
        large = [entry for entry in entries if entry.size_bytes > PART_BYTES]
        sent = each(send, [entry for entry in entries if entry.size_bytes <= PART_BYTES]) + each(send, large, at_once=1)
        self._check_arrived(uri, is_directory, {relative: size_bytes for relative, size_bytes, _ in sent})
        return digest_entries(is_directory, sent)

    def _check_arrived(self, uri: str, is_directory: bool, sent: dict[str, int]) -> None:
        with reading(uri):
            files = again(lambda: self._files(uri, is_directory)) or []
        arrived = {relative: size_bytes for relative, _, size_bytes in files}
        if arrived != sent:
            differing = sorted(name for name in {*arrived, *sent} if arrived.get(name) != sent.get(name))
            name = f"{uri}/{differing[0]}".rstrip("/")
            text = f"{name!r}: {sent.get(differing[0])} bytes were sent and {arrived.get(differing[0])} arrived"
            raise StorageError(f"{text}; run the task again, and check that nothing else writes there")

    def fetch(self, ref: ArtifactRef, cache: FetchCache | None, holder: str) -> str:
        """A verified local copy, in a directory of the cache that its digest names, pinned for ``holder``."""
        sha256 = ref.sha256 or ""
        if cache is None or not is_sha256(sha256):
            raise ArtifactError(f"artifact {ref.name!r}: {sha256!r} is no sha256; the record of {ref.uri!r} is damaged")
        key = f"{sha256[:2]}/{sha256}"
        target = os.path.join(cache.place(key), file_name(ref.uri))
        cache.pin(key, holder)
        with cache.fetching(key):
            if not _holds(cache, target, ref):
                self._fetch(ref, cache, target)
        return target

    def _fetch(self, ref: ArtifactRef, cache: FetchCache, target: str) -> None:
        cache.make_room(ref.size_bytes or 0)
        temporary = os.path.join(os.path.dirname(target), f".part-{os.urandom(8).hex()}")
        try:
            contents = self._copy(ref.uri, temporary, ref.is_directory)
            if contents is None or (ref.is_directory and ref.size_bytes and not contents.size_bytes):
                raise missing(ref)
            if (contents.size_bytes, contents.sha256) != (ref.size_bytes, ref.sha256):
                raise changed(ref, contents)
            with writing(target):
                make_read_only(temporary, ref.name)
                try:
                    os.replace(temporary, target)
                except OSError:
                    # A directory cannot be replaced: if another fetch was faster, its copy stays, as it may be in use.
                    if not _holds(cache, target, ref):
                        move_in(temporary, target)
                cache.verified[target] = fingerprint(target, ref.name)
        finally:
            remove_tree(temporary)

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
            is_directory = again(lambda: not self._fs.isfile(path) and self._fs.isdir(path))
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

        def take(file: tuple[str, str, int]) -> tuple[str, int, str]:
            relative, path, size_bytes = file
            place = target if target is None or not relative else os.path.join(target, relative)
            return relative, *download(self._fs, path, size_bytes, place)

        with reading(uri):
            try:
                files = again(lambda: self._files(uri, is_directory))
                if files is None:
                    return None
                if target is not None and is_directory:
                    with writing(target):
                        os.makedirs(target)
                taken = each(take, [file for file in files if file[2] <= PART_BYTES])
                taken += each(take, [file for file in files if file[2] > PART_BYTES], at_once=1)
                return digest_entries(is_directory, taken)
            except FileNotFoundError:
                return None

    def _files(self, uri: str, is_directory: bool) -> list[tuple[str, str, int]] | None:
        """(relative path, path, size in bytes) of each file at ``uri``, as they are now; None where nothing is there."""
        base = self._path(uri)
        self._fs.invalidate_cache(base)
        if not is_directory:
            try:
                found = self._fs.info(base)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return [("", base, found["size"])] if found["type"] == "file" else None
        files = []
        for name, found in self._fs.find(base, detail=True).items():
            relative = name[len(base) :].lstrip("/")
            if not relative or not name.startswith(base) or any(part in ("", ".", "..") for part in relative.split("/")):
                raise ArtifactError(f"{uri!r} holds {name!r}, which cannot be a file of a directory; remove it")
            files.append((relative, name, found["size"]))
        return files

    def _make_parent(self, path: str, made: set[str] | None = None) -> None:
        parent = self._fs._parent(path)
        if self._directories and (made is None or parent not in made):
            self._fs.makedirs(parent, exist_ok=True)
            if made is not None:
                made.add(parent)


def _holds(cache: FetchCache, target: str, ref: ArtifactRef) -> bool:
    """Whether ``target`` is the artifact: read once a process, after that known by names, sizes, times and inodes."""
    with writing(target), suppress(ArtifactError, FileNotFoundError):
        mark = fingerprint(target, ref.name)
        if mark is not None and cache.verified.get(target) == mark:
            return True
        found = digest_path(target, ref.name)
        if found is not None and (found.sha256, found.is_directory) == (ref.sha256, ref.is_directory):
            cache.verified[target] = mark
            return True
    return False
