"""The state machine's vocabulary: facts in the past tense go in (with the executor's events), imperatives come out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowcore.executor import Finished, Lost, Outcome, Started, TaskError, Waiting
from flowcore.graph import Settings, Task
from flowcore.states import RunStatus, TaskState


@dataclass(slots=True)
class TimerFired:
    """A timer that was set has run out."""

    key: str


@dataclass(slots=True)
class CancelRequested:
    """Somebody wants the run to end. Tasks that run whatever happens (exit tasks) still run, unless ``force``."""

    force: bool = False


@dataclass(slots=True)
class Granted:
    """A permit that was asked for is there."""

    key: str


@dataclass(slots=True)
class Ask:
    """Ask for a permit of a limit for the next attempt of a task; report Granted(key) once it is there."""

    key: str
    path: str
    limit: str


@dataclass(slots=True)
class Release:
    """Give a permit back, or wait for it no longer."""

    key: str


@dataclass(slots=True)
class Submit:
    """Start attempt ``number`` (from 1) of a task with these input values (encoded values and artifact references).

    ``settings`` are the task's with the values of their bindings; None where the task's own hold none.
    """

    attempt_id: str
    path: str
    number: int
    task: Task
    inputs: dict[str, Any]
    settings: Settings | None = None


@dataclass(slots=True)
class Cancel:
    """Ask the executor for an attempt's early end."""

    attempt_id: str


@dataclass(slots=True)
class SetTimer:
    """Report TimerFired(key) in this many seconds."""

    key: str
    seconds: float


@dataclass(slots=True)
class Commit:
    """A task succeeded: record the outcome of this attempt as its result."""

    path: str
    attempt_id: str
    outcome: Outcome


@dataclass(slots=True)
class Moved:
    """A task came to another state; SUBMITTED and a leaf's SUCCEEDED are told by Submit and Commit instead.

    ``outputs`` are those of a group that ended: what its scope gives, or a loop's lists.
    """

    path: str
    state: TaskState
    attempt_id: str | None = None
    error: TaskError | None = None
    reason: str | None = None
    outputs: dict[str, Any] | None = None


@dataclass(slots=True)
class FinishRun:
    """The run ended. ``failures`` are the failed leaves by path."""

    status: RunStatus
    outputs: dict[str, Any]
    failures: dict[str, TaskError]


Command = Ask | Release | Submit | Cancel | SetTimer | Commit | Moved | FinishRun
Fact = Started | Finished | Lost | Waiting | TimerFired | CancelRequested | Granted
