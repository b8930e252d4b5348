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


S = TaskState
TERMINAL = frozenset({S.SUCCEEDED, S.FAILED, S.SKIPPED, S.REUSED, S.CANCELED})

MOVES: dict[TaskState, frozenset[TaskState]] = {
    S.WAITING: frozenset({S.READY, S.RUNNING, S.SKIPPED, S.FAILED, S.CANCELED}),
    S.READY: frozenset({S.SUBMITTED, S.REUSED, S.CANCELED}),
    S.SUBMITTED: frozenset({S.RUNNING, S.SUCCEEDED, S.FAILED, S.CANCELED, S.WAITING}),
    S.RUNNING: frozenset({S.SUCCEEDED, S.FAILED, S.CANCELED, S.WAITING}),
    **{state: frozenset[TaskState]() for state in TERMINAL},
}

#: Kubeflow's names of the same states.
KFP_STATES: dict[TaskState, str] = {
    S.WAITING: "PENDING",
    S.READY: "PENDING",
    S.SUBMITTED: "PENDING",
    S.RUNNING: "RUNNING",
    S.SUCCEEDED: "SUCCEEDED",
    S.FAILED: "FAILED",
    S.SKIPPED: "SKIPPED",
    S.REUSED: "SUCCEEDED",
    S.CANCELED: "CANCELED",
}
