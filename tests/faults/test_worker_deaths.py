"""A worker process killed at each step of an order: one end an attempt, the right ``started``, neighbours unharmed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore import dsl
from flowcore.executor import Finished, Lost, Started, Status, WorkOrder
from flowcore.executors import LocalExecutor
from flowcore.testing import bodies
from flowcore.testing.executors import Bench
from tests.faults import dies_on_import, strikes

NEIGHBOURS = 30


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """One worker, so that everything is in its hand."""
    bench = Bench(LocalExecutor(mode="processes", workers=1), tmp_path / "root")
    yield bench
    bench.close()
    assert len(bench.ends()) == len(set(bench.ends())), "the end of an attempt was reported more than once"


def warm(bench: Bench, component: Any, **arguments: Any) -> None:
    """Let the executor measure a component as short, so that it hands several at once."""
    for order in [bench.submit(component, **arguments) for _ in range(100)]:
        bench.end_of(order)


def starts(bench: Bench, order: WorkOrder) -> int:
    return sum(isinstance(event, Started) and event.attempt_id == order.attempt_id for event in bench.events)


def assert_unharmed(bench: Bench, orders: list[WorkOrder]) -> None:
    ends = [bench.end_of(order) for order in orders]
    assert [end.outcome.status for end in ends if isinstance(end, Finished)] == [Status.SUCCEEDED] * len(orders)
    assert [starts(bench, order) for order in orders] == [1] * len(orders)


@pytest.mark.parametrize("at", ["body", "before it is collected"])
@pytest.mark.parametrize("component", [strikes.strike, strikes.strike_sealed])
def test_worker_that_dies_with_a_begun_order_loses_only_that_one(component: Any, at: str, bench: Bench) -> None:
    warm(bench, component, at="")
    before = [bench.submit(component, at="") for _ in range(NEIGHBOURS)]
    struck = bench.submit(component, at=at)
    after = [bench.submit(component, at="") for _ in range(NEIGHBOURS)]
    end = bench.end_of(struck)
    assert isinstance(end, Lost)
    assert end.started
    assert "SIGKILL" in end.reason
    assert_unharmed(bench, [*before, *after])


def test_outcome_that_was_not_told_yet_survives_its_worker(bench: Bench) -> None:
    warm(bench, strikes.strike, at="")
    before = [bench.submit(strikes.strike, at="") for _ in range(NEIGHBOURS)]
    struck = bench.submit(strikes.strike, at="before it is told")
    after = [bench.submit(strikes.strike, at="") for _ in range(NEIGHBOURS)]
    end = bench.end_of(struck)
    assert isinstance(end, Finished)
    assert end.outcome.parameters == {"Output": "before it is told"}
    assert_unharmed(bench, [*before, *after])


def test_order_whose_worker_dies_before_its_body_is_lost_unstarted(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWCORE_TEST_MARK", str(tmp_path / "mark"))
    struck = bench.submit(dies_on_import.harmless, value=1)
    others = [bench.submit(bodies.echo, value=number) for number in range(NEIGHBOURS)]
    end = bench.end_of(struck)
    assert isinstance(end, Lost)
    assert not end.started
    assert starts(bench, struck) == 0
    assert_unharmed(bench, others)


def test_worker_that_dies_while_it_starts_loses_its_order_unstarted(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "site").mkdir()
    program = f"import os\nif not os.path.exists({str(mark)!r}):\n    open({str(mark)!r}, 'w').close()\n    os._exit(3)\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(program)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    struck = bench.submit(bodies.echo, value=1)
    others = [bench.submit(bodies.echo, value=number) for number in range(NEIGHBOURS)]
    end = bench.end_of(struck)
    assert isinstance(end, Lost)
    assert not end.started
    assert "exit code 3" in end.reason
    assert_unharmed(bench, others)


def test_worker_that_dies_idle_is_replaced(bench: Bench) -> None:
    bench.end_of(bench.submit(bodies.echo, value=1))
    place = next(event.where for event in bench.events if isinstance(event, Started))
    os.kill(int(place.removeprefix("pid ")), signal.SIGKILL)
    # It may not be known yet that it is dead: the order is then lost, but it did not start.
    order = bench.submit(bodies.echo, value=2)
    end = bench.end_of(order)
    while isinstance(end, Lost):
        assert not end.started
        order = bench.submit(bodies.echo, value=2)
        end = bench.end_of(order)
    assert end.outcome.parameters == {"Output": 2}


def test_canceling_one_of_a_batch_hurts_no_other(bench: Bench, tmp_path: Path) -> None:
    warm(bench, bodies.echo, value=0)
    orders = [bench.submit(bodies.echo, value=number) for number in range(200)]
    canceled = orders[50:150:10]
    for order in canceled:
        bench.executor.cancel(order.attempt_id)
    for order in canceled:
        end = bench.end_of(order)
        assert isinstance(end, Finished)
        assert end.outcome.status is Status.SUCCEEDED or starts(bench, order) == 0
    assert_unharmed(bench, [order for order in orders if order not in canceled])


def test_long_task_holds_back_none_that_was_handed_with_it(tmp_path: Path) -> None:
    bench = Bench(LocalExecutor(mode="processes", workers=2), tmp_path / "root")
    release = tmp_path / "release"
    release.touch()
    for number in range(40):  # short, as far as anybody can tell
        bench.end_of(bench.submit(bodies.meet, started=str(tmp_path / f"s{number}"), release=str(release)))
    never = tmp_path / "never"
    orders = [bench.submit(bodies.meet, started=str(tmp_path / f"t{number}"), release=str(release)) for number in range(30)]
    long = bench.submit(bodies.meet, started=str(tmp_path / "long"), release=str(never))
    orders += [bench.submit(bodies.meet, started=str(tmp_path / f"u{number}"), release=str(release)) for number in range(30)]
    assert_unharmed(bench, orders)
    never.touch()
    assert_unharmed(bench, [long])
    bench.close()


@dsl.pipeline
def struck_fan(items: list) -> None:  # type: ignore[type-arg]
    with dsl.ParallelFor(items) as item:
        strikes.strike(at=item)


def test_run_whose_workers_die_fails_only_the_tasks_that_kill_them() -> None:
    items = [""] * 120 + ["body"] + [""] * 120
    run = flowcore.run(struck_fan, {"items": items}, executor=LocalExecutor("processes", workers=2), raise_on_failure=False)
    assert len(run.failures) == 1
    ((path, error),) = run.failures.items()
    assert ".120/" in path
    assert error.type == "InfrastructureLost"
