"""The fetch cache: contents by sha256 in one folder, bounded, least recently used first to go, shared by threads and processes.

It never fetches. What a holder has pinned stays, whoever makes room: pins are lines of a file that each process keeps locked.

    <folder>/<2 hex digits>/<sha256>/<file name>    contents; the entry's mtime is its last use
    <folder>/.lock                                  held shared to pin, exclusively to make room
    <folder>/.pins/<pid>-<random>                   "+entry" and "-entry" lines; unlocked means that its process is gone
    <folder>/.total                                 bytes in the cache, a hint that each sweep corrects
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flowcore.artifacts.local_files import remove_tree
from flowcore.artifacts.places import writing

try:
    import fcntl
except ImportError:  # Windows: safe for the threads of one process only
    fcntl = None  # type: ignore[assignment]

DEFAULT_BYTES = 10 * 1024**3
UNTIL_CLOSE = ""
"""The holder of what was pinned for as long as the cache is open."""

_KEEP = 0.9
"""A sweep goes down to this part of the bound, so that a full cache is not swept for each new entry."""


class FetchCache:
    """One folder of fetched contents, at most ``max_bytes`` but for what is pinned."""

    def __init__(self, folder: str, max_bytes: int = DEFAULT_BYTES) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        #: The fingerprint of each entry whose contents this process has read and found to be what their digest says.
        self.verified: dict[str, str | None] = {}
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._held: dict[str, set[str]] = {}
        self._pins: Counter[str] = Counter()
        self._released: deque[str] = deque()
        self._fetching: dict[str, threading.Lock] = {}
        self._own: list[tuple[int, str]] = []
        weakref.finalize(self, _drop, self._own, self._pid).atexit = True

    def place(self, key: str) -> str:
        """The entry's directory; ``key`` is its path below the folder."""
        return os.path.join(self.folder, key)

    def pin(self, key: str, holder: str = UNTIL_CLOSE) -> None:
        """Keep an entry, there or about to be fetched, until its holder is released; it counts as used now.

        Raises:
            StorageError: the folder cannot be written.
        """
        if self._pid != os.getpid():
            self._start()  # after a fork: the parent's pins and locks are its own
        with self._lock, writing(self.folder), self._locked(exclusive=not self._own):
            if not self._own:
                self._pinned_elsewhere()  # removes the files of processes that were killed
            self._settle()
            held = self._held.setdefault(holder, set())
            if key not in held:
                held.add(key)
                self._pins[key] += 1
                if self._pins[key] == 1:
                    self._note(f"+{key}\n")
            with suppress(FileNotFoundError):
                os.utime(self.place(key))

    def release(self, holder: str) -> None:
        """Let go of what a holder pinned. Takes no lock, so that it may be called while objects are collected."""
        self._released.append(holder)

    @contextmanager
    def fetching(self, key: str) -> Iterator[None]:
        """One thread of this process at a time for each entry."""
        with self._lock:
            lock = self._fetching.setdefault(key, threading.Lock())
        with lock:
            yield

    def make_room(self, size_bytes: int) -> None:
        """Count in what is about to be fetched, and remove what was used longest ago where the bound needs it.

        Raises:
            StorageError: the folder cannot be written.
        """
        with self._lock, writing(self.folder):
            with self._locked(exclusive=True):
                self._settle()
                total = self._total() + size_bytes
                victims: list[str] = []
                if total > self.max_bytes:
                    total, victims = self._sweep(size_bytes)
                self._set_total(total)
            for victim in victims:
                remove_tree(victim)

    def close(self) -> None:
        """Let go of all pins; the contents stay."""
        with self._lock:
            _drop(self._own, self._pid)
            self._held.clear()
            self._pins.clear()

    def _settle(self) -> None:
        while self._released:
            for key in self._held.pop(self._released.popleft(), ()):
                self._pins[key] -= 1
                if not self._pins[key]:
                    del self._pins[key]
                    self._note(f"-{key}\n")
        if not self._pins and self._own:
            os.ftruncate(self._own[0][0], 0)

    def _note(self, line: str) -> None:
        if not self._own:
            folder = os.path.join(self.folder, ".pins")
            os.makedirs(folder, exist_ok=True)
            path = os.path.join(folder, f"{os.getpid()}-{os.urandom(4).hex()}")
            number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._own.append((number, path))
            _flock(number, exclusive=True)
        os.write(self._own[0][0], line.encode())

    @contextmanager
    def _locked(self, *, exclusive: bool) -> Iterator[None]:
        os.makedirs(self.folder, exist_ok=True)
        number = os.open(os.path.join(self.folder, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(number, exclusive=exclusive)
            yield
        finally:
            os.close(number)

    def _total(self) -> int:
        try:
            with open(os.path.join(self.folder, ".total"), encoding="ascii") as file:
                return int(file.read())
        except FileNotFoundError:
            return 0
        except ValueError:
            return self.max_bytes

    def _set_total(self, total: int) -> None:
        with open(os.path.join(self.folder, ".total"), "w", encoding="ascii") as file:
            file.write(str(total))

    def _sweep(self, coming_bytes: int) -> tuple[int, list[str]]:
        """(bytes that stay or come, what was put aside to be removed); the caller holds the lock exclusively."""
        entries = sorted(self._entries())
        total = coming_bytes + sum(size for _, size, _ in entries)
        pinned, victims = {*self._pins, *self._pinned_elsewhere()}, self._leftovers()
        for _, size_bytes, key in entries:
            if total <= self.max_bytes * _KEEP:
                break
            if key not in pinned:
                aside = os.path.join(self.folder, f".old-{os.urandom(8).hex()}")
                with suppress(OSError):
                    os.rename(self.place(key), aside)
                    victims.append(aside)
                    total -= size_bytes
        return total, victims

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        """(last use, size in bytes, key) of each entry."""
        for group in _children(self.folder):
            if group.name.startswith("."):
                continue
            for entry in _children(group.path):
                with suppress(FileNotFoundError):
                    used = entry.stat(follow_symlinks=False).st_mtime
                    yield used, _tree_bytes(entry.path), f"{group.name}/{entry.name}"

    def _leftovers(self) -> list[str]:
        return [child.path for child in _children(self.folder) if child.name.startswith(".old-")]

    def _pinned_elsewhere(self) -> set[str]:
        """What other processes, or others here, have pinned; the caller holds the lock exclusively."""
        pinned: set[str] = set()
        for child in _children(os.path.join(self.folder, ".pins")):
            if any(path == child.path for _, path in self._own):
                continue
            with suppress(FileNotFoundError):
                number = os.open(child.path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if _is_free(number):
                        os.unlink(child.path)
                    else:
                        pinned |= _still_pinned(number)
                finally:
                    os.close(number)
        return pinned


def _children(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _tree_bytes(path: str) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _still_pinned(number: int) -> set[str]:
    with open(os.dup(number), encoding="utf-8") as file:
        counts: Counter[str] = Counter()
        for line in file.read().splitlines():
            counts[line[1:]] += 1 if line.startswith("+") else -1
    return {key for key, count in counts.items() if count > 0}


def _flock(number: int, *, exclusive: bool) -> None:
    if fcntl is not None:
        fcntl.flock(number, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)


def _is_free(number: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _drop(own: list[tuple[int, str]], pid: int) -> None:
    """A fork shares its parent's pins and leaves them alone."""
    while own and pid == os.getpid():
        number, path = own.pop()
        with suppress(OSError):
            os.unlink(path)
        with suppress(OSError):
            os.close(number)
