"""A worker process's side of the local executor: takes orders one by one, runs them, and tells in batches what happened.

Which orders are its own is decided by a pipe of tokens, one for each order: the worker reads one before it begins the order, and
its driver reads back those that it wants to give to others. The kernel gives each to one of the two. Events wait in memory that
is shared with the driver until they are told, so a worker that dies takes none with it.
"""

from __future__ import annotations

import mmap
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from typing import Any

from flowcore.executor import Event, Finished, Outcome, Output, Started, Status, WorkOrder
from flowcore.surroundings import Baseline, Sources
from flowcore.wire import Frames, OrderReader, event_text, frame

TOKEN = struct.Struct("=Q")
#: The shared memory: how many frames were told before this one, and how many bytes of it are written.
REGION_HEAD = struct.Struct("=QQ")
REGION_BYTES = 1 << 18
_FULL = REGION_BYTES // 4
#: How long an event may wait to be told with others.
FLUSH_SECONDS = 0.005
#: How long the watcher looks at the clock after the last order began.
_AWAKE_SECONDS = 0.5


class Told:
    """Events on their way to the driver: collected in the shared memory, told as one frame."""

    def __init__(self, connection: socket.socket, region: mmap.mmap) -> None:
        self._connection = connection
        self._region = region
        self._lock = threading.Lock()
        self._frames = 0
        self._end = REGION_HEAD.size
        self.flushed_at = time.monotonic()

    def add(self, text: str) -> None:
        """Take one event."""
        data = text.encode("ascii", "surrogatepass") + b","
        with self._lock:
            if self._end + len(data) > REGION_BYTES:
                self._flush()
                if len(data) > _FULL:
                    self._send(data)
                    return
            end = self._end + len(data)
            self._region[self._end : end] = data
            self._end = end
            # Last: what a death leaves half written does not count.
            REGION_HEAD.pack_into(self._region, 0, self._frames, end)
            if end > _FULL:
                self._flush()

    def flush(self) -> None:
        """Tell what was collected."""
        with self._lock:
            self._flush()

    @property
    def waits(self) -> bool:
        """Whether events wait to be told."""
        return self._end > REGION_HEAD.size

    def _flush(self) -> None:
        if self._end > REGION_HEAD.size:
            self._send(self._region[REGION_HEAD.size : self._end])
        self.flushed_at = time.monotonic()

    def _send(self, events: bytes) -> None:
        try:
            self._connection.sendall(frame(f"[{events[:-1].decode('ascii')}]"))
        except OSError:
            os._exit(0)  # the driver is gone
        self._frames += 1
        self._end = REGION_HEAD.size
        REGION_HEAD.pack_into(self._region, 0, self._frames, self._end)


class Watcher:
    """A thread that ends the process once its driver is gone, and tells what waits for too long while a body runs."""

    def __init__(self, life: int, told: Told) -> None:
        self._life = life
        self._told = told
        self._wake_read, self._wake_write = os.pipe()
        self.asleep = False
        self.active_at = time.monotonic()
        threading.Thread(target=self._watch, name="flowcore-watcher", daemon=True).start()

    def wake(self) -> None:
        """Look at the clock again."""
        self.asleep = False
        os.write(self._wake_write, b"!")

    def _watch(self) -> None:
        told = self._told
        while True:
            self.asleep = time.monotonic() - self.active_at > _AWAKE_SECONDS
            # What was collected before it could be seen that nobody looks at the clock is told here.
            if told.waits and (self.asleep or time.monotonic() - told.flushed_at >= FLUSH_SECONDS):
                told.flush()
            ready, _, _ = select.select([self._life, self._wake_read], [], [], None if self.asleep else FLUSH_SECONDS)
            if self._wake_read in ready:
                os.read(self._wake_read, 64)
            if self._life in ready:
                end_all()


def end_all() -> None:
    """End this process and what its bodies left running: nothing here may outlive the driver."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


class Raw:
    """What was written past Python's streams, to file descriptors 1 and 2: by child processes and C code."""

    def __init__(self) -> None:
        self._streams = [
            (fd, stream) for fd, stream in ((1, "stdout"), (2, "stderr")) if os.lseek(fd, 0, os.SEEK_CUR) is not None
        ]

    def take(self) -> list[tuple[str, str]]:
        """(stream, text) written since the last time."""
        found: list[tuple[str, str]] = []
        for fd, stream in self._streams:
            if size := os.lseek(fd, 0, os.SEEK_END):
                parts, place = [], 0
                while place < size and (part := os.pread(fd, min(1 << 20, size - place), place)):
                    parts.append(part)
                    place += len(part)
                os.ftruncate(fd, 0)
                found.append((stream, b"".join(parts).decode("utf-8", "replace")))
        return found


def serve(connection_fd: int, token_fd: int, life_fd: int, region_fd: int) -> None:
    """Serve orders until the driver is gone; then end at once, whatever runs."""
    from flowcore.capture import capturing
    from flowcore.wire import decode
    from flowcore.worker import Stores, run_order, task_error

    connection = socket.socket(fileno=connection_fd)
    for fd in (connection_fd, token_fd, life_fd, region_fd):
        os.set_inheritable(fd, False)
    frames = Frames()
    bodies: deque[bytes] = deque()

    def next_frame() -> bytes:
        while not bodies:
            data = connection.recv(1 << 18)
            if not data:
                end_all()
            bodies.extend(frames.feed(data))
        return bodies.popleft()

    hello = decode(next_frame())
    sys.path[:] = hello["sys_path"]
    for name, value in hello["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    region = mmap.mmap(region_fd, REGION_BYTES)
    told = Told(connection, region)
    watcher = Watcher(life_fd, told)
    reader = OrderReader()
    raw = Raw()
    stores = Stores(hello["private_dir"], Sources.from_json(hello["sources"]))
    baseline = stores.baseline = Baseline()
    where = f"pid {os.getpid()}"
    orders: deque[tuple[int, WorkOrder | Exception]] = deque()
    current: list[Any] = ["", 0]
    tokens = select.poll()
    tokens.register(token_fd, select.POLLIN)

    def report(event: Event) -> None:
        # A thread that a body left behind may still tell something: it belongs to no order of now.
        if event.attempt_id != current[0]:
            return
        told.add(event_text(current[1], event))
        if watcher.asleep:
            told.flush()
            if type(event) is Started:
                watcher.wake()

    with capturing():
        while True:
            try:
                token = os.read(token_fd, TOKEN.size)
            except BlockingIOError:
                told.flush()
                tokens.poll()
                continue
            if not token:
                end_all()
            number = TOKEN.unpack(token)[0]
            while not orders or orders[0][0] < number:
                # Those before it were taken back.
                if orders:
                    orders.popleft()
                else:
                    orders.extend(reader.read(next_frame()))
            order = orders.popleft()[1]
            begun = watcher.active_at = time.monotonic()
            if isinstance(order, Exception):
                outcome = Outcome(Status.FAILED, error=task_error(order))
                told.add(event_text(number, Finished("", outcome)))
                continue
            current[:] = [order.attempt_id, number]
            try:
                outcome = run_order(order, report, stores, where=where)
            except KeyboardInterrupt as error:
                outcome = Outcome(Status.FAILED, error=task_error(error))
            attempt_id, current[0] = order.attempt_id, ""
            baseline.restore()
            masks, stores.masks = stores.masks, None
            for stream, text in raw.take():
                if masks is not None:
                    text = masks(text)
                told.add(event_text(number, Output(attempt_id, stream, text)))
            try:
                text = event_text(number, Finished(attempt_id, outcome))
            except Exception as error:  # noqa: BLE001  what cannot be told is the task's failure, not the worker's end
                text = event_text(number, Finished(attempt_id, Outcome(Status.FAILED, error=task_error(error))))
            told.add(text)
            if time.monotonic() - told.flushed_at >= FLUSH_SECONDS or time.monotonic() - begun >= FLUSH_SECONDS:
                told.flush()
