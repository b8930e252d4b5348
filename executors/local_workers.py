"""Bodies in threads and worker processes: one dispatch for both, so that ``workers`` bounds what runs at all.

Orders whose environment is still being made wait here, outside the dispatch.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from flowcore.capture import capturing
from flowcore.errors import FlowcoreError
from flowcore.executor import Finished, Lost, Outcome, Report, Status, Waiting, WorkOrder
from flowcore.executors import venvs
from flowcore.executors.budget import Budget, Request
from flowcore.executors.dispatch import Dispatch, Entry
from flowcore.executors.local_processes import Place, ProcessPool
from flowcore.executors.local_threads import ThreadPool
from flowcore.executors.placement import Placement
from flowcore.executors.yielding import YieldingLock
from flowcore.graph import NO_SETTINGS
from flowcore.worker import task_error

_CANCELED = Outcome(Status.CANCELED)


class Workers:
    """Runs up to ``workers`` bodies at once."""

    def __init__(
        self, report: Report, workers: int, placement: Placement, budget: Budget, pip_args: tuple[str, ...], *, in_processes: bool
    ) -> None:
        self._report = report
        self._placement = placement
        self._pip_args = pip_args
        #: What kind of worker a task gets that wants nothing special; None is a thread.
        self._kind = Place() if in_processes else None
        self._plain: dict[int, Any] = {}
        self._places: dict[Path | None, Place] = {} if self._kind is None else {None: self._kind}
        self._lock = YieldingLock()
        self._dispatch = Dispatch(workers, budget)
        self._threads = ThreadPool(report, self._dispatch, self._lock, self._freed, placement.sources)
        self._processes = ProcessPool(report, self._dispatch, self._lock, self._look, placement.sources)
        #: Orders by attempt whose environment is being made, and the threads that make them by requirements.
        self._held: dict[str, tuple[WorkOrder, Request]] = {}
        self._making: dict[tuple[str, ...], threading.Thread] = {}
        self._made: dict[tuple[str, ...], Path] = {}
        self._commands = venvs.Commands()
        self._closed = False
        self._capture = capturing()
        self._capture.__enter__()

    def submit(self, order: WorkOrder) -> None:
        if order.settings is NO_SETTINGS and self._is_plain(order):
            entry = Entry(order, self._kind)
            with self._lock:
                if not self._closed and self._dispatch.add(entry):
                    self._look()
            return
        try:
            request = self._placement.request(order)
        except FlowcoreError as error:
            self._report(Finished(order.attempt_id, Outcome(Status.FAILED, error=task_error(error))))
            return
        requirements = self._placement.requirements(order.component)
        if requirements is None:
            self._add(order, request, self._place(order))
            return
        with self._lock:
            if self._closed or order.attempt_id in self._held:
                return
            folder = self._made.get(requirements)
            if folder is None:
                self._held[order.attempt_id] = (order, request)
                self._make(requirements)
        if folder is not None:
            self._add(order, request, self._place(order, folder))
        else:
            names = ", ".join(requirements) or "no packages"
            self._report(Waiting(order.attempt_id, f"its environment with {names} is being made"))

    def _is_plain(self, order: WorkOrder) -> bool:
        component = order.component
        if id(component) not in self._plain:
            if self._placement.requirements(component) is not None:
                return False
            self._plain[id(component)] = component  # held, since its identity is its key
        return True

    def _add(self, order: WorkOrder, request: Request, kind: Place | None) -> None:
        with self._lock:
            if not self._closed and self._dispatch.add(Entry(order, kind, request)):
                self._look()

    def _place(self, order: WorkOrder, folder: Path | None = None) -> Place | None:
        """The kind of worker for an order, in the environment ``folder``: one object each."""
        settings = order.settings
        if folder is None and not settings.needs_process and settings.accelerator_limit is None:
            return self._kind
        place = self._places.get(folder)
        if place is None:
            python = path = None
            if folder is not None:
                # What was asked for comes before what is installed here, which the task may use too.
                python, path = venvs.python_of(folder), (venvs.packages_folder(folder), *sys.path)
            place = self._places[folder] = Place(python, path)
        return place

    def _make(self, requirements: tuple[str, ...]) -> None:
        """Make an environment in a thread, unless one does. The lock is held."""
        if requirements not in self._making:
            thread = threading.Thread(target=self._install, args=[requirements], name="flowcore-venv", daemon=True)
            self._making[requirements] = thread
            thread.start()

    def _install(self, requirements: tuple[str, ...]) -> None:
        folder, failed = None, None
        try:
            folder = venvs.made(requirements, self._pip_args, self._commands.run)
        except Exception as error:  # noqa: BLE001  told as the outcome of each task that waits for it
            failed = Outcome(Status.FAILED, error=task_error(error))
        with self._lock:
            del self._making[requirements]
            if folder is not None:
                self._made[requirements] = folder
            wanted = [held for held in self._held.values() if self._placement.requirements(held[0].component) == requirements]
            for order, _ in wanted:
                del self._held[order.attempt_id]
        for order, request in wanted:
            if failed is not None:
                self._report(Finished(order.attempt_id, failed))
            else:
                self._add(order, request, self._place(order, folder))

    def _look(self) -> None:
        dispatch = self._dispatch
        if dispatch.busy < dispatch.slots:
            if self._kind is None:
                self._threads.look()
            if self._places or self._kind is not None:
                self._processes.look()

    def _freed(self) -> None:
        with self._lock:
            self._processes.look()

    def cancel(self, attempt_id: str) -> None:
        """End an attempt: a waiting one at once, one in a process by killing it; a thread's body is left and said so."""
        canceled: Finished | None = Finished(attempt_id, _CANCELED)
        with self._lock:
            entry = self._dispatch.entry(attempt_id)
            if entry is None:
                if self._held.pop(attempt_id, None) is None:
                    return
            elif entry.hand is None:
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
            ends += [Lost(attempt_id, "the executor was closed", started=False) for attempt_id in self._held]
            self._held.clear()
            making = list(self._making.values())
            self._commands.stop()
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
        for thread in making:
            if thread is not threading.current_thread():
                thread.join()
        self._capture.__exit__(None, None, None)


