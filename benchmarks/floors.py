"""What the same Python calls cost without flowcore: the standard library's graph, and joblib's processes. None records."""

from __future__ import annotations

import graphlib
import time

from benchmarks.pipelines import identity


def _graph(count: int, *, chained: bool) -> graphlib.TopologicalSorter[int]:
    sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter()
    for number in range(count):
        if chained and number:
            sorter.add(number, number - 1)
        else:
            sorter.add(number)
    return sorter


def build_and_execute(count: int, *, chained: bool = False) -> float:
    """Seconds to build a graph of ``count`` calls and execute it."""
    begin = time.perf_counter()
    sorter = _graph(count, chained=chained)
    sorter.prepare()
    while sorter.is_active():
        for number in sorter.get_ready():
            identity(x=number)
            sorter.done(number)
    return time.perf_counter() - begin


def get_ready_and_done(count: int, *, chained: bool = False) -> float:
    """Seconds of ``get_ready`` and ``done`` alone, over a graph that is already built and prepared."""
    sorter = _graph(count, chained=chained)
    sorter.prepare()
    begin = time.perf_counter()
    while sorter.is_active():
        for number in sorter.get_ready():
            sorter.done(number)
    return time.perf_counter() - begin


def build_and_order(count: int, *, chained: bool = False) -> float:
    """Seconds to build a graph and walk it with ``get_ready`` and ``done``, calling nothing."""
    begin = time.perf_counter()
    sorter = _graph(count, chained=chained)
    sorter.prepare()
    while sorter.is_active():
        for number in sorter.get_ready():
            sorter.done(number)
    return time.perf_counter() - begin


def loky(count: int) -> float:
    """Seconds of the same calls in two loky processes, which joblib keeps from one use to the next."""
    from joblib import Parallel, delayed

    begin = time.perf_counter()
    Parallel(n_jobs=2)(delayed(identity)(x=number) for number in range(count))
    return time.perf_counter() - begin
