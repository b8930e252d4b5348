"""What a file or directory holds, as size and sha256. Reads local files only; never follows a symlink, never writes.

A directory's digest is the sha256 over a line a file, ``json.dumps([relative path, size_bytes, sha256]) + "\\n"``, by path.
Paths have forward slashes; empty directories do not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from typing import Any, NamedTuple

from flowcore.errors import ArtifactError

_KINDS = (
    (stat.S_ISLNK, "a symlink"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_MAX_THREADS = 8
_PARALLEL_BYTES = 32 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Entry(NamedTuple):
    """One file of an artifact; ``relative`` is "" where the artifact is a single file."""

    relative: str
    path: str
    size_bytes: int
    mtime_ns: int
    inode: int


class Contents(NamedTuple):
    """Size and digest of a file or directory; ``mtime_ns`` and ``inode`` only for a single local file."""

    size_bytes: int
    sha256: str
    is_directory: bool
    mtime_ns: int | None = None
    inode: int | None = None


def is_sha256(text: str) -> bool:
    """Whether ``text`` is a digest, and so fit to be a file name."""
    return _SHA256.fullmatch(text) is not None


def scan(path: str, what: str) -> tuple[bool, list[Entry]] | None:
    """Whether ``path`` is a directory, and its files sorted by relative path; None where nothing is there.

    Raises:
        ArtifactError: there is something that is neither a file nor a directory; ``what`` names the artifact.
    """
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(found.st_mode):
        entries: list[Entry] = []
        _collect(path, "", what, entries)
        entries.sort()
        return True, entries
    return False, [_entry("", path, found, what)]


def digest_entries(is_directory: bool, files: Iterable[tuple[str, int, str]]) -> Contents:
    """The contents made up of ``files``, each (relative path, size in bytes, sha256)."""
    listed = sorted(files)
    if not is_directory:
        [(_, size_bytes, sha256)] = listed
        return Contents(size_bytes, sha256, False)
    lines = hashlib.sha256()
    for file in listed:
        lines.update(json.dumps(file).encode() + b"\n")
    return Contents(sum(size for _, size, _ in listed), lines.hexdigest(), True)


def digest_path(path: str, what: str, written: Contents | None = None) -> Contents | None:
    """Read everything at ``path``; None where nothing is there.

    ``written`` is what was hashed while it was written: it is taken where the file's size, mtime and inode are still those.

    Raises:
        ArtifactError: a file changed while it was read, or something is neither a file nor a directory.
    """
    found = scan(path, what)
    if found is None:
        return None
    is_directory, entries = found
    if written is not None and not is_directory and entries[0][2:] == (written.size_bytes, written.mtime_ns, written.inode):
        return written
    hashes = _hashes(entries, what)
    files = [(entry.relative, entry.size_bytes, sha256) for entry, sha256 in zip(entries, hashes, strict=True)]
    contents = digest_entries(is_directory, files)
    return contents if is_directory else contents._replace(mtime_ns=entries[0].mtime_ns, inode=entries[0].inode)


def fingerprint(path: str, what: str) -> str | None:
    """A cheap sign that nothing at ``path`` was rewritten: names, sizes, times and inodes, without reading contents."""
    found = scan(path, what)
    return None if found is None else hashlib.sha256(repr(found).encode("utf-8", "surrogatepass")).hexdigest()


def _collect(folder: str, prefix: str, what: str, entries: list[Entry]) -> None:
    with os.scandir(folder) as children:
        for child in children:
            found, relative = child.stat(follow_symlinks=False), prefix + child.name
            if stat.S_ISDIR(found.st_mode):
                _collect(child.path, relative + "/", what, entries)
            else:
                entries.append(_entry(relative, child.path, found, what))


def _entry(relative: str, path: str, found: os.stat_result, what: str) -> Entry:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for test, name in _KINDS if test(found.st_mode)), "not a file")
        raise ArtifactError(f"artifact {what!r}: {path!r} is {kind}; keep files and directories only, for instance a copy")
    return Entry(relative, path, found.st_size, found.st_mtime_ns, found.st_ino)


def check_unchanged(file: Any, entry: Entry, what: str) -> None:
    """The open ``file`` is still what ``entry`` saw.

    Raises:
        ArtifactError: it was written or replaced meanwhile; ``what`` names the artifact.
    """
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns, after.st_ino) != entry[2:]:
        raise ArtifactError(f"artifact {what!r}: {entry.path!r} changed while it was read; finish writing before the task ends")


def _hash(entry: Entry, what: str) -> str:
    with open(entry.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        check_unchanged(file, entry, what)
    return digest


def _hashes(entries: list[Entry], what: str) -> list[str]:
    """The digest of each entry; of much data by several threads, as hashing lets go of the interpreter's lock."""
    threads = min(_usable_cores(), len(entries), _MAX_THREADS)
    if threads < 2 or sum(entry.size_bytes for entry in entries) < _PARALLEL_BYTES:
        return [_hash(entry, what) for entry in entries]
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(threads, thread_name_prefix="flowcore-digest")
    try:
        return list(pool.map(_hash, entries, [what] * len(entries)))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
