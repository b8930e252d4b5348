"""Folders of a task at the paths that it names: a symbolic link to a folder, made before the body and removed after it.

Attempts in several processes may want one path. Those that want the same there share it, others wait; each holds a lock that ends
with its process, so that ``sweep`` finds what a killed one left. Nothing is ever put over what was there before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from flowcore.errors import StorageError


@dataclass(frozen=True)
class Mount:
    """What is wanted at ``path``: the existing folder ``folder``, or a new private one with ``files`` in it.

    One with ``alone`` is not shared with others that want the same files.
    """

    path: str
    folder: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    alone: bool = False


def obstacle(path: str) -> str | None:
    """Why nothing can be put at ``path``, with what to do; None where it can."""
    if os.name != "posix":
        return "folders for tasks need Linux or macOS"
    if os.path.lexists(path):
        if _is_ours(path):
            return None
        return "something is there already, and nothing is put over it; choose a mount_path that does not exist on this machine"
    parent = os.path.dirname(path)
    while not os.path.lexists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK | os.X_OK):
        place = os.path.join(tempfile.gettempdir(), os.path.basename(path))
        return f"this user cannot write in {parent!r}; choose a mount_path that it can make, such as {place!r}"
    return None


@contextmanager
def mounted(mounts: Sequence[Mount]) -> Iterator[None]:
    """Keep folders at their paths while the block runs.

    Raises:
        StorageError: one cannot be put there; names the path and what to do.
    """
    with ExitStack() as stack:
        # In one order, so that two attempts never wait for each other.
        for mount in sorted(mounts, key=lambda mount: mount.path):
            stack.enter_context(_mounted(mount))
        yield


def sweep() -> None:
    """Remove what attempts left whose processes were killed."""
    base = _base()
    if not os.path.isdir(base):
        return
    for name in os.listdir(base):
        if name.endswith(".lock"):
            lock = _opened(name)
            try:
                if lock.take(wait=False):
                    _remove(lock)
            finally:
                lock.close()
    _tidy()


@contextmanager
def _mounted(mount: Mount) -> Iterator[None]:
    lock = _held(mount)
    try:
        yield
    finally:
        try:
            # Whoever holds it alone was the last to use it.
            if lock.take(wait=False):
                _remove(lock)
        finally:
            lock.close()
        _tidy()


def _held(mount: Mount) -> _Lock:
    """The lock of a path, with what is wanted there."""
    while True:
        lock = _opened(_lock_name(mount.path))
        try:
            if not lock.take(wait=mount.alone):
                lock.take(shared=True)  # others have it: waits for one that is about to make or to remove it
                if lock.is_current and _is_there(lock, mount):
                    return lock
                lock.take()  # they have something else there: waits for their end
            if lock.is_current:
                _put(lock, mount)
                if mount.alone:
                    return lock
                lock.take(shared=True)
                # The kernel lets go before it shares: another may have come and gone in between.
                if lock.is_current and _is_there(lock, mount):
                    return lock
        except BaseException:
            lock.close()
            _tidy()
            raise
        lock.close()


def _put(lock: _Lock, mount: Mount) -> None:
    base = os.path.dirname(lock.path)
    with _directories() as made:
        _take_away(lock.read(), made)
        if why := obstacle(mount.path):
            lock.remove()
            raise StorageError(f"mount_path {mount.path!r}: {why}")
        folder = mount.folder or os.path.join(base, secrets.token_hex(8))
        # First, so that whoever comes after our death knows what to remove.
        lock.write({"path": mount.path, "folder": folder, "private": mount.folder is None})
        if mount.folder is None:
            os.mkdir(folder, 0o700)
        for name, content in mount.files.items():
            file = os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(file, "wb") as target:
                target.write(content)
        missing, parent = [], os.path.dirname(mount.path)
        while not os.path.lexists(parent):
            missing.append(parent)
            parent = os.path.dirname(parent)
        try:
            for parent in reversed(missing):
                os.mkdir(parent)
                made.append(parent)
            os.symlink(folder, mount.path)
        except OSError as error:
            _take_away(lock.read(), made)
            lock.remove()
            raise StorageError(f"mount_path {mount.path!r} cannot be made: {error}; choose another") from error


def _is_there(lock: _Lock, mount: Mount) -> bool:
    record = lock.read()
    if not record or not os.path.islink(mount.path) or os.readlink(mount.path) != record["folder"]:
        return False
    if mount.folder is not None or not record["private"]:
        return bool(record["folder"] == mount.folder)
    if sorted(os.listdir(record["folder"])) != sorted(mount.files):
        return False
    return all(_content(os.path.join(record["folder"], name)) == content for name, content in mount.files.items())


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _is_ours(path: str) -> bool:
    """Whether a link is one of ours: in use by another attempt, or left by one that was killed."""
    try:
        with open(os.path.join(_base(), _lock_name(path)), encoding="utf-8") as file:
            record = json.loads(file.read() or "{}")
        return os.path.islink(path) and os.readlink(path) == record.get("folder")
    except (OSError, ValueError):
        return False


def _remove(lock: _Lock) -> None:
    """Take away what is at a path; nobody else holds its lock."""
    if lock.is_current:
        with _directories() as made:
            _take_away(lock.read(), made)
            lock.remove()


def _take_away(record: dict[str, Any], made: list[str]) -> None:
    if not record:
        return
    path, folder = record["path"], record["folder"]
    if os.path.islink(path) and os.readlink(path) == folder:
        os.unlink(path)
    if record["private"]:
        shutil.rmtree(folder, ignore_errors=True)
    for parent in sorted(made, key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(parent)  # not while another's link is in it
            made.remove(parent)


@contextmanager
def _directories() -> Iterator[list[str]]:
    """The directories that were made for links, to be changed; one process at a time has them."""
    lock = _opened("directories")
    try:
        lock.take()
        while not lock.is_current:
            lock.close()
            lock = _opened("directories")
            lock.take()
        made: list[str] = lock.read().get("made", [])
        try:
            yield made
        finally:
            lock.write({"made": made})
    finally:
        lock.close()


def _tidy() -> None:
    """Leave nothing where nothing is in use."""
    base = _base()
    with contextlib.suppress(OSError):
        if os.listdir(base) != ["directories"]:
            return
        lock = _opened("directories")
        try:
            if lock.take(wait=False) and lock.is_current and os.listdir(base) == ["directories"]:
                lock.remove()
                os.rmdir(base)
        finally:
            lock.close()


class _Lock:
    """An open file and the kernel's lock on it, which ends with this process. It holds a record in JSON."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Lock it, alone or shared; False where others have it and ``wait`` is False."""
        import fcntl

        try:
            fcntl.flock(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    @property
    def is_current(self) -> bool:
        """Whether the file is still the one at its path: who had it before may have removed it."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except OSError:
            return False

    def read(self) -> dict[str, Any]:
        size = os.fstat(self._fd).st_size
        try:
            record: dict[str, Any] = json.loads(os.pread(self._fd, size, 0) or b"{}")
        except ValueError:
            return {}  # its writer was killed: what it was about to make is not there
        return record

    def write(self, record: dict[str, Any]) -> None:
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(record).encode(), 0)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _base() -> str:
    """Where private folders and locks of this user lie."""
    return os.path.join(tempfile.gettempdir(), f"flowcore-mounts-{os.getuid()}")


def _lock_name(path: str) -> str:
    return f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}.lock"


def _opened(name: str) -> _Lock:
    """A lock file, made where it is not there."""
    while True:
        with contextlib.suppress(FileNotFoundError):  # the last one has just tidied up
            return _Lock(os.path.join(_made(_base()), name))


def _made(base: str) -> str:
    with contextlib.suppress(FileExistsError):
        os.mkdir(base, 0o700)
    found = os.lstat(base)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StorageError(f"{base!r} is not a private folder of this user; remove it, or set TMPDIR to a folder of your own")
    return base
