"""Tasks in this process or on this machine: inline on the caller's thread, in threads, or in worker processes.

Inline is for ``breakpoint()``; threads is the default; processes survive a body that crashes its interpreter. Worker processes
are started when first needed, serve one order after another, and end when their driver does.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Literal

from flowcore.capture import capturing
from flowcore.errors import UsageError
from flowcore.executor import Executor, Finished, Lost, Outcome, Report, Status, WorkOrder
from flowcore.executors.budget import usable_cores
from flowcore.executors.dispatch import Dispatch, Entry
from flowcore.executors.local_processes import Place, ProcessPool
from flowcore.executors.local_threads import ThreadPool
from flowcore.graph import Pipeline
from flowcore.surroundings import Sources, Value, check_tasks, sweep
from flowcore.worker import Stores, run_order

Mode = Literal["inline", "threads", "processes"]
_CANCELED = Outcome(Status.CANCELED)


class LocalExecutor(Executor):
    """Runs tasks here.

    Args:
        mode: "inline" runs bodies one by one on the thread that called ``run``; "threads" (the default) and "processes" run up
            to ``workers`` at once.
        workers: how many bodies may run at once; by default the number of usable cores. Inline has one.
        secrets, config_maps: what tasks use, as ``{"name": {"key": value}}``, where a value is a text, ``{"env": NAME}`` or
            ``{"file": path}``; the last two are looked up where the body runs.
        volumes: the folder of this machine that stands for each persistent volume claim.

    Raises:
        UsageError: an unknown mode, fewer than one worker, or no such mappings.
    """

    name = "local"

    def __init__(
        self,
        mode: Mode = "threads",
        workers: int | None = None,
        *,
        secrets: Mapping[str, Mapping[str, Value]] | None = None,
        config_maps: Mapping[str, Mapping[str, Value]] | None = None,
        volumes: Mapping[str, str | os.PathLike[str]] | None = None,
    ) -> None:
        if mode not in _STRATEGIES:
            raise UsageError(f"LocalExecutor(mode={mode!r}): the modes are {', '.join(_STRATEGIES)}")
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise UsageError(f"LocalExecutor(workers={workers!r}): wants a whole number from 1 on")
        self.sources = Sources(secrets or {}, config_maps or {}, volumes or {})
        self.mode = mode
        self.workers = 1 if mode == "inline" else workers or usable_cores()
        self.in_process = mode != "processes"
        self.kills_running_tasks = mode == "processes"
        self.uses_callers_thread = mode == "inline"
        self.open_iterations = max(1_000, 4 * self.workers)
        self._strategy: _Inline | _Workers | None = None

    def __repr__(self) -> str:
        return f"LocalExecutor(mode={self.mode!r}, workers={self.workers})"

    def check(self, pipeline: Pipeline) -> None:
        check_tasks(pipeline, self.sources, type(self).__name__)

    def open(self, report: Report) -> None:
        self._strategy = _STRATEGIES[self.mode](report, self.workers, self.sources)

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
            sweep()

    def _opened(self) -> _Inline | _Workers:
        if self._strategy is None:
            raise UsageError("this LocalExecutor is not open: call open(report) first")
        return self._strategy


class _Inline:
    """Orders wait in a queue; ``work`` runs the next one on the caller's thread."""

    def __init__(self, report: Report, workers: int, sources: Sources) -> None:
        self._report = report
        self._waiting: deque[WorkOrder] = deque()
        self._known: set[str] = set()
        self._stores = Stores(sources=sources)
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


class _Workers:
    """Bodies in threads or processes: one dispatch for both, so that ``workers`` bounds what runs at all."""

    def __init__(self, report: Report, workers: int, kind: Place | None, sources: Sources) -> None:
        self._report = report
        self._kind = kind
        self._lock = threading.Lock()
        self._dispatch = Dispatch(workers)
        self._threads = ThreadPool(report, self._dispatch, self._lock, self._freed, sources)
        self._processes = ProcessPool(report, self._dispatch, self._lock, self._look, sources)
        self._closed = False
        self._capture = capturing()
        self._capture.__enter__()

    def submit(self, order: WorkOrder) -> None:
        entry = Entry(order, self._kind)
        with self._lock:
            if not self._closed and self._dispatch.add(entry):
                self._look()

    def _look(self) -> None:
        dispatch = self._dispatch
        if dispatch.busy < dispatch.slots:
            self._threads.look()
            self._processes.look()

    def _freed(self) -> None:
        with self._lock:
            self._processes.look()

    def cancel(self, attempt_id: str) -> None:
        """End an attempt: a waiting one at once, one in a process by killing it; a thread's body is left and said so."""
        with self._lock:
            entry = self._dispatch.entry(attempt_id)
            if entry is None:
                return
            canceled: Finished | None = Finished(attempt_id, _CANCELED)
            if entry.hand is None:
                self._dispatch.ended(entry)
            elif entry.kind is None:
                # Places of bodies that were let go are not filled here: what waits may be about to be canceled too.
                self._threads.let_go(entry)
                canceled = Finished(attempt_id, _CANCELED, outlived=True)
            else:
                canceled = self._processes.cancel(entry)
        if canceled is not None:
            self._report(canceled)

    def work(self) -> bool:
        with self._lock:
            self._look()
        return False

    def close(self) -> None:
        """End everything; only bodies that no thread can stop run on."""
        with self._lock:
            self._closed = True
            ends = self._threads.close()
            self._processes.close()
        for end in ends:
            self._report(end)
        self._processes.join()
        with self._lock:
            left = [entry for entry in self._dispatch.entries() if entry.kind is not None]
            for entry in left:
                self._dispatch.ended(entry)
        for entry in left:
            self._report(Lost(entry.order.attempt_id, "the executor was closed", started=False))
        self._threads.join()
        self._capture.__exit__(None, None, None)


_STRATEGIES: dict[str, Callable[[Report, int, Sources], _Inline | _Workers]] = {
    "inline": _Inline,
    "threads": lambda report, workers, sources: _Workers(report, workers, None, sources),
    "processes": lambda report, workers, sources: _Workers(report, workers, Place(), sources),
}
