"""Everything of a process that a run might change and leave changed, to be compared. Children are found through /proc."""

from __future__ import annotations

import contextvars
import logging
import os
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any


def children() -> list[str]:
    """The processes whose parent is this one, zombies included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        name, _, rest = text.rpartition(")")
        if int(rest.split()[1]) == os.getpid():
            found.append(name)
    return sorted(found)


def open_files() -> list[str]:
    """What each open file descriptor points to."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(f"{name}: {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue  # the descriptor of the listing itself
    return sorted(found)


def loggers() -> dict[str, tuple[list[int], int]]:
    """The handlers and level of each logger."""
    every = {"": logging.root, **logging.root.manager.loggerDict}
    return {
        name: ([id(handler) for handler in logger.handlers], logger.level)
        for name, logger in every.items()
        if isinstance(logger, logging.Logger) and (logger.handlers or logger.level)
    }


def traces() -> dict[str, Any]:
    """What is there now, by kind."""
    return {
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "children": children(),
        "open files": open_files(),
        "temporary files": sorted(map(str, Path(tempfile.gettempdir()).rglob("*"))),
        "working directory": os.getcwd(),
        # pytest keeps the name of the test's phase there.
        "environment": sorted(f"{name}={value}" for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"),
        "loggers": loggers(),
        "streams": [id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "hooks": [sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook, sys.gettrace(), sys.getprofile()],
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "warning filters": list(warnings.filters),
        "import path": [list(sys.path), list(sys.meta_path), list(sys.path_hooks)],
        "context variables": dict(contextvars.copy_context().items()),
    }


#: What of an earlier test's servers may come to its end in between: nobody leaves anything by that.
MAY_END = frozenset({"threads", "open files"})


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The kinds that differ, as (gone, new) where they are lists of text."""
    found: dict[str, Any] = {}
    for kind, old in before.items():
        new = after[kind]
        if old == new:
            continue
        if kind in MAY_END and set(new) < set(old):
            continue
        listed = isinstance(old, list) and all(isinstance(item, str) for item in [*old, *new])
        found[kind] = {"gone": sorted({*old} - {*new}), "new": sorted({*new} - {*old})} if listed else (old, new)
    return found
