"""Components and pipelines of the embedding tests; importable, so that worker processes find them by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from flowcore import dsl
from flowcore.dsl import Dataset, Input, Output
from flowcore.testing import bodies


@dsl.component
def double(x: int) -> int:
    return 2 * x


@dsl.component
def add(a: int, b: int) -> int:
    return a + b


@dsl.component
def write(text: str, table: Output[Dataset]) -> None:
    Path(table.path).write_text(text)


@dsl.component
def read(table: Input[Dataset]) -> str:
    return Path(table.path).read_text()


@dsl.component
def explode(message: str) -> int:
    raise LookupError(message)


@dsl.component
def signal_driver(pid: int, times: int) -> int:
    """What the terminal does on Ctrl-C, ``times`` in a row; then run on until the driver ends this body."""
    for _ in range(times):
        os.kill(pid, signal.SIGINT)
    time.sleep(0)  # a signal for this very thread is delivered here
    return times


@dsl.component
def hold(started: str, release: str) -> int:
    """Say that it runs, then wait to be released."""
    Path(started).touch()
    bodies.await_file(release)
    return 1


@dsl.component
def swallow(pid: int) -> int:
    """Raise an interrupt and take it as an own matter."""
    for _ in range(2):
        try:
            os.kill(pid, signal.SIGINT)
            time.sleep(0)
        except KeyboardInterrupt:
            pass
    return 7


@dsl.pipeline
def values(x: int = 1) -> int:
    first = double(x=x)
    with dsl.ParallelFor([1, 2, 3]) as item:
        double(x=item)
    return add(a=first.output, b=1).output


@dsl.pipeline
def files(text: str = "seen") -> str:
    return read(table=write(text=text).outputs["table"]).output


@dsl.pipeline
def failing(message: str = "no such row") -> None:
    first = explode(message=message)
    double(x=first.output)
    double(x=1)


@dsl.pipeline
def holding(started: str, release: str) -> int:
    held = hold(started=started, release=release)
    return double(x=held.output).output


@dsl.pipeline
def slow(started: str, release: str) -> None:
    hold(started=started, release=release).set_timeout(0.1)


@dsl.pipeline
def interrupted(pid: int, times: int = 1) -> None:
    sent = signal_driver(pid=pid, times=times)
    double(x=sent.output)


@dsl.pipeline
def needy() -> None:
    @dsl.component(packages_to_install=["no-such-package>=2"])
    def lacking() -> int:
        return 1

    lacking()
