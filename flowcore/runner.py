"""The only loop: turns the state machine's commands into executor, record and timer calls, and reports into its events.

One ``Driver`` runs one run. Its loop is on the thread that calls ``drive``; a thread that reports an attempt's start or end takes
the step itself where nobody else is in one, which spares a hand-over between threads for each task. It decides nothing that the
state machine could decide.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import RefusedError
from flowcore.executor import Event, Executor, Finished, Lost, Output, Reported, Started, Waiting, WorkOrder
from flowcore.graph import Pipeline
from flowcore.graph.walk import task_kinds
from flowcore.orders import Orders
from flowcore.run_state import (
    Ask,
    Cancel,
    CancelRequested,
    Command,
    Commit,
    FinishRun,
    Granted,
    Moved,
    Release,
    RunState,
    RunStatus,
    SetTimer,
    Submit,
    TaskState,
    TimerFired,
)

if TYPE_CHECKING:
    from flowcore.artifacts.store import ArtifactStore
    from flowcore.limits import Limits, Permit
    from flowcore.recorder import RunRecorder


def check_runnable(pipeline: Pipeline, executor: Executor, root: str) -> None:
    """Refuse what this executor and store cannot run, before anything runs.

    Raises:
        RefusedError: names the task's component and the remedy.
    """
    if root.startswith("memory:"):
        _check_stays(pipeline, executor, root)
    executor.check(pipeline)


def _check_stays(pipeline: Pipeline, executor: Executor, root: str) -> None:
    away = next((path for path, task in task_kinds(pipeline.root) if not executor.keeps(task)), None)
    if away is None:
        return
    raise RefusedError(
        f"pipeline_root {root!r} exists in this process only, and {executor!r} runs task {away!r} in another; "
        "use a folder" + ("" if executor.in_process else ", or LocalExecutor(mode='threads')")
    )


#: How many events are taken before the orders that follow from them are sent.
_TOGETHER = 256


class Driver:
    """Drives one run to its end and leaves nothing open."""

    def __init__(
        self,
        pipeline: Pipeline,
        arguments: dict[str, Any],
        *,
        run_id: str,
        executor: Executor,
        recorder: RunRecorder,
        store: ArtifactStore,
        stop_on_failure: bool,
        limits: Limits,
    ) -> None:
        self._pipeline = pipeline
        self._run_id = run_id
        self._executor = executor
        self._recorder = recorder
        self._store = store
        self._limits = limits
        self._permits: dict[str, Permit] = {}
        self._state = RunState(
            pipeline.root, arguments, run_id, stop_on_failure=stop_on_failure, open_iterations=executor.open_iterations
        )
        #: Everything that comes from other threads than the loop's: executor events, cancellations.
        self._inbox: queue.SimpleQueue[Event | CancelRequested | Granted | None] = queue.SimpleQueue()
        #: The ends of bodies that ran on the loop's own thread.
        self._ended: deque[Event] = deque()
        self._timers: list[tuple[float, str]] = []
        self._attempts: dict[str, tuple[str, int]] = {}
        self._orders = Orders(pipeline, run_id, executor, recorder, store)
        self._make_order = self._orders.make
        self._thread = 0
        self._opened = self._interrupted = False
        #: Held by the thread that takes a step: the loop's, or one that reports.
        self._step = threading.Lock()
        #: What the loop waits on while other threads take the steps: see ``_ring``.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._rung = False
        self._open = False
        self._failure: BaseException | None = None
        #: The orders of the events that are taken together, sent after the last: what leaves this process costs one flush.
        self._gathered: list[WorkOrder] | None = None
        self.finish: FinishRun | None = None
        self._do: dict[type[Any], Callable[[Any], None]] = {
            Submit: self._submit,
            Commit: self._commit,
            Moved: self._moved,
            Cancel: self._cancel,
            Ask: self._ask,
            Release: self._release,
            SetTimer: self._set_timer,
            FinishRun: self._finish,
        }

    @property
    def on_callers_thread(self) -> bool:
        """Whether bodies run on the thread that calls ``drive``."""
        return self._executor.uses_callers_thread

    def cancel(self, *, force: bool = False) -> None:
        """Ask for the run's end, from any thread."""
        self._inbox.put(CancelRequested(force))
        self._ring()

    def hear(self, request: str) -> None:
        """What the record has to say, from any thread: somebody asks for the run's end, or it cannot be written any more."""
        self._inbox.put(CancelRequested() if request == "cancel" else None)
        self._ring()

    def open(self) -> None:
        """Begin. ``close`` ends what this began, whatever happens between.

        Raises:
            FlowcoreError: the executor cannot be used.
        """
        self._recorder.run_state(RunStatus.RUNNING)
        report: Callable[..., None] = self._report if self.on_callers_thread else self._heard
        self._executor.open(report)
        self._opened = True

    def drive(self) -> FinishRun:
        """Run to the end. An interrupt of a body cancels the run and is raised again at its end, any other one at once.

        Raises:
            FlowcoreError: the record or the executor failed.
        """
        self._thread = threading.get_ident()
        self._open = True
        try:
            with self._step:
                self._execute(self._state.start())
            if self.on_callers_thread:
                self._loop()
            else:
                self._attend()
        except KeyboardInterrupt:
            self._interrupted = True
            if not self._ended:
                raise  # it came between two steps of ours, which cannot be gone on with
            # At once, before the end of the body that it interrupted is taken in.
            self._execute(self._state.handle(CancelRequested()))
            self._loop()
            raise
        assert self.finish is not None
        return self.finish

    def close(self) -> None:
        """Stop what still runs; a run that has not ended is recorded as canceled where it was interrupted, else as failed."""
        with self._step:
            self._open = False
        if self._opened:
            self._opened = False
            self._executor.close()
        for permit in self._permits.values():
            permit.release()
        if self.finish is None:
            self._recorder.abandon(RunStatus.CANCELED if self._interrupted else RunStatus.FAILED)

    def _loop(self) -> None:
        inbox, ended, work, take, recorder = self._inbox, self._ended, self._executor.work, self._take, self._recorder
        while self.finish is None:
            if recorder.failure is not None:
                raise recorder.failure  # what is not recorded need not go on
            if self._timers and self._fire_timers():
                continue
            if ended:
                take(ended.popleft())
            elif not inbox.empty():
                take(inbox.get())
            elif not work():
                with contextlib.suppress(queue.Empty):
                    take(inbox.get(timeout=self._wait_seconds()))

    def _attend(self) -> None:
        """The loop where other threads take most steps: timers, cancellations, and what came while nobody could step."""
        inbox, recorder = self._inbox, self._recorder
        while self.finish is None:
            if recorder.failure is not None:
                raise recorder.failure  # what is not recorded need not go on
            with self._step:
                self._take_all()
                wait = 0.0 if self._timers and self._fire_timers() else self._wait_seconds()
            if self.finish is None and self._failure is None and not self._executor.work() and inbox.empty():
                with contextlib.suppress(queue.Empty):
                    self._bell.get(timeout=wait)
            self._rung = False
            if self._failure is not None:
                raise self._failure

    def _take_all(self) -> None:
        inbox = self._inbox
        while self.finish is None and not inbox.empty():
            self._gathered = []
            try:
                for _ in range(_TOGETHER):
                    if self.finish is not None or inbox.empty():
                        break
                    self._take(inbox.get())
            finally:
                orders, self._gathered = self._gathered, None
                if orders:  # also where an interrupt came: the state machine counts on them
                    self._send(orders)

    def _heard(self, *events: Event) -> None:
        """What an executor reports, on whatever thread."""
        inbox, step, kind = self._inbox, self._step, type(events[-1])
        if kind is not Started and kind is not Finished and kind is not Lost:
            # Its body runs on this thread, or may: the step is not its own to take.
            for event in events:
                inbox.put(event)
            self._ring()
            return
        if len(events) == 1 and inbox.empty() and step.acquire(blocking=False):
            # Nothing waits before it: it need not go through the inbox.
            self._take_step(events[0])
        else:
            for event in events:
                inbox.put(event)
        # Looked at again after each step: who came in the meantime left it to us.
        while not inbox.empty() and self._open and step.acquire(blocking=False):
            self._take_step(None)
        if self.finish is not None or self._failure is not None:
            self._ring()

    def _take_step(self, event: Event | None) -> None:
        """Take one event, or all that wait, and let go of the step."""
        try:
            if self._open and event is not None:
                self._take(event)
            elif self._open:
                self._take_all()
        except BaseException as error:  # noqa: BLE001  raised by the loop
            self._failure = error
            self._open = False
        finally:
            self._step.release()

    def _ring(self) -> None:
        """Let the loop look at once."""
        if not self._rung:
            self._rung = True
            self._bell.put(None)

    def _wait_seconds(self) -> float | None:
        if not self._timers:
            return None
        # Not longer than threads can wait at all.
        return max(0.0, min(self._timers[0][0] - time.monotonic(), 3600.0))

    def _fire_timers(self) -> bool:
        fired = False
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            fired = True
            self._execute(self._state.handle(TimerFired(heapq.heappop(self._timers)[1])))
        return fired

    # Reports in

    def _report(self, event: Event, *more: Event) -> None:
        if threading.get_ident() != self._thread:
            self._inbox.put(event)
        elif type(event) is Finished or type(event) is Lost:
            # Not at once: an interrupt of this body is told first.
            self._ended.append(event)
        else:
            # A body on the loop's own thread holds the loop up: what it tells while it runs is taken at once.
            self._take(event)
        for other in more:
            self._report(other)

    def _take(self, event: Event | CancelRequested | Granted | None) -> None:
        if event is None:
            return
        kind = type(event)
        if kind is CancelRequested or kind is Granted:
            self._execute(self._state.handle(event))  # type: ignore[arg-type]
            return
        attempt_id = event.attempt_id  # type: ignore[union-attr]
        known = self._attempts.get(attempt_id)
        if known is None:
            return
        if kind is Finished or kind is Lost:
            del self._attempts[attempt_id]
            self._execute(self._state.handle(event))  # type: ignore[arg-type]
            return
        path, number = known
        if type(event) is Started:
            for command in self._state.handle(event):
                if type(command) is Moved:
                    self._recorder.running(path, event.where, event.execution)
                else:
                    self._do[type(command)](command)
        elif isinstance(event, Output):
            self._recorder.wrote(path, number, event.stream, event.text)
        elif isinstance(event, Reported):
            self._recorder.reported(path, event.name, event.step, event.value)
        elif isinstance(event, Waiting):
            self._recorder.waits(path, event.reason)

    # Commands out

    def _execute(self, commands: list[Command]) -> None:
        do = self._do
        orders: list[WorkOrder] = []
        for command in commands:
            kind = type(command)
            if kind is Submit:
                orders.append(self._order(command))  # type: ignore[arg-type]
                continue
            if kind is Commit:
                self._recorder.committed(command.path, command.outcome)  # type: ignore[union-attr]
                continue
            if kind is Cancel and (orders or self._gathered):
                # It may be of one of these, and an executor ignores what it does not know.
                self._send([*(self._gathered or ()), *orders])
                orders = []
                if self._gathered:
                    self._gathered = []
            do[kind](command)
        if orders:
            if self._gathered is None:
                self._send(orders)
            else:
                self._gathered += orders

    def _send(self, orders: list[WorkOrder]) -> None:
        if self._orders.leaving:
            # What an attempt leaves outside this process must be found in the record by whoever comes after us.
            self._recorder.flush()
            self._orders.leaving = False
        submit = self._executor.submit
        for order in orders:
            submit(order)

    def _submit(self, command: Submit) -> None:
        self._send([self._order(command)])

    def _order(self, command: Submit) -> WorkOrder:
        self._attempts[command.attempt_id] = (command.path, command.number)
        return self._make_order(command)

    def prepare(self) -> None:
        """Find every function, and for another process its code, before anything runs.

        Raises:
            CodeError: names the function and what is wrong with it.
        """
        self._orders.prepare()

    def _commit(self, command: Commit) -> None:
        self._recorder.committed(command.path, command.outcome)

    def _moved(self, command: Moved) -> None:
        if command.state is TaskState.RUNNING:
            self._recorder.running(command.path)
        elif command.state is TaskState.WAITING:
            self._recorder.again(command.path, command.error, command.reason)
        else:
            outputs = None if not command.outputs else outputs_to_json(command.outputs)
            self._recorder.ended(command.path, command.state, command.error, command.reason, outputs)

    def _cancel(self, command: Cancel) -> None:
        self._executor.cancel(command.attempt_id)
        self._ring()  # places that became free are filled by the loop

    def _ask(self, command: Ask) -> None:
        key = command.key
        permit = self._permits[key] = self._limits.ask(command.limit, lambda: self._granted(key))
        if permit.state == "waiting":
            self._recorder.waits(command.path, f"limit {command.limit!r}: its places are taken")
        else:
            self._granted(key)

    def _granted(self, key: str) -> None:
        self._inbox.put(Granted(key))
        self._ring()

    def _release(self, command: Release) -> None:
        self._permits.pop(command.key).release()

    def _set_timer(self, command: SetTimer) -> None:
        timer = (time.monotonic() + command.seconds, command.key)
        heapq.heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._ring()

    def _finish(self, command: FinishRun) -> None:
        self._recorder.run_state(command.status, outputs_to_json(command.outputs))
        self.finish = command


def outputs_to_json(outputs: dict[str, Any]) -> dict[str, Any]:
    """A run's outputs as plain data: artifacts as {"artifact": ...}, parameters as {"value": ...}."""
    return {name: _output_to_json(value) for name, value in outputs.items()}


def _output_to_json(value: Any) -> Any:
    if isinstance(value, ArtifactRef):
        return {"artifact": value.to_json()}
    if isinstance(value, list) and any(_holds_artifact(item) for item in value):
        return {"list": [_output_to_json(item) for item in value]}
    return {"value": value}


def _holds_artifact(value: Any) -> bool:
    return isinstance(value, ArtifactRef) or (isinstance(value, list) and any(map(_holds_artifact, value)))


def output_from_json(data: dict[str, Any]) -> Any:
    """The inverse of ``outputs_to_json`` for one output."""
    if "artifact" in data:
        return ArtifactRef.from_json(data["artifact"])
    if "list" in data:
        return [output_from_json(item) for item in data["list"]]
    return data["value"]


def new_run_id() -> str:
    """Sorts by time; six random hex digits keep runs of one second apart."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"


