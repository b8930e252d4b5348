"""Components and pipelines that the runner's tests share; importable, so that worker processes find them by name."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import List, NamedTuple  # noqa: UP035  Kubeflow's authors write it so

from flowcore import dsl
from flowcore.dsl import Dataset, Input, Metrics, Model, Output
from flowcore.testing import bodies


@dsl.component
def add(a: int, b: int = 1) -> int:
    return a + b


@dsl.component
def total(numbers: List[int]) -> int:  # noqa: UP006
    return sum(numbers)


@dsl.component
def numbers(count: int) -> List[int]:  # noqa: UP006
    return list(range(count))


@dsl.component
def talk(text: str) -> str:
    print(text)  # noqa: T201  what a body prints is what this one is for
    logging.getLogger("talk").warning("heard %s", text)
    return text


@dsl.component
def write(rows: int, table: Output[Dataset]) -> int:
    Path(table.path).write_text("\n".join(map(str, range(rows))))
    table.metadata["rows"] = rows
    return rows


@dsl.component
def train(table: Input[Dataset], model: Output[Model], metrics: Output[Metrics], rate: float = 0.5) -> float:
    lines = Path(table.path).read_text().split("\n")
    model.save({"rows": len(lines), "rate": rate})
    metrics.log_metric("rows", len(lines))
    metrics.log_metric("rate", rate)
    dsl.report(0, 1.5)
    return len(lines) * rate


@dsl.component
def explode(message: str) -> int:
    raise LookupError(message)


@dsl.component
def fail_first(folder: str, times: int) -> int:
    """Fail so often, then give the number of the attempt."""
    marks = sorted(Path(folder).glob("try-*"))
    Path(folder, f"try-{len(marks)}").touch()
    if len(marks) < times:
        raise OSError(f"try {len(marks)}")
    return len(marks) + 1


@dsl.component
def die_first(folder: str, times: int) -> int:
    """Kill its own process so often, then give the number of the attempt."""
    marks = sorted(Path(folder).glob("try-*"))
    Path(folder, f"try-{len(marks)}").touch()
    if len(marks) < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return len(marks) + 1


class Pair(NamedTuple):
    a: int
    b: str


@dsl.component
def pair(count: int) -> Pair:
    return (1, "x", 2)[:count]  # type: ignore[return-value]


@dsl.component
def wrong() -> int:
    return "seven"  # type: ignore[return-value]


@dsl.component
def start_child(mark: str) -> int:
    """Start a process, note its number, then wait for ever."""
    child = subprocess.Popen(["sleep", "600"])
    Path(mark).with_suffix(".new").write_text(str(child.pid))
    Path(mark).with_suffix(".new").rename(mark)
    return child.wait()


@dsl.component
def die_before_its_child(mark: str) -> int:
    """End the interpreter while a fork of it holds all that it had open."""
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    Path(mark).write_text(str(child))
    os._exit(9)


@dsl.component
def interrupt() -> int:
    raise KeyboardInterrupt


@dsl.pipeline
def everything(count: int = 3) -> int:
    made = numbers(count=count)
    with dsl.ParallelFor(made.output, parallelism=2) as item:
        one = add(a=item, b=10)
    summed = total(numbers=dsl.Collected(one.output))
    with dsl.If(summed.output > 30, name="large"):
        large = add(a=summed.output, b=1000)
    with dsl.Else(name="small"):
        small = add(a=summed.output, b=0)
    return dsl.OneOf(large.output, small.output)


@dsl.pipeline
def learning(rows: int = 4) -> float:
    table = write(rows=rows)
    return train(table=table.outputs["table"], rate=0.25).output


@dsl.pipeline
def failing(message: str = "no such row") -> None:
    first = explode(message=message)
    add(a=first.output).after(first)
    add(a=1)


@dsl.pipeline
def retried(folder: str, times: int = 2) -> int:
    return fail_first(folder=folder, times=times).set_retry(2, backoff_duration="0.01s").output


@dsl.pipeline
def dying(folder: str, times: int = 2) -> int:
    add(a=1)
    return die_first(folder=folder, times=times).output


@dsl.pipeline
def meeting(started: str, release: str) -> int:
    met = bodies.meet(started=started, release=release)
    return add(a=met.output).output
