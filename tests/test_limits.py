"""Limits bound what runs at once over all runs of a client, and every permit comes back, however attempts and runs end."""

from __future__ import annotations

import random
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowcore
from flowcore import dsl
from flowcore.errors import RefusedError, RunCanceled, UsageError
from flowcore.executor import Finished, Lost, Outcome, Started, Status, TaskError
from flowcore.executors import LocalExecutor
from flowcore.limits import Limits, Permit
from flowcore.run_state import Ask, Cancel, CancelRequested, Granted, Release, RunState, SetTimer, Submit, TimerFired
from flowcore.testing import bodies


class TestLimits:
    def test_places_are_given_first_come_first_served(self) -> None:
        limits = Limits({"db": 1})
        order: list[int] = []
        first, second, third = (limits.ask("db", lambda number=number: order.append(number)) for number in range(3))
        assert [first.state, second.state, third.state] == ["held", "waiting", "waiting"]
        first.release()
        second.release()
        assert order == [1, 2]
        third.release()
        assert limits.held("db") == 0

    def test_who_waits_no_longer_is_passed_over(self) -> None:
        limits = Limits({"db": 1})
        order: list[int] = []
        first, second, third = (limits.ask("db", lambda number=number: order.append(number)) for number in range(3))
        second.release()
        first.release()
        assert order == [2]
        assert third.state == "held"

    def test_place_is_given_back_once(self) -> None:
        limits = Limits({"db": 2})
        first, second = limits.ask("db", bool), limits.ask("db", bool)
        first.release()
        first.release()
        assert limits.held("db") == 1
        second.release()

    @pytest.mark.parametrize("wrong", [{"db": 0}, {"db": "4"}, {"db": True}, {"": 1}, {1: 1}])
    def test_limits_that_mean_nothing_are_refused(self, wrong: Any) -> None:
        with pytest.raises(UsageError, match="limits"):
            flowcore.Client(limits=wrong)

    def test_threads_never_hold_more_than_there_are(self) -> None:
        limits = Limits({"db": 3})
        most, lock = [0, 0], threading.Lock()

        def work() -> None:
            for _ in range(100):
                there = threading.Event()
                permit = limits.ask("db", there.set)
                if permit.state == "waiting":
                    there.wait()
                with lock:
                    most[0] += 1
                    most[1] = max(most)
                with lock:
                    most[0] -= 1
                permit.release()

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most[1] <= 3
        assert limits.held("db") == 0


@dsl.component
def step(x: int) -> int:
    return x


@dsl.pipeline
def limited() -> None:
    with dsl.ParallelFor([1, 2, 3, 4]) as item:
        first = step(x=item).set_limit("db").set_retry(1, backoff_duration="1s")
        step(x=first.output).set_limit("api")


class Machine:
    """One run's state machine, its permits, and what could happen to it next."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.state = RunState(limited.pipeline.root, {}, name)
        self.limits = limits
        self.permits: dict[str, Permit] = {}
        self.active: dict[str, bool] = {}
        self.limit: dict[str, str] = {}
        self.granted: list[str] = []
        self.timers: list[str] = []
        self.carry_out(self.state.start())

    def carry_out(self, commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, Ask):
                self.ask(command.key, command.limit)
            elif isinstance(command, Release):
                self.permits.pop(command.key).release()
            elif isinstance(command, Submit):
                assert self.permits[command.attempt_id].state == "held"
                self.active[command.attempt_id] = False
            elif isinstance(command, SetTimer):
                self.timers.append(command.key)
            elif isinstance(command, Cancel):
                assert command.attempt_id in self.active
        self.state.check()

    def ask(self, key: str, limit: str) -> None:
        self.permits[key] = self.limits.ask(limit, lambda: self.granted.append(key))
        if self.permits[key].state == "held":
            self.granted.append(key)

    def step(self, chance: random.Random) -> None:
        """One thing that may happen now."""
        events: list[Any] = [Granted(key) for key in self.granted] + [TimerFired(key) for key in self.timers]
        for attempt_id, started in self.active.items():
            outcomes = [Outcome(Status.SUCCEEDED, {"Output": 1}), Outcome(Status.FAILED, error=TaskError("OSError", "no"))]
            events += [Finished(attempt_id, outcome) for outcome in outcomes] + [Lost(attempt_id, "gone", started)]
            events += [] if started else [Started(attempt_id, "here")]
        if chance.random() < 0.02:
            events = [CancelRequested(chance.random() < 0.5)]
        if not events:
            return
        event = chance.choice(events)
        if isinstance(event, Granted):
            self.granted.remove(event.key)
        elif isinstance(event, TimerFired):
            self.timers.remove(event.key)
        elif isinstance(event, Started):
            self.active[event.attempt_id] = True
        elif isinstance(event, Finished | Lost):
            del self.active[event.attempt_id]
        self.carry_out(self.state.handle(event))


@given(seed=st.integers(0, 2**32), runs=st.integers(1, 4), db=st.integers(1, 3))
def test_permits_bound_what_is_active_and_all_come_back(seed: int, runs: int, db: int) -> None:
    chance = random.Random(seed)
    limits = Limits({"db": db, "api": 1})
    machines = [Machine(f"run-{number}", limits) for number in range(runs)]
    for _ in range(20_000):
        going = [machine for machine in machines if not machine.state.finished]
        if not going:
            break
        chance.choice(going).step(chance)
        active = sum(len(machine.active) for machine in machines)
        assert active <= limits.held("db") + limits.held("api") <= db + 1
    assert all(machine.state.finished for machine in machines)
    assert not [machine.permits for machine in machines if machine.permits]
    assert (limits.held("db"), limits.held("api")) == (0, 0)


# Real runs


@dsl.component
def crowd(folder: str, number: int) -> int:
    """How many of these run at this moment, as far as files tell."""
    mark = Path(folder, f"in-{number}")
    mark.touch()
    seen = len(list(Path(folder).glob("in-*")))
    mark.unlink()
    return seen


@dsl.pipeline
def crowded(folder: str, start: int = 0) -> list[int]:  # type: ignore[empty-body]
    with dsl.ParallelFor([0, 1, 2, 3, 4, 5, 6, 7]) as item:
        seen = crowd(folder=folder, number=item).set_limit("db")
    return dsl.Collected(seen.output)  # type: ignore[return-value]


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_limit_of_one_runs_tasks_one_after_another(mode: Any, tmp_path: Path) -> None:
    client = flowcore.Client(limits={"db": 1}, executor=LocalExecutor(mode, workers=None if mode == "inline" else 3))
    assert client.run(crowded, {"folder": str(tmp_path)}).output == [1] * 8
    assert client._limits.held("db") == 0


def test_limit_is_shared_by_runs_of_one_client_in_several_threads(tmp_path: Path) -> None:
    client = flowcore.Client(records=None, limits={"db": 1}, executor=LocalExecutor(workers=2))
    runs = [client.submit(crowded, {"folder": str(tmp_path)}) for _ in range(3)]
    for run in runs:
        assert run.result(timeout=60).output == [1] * 8


def test_cancel_ends_a_run_that_waits_for_a_place(tmp_path: Path) -> None:
    @dsl.pipeline
    def holding(started: str, release: str) -> None:
        bodies.meet(started=started, release=release).set_limit("db")

    client = flowcore.Client(records=None, limits={"db": 1})
    release = str(tmp_path / "release")
    holder = client.submit(holding, {"started": str(tmp_path / "first"), "release": release})
    bodies.await_file(tmp_path / "first")
    waiter = client.submit(holding, {"started": str(tmp_path / "second"), "release": release})
    for event in waiter.events():
        if event.kind == "waiting":
            assert event.data == {"reason": "limit 'db': its places are taken"}
            waiter.cancel()
    with pytest.raises(RunCanceled):
        waiter.result(timeout=60)
    assert not (tmp_path / "second").exists()
    Path(release).touch()
    holder.result(timeout=60)
    assert client._limits.held("db") == 0


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_failed_tasks_give_their_places_back(mode: Any) -> None:
    @dsl.pipeline
    def failing() -> None:
        for number in range(3):
            bodies.refuse(message=str(number)).set_limit("db").set_retry(1)

    client = flowcore.Client(records=None, limits={"db": 1}, executor=LocalExecutor(mode))
    run = client.run(failing, raise_on_failure=False)
    assert [error.message for error in run.failures.values()] == ["0", "1", "2"]
    assert [task.attempts for task in run.tasks.values()] == [2, 2, 2]
    assert client._limits.held("db") == 0


def test_interrupted_run_gives_its_places_back() -> None:
    @dsl.component
    def interrupt() -> None:
        raise KeyboardInterrupt

    @dsl.pipeline
    def interrupted() -> None:
        interrupt().set_limit("db")

    client = flowcore.Client(records=None, limits={"db": 1}, executor=LocalExecutor("inline"))
    with pytest.raises(KeyboardInterrupt):
        client.run(interrupted)
    assert client._limits.held("db") == 0


def test_unknown_limit_is_refused_with_the_remedy() -> None:
    @dsl.pipeline
    def outer() -> None:
        with dsl.ParallelFor([1], name="each") as item:
            step(x=item).set_limit("db")

    text = "task 'each/step' counts against limit 'db', which this client lacks (it has 'api'); make it Client(limits={'db': 4})"
    with pytest.raises(RefusedError, match=re.escape(text)):
        flowcore.Client(limits={"api": 2}).run(outer)
    assert not Path(".flowcore/runs.db").exists()


def test_durability_against_power_loss_reaches_the_record() -> None:
    client = flowcore.Client("runs.db", synchronous="full")
    run = client.run(step, {"x": 1})
    with run._records.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    with pytest.raises(UsageError, match="'normal' or 'full'"):
        flowcore.Client(synchronous="never")  # type: ignore[arg-type]
