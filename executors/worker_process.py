"""One ``python -m flowcore.worker`` as its driver holds it: starting it, handing orders to it, what it told, and its death.

It decides nothing: which orders it gets is the pool's to say. See ``flowcore.serving`` for the other side.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from tempfile import TemporaryFile
from typing import IO, Any

from flowcore.executors.dispatch import Entry
from flowcore.serving import REGION_BYTES, REGION_HEAD, TOKEN
from flowcore.surroundings import NO_SOURCES, Sources
from flowcore.wire import Frames, OrderWriter, encode, frame, read_events


class WorkerProcess:
    """A started process.

    Args:
        private_dir: a folder for what it keeps in files.
        python: its interpreter; by default this one.
        sys_path: what it finds before its own modules; by default what this process does.
        environment: variables that it has besides those of this process.
        sources: where the secrets of its orders come from; it gets them over its socket.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        private_dir: str,
        python: str | None = None,
        sys_path: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
        sources: Sources = NO_SOURCES,
    ) -> None:
        self._writer = OrderWriter()
        self._frames = Frames()
        self._frames_read = 0
        self._unsent = b""
        self._tokens_unsent = b""
        #: What it writes to its file descriptors 1 and 2.
        self._raw = {stream: _appended_file() for stream in ("stdout", "stderr")}
        self._region_file = TemporaryFile("w+b")  # noqa: SIM115  it lives as long as the process
        self._region_file.truncate(REGION_BYTES)
        self._region = mmap.mmap(self._region_file.fileno(), REGION_BYTES)
        self.connection, theirs = socket.socketpair()
        self._token_read, self._token_write = os.pipe()
        life_read, self._life = os.pipe()
        os.set_blocking(self._token_read, False)
        path = [os.path.abspath(entry) for entry in (sys.path if sys_path is None else sys_path)]
        wanted = dict(environment or {})
        # What the interpreter needs to find us is not what its tasks see.
        seen = {name: wanted.get(name, os.environ.get(name)) for name in ("PYTHONPATH", "PYTHONSAFEPATH")}
        fds = [theirs.fileno(), self._token_read, life_read, self._region_file.fileno()]
        try:
            self._process = subprocess.Popen(
                [python or sys.executable, "-m", "flowcore.worker", *map(str, fds)],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=self._raw["stdout"],
                stderr=self._raw["stderr"],
                env={**os.environ, **wanted, "PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"},
                # A Ctrl-C at the terminal is for the driver, which then tells its workers.
                start_new_session=True,
            )
        except BaseException:
            self._close_files()
            raise
        finally:
            theirs.close()
            os.close(life_read)
        self.pid = self._process.pid
        self.where = f"pid {self.pid}"
        self.connection.setblocking(False)
        hello = {"sys_path": path, "environment": {**seen, **wanted}, "private_dir": private_dir, "sources": sources.to_json()}
        self._send(frame(encode(hello)))

    def hand(self, entries: list[tuple[int, Entry]]) -> None:
        """Hand orders over by number.

        Raises:
            TypeError, ValueError: one of them holds what JSON cannot; none was handed.
            OSError: the process is gone.
        """
        body = self._writer.write([(number, entry.order) for number, entry in entries])
        self._tokens_unsent += b"".join([TOKEN.pack(number) for number, _ in entries])
        self._send(body)

    def _send(self, data: bytes) -> None:
        self._unsent = self._unsent + data if self._unsent else data
        self.go_on_sending()

    @property
    def has_unsent(self) -> bool:
        """Whether the process has to read before more can be sent."""
        return bool(self._unsent)

    def go_on_sending(self) -> None:
        """Send what can be sent now.

        Raises:
            OSError: the process is gone.
        """
        while self._unsent:
            try:
                sent = self.connection.send(self._unsent)
            except BlockingIOError:
                return
            self._unsent = self._unsent[sent:]
        if self._tokens_unsent:  # an order may begin once it is wholly there
            os.write(self._token_write, self._tokens_unsent)
            self._tokens_unsent = b""

    def take_back(self) -> list[int]:
        """The numbers of the orders that it has not begun and now never will."""
        data, self._tokens_unsent = self._tokens_unsent, b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._token_read, 1 << 16) + data
        return [number for (number,) in TOKEN.iter_unpack(data)]

    def give_again(self, numbers: list[int]) -> None:
        """Let it begin orders that were just taken back."""
        data = b"".join(map(TOKEN.pack, numbers))
        if self._unsent:
            self._tokens_unsent = data + self._tokens_unsent
        elif data:
            os.write(self._token_write, data)

    def receive(self) -> tuple[list[list[Any]], bool]:
        """(what it told, whether it may tell more)."""
        rows: list[list[Any]] = []
        while True:
            try:
                data = self.connection.recv(1 << 18)
            except BlockingIOError:
                return rows, True
            except OSError:
                return rows, False
            if not data:
                return rows, False
            for body in self._frames.feed(data):
                self._frames_read += 1
                rows += read_events(body)
            if len(data) < 1 << 18:
                return rows, True

    def lives(self) -> bool:
        """Whether it still runs; asked for besides the socket's end, which a child of a body may hold open."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it now, and what its bodies left running in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def bury(self) -> tuple[list[list[Any]], str]:
        """End it and give its last words: (what it had not told, why it died). Call once."""
        code = self._process.poll()
        if code is None:
            self.kill()
            code = self._process.wait()
        else:
            self.kill()  # what it left running in its group
        rows, goes_on = self.receive()
        while goes_on and rows:
            more, goes_on = self.receive()
            if not more:
                break
            rows += more
        frames, end = REGION_HEAD.unpack_from(self._region, 0)
        if frames == self._frames_read and end > REGION_HEAD.size:
            rows += read_events(b"[" + self._region[REGION_HEAD.size : end - 1] + b"]")
        if code < 0:
            return rows, f"worker process {self.pid} was killed by {signal.Signals(-code).name}"
        return rows, f"worker process {self.pid} ended with exit code {code}"

    def raw(self) -> list[tuple[str, str]]:
        """(stream, text) that it wrote past Python's streams and did not tell itself."""
        found = []
        for stream, file in self._raw.items():
            if size := os.fstat(file.fileno()).st_size:
                found.append((stream, os.pread(file.fileno(), size, 0).decode("utf-8", "replace")))
                file.truncate(0)
        return found

    def close(self) -> None:
        """Let go of a process that was buried."""
        self._close_files()

    def forget(self) -> None:
        """In a forked child of the driver: close what it inherited, so that the process ends with its driver."""
        self._close_files()

    def _close_files(self) -> None:
        self.connection.close()
        for fd in (self._token_read, self._token_write, self._life):
            os.close(fd)
        for file in self._raw.values():
            file.close()
        self._region.close()
        self._region_file.close()


def _appended_file() -> IO[bytes]:
    """A file without a name whose writers always append, so that what follows a truncation begins at its start."""
    file = TemporaryFile("w+b", buffering=0)  # noqa: SIM115  it lives as long as the worker process
    flags = fcntl.fcntl(file.fileno(), fcntl.F_GETFL)
    fcntl.fcntl(file.fileno(), fcntl.F_SETFL, flags | os.O_APPEND)
    return file
