"""Bodies for the executors' conformance suite. They meet the test through files, so they work in any process."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from flowcore import dsl

_LIMIT_SECONDS = 60.0


def await_file(path: str | Path, limit_seconds: float = _LIMIT_SECONDS) -> None:
    """Return once a file is there.

    Raises:
        TimeoutError: it was not after ``limit_seconds``.
    """
    end = time.monotonic() + limit_seconds
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear in {limit_seconds:g} s")
        time.sleep(0.005)


@dsl.component
def echo(value: int) -> int:
    return value


@dsl.component
def speak(text: str) -> str:
    print(text)  # noqa: T201  what a body prints is what this one is for
    return text


@dsl.component
def refuse(message: str) -> int:
    raise LookupError(message)


@dsl.component
def leave_mark(folder: str) -> int:
    """Leave one more file in a folder: how often it ran can be counted."""
    mark = Path(folder) / f"ran-{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
    mark.touch()
    return 1


@dsl.component
def meet(started: str, release: str) -> int:
    """Say that it runs, then wait to be released."""
    Path(started).touch()
    await_file(release)
    return 1


@dsl.component
def die(code: int) -> int:
    os._exit(code)


@dsl.component
def report_from_threads(threads: int, each: int) -> int:
    """Report values from several threads at once, all before it ends."""
    import contextvars

    def report(number: int) -> None:
        for step in range(each):
            dsl.report(step, float(number), name=f"thread-{number}")

    running = [threading.Thread(target=contextvars.copy_context().run, args=[report, number]) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return threads * each


@dsl.component
def write_table(rows: int, table: dsl.Output[dsl.Dataset], note: dsl.OutputPath[str]) -> int:
    Path(table.path).write_text("\n".join(map(str, range(rows))))
    Path(note).write_text(f"{rows} rows")
    return rows
