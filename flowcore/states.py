"""Where a task and a run can stand, as tables: legal moves, terminal states, Kubeflow's names. Data only."""

from __future__ import annotations

from enum import StrEnum


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "WAITING"
    READY = "READY"
    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    REUSED = "REUSED"
    CANCELED = "CANCELED"


class RunStatus(StrEnum):
    """Where a run stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


# By name, not as TaskState.WAITING: up to Python 3.11 an enum's attribute costs twenty times a module's.
WAITING, READY, SUBMITTED, RUNNING, SUCCEEDED, FAILED, SKIPPED, REUSED, CANCELED = TaskState

TERMINAL = frozenset({SUCCEEDED, FAILED, SKIPPED, REUSED, CANCELED})

MOVES: dict[TaskState, frozenset[TaskState]] = {
    WAITING: frozenset({READY, SUBMITTED, RUNNING, SKIPPED, FAILED, CANCELED}),
    READY: frozenset({SUBMITTED, REUSED, CANCELED}),
    SUBMITTED: frozenset({RUNNING, SUCCEEDED, FAILED, CANCELED, WAITING}),
    RUNNING: frozenset({SUCCEEDED, FAILED, CANCELED, WAITING}),
    **{state: frozenset[TaskState]() for state in TERMINAL},
}

#: Kubeflow's names of the same states.
KFP_STATES: dict[TaskState, str] = {
    WAITING: "PENDING",
    READY: "PENDING",
    SUBMITTED: "PENDING",
    RUNNING: "RUNNING",
    SUCCEEDED: "SUCCEEDED",
    FAILED: "FAILED",
    SKIPPED: "SKIPPED",
    REUSED: "SUCCEEDED",
    CANCELED: "CANCELED",
}
