"""Bodies that meet an interrupt or their timeout; importable, so that worker processes find them by name."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from flowcore import dsl
from flowcore.testing.bodies import await_file


@dsl.component
def press_ctrl_c(release: str, mark: str) -> int:
    """Interrupt the host, then go on until released."""
    os.kill(os.getpid(), signal.SIGINT)
    await_file(release)
    Path(mark).write_text(threading.current_thread().name)
    return 1


@dsl.component
def stay(pid_file: str) -> int:
    Path(pid_file).write_text(str(os.getpid()))
    while True:
        time.sleep(60)


@dsl.component
def touch(path: str) -> int:
    Path(path).touch()
    return 1
