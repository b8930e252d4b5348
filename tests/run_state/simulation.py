"""Drives a RunState under a virtual clock with a random order of reports, late and duplicate ones included.

It asserts after each event what must hold at every moment; what it gathers is compared with the naive interpreter's result.
"""

from __future__ import annotations

import random

from flowcore.executor import Event, Finished, Lost, Outcome, Started, Status, TaskError
from flowcore.run_state import (
    TERMINAL,
    Cancel,
    CancelRequested,
    Command,
    Commit,
    FinishRun,
    Moved,
    RunState,
    SetTimer,
    Submit,
    TaskState,
    TimerFired,
)
from tests.run_state.naive import Fates, compute

STEPS = 20_000


class Simulation:
    """One run: ``run`` plays it to its end."""

    def __init__(self, state: RunState, fates: Fates, dice: random.Random) -> None:
        self.state = state
        self.fates = fates
        self.dice = dice
        self.pending: dict[str, list[Event]] = {}
        self.old: list[Event] = []
        self.timers: list[tuple[float, str]] = []
        self.clock = 0.0
        self.submitted: list[str] = []
        self.states: dict[str, TaskState] = {}
        self.finish: FinishRun | None = None

    def run(self) -> FinishRun:
        """Play to the end.

        Raises:
            AssertionError: a promise is broken, or the run does not end.
        """
        self.obey(self.state.start())
        for _ in range(STEPS):
            if self.finish is not None:
                assert not self.pending, "attempts are still out after the run's end"
                return self.finish
            self.one_report()
        raise AssertionError(f"the run has not ended after {STEPS} reports")

    def one_report(self) -> None:
        if self.old and self.dice.random() < 0.1:
            self.tell(self.dice.choice(self.old))  # late or duplicate: must change nothing
        elif self.pending and (not self.timers or self.dice.random() < 0.8):
            attempt_id = self.dice.choice(sorted(self.pending))
            event = self.pending[attempt_id].pop(0)
            if not self.pending[attempt_id]:
                del self.pending[attempt_id]
            self.old.append(event)
            self.tell(event)
        else:
            assert self.timers, "nothing is out, no timer is set, and the run has not ended"
            self.timers.sort()
            self.clock, key = self.timers.pop(0)
            self.tell(TimerFired(key))

    def tell(self, event: Event | TimerFired | CancelRequested) -> None:
        stale = event in self.old[:-1] and event is not self.old[-1] if self.old else False
        commands = self.state.handle(event)  # type: ignore[arg-type]
        if stale and not isinstance(event, TimerFired | CancelRequested):
            assert commands == [], "a report of an attempt that had ended changed something"
        self.obey(commands)
        self.state.check()

    def obey(self, commands: list[Command]) -> None:
        for command in commands:
            assert self.finish is None, "a command after the run's end"
            if isinstance(command, Submit):
                assert command.attempt_id not in self.submitted, "an attempt was submitted twice"
                self.submitted.append(command.attempt_id)
                self.move(command.path, TaskState.SUBMITTED)
                self.pending[command.attempt_id] = self.script(command)
            elif isinstance(command, Commit):
                self.move(command.path, TaskState.SUCCEEDED)
            elif isinstance(command, Moved):
                self.move(command.path, command.state)
            elif isinstance(command, SetTimer):
                self.timers.append((self.clock + command.seconds, command.key))
            elif isinstance(command, Cancel):
                if command.attempt_id in self.pending and self.dice.random() < 0.7:
                    self.pending[command.attempt_id] = [Finished(command.attempt_id, Outcome(Status.CANCELED))]
            else:
                self.finish = command

    def move(self, path: str, state: TaskState) -> None:
        assert self.states.get(path) not in TERMINAL, f"{path} went from {self.states.get(path)} to {state}"
        self.states[path] = state

    def script(self, order: Submit) -> list[Event]:
        attempt_id = order.attempt_id
        fate = self.fates.attempt(order.path, order.number)
        if fate == "unstarted":
            return [Lost(attempt_id, "never began", started=False)]
        if fate == "lost":
            return [Started(attempt_id, "here"), Lost(attempt_id, "worker died", started=True)]
        if fate == "fail":
            return [Started(attempt_id, "here"), Finished(attempt_id, Outcome(Status.FAILED, error=TaskError("E", "scripted")))]
        end = Finished(attempt_id, Outcome(Status.SUCCEEDED, compute(order.inputs)))
        # A start that is never told, or told after the end, changes nothing.
        return self.dice.choice([[Started(attempt_id, "here"), end], [end]])
