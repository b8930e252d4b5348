"""The comparison that the embedding tests rest on notices every kind of thing that could be left."""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable

import pytest

from tests.embedding.traces import changes, traces

VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("left_by_a_test")


def leave_thread() -> Callable[[], object]:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left")
    thread.start()
    return lambda: (end.set(), thread.join())


def leave_child() -> Callable[[], object]:
    child = subprocess.Popen(["sleep", "600"])
    return lambda: (child.kill(), child.wait())


def leave_file() -> Callable[[], object]:
    number, path = tempfile.mkstemp()
    return lambda: (os.close(number), os.unlink(path))


def leave_descriptor() -> Callable[[], object]:
    number = os.open(os.devnull, os.O_RDONLY)
    return lambda: os.close(number)


def leave_folder() -> Callable[[], object]:
    before = os.getcwd()
    os.chdir("/")
    return lambda: os.chdir(before)


def leave_variable() -> Callable[[], object]:
    os.environ["LEFT_BY_A_TEST"] = "1"
    return lambda: os.environ.pop("LEFT_BY_A_TEST")


def leave_log_handler() -> Callable[[], object]:
    handler = logging.NullHandler()
    logging.getLogger("left.by.a.test").addHandler(handler)
    return lambda: logging.getLogger("left.by.a.test").removeHandler(handler)


def leave_stream() -> Callable[[], object]:
    before, sys.stdout = sys.stdout, sys.stderr
    return lambda: setattr(sys, "stdout", before)


def leave_hook() -> Callable[[], object]:
    before, threading.excepthook = threading.excepthook, print
    return lambda: setattr(threading, "excepthook", before)


def leave_signal_handler() -> Callable[[], object]:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    return lambda: signal.signal(signal.SIGUSR2, before)


def leave_warning_filter() -> Callable[[], object]:
    warnings.filterwarnings("ignore", "left by a test")
    return lambda: warnings.filters.pop(0)  # type: ignore[attr-defined]


def leave_import_path() -> Callable[[], object]:
    sys.path.append("/left-by-a-test")
    return lambda: sys.path.remove("/left-by-a-test")


def leave_context_variable() -> Callable[[], object]:
    token = VARIABLE.set(1)
    return lambda: VARIABLE.reset(token)


LEFT: dict[str, Callable[[], Callable[[], object]]] = {
    "threads": leave_thread,
    "children": leave_child,
    "temporary files": leave_file,
    "open files": leave_descriptor,
    "working directory": leave_folder,
    "environment": leave_variable,
    "loggers": leave_log_handler,
    "streams": leave_stream,
    "hooks": leave_hook,
    "signal handlers": leave_signal_handler,
    "warning filters": leave_warning_filter,
    "import path": leave_import_path,
    "context variables": leave_context_variable,
}


@pytest.mark.usefixtures("own_temporary_folder")
@pytest.mark.parametrize("kind", LEFT)
def test_what_is_left_is_noticed(kind: str) -> None:
    before = traces()
    take_away = LEFT[kind]()
    try:
        found = changes(before, traces())
    finally:
        take_away()
    assert kind in found
    assert changes(before, traces()) == {}
