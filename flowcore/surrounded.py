"""Runs an order whose body sees more than its inputs: in its own surroundings, and with no secret in anything that it tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flowcore.executor import Event, Outcome, Status, TaskError, WorkOrder
from flowcore.masking import MaskedStream, Masks
from flowcore.surroundings import NO_SOURCES, environment, masks_of, prepared
from flowcore.worker import Stores, TaskContext, run_order, task_error, waited_for


def run_surrounded(
    order: WorkOrder, report: Callable[[Event], None], stores: Stores, *, where: str, passthrough: bool
) -> Outcome:
    """What ``run_order`` does, for settings that need it.

    The folders are there before the attempt starts, since it may have to wait for them; the variables are there for the body and
    the import of its module, and not for our own storage.
    """
    sources = stores.sources or NO_SOURCES
    masks = stores.masks = masks_of(order.settings, sources)
    context = MaskedContext(order, report, passthrough=passthrough, masks=masks)
    started_at = time.time()
    try:
        with prepared(order.settings, sources, order.attempt_id) as variables:

            def body(**call: Any) -> Any:
                with environment(variables):
                    return waited_for(stores.function(order)(**call))

            inner = replace(order, function=body)
            outcome = run_order(inner, report, stores, where=where, passthrough=passthrough, context=context)
    except Exception as error:  # noqa: BLE001  what cannot be put in its place fails the task
        outcome = Outcome(Status.FAILED, error=task_error(error), started_at=started_at, finished_at=time.time())
    if outcome.error is not None:
        outcome.error = _masked(outcome.error, masks)
    return outcome


def _masked(error: TaskError, masks: Masks) -> TaskError:
    masked = TaskError(masks(error.type), masks(error.message), masks(error.traceback), error.exception)
    if error.exception is not None and masked.to_json() != error.to_json():
        masked.exception = None  # whoever prints it would print the secret
    return masked


class MaskedContext(TaskContext):
    """A body's place where secrets may be about: no text leaves it with one in it."""

    __slots__ = ("_guard", "_masks", "_passed", "_told")

    def __init__(self, order: WorkOrder, report: Callable[[Event], None], *, passthrough: bool, masks: Masks) -> None:
        super().__init__(order, report, passthrough=passthrough)
        self._masks = masks
        self._guard = threading.RLock()
        self._told: dict[str, MaskedStream] = {}
        self._passed: dict[str, tuple[MaskedStream, Callable[[str], object]]] = {}

    def add(self, stream: str, text: str) -> None:
        with self._guard:
            told = self._told.get(stream) or self._told.setdefault(stream, self._masks.stream())
            super().add(stream, told.add(text))

    def pass_on(self, stream: str, text: str, write: Callable[[str], object]) -> None:
        with self._guard:
            passed, _ = self._passed.get(stream) or self._passed.setdefault(stream, (self._masks.stream(), write))
            write(passed.add(text))

    def flush(self) -> None:
        with self._guard:
            for stream, told in self._told.items():
                super().add(stream, told.end())
            for passed, write in self._passed.values():
                write(passed.end())
            super().flush()
