"""Tasks in this process or on this machine: inline on the caller's thread, in threads, or in worker processes.

Inline is for ``breakpoint()``; threads is the default; processes survive a body that crashes its interpreter. Worker processes
are started when first needed, serve one order after another, and end when their driver does.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import Literal

from flowcore.capture import capturing
from flowcore.errors import UsageError
from flowcore.executor import Event, Executor, Finished, Lost, Outcome, Status, WorkOrder
from flowcore.executors.local_pool import Pool, ProcessWorker, ThreadWorker
from flowcore.worker import Stores, run_order

Mode = Literal["inline", "threads", "processes"]
_CANCELED = Outcome(Status.CANCELED)


def usable_cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


class LocalExecutor(Executor):
    """Runs tasks here.

    Args:
        mode: "inline" runs bodies one by one on the thread that called ``run``; "threads" (the default) and "processes" run up
            to ``workers`` at once.
        workers: how many bodies may run at once; by default the number of usable cores. Inline has one.

    Raises:
        UsageError: an unknown mode, or fewer than one worker.
    """

    name = "local"

    def __init__(self, mode: Mode = "threads", workers: int | None = None) -> None:
        if mode not in _STRATEGIES:
            raise UsageError(f"LocalExecutor(mode={mode!r}): the modes are {', '.join(_STRATEGIES)}")
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise UsageError(f"LocalExecutor(workers={workers!r}): wants a whole number from 1 on")
        self.mode = mode
        self.workers = 1 if mode == "inline" else workers or usable_cores()
        self.in_process = mode != "processes"
        self.kills_running_tasks = mode == "processes"
        self.uses_callers_thread = mode == "inline"
        self.open_iterations = max(1_000, 4 * self.workers)
        self._strategy: _Inline | Pool | None = None

    def __repr__(self) -> str:
        return f"LocalExecutor(mode={self.mode!r}, workers={self.workers})"

    def open(self, report: Callable[[Event], None]) -> None:
        self._strategy = _STRATEGIES[self.mode](report, self.workers)

    def submit(self, order: WorkOrder) -> None:
        (self._strategy or self._opened()).submit(order)

    def cancel(self, attempt_id: str) -> None:
        self._opened().cancel(attempt_id)

    def work(self) -> bool:
        return (self._strategy or self._opened()).work()

    def close(self, *, detach: bool = False) -> None:
        # Local bodies never outlive their driver: detaching stops them all the same.
        if self._strategy is not None:
            self._strategy.close()
            self._strategy = None

    def _opened(self) -> _Inline | Pool:
        if self._strategy is None:
            raise UsageError("this LocalExecutor is not open: call open(report) first")
        return self._strategy


class _Inline:
    """Orders wait in a queue; ``work`` runs the next one on the caller's thread."""

    def __init__(self, report: Callable[[Event], None], workers: int) -> None:
        self._report = report
        self._waiting: deque[WorkOrder] = deque()
        self._known: set[str] = set()
        self._stores = Stores()
        self._capture = capturing()
        self._capture.__enter__()

    def submit(self, order: WorkOrder) -> None:
        if order.attempt_id not in self._known:
            self._known.add(order.attempt_id)
            self._waiting.append(order)

    def cancel(self, attempt_id: str) -> None:
        for order in self._waiting:
            if order.attempt_id == attempt_id:
                self._waiting.remove(order)
                self._end(attempt_id, Finished(attempt_id, _CANCELED))
                return

    def work(self) -> bool:
        if not self._waiting:
            return False
        order = self._waiting.popleft()
        attempt_id = order.attempt_id
        try:
            outcome = run_order(order, self._report, self._stores, where="inline", passthrough=True)
        except KeyboardInterrupt:
            self._end(attempt_id, Finished(attempt_id, _CANCELED))
            raise
        self._known.discard(attempt_id)
        self._report(Finished(attempt_id, outcome))
        return True

    def _end(self, attempt_id: str, event: Finished | Lost) -> None:
        self._known.discard(attempt_id)
        self._report(event)

    def close(self) -> None:
        while self._waiting:
            attempt_id = self._waiting.popleft().attempt_id
            self._end(attempt_id, Lost(attempt_id, "the executor was closed", started=False))
        self._stores.close()
        self._capture.__exit__(None, None, None)


_STRATEGIES: dict[str, Callable[[Callable[[Event], None], int], _Inline | Pool]] = {
    "inline": _Inline,
    "threads": lambda report, workers: Pool(report, workers, ThreadWorker),
    "processes": lambda report, workers: Pool(report, workers, ProcessWorker),
}
