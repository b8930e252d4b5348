"""What a body prints and logs, captured by context: a reference-counted proxy of stdout and stderr and one root log handler.

Only code whose context holds a sink is captured; the output of every other thread goes where it went before. Nothing stays
installed once the last ``capturing`` block has ended.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO


class Sink:
    """Where one body's text goes: whole lines to ``write(stream, text)``, and on to the terminal where ``passthrough``.

    It is made for each task and most write nothing, so what a text needs is made with the first one.
    """

    __slots__ = ("_lock", "_partial", "_write", "passthrough")

    def __init__(self, write: Callable[[str, str], None], *, passthrough: bool) -> None:
        self._write = write
        self.passthrough = passthrough
        self._partial: dict[str, list[str]] | None = None

    def add(self, stream: str, text: str) -> None:
        """Take text; pass on what is a whole line."""
        if self._partial is None:
            with _LOCK:
                if self._partial is None:
                    # A body's own threads share its context (asyncio.to_thread); `write` may itself log.
                    self._lock = threading.RLock()
                    self._partial = {}
        with self._lock:
            partial = self._partial.setdefault(stream, [])
            partial.append(text)
            if "\n" in text:
                whole, _, rest = "".join(partial).rpartition("\n")
                self._partial[stream] = [rest] if rest else []
                self._pass_on(stream, whole + "\n")

    def pass_on(self, stream: str, text: str, write: Callable[[str], object]) -> None:
        """Write what the body wrote to ``stream`` on to where it went before."""
        write(text)

    def flush(self) -> None:
        """Pass on what is left of the last lines."""
        if self._partial is None:
            return
        with self._lock:
            left, self._partial = self._partial, {}
            for stream, partial in left.items():
                if partial:
                    self._pass_on(stream, "".join(partial))

    def _pass_on(self, stream: str, text: str) -> None:
        self._write(stream, text)


#: Guards what is made once: the installed proxies, a sink's buffers.
_LOCK = threading.RLock()
#: The sink of a context; who sets it resets it, and then calls ``flush``.
SINK: ContextVar[Sink | None] = ContextVar("flowcore_sink", default=None)


class _StreamProxy:
    """Stands for sys.stdout or sys.stderr while a run is active."""

    def __init__(self, stream: str, original: TextIO | None) -> None:
        self._stream = stream
        self._original = original

    def write(self, text: str) -> int:
        sink = SINK.get()
        if sink is None:
            return self._write_on(text)
        sink.add(self._stream, text)
        if sink.passthrough:
            sink.pass_on(self._stream, text, self._write_on)
        return len(text)

    def _write_on(self, text: str) -> int:
        # A process without a terminal may have no stream at all; print is silent then.
        return len(text) if self._original is None else self._original.write(text)

    def flush(self) -> None:
        if self._original is not None:
            self._original.flush()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        sink = SINK.get()
        if sink is not None:
            try:
                sink.add("log", self.format(record) + "\n")
            except Exception:  # noqa: BLE001  a record that cannot be formatted is reported as every handler does, not raised
                self.handleError(record)
        last = logging.lastResort
        if (
            last is not None
            and record.levelno >= last.level
            and (sink is None or sink.passthrough)
            and self._is_alone(record.name)
        ):
            # Without our handler, logging would have used its last resort: keep that, past the sink that has the record already.
            token = SINK.set(None)
            try:
                if sink is None:
                    last.handle(record)
                else:
                    sink.pass_on("log", last.format(record) + "\n", sys.stderr.write)
            finally:
                SINK.reset(token)

    def _is_alone(self, name: str) -> bool:
        """Whether no other handler gets this logger's records."""
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            if any(handler is not self for handler in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return True


_users = 0
#: What ``breakpoint()`` did before.
_hooks: list[Callable[..., Any]] = []
_installed: tuple[_StreamProxy, _StreamProxy, _LogHandler] | None = None


@contextmanager
def capturing() -> Iterator[None]:
    """Keep the proxies installed while the block runs; blocks nest and overlap between threads."""
    _install()
    try:
        yield
    finally:
        _uninstall()


def _install() -> None:
    global _users, _installed  # noqa: PLW0603  the streams are the process's: one count for all runs
    with _LOCK:
        _users += 1
        if _users > 1:
            return
        handler = _LogHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
        _installed = (_StreamProxy("stdout", sys.stdout), _StreamProxy("stderr", sys.stderr), handler)
        sys.stdout, sys.stderr = _installed[0], _installed[1]
        logging.root.addHandler(handler)
        _hooks[:] = [sys.breakpointhook]
        sys.breakpointhook = _breakpoint


def _breakpoint(*arguments: Any, **options: Any) -> Any:
    """``breakpoint()``: refused in a body whose terminal is elsewhere, where its prompt would be captured and nobody answers."""
    sink = SINK.get()
    if sink is not None and not sink.passthrough and os.environ.get("PYTHONBREAKPOINT") != "0":
        raise RuntimeError("breakpoint() in a task that does not run on the caller's thread: use LocalExecutor(mode='inline')")
    return (_hooks[0] if _hooks else sys.__breakpointhook__)(*arguments, **options)


def _uninstall() -> None:
    global _users, _installed  # noqa: PLW0603
    with _LOCK:
        _users = max(0, _users - 1)
        if not _users and _installed is not None:
            installed, _installed = _installed, None
            _take_away(*installed)


def _take_away(out: _StreamProxy, err: _StreamProxy, handler: _LogHandler) -> None:
    # Somebody may have put a stream of their own on top since: leave theirs.
    if sys.stdout is out:
        sys.stdout = out._original
    if sys.stderr is err:
        sys.stderr = err._original
    logging.root.removeHandler(handler)
    if sys.breakpointhook is _breakpoint:
        sys.breakpointhook = _hooks.pop()


def _begin_anew() -> None:
    """In a forked child: the threads whose runs captured are not here, nor who held the lock."""
    global _users, _installed, _LOCK  # noqa: PLW0603
    _LOCK = threading.RLock()
    installed, _installed, _users = _installed, None, 0
    SINK.set(None)
    if installed is not None:
        _take_away(*installed)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@contextmanager
def into(sink: Sink) -> Iterator[None]:
    """Send what this context prints and logs to ``sink``; what a partial line holds is passed on at the end."""
    token = SINK.set(sink)
    try:
        yield
    finally:
        SINK.reset(token)
        sink.flush()
