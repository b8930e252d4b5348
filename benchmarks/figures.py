"""A figure beside its floor, both measured in turns in one run. Nothing is asserted here and nothing is printed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One row: what ours costs and what the floor costs, both in ``unit``, and the limits of their ratio.

    ``must`` and ``aim`` are the largest ratios that will do; with ``absolute`` they are limits of ``ours`` itself. Without
    ``ours`` the row only says in its ``note`` why there is nothing.
    """

    what: str
    unit: str = ""
    ours: float | None = None
    floor: float | None = None
    floor_is: str = ""
    must: float | None = None
    aim: float | None = None
    absolute: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.ours is None or not self.floor else self.ours / self.floor

    @property
    def judged(self) -> float | None:
        """The number that the limits are about."""
        return self.ours if self.absolute else self.ratio

    @property
    def verdict(self) -> str:
        """``aim met``, ``must met``, ``not met``, or nothing where no limit is set or nothing was measured."""
        if self.judged is None or (self.must is None and self.aim is None):
            return ""
        if self.aim is not None and self.judged <= self.aim:
            return "aim met"
        if self.must is not None and self.judged <= self.must:
            return "must met" if self.aim is not None else "met"
        return "not met"


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def in_turns(repeats: int, *calls: Callable[[], float]) -> list[float]:
    """The median of ``repeats`` results of each call, taken in turns, so that a busy moment of the machine falls on all."""
    results: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for kept, call in zip(results, calls, strict=True):
            kept.append(call())
    return [statistics.median(kept) for kept in results]


def timed(call: Callable[[], object]) -> Callable[[], float]:
    """The call as one that gives its seconds."""
    return lambda: seconds(call)
