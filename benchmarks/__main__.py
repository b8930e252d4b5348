"""Recorded no-op tasks in each local mode beside graphlib's build-and-execute of the same Python calls.

Each figure is the median of ``REPEATS`` runs, its floor the median of as many measured between them. Nothing is asserted:
machines are shared, so read the ratios, and compare two of them only when they come from one run.
"""

from __future__ import annotations

import graphlib
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Literal

from rich.console import Console
from rich.table import Table

import flowcore
from benchmarks.pipelines import CHAIN, chain, fan, noop
from flowcore.executors import LocalExecutor

FAN = 10_000
REPEATS = 3
MODES: tuple[Literal["inline", "threads", "processes"], ...] = ("inline", "threads", "processes")


def graphlib_seconds(count: int, *, chained: bool) -> float:
    """Build a graph of ``count`` calls and execute it, recording nothing."""
    function = noop.python_func
    begin = time.perf_counter()
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for number in range(count):
        if chained and number:
            sorter.add(number, number - 1)
        else:
            sorter.add(number)
    sorter.prepare()
    while sorter.is_active():
        for number in sorter.get_ready():
            function(x=number)
            sorter.done(number)
    return time.perf_counter() - begin


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def measure(count: int, floor: Callable[[], float], run: Callable[[], object]) -> tuple[float, float]:
    """(microseconds a task, microseconds a task of the floor), medians of interleaved repeats."""
    ours, floors = [], []
    for _ in range(REPEATS):
        floors.append(floor())
        ours.append(seconds(run))
    return statistics.median(ours) / count * 1e6, statistics.median(floors) / count * 1e6


def main() -> None:
    os.chdir(tempfile.mkdtemp(prefix="flowcore-bench-"))
    table = Table(title="recorded no-op tasks beside graphlib's build-and-execute of the same calls")
    for name in ("what", "mode", "µs a task", "graphlib µs", "ratio"):
        table.add_column(name, justify="left" if name in ("what", "mode") else "right")
    chained = chain()
    items = list(range(FAN))
    for mode in MODES:
        executor = LocalExecutor(mode=mode)
        flowcore.run(fan, {"items": [1]}, executor=executor)
        ours, floor = measure(
            FAN, lambda: graphlib_seconds(FAN, chained=False), lambda: flowcore.run(fan, {"items": items}, executor=executor)  # noqa: B023
        )
        table.add_row(f"fan-out of {FAN:,}", mode, f"{ours:.1f}", f"{floor:.2f}", f"{ours / floor:.1f}×")
        ours, floor = measure(
            CHAIN, lambda: graphlib_seconds(CHAIN, chained=True), lambda: flowcore.run(chained, {"x": 1}, executor=executor)  # noqa: B023
        )
        table.add_row(f"chain of {CHAIN:,}", mode, f"{ours:.1f}", f"{floor:.2f}", f"{ours / floor:.1f}×")
    console = Console()
    console.print(table)
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {REPEATS}", style="dim")


if __name__ == "__main__":
    main()
