"""A new local file that is hashed while it is written, by a second thread once there is enough to share.

It writes from front to back only, and never claims a digest for a file that somebody else can have written meanwhile unseen.
"""

from __future__ import annotations

import collections
import hashlib
import os
import queue
import threading
from typing import Any

from flowcore.artifacts.digests import Contents
from flowcore.artifacts.places import writing

_BLOCK_BYTES = 1024 * 1024
_GATHER_BYTES = 256 * 1024
_BLOCKS_AHEAD = 32
#: Smaller files need no second thread.
_SHARED_BYTES = 4 * 1024 * 1024
_BACKDATE_NS = 1_000


class HashedFile:
    """Opened on a path where nothing is; ``contents`` holds what was written once it is closed.

    What is written may be changed after ``write`` returns, as with any file; ``bytes`` and Arrow's buffers cannot be, and are
    hashed while the caller goes on.
    """

    def __init__(self, path: str) -> None:
        """
        Raises:
            StorageError: the file cannot be made.
        """
        self.path = path
        self.contents: Contents | None = None
        self._digest, self._size_bytes = hashlib.sha256(), 0
        self._gathered = bytearray()
        #: Written, not yet hashed; whoever holds the lock hashes the first of them.
        self._blocks: collections.deque[memoryview] = collections.deque()
        self._hashing = threading.Lock()
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        with writing(path):
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115  closed by close

    @property
    def closed(self) -> bool:
        return self._file.closed

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing to do: readers wait for ``close``."""

    def tell(self) -> int:
        return self._size_bytes

    def write(self, data: Any) -> int:
        """
        Raises:
            StorageError: the disk is full, or cannot be written.
        """
        view = memoryview(data).cast("B")
        self._size_bytes += len(view)
        if len(view) < _GATHER_BYTES:
            self._gathered += view
            if len(self._gathered) >= _GATHER_BYTES:
                self._put_gathered()
            return len(view)
        self._put_gathered()
        for start in range(0, len(view), _BLOCK_BYTES):
            self._put(view[start : start + _BLOCK_BYTES])
        if not isinstance(data, bytes) and type(data).__module__ != "pyarrow.lib":
            self._catch_up(0)
        return len(view)

    def close(self) -> None:
        """Write the rest and end the thread; the first call sets ``contents``.

        Raises:
            StorageError: the disk is full, or cannot be written.
        """
        if self.closed:
            return
        try:
            self._put_gathered()
            self._catch_up(0)
            with writing(self.path):
                self.contents = self._seen()
        finally:
            self._stop_thread()
            with writing(self.path):
                self._file.close()

    def abandon(self) -> None:
        """Close it without writing the rest; ``contents`` stays None."""
        self._gathered.clear()
        self._blocks.clear()
        self._stop_thread()
        self._file.close()

    def _put_gathered(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._put(memoryview(gathered))

    def _put(self, block: memoryview) -> None:
        if self._thread is None and self._size_bytes < _SHARED_BYTES:
            self._digest.update(block)
        else:
            if self._thread is None:
                self._thread = threading.Thread(target=self._help, name="flowcore-hash", daemon=True)
                self._thread.start()
            self._blocks.append(block)
            self._calls.put(True)
        with writing(self.path):
            while block:
                block = block[self._file.write(block) :]
        # On a busy machine the helper may get no time: nobody waits for it who can do its work.
        self._catch_up(_BLOCKS_AHEAD)

    def _help(self) -> None:
        while self._calls.get():
            self._hash_one()

    def _hash_one(self) -> None:
        with self._hashing:
            if self._blocks:
                self._digest.update(self._blocks.popleft())

    def _catch_up(self, behind: int) -> None:
        while len(self._blocks) > behind:
            self._hash_one()
        if behind == 0:
            # The helper may still be at the last one.
            with self._hashing:
                pass

    def _stop_thread(self) -> None:
        if self._thread is not None:
            self._calls.put(False)
            self._thread.join()
            self._thread = None

    def _seen(self) -> Contents | None:
        # File systems tell time in steps of milliseconds: a change within the step of our last write would not show in mtime.
        # A moment earlier is a time that no later write can leave.
        written = os.fstat(self._file.fileno())
        os.utime(self._file.fileno(), ns=(written.st_atime_ns, written.st_mtime_ns - _BACKDATE_NS))
        now = os.fstat(self._file.fileno())
        if now.st_size != self._size_bytes or now.st_mtime_ns >= written.st_mtime_ns:
            return None
        return Contents(now.st_size, self._digest.hexdigest(), False, now.st_mtime_ns, now.st_ino)


