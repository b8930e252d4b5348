"""What the local executor alone costs a no-op order in each mode, without state machine and record; beside it joblib's loky.

``python -m benchmarks.executors`` prints microseconds an order: for a fan of orders that are all submitted at once, and for a
chain in which each is submitted when the one before has ended.
"""

from __future__ import annotations

import queue
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Literal

from benchmarks.pipelines import noop
from flowcore.executor import Event, Finished, Lost, WorkOrder
from flowcore.executors import LocalExecutor
from flowcore.graph import CodeRef, PythonFunction, Settings

Mode = Literal["inline", "threads", "processes"]
MODES: tuple[Mode, ...] = ("inline", "threads", "processes")
_SETTINGS = Settings()
_OPTIONS: dict[str, object] = {}


def orders(count: int, mode: Mode, name: str) -> Iterator[WorkOrder]:
    """Orders as the runner makes them for tasks of plain parameters."""
    component = noop.component
    python = component.implementation
    assert isinstance(python, PythonFunction)
    code = CodeRef(python.module, python.qualname, python.digest)
    for number in range(count):
        task = f"{name}.{number}/noop"
        order = WorkOrder(f"run/{task}#1", task, component, {"x": number}, {}, settings=_SETTINGS)
        if mode == "processes":
            order.code, order.pipeline_root, order.storage_options = code, "/nowhere", _OPTIONS
        else:
            order.function = noop.python_func
        yield order


def fan_seconds(executor: LocalExecutor, inbox: queue.SimpleQueue[Event], count: int) -> float:
    """Submit all orders at once and take every report."""
    made = list(orders(count, executor.mode, "fan"))
    begin = time.perf_counter()
    for order in made:
        executor.submit(order)
    _take(executor, inbox, count)
    return time.perf_counter() - begin


def chain_seconds(executor: LocalExecutor, inbox: queue.SimpleQueue[Event], count: int) -> float:
    """Submit each order when the one before has ended."""
    made = list(orders(count, executor.mode, "chain"))
    begin = time.perf_counter()
    for order in made:
        executor.submit(order)
        _take(executor, inbox, 1)
    return time.perf_counter() - begin


def _take(executor: LocalExecutor, inbox: queue.SimpleQueue[Event], count: int) -> None:
    while count:
        if inbox.empty() and executor.work():
            continue
        event = inbox.get()
        if type(event) is Finished:
            assert event.outcome.error is None, event.outcome.error
            count -= 1
        assert type(event) is not Lost, event


def microseconds(mode: Mode, count: int, seconds: Callable[..., float], repeats: int = 3) -> float:
    """The median of an order's cost in one open executor, after a fan that warms it up."""
    executor = LocalExecutor(mode, workers=2)
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def report(*events: Event) -> None:
        for event in events:
            inbox.put(event)

    executor.open(report)
    try:
        fan_seconds(executor, inbox, 200)
        return statistics.median(seconds(executor, inbox, count) for _ in range(repeats)) / count * 1e6
    finally:
        executor.close()


def loky_microseconds(count: int, repeats: int = 3) -> float:
    """joblib's processes for the same calls, warmed up; it records nothing."""
    from joblib import Parallel, delayed

    call = delayed(noop.python_func)
    times = []
    with Parallel(n_jobs=2) as parallel:
        parallel(call(x=number) for number in range(1000))
        for _ in range(repeats):
            begin = time.perf_counter()
            parallel(call(x=number) for number in range(count))
            times.append(time.perf_counter() - begin)
    return statistics.median(times) / count * 1e6


def main() -> None:
    write = sys.stdout.write
    for mode in MODES:
        fan, chain = microseconds(mode, 10_000, fan_seconds), microseconds(mode, 1_000, chain_seconds)
        write(f"{mode:10} fan {fan:7.1f} µs an order, chain {chain:7.1f} µs an order\n")
    try:
        write(f"{'loky':10} fan {loky_microseconds(10_000):7.1f} µs a call\n")
    except ImportError:
        write("joblib is not installed: pip install joblib\n")


if __name__ == "__main__":
    main()
