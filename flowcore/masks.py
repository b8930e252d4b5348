"""Keeps the exact values of secrets out of what a task tells: its output and its errors. Values that it returns are its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from flowcore.executor import Event, Finished, Output, TaskError

MASK = "********"


def masking(values: Iterable[str]) -> Callable[[Event], Event]:
    """A function that gives an event without these values; each line of a longer one counts too."""
    lines = {line for value in values for line in (value, *value.splitlines()) if line.strip()}
    # The longest first: one value may be part of another.
    secrets = sorted(lines, key=lambda line: (-len(line), line))

    def without(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, MASK)
        return text

    def masked(event: Event) -> Event:
        if isinstance(event, Output):
            return replace(event, text=without(event.text))
        if isinstance(event, Finished) and event.outcome.error is not None:
            error = event.outcome.error
            shown = TaskError(error.type, without(error.message), without(error.traceback))
            return replace(event, outcome=replace(event.outcome, error=shown))
        return event

    return masked if secrets else _as_it_is


def _as_it_is(event: Event) -> Event:
    return event
