"""Bodies on the caller's thread, one by one, so that ``breakpoint()`` and an interrupt reach them."""

from __future__ import annotations

from collections import deque
from contextlib import nullcontext

from flowcore.capture import capturing
from flowcore.errors import RefusedError
from flowcore.executor import Finished, Lost, Outcome, Report, Status, WorkOrder
from flowcore.executors.budget import Budget
from flowcore.executors.placement import Placement
from flowcore.graph import NO_SETTINGS
from flowcore.surroundings import environment
from flowcore.worker import Stores, run_order, task_error

_CANCELED = Outcome(Status.CANCELED)

class Inline:
    """Orders wait in a queue; ``work`` runs the next one on the caller's thread."""

    def __init__(self, report: Report, placement: Placement, budget: Budget) -> None:
        self._report = report
        self._placement = placement
        self._budget = budget
        self._waiting: deque[WorkOrder] = deque()
        self._known: set[str] = set()
        self._stores = Stores(sources=placement.sources)
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
            if order.settings is NO_SETTINGS:
                outcome = run_order(order, self._report, self._stores, where="inline", passthrough=True)
            else:
                outcome = self._run(order)
        except KeyboardInterrupt:
            self._end(attempt_id, Finished(attempt_id, _CANCELED))
            raise
        self._known.discard(attempt_id)
        self._report(Finished(attempt_id, outcome))
        return True

    def _run(self, order: WorkOrder) -> Outcome:
        try:
            request = self._placement.request(order)
        except RefusedError as error:
            return Outcome(Status.FAILED, error=task_error(error))
        gpus = self._budget.take(request) or ()
        try:
            # Variables that the author sets come later, and win.
            with environment({"CUDA_VISIBLE_DEVICES": ",".join(gpus)}) if gpus else nullcontext():
                return run_order(order, self._report, self._stores, where="inline", passthrough=True)
        finally:
            self._budget.give(request, gpus)

    def _end(self, attempt_id: str, event: Finished | Lost) -> None:
        self._known.discard(attempt_id)
        self._report(event)

    def close(self) -> None:
        while self._waiting:
            attempt_id = self._waiting.popleft().attempt_id
            self._end(attempt_id, Lost(attempt_id, "the executor was closed", started=False))
        self._stores.close()
        self._capture.__exit__(None, None, None)
