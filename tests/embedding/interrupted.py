"""What the interrupted hosts run; importable, so that worker processes find it by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from flowcore import dsl
from flowcore.testing import bodies


@dsl.component
def hold() -> int:
    Path("started").touch()
    bodies.await_file("release")
    return 1


@dsl.component
def double(x: int) -> int:
    return 2 * x


@dsl.component
def swallow(driver: int) -> int:
    """Press Ctrl-C, and take it as an own matter where it arrives here."""
    try:
        os.kill(driver, signal.SIGINT)
        bodies.await_file("release", limit_seconds=0.2)
    except (KeyboardInterrupt, TimeoutError):
        pass
    return 7


@dsl.pipeline
def held(driver: int) -> None:
    first = hold()
    double(x=first.output)


@dsl.pipeline
def swallowing(driver: int) -> None:
    swallow(driver=driver)


@dsl.pipeline
def busy() -> None:
    with dsl.ParallelFor(list(range(30))) as item:
        first = double(x=item)
        double(x=first.output)
