"""Ctrl-C at the command line: the first cancels the run, the second ends the process within STOP_SECONDS. For our command only.

A body may swallow the interrupt or sit in C code for minutes, so a thread of its own, which reads what the signals leave in a
socket, counts them and keeps the time.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

#: How long the end may take after a second Ctrl-C; then the process ends without it.
STOP_SECONDS = 3.0
ONCE = "canceling the run; Ctrl-C once more stops at once"
TWICE = "stopping at once"


class Interrupts:
    """Watches for interrupts while the block runs.

    Args:
        say: tells the person what an interrupt did.
        give_up: called on the watching thread before the process is ended from outside of its main thread.
    """

    #: How often the person pressed; the command's end must not wait for bodies then.
    pressed = 0

    def __init__(self, say: Callable[[str], None], give_up: Callable[[], None]) -> None:
        self._say = say
        self._give_up = give_up
        self._ended = threading.Event()

    def __enter__(self) -> Interrupts:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._thread: threading.Thread | None = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, name="flowcore-interrupts", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            signal.set_wakeup_fd(self._before)
        self._writer.close()  # the watching thread reads the end
        if self._thread is not None:
            self._thread.join()
        self._reader.close()

    def _watch(self) -> None:
        while numbers := self._reader.recv(64):
            for number in numbers:
                if number in (signal.SIGINT, signal.SIGTERM):
                    Interrupts.pressed += 1
                    self._take()

    def _take(self) -> None:
        if Interrupts.pressed == 1:
            self._tell(ONCE)
        elif Interrupts.pressed == 2:
            self._tell(TWICE)
            threading.Thread(target=self._end_process, name="flowcore-stop", daemon=True).start()

    def _tell(self, message: str) -> None:
        with suppress(OSError, ValueError):
            self._say(message)

    def _end_process(self) -> None:
        if self._ended.wait(STOP_SECONDS):
            return
        last = threading.Thread(target=self._give_up, name="flowcore-last", daemon=True)
        last.start()
        last.join(1.0)
        leave(1)


def leave(status: int) -> None:
    """End the process without waiting for any thread: worker processes end with it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
