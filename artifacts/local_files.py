"""The store's verbs on the local file system, by os calls alone. What is in its final place is never copied.

``remote_files`` has the same verbs for everything else.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from flowcore.artifacts.digests import Contents, digest_path, fingerprint, scan
from flowcore.artifacts.places import local_path, reading, writing
from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import ArtifactError

if TYPE_CHECKING:
    from flowcore.artifacts.fetch_cache import FetchCache

_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR})


class LocalFiles:
    """Files below a local root."""

    def __init__(self) -> None:
        self._verified: dict[str, str | None] = {}

    def make_root(self, root: str) -> None:
        with writing(root):
            os.makedirs(root, exist_ok=True)

    def read(self, uri: str) -> bytes:
        """Raises FileNotFoundError where nothing is."""
        with reading(uri):
            try:
                with open(uri, "rb") as file:
                    return file.read()
            except NotADirectoryError as error:
                raise FileNotFoundError(*error.args) from error

    def write(self, uri: str, data: bytes) -> None:
        """All of it or nothing: a reader sees the old contents or the new ones."""
        folder = os.path.dirname(uri)
        temporary = os.path.join(folder, f".part-{os.urandom(8).hex()}")
        with writing(uri):
            os.makedirs(folder, exist_ok=True)
            try:
                with open(temporary, "xb") as file:
                    file.write(data)
                os.replace(temporary, uri)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary)
                raise

    def folders(self, uri: str) -> list[str]:
        """The names of the directories in ``uri``; none where it does not exist."""
        with reading(uri):
            try:
                with os.scandir(uri) as children:
                    return [child.name for child in children if child.is_dir(follow_symlinks=False)]
            except (FileNotFoundError, NotADirectoryError):
                return []

    def remove(self, uri: str) -> None:
        """Remove a file or tree, read-only or not, as far as that is possible."""
        remove_tree(uri)

    def place(self, uri: str, scratch: str | None) -> str:
        """Where an output is written: its final place."""
        with writing(uri):
            os.makedirs(os.path.dirname(uri), exist_ok=True)
        return uri

    def keep(self, source: str, uri: str, what: str, written: Contents | None = None) -> Contents | None:
        """Seal what lies at ``source`` as ``uri``; None where nothing is there. ``written``: see ``digest_path``."""
        with writing(uri):
            found = scan(source, what)
            if found is None:
                return None
            if os.path.abspath(source) != uri:
                _copy_in(source, uri, found[0], what)
            make_read_only(uri, what)
            return digest_path(uri, what, written)

    def fetch(self, ref: ArtifactRef, cache: FetchCache | None, holder: str) -> str:
        """The artifact's own place, once what lies there is known to be what was recorded."""
        path = local_path(ref.uri) or ""
        with reading(path):
            found = scan(path, ref.name)
            if found is None:
                raise missing(ref)
            is_directory, entries = found
            if is_directory != ref.is_directory or sum(entry.size_bytes for entry in entries) != ref.size_bytes:
                raise changed(ref, digest_path(path, ref.name))
            if not is_directory and (ref.mtime_ns, ref.inode) == (entries[0].mtime_ns, entries[0].inode):
                return path
            mark = fingerprint(path, ref.name)
            if self._verified.get(f"{ref.sha256} {path}") != mark:
                contents = digest_path(path, ref.name)
                if contents is None or contents.sha256 != ref.sha256:
                    raise changed(ref, contents)
                self._verified[f"{ref.sha256} {path}"] = mark
        return path

    def contents(self, ref: ArtifactRef) -> Contents | None:
        """Size and digest as they are now; None where nothing is there."""
        path = local_path(ref.uri) or ""
        with reading(path):
            return digest_path(path, ref.name)

    def download(self, uri: str, folder: str) -> str:
        """Local already."""
        return local_path(uri) or uri


def _copy_in(source: str, uri: str, is_directory: bool, what: str) -> None:
    if uri.startswith(os.path.abspath(source) + os.sep):
        raise ArtifactError(f"artifact {what!r}: {source!r} holds the artifact's own place {uri!r}; use another directory")
    folder = os.path.dirname(uri)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".part-{os.urandom(8).hex()}")
    try:
        if is_directory:
            shutil.copytree(source, temporary)
        else:
            shutil.copyfile(source, temporary)
        move_in(temporary, uri)
    finally:
        remove_tree(temporary)


def missing(ref: ArtifactRef) -> ArtifactError:
    """Facts to one sentence: a recorded artifact that is gone."""
    return ArtifactError(f"artifact {ref.name!r} is missing: {ref.uri!r} is gone; restore it or run the task that made it again")


def changed(ref: ArtifactRef, found: Contents | None) -> ArtifactError:
    """Facts to one sentence: an artifact that is not what was recorded."""
    recorded = _told(ref.is_directory, ref.size_bytes, ref.sha256)
    there = "nothing" if found is None else _told(found.is_directory, found.size_bytes, found.sha256)
    text = f"artifact {ref.name!r} has changed: {ref.uri!r} is not what was recorded: found {there}, recorded {recorded}"
    return ArtifactError(f"{text}; restore it or run the task that made it again")


def _told(is_directory: bool, size_bytes: int | None, sha256: str | None) -> str:
    return f"a {'directory' if is_directory else 'file'} of {size_bytes} bytes with sha256 {sha256}"


def make_read_only(path: str, what: str) -> None:
    """Take write permission from the file at ``path``, or from all files below it; directories keep theirs."""
    found = scan(path, what)
    for entry in found[1] if found else []:
        # Some network file systems know no modes; mtime, inode and digest still guard the contents there.
        with suppress(OSError):
            os.chmod(entry.path, stat.S_IMODE(os.lstat(entry.path).st_mode) & ~0o222)


def remove_tree(path: str) -> None:
    """Remove a file or tree, through read-only directories; what cannot be removed stays, without an error."""
    if not os.path.isdir(path) or os.path.islink(path):
        with suppress(OSError):
            os.unlink(path)
        return
    for folder, _, _ in os.walk(path):
        with suppress(OSError):
            os.chmod(folder, 0o700)
    shutil.rmtree(path, ignore_errors=True)


def move_in(temporary: str, target: str) -> None:
    """Put ``temporary`` in the place of ``target``, for directories too; the last of several movers wins."""
    while True:
        try:
            os.replace(temporary, target)
        except OSError as error:
            if error.errno not in _OCCUPIED:
                raise
        else:
            return
        aside = os.path.join(os.path.dirname(target), f".old-{os.urandom(8).hex()}")
        with suppress(FileNotFoundError):
            os.replace(target, aside)
        remove_tree(aside)
