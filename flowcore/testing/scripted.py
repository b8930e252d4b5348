"""An executor that plays a script: what each attempt reports is given, and in which order is chosen. No thread, no clock.

Without a script it runs the bodies for real, one event at a time, so that it passes the executors' conformance suite.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from flowcore.executor import Event, Executor, Finished, Lost, Outcome, Report, Started, Status, TaskError, WorkOrder
from flowcore.worker import Stores, run_order

Script = Callable[[WorkOrder], Iterable[Event]]


def succeed(order: WorkOrder, **parameters: object) -> list[Event]:
    """The events of an attempt that starts and succeeds with these encoded outputs."""
    return [Started(order.attempt_id, "script"), Finished(order.attempt_id, Outcome(Status.SUCCEEDED, dict(parameters)))]


def fail(order: WorkOrder, message: str = "scripted") -> list[Event]:
    """The events of an attempt whose body raises."""
    outcome = Outcome(Status.FAILED, error=TaskError("RuntimeError", message))
    return [Started(order.attempt_id, "script"), Finished(order.attempt_id, outcome)]


def lose(order: WorkOrder, reason: str = "scripted", *, started: bool = True) -> list[Event]:
    """The events of an attempt whose worker dies."""
    begin: list[Event] = [Started(order.attempt_id, "script")] if started else []
    return [*begin, Lost(order.attempt_id, reason, started)]


class ScriptedExecutor(Executor):
    """Plays ``script(order)``, the events of each attempt up to its end.

    Args:
        script: by default the body runs.
        choose: gets the attempts that have events left and says whose next event is reported; by default the oldest's.
    """

    name = "scripted"
    in_process = True
    kills_running_tasks = True
    uses_callers_thread = True

    def __init__(self, script: Script | None = None, choose: Callable[[list[str]], str] | None = None) -> None:
        self._script = script or self._run
        self._choose = choose or (lambda attempts: attempts[0])

    def open(self, report: Report) -> None:
        self._report = report
        self._stores = Stores()
        self._orders: dict[str, WorkOrder] = {}
        self._left: dict[str, deque[Event]] = {}
        self._begun: set[str] = set()

    def submit(self, order: WorkOrder) -> None:
        self._orders.setdefault(order.attempt_id, order)

    def cancel(self, attempt_id: str) -> None:
        if attempt_id in self._orders:
            self._orders.pop(attempt_id)
            self._left.pop(attempt_id, None)
            self._report(Finished(attempt_id, Outcome(Status.CANCELED)))

    def work(self) -> bool:
        if not self._orders:
            return False
        attempt_id = self._choose(list(self._orders))
        if attempt_id not in self._left:
            self._left[attempt_id] = deque(self._script(self._orders[attempt_id]))
        event = self._left[attempt_id].popleft()
        if isinstance(event, Started):
            self._begun.add(attempt_id)
        if not self._left[attempt_id]:
            del self._orders[attempt_id], self._left[attempt_id]
        self._report(event)
        return True

    def close(self, *, detach: bool = False) -> None:
        for attempt_id in list(self._orders):
            del self._orders[attempt_id]
            self._report(Lost(attempt_id, "the executor was closed", started=attempt_id in self._begun))
        self._stores.close()

    def _run(self, order: WorkOrder) -> Iterable[Event]:
        from flowcore.capture import capturing

        events: list[Event] = []
        with capturing():
            outcome = run_order(order, events.append, self._stores, where="script")
        return [*events, Finished(order.attempt_id, outcome)]
