"""The promises of ``flowcore.executor.Executor`` as a suite: inherit it and supply ``make_executor``.

A backend's test class names its differences in the class attributes of its executor (``in_process``, ``kills_running_tasks`` …);
the suite reads them and asks for no promise that they rule out.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowcore.artifacts.execution import read_outcome
from flowcore.dsl.component import ComponentFunction
from flowcore.executor import Event, Executor, Finished, Lost, Output, Reported, Started, Status, WorkOrder
from flowcore.graph import CodeRef, PythonFunction
from flowcore.testing import bodies

WAIT_SECONDS = 60.0


class Bench:
    """An open executor, the orders for it and the events that it reported."""

    def __init__(self, executor: Executor, root: Path) -> None:
        self.executor = executor
        self.root = root
        self.events: list[Event] = []
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._count = 0
        self._open = False

    def open(self) -> None:
        """Open the executor, unless it is: in the test itself, since pytest changes sys.stdout between set-up and call."""
        if not self._open:
            self._open = True
            self.executor.open(self._report)

    def _report(self, *events: Event) -> None:
        for event in events:
            self._inbox.put(event)

    def close(self) -> None:
        """Close the executor and take its last reports."""
        if self._open:
            self._open = False
            self.executor.close()
        while not self._inbox.empty():
            self.events.append(self._inbox.get())

    def order(self, component: ComponentFunction[Any, Any], **arguments: Any) -> WorkOrder:
        """An order as the runner would make it for this executor."""
        self._count += 1
        graph = component.component
        implementation = graph.implementation
        assert isinstance(implementation, PythonFunction)
        order = WorkOrder(f"run/{component.name}-{self._count}#1", f"{component.name}-{self._count}", graph, arguments, {})
        if graph.touches_files or self.executor.outlives_driver:
            order.output_uri = str(self.root / order.task / "1")
        order.pipeline_root = str(self.root)
        if self.executor.in_process:
            order.function = component.python_func
        else:
            order.code = CodeRef(implementation.module, implementation.qualname, implementation.digest)
        return order

    def submit(self, component: ComponentFunction[Any, Any], **arguments: Any) -> WorkOrder:
        """Submit a new order and give it."""
        order = self.order(component, **arguments)
        self.send(order)
        return order

    def send(self, order: WorkOrder) -> None:
        """Submit an order."""
        self.open()
        self.executor.submit(order)

    def next_event(self) -> Event:
        """The next report; on an executor that works on the caller's thread, work until there is one."""
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            try:
                event = self._inbox.get_nowait()
            except queue.Empty:
                if self.executor.work():
                    continue
                event = self._inbox.get(timeout=WAIT_SECONDS)
            self.events.append(event)
            return event
        raise TimeoutError("the executor reported nothing")

    def end_of(self, order: WorkOrder) -> Finished | Lost:
        """Take reports until the order's end."""
        while True:
            for event in self.events:
                if isinstance(event, Finished | Lost) and event.attempt_id == order.attempt_id:
                    return event
            self.next_event()

    def ends(self) -> list[str]:
        """The attempts whose end was reported, as often as it was."""
        return [event.attempt_id for event in self.events if isinstance(event, Finished | Lost)]


class ExecutorConformance:
    """Inherit and override ``make_executor``."""

    def make_executor(self) -> Executor:
        """An executor that is not open, with room for at least two bodies at once unless it works on the caller's thread."""
        raise TypeError(f"{type(self).__name__} must override make_executor")

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        bench = Bench(self.make_executor(), tmp_path / "root")
        yield bench
        bench.close()
        ends = bench.ends()
        assert len(ends) == len(set(ends)), "the end of an attempt was reported more than once"

    def test_body_runs_and_its_value_comes_back(self, bench: Bench) -> None:
        end = bench.end_of(bench.submit(bodies.echo, value=7))
        assert isinstance(end, Finished)
        assert end.outcome.status is Status.SUCCEEDED
        assert end.outcome.parameters == {"Output": 7}

    def test_start_is_reported_before_the_end(self, bench: Bench) -> None:
        order = bench.submit(bodies.echo, value=1)
        bench.end_of(order)
        kinds = [type(event) for event in bench.events if event.attempt_id == order.attempt_id]
        assert kinds == [Started, Finished]

    def test_times_of_the_body_are_utc_seconds(self, bench: Bench) -> None:
        before = time.time()
        end = bench.end_of(bench.submit(bodies.echo, value=1))
        assert isinstance(end, Finished)
        assert end.outcome.started_at is not None
        assert end.outcome.finished_at is not None
        assert before - 60 <= end.outcome.started_at <= end.outcome.finished_at <= time.time() + 60

    def test_exception_of_a_task_is_a_result(self, bench: Bench) -> None:
        end = bench.end_of(bench.submit(bodies.refuse, message="no such row"))
        assert isinstance(end, Finished)
        assert end.outcome.status is Status.FAILED
        error = end.outcome.error
        assert error is not None
        assert (error.type, error.message) == ("LookupError", "no such row")
        assert 'raise LookupError(message)' in error.traceback
        assert "worker.py" not in error.traceback

    def test_output_of_a_body_is_reported_before_its_end(self, bench: Bench) -> None:
        order = bench.submit(bodies.speak, text="grüße")
        bench.end_of(order)
        outputs = [event for event in bench.events if isinstance(event, Output)]
        assert "".join(event.text for event in outputs) == "grüße\n"
        assert {event.stream for event in outputs} == {"stdout"}

    def test_artifacts_are_sealed_below_the_attempt(self, bench: Bench) -> None:
        order = bench.submit(bodies.write_table, rows=3)
        end = bench.end_of(order)
        assert isinstance(end, Finished)
        assert end.outcome.parameters == {"Output": 3, "note": "3 rows"}
        table = end.outcome.artifacts["table"]
        assert not isinstance(table, list)
        assert order.output_uri is not None
        assert end.outcome.execution is not None
        assert table.uri == f"{order.output_uri}/{end.outcome.execution}/table"
        assert table.size_bytes == 5
        uri = f"{order.output_uri}/{end.outcome.execution}/outcome.json"
        sealed = read_outcome(Path(uri).read_bytes(), uri)
        assert sealed is not None
        assert sealed["parameters"] == end.outcome.parameters

    def test_submit_does_not_wait_for_the_body(self, bench: Bench, tmp_path: Path) -> None:
        release = tmp_path / "release"
        order = bench.submit(bodies.meet, started=str(tmp_path / "started"), release=str(release))
        release.touch()  # had submit waited for the body, this line would never be reached
        assert isinstance(bench.end_of(order), Finished)

    def test_known_attempt_is_adopted_not_started_again(self, bench: Bench, tmp_path: Path) -> None:
        release = tmp_path / "release"
        order = bench.submit(bodies.meet, started=str(tmp_path / "started"), release=str(release))
        bench.send(order)  # it has not ended: its body waits for the release
        release.touch()
        bench.end_of(order)
        bench.end_of(bench.submit(bodies.echo, value=1))
        assert bench.ends().count(order.attempt_id) == 1
        assert sum(isinstance(event, Started) and event.attempt_id == order.attempt_id for event in bench.events) == 1

    def test_wide_fan_ends_each_attempt_once(self, bench: Bench) -> None:
        orders = [bench.submit(bodies.echo, value=number) for number in range(200)]
        values = []
        for order in orders:
            end = bench.end_of(order)
            assert isinstance(end, Finished)
            values.append(end.outcome.parameters["Output"])
        assert values == list(range(200))

    def test_many_short_bodies_run_once_each(self, bench: Bench, tmp_path: Path) -> None:
        marks = tmp_path / "marks"
        marks.mkdir()
        orders = [bench.submit(bodies.leave_mark, folder=str(marks)) for _ in range(150)]
        for order in orders:
            bench.end_of(order)
        assert len(list(marks.iterdir())) == 150
        started = [event.attempt_id for event in bench.events if isinstance(event, Started)]
        assert sorted(started) == sorted(order.attempt_id for order in orders)

    def test_long_body_holds_back_none_that_was_submitted_with_it(self, bench: Bench, tmp_path: Path) -> None:
        if bench.executor.uses_callers_thread:
            pytest.skip("bodies on the caller's thread run one after another")
        open_, never = tmp_path / "open", tmp_path / "never"
        open_.touch()

        def submit(name: str, release: Path = open_) -> WorkOrder:
            return bench.submit(bodies.meet, started=str(tmp_path / name), release=str(release))

        for order in [submit(f"measured-{number}") for number in range(30)]:
            bench.end_of(order)
        before = [submit(f"before-{number}") for number in range(20)]
        long = submit("long", never)
        after = [submit(f"after-{number}") for number in range(20)]
        ends = [bench.end_of(order) for order in (*before, *after)]
        assert {type(end) for end in ends} == {Finished}
        assert long.attempt_id not in bench.ends()
        never.touch()
        assert isinstance(bench.end_of(long), Finished)

    def test_orders_that_wait_can_be_canceled_out_of_the_middle(self, bench: Bench) -> None:
        orders = [bench.submit(bodies.echo, value=number) for number in range(100)]
        canceled = orders[10:90:7]
        for order in canceled:
            bench.executor.cancel(order.attempt_id)
        for number, order in enumerate(orders):
            end = bench.end_of(order)
            assert isinstance(end, Finished)
            if order not in canceled:
                assert end.outcome.parameters == {"Output": number}
            elif end.outcome.status is Status.CANCELED and not end.outlived:
                assert end.outcome.parameters == {}

    def test_attempt_that_has_not_started_can_be_canceled(self, bench: Bench, tmp_path: Path) -> None:
        release = tmp_path / "release"
        places = [str(tmp_path / f"started-{number}") for number in range(self._room(bench))]
        blockers = [bench.submit(bodies.meet, started=place, release=str(release)) for place in places]
        waiting = bench.submit(bodies.echo, value=1)
        bench.executor.cancel(waiting.attempt_id)
        release.touch()
        end = bench.end_of(waiting)
        assert isinstance(end, Finished)
        assert end.outcome.status is Status.CANCELED
        assert not any(isinstance(event, Started) and event.attempt_id == waiting.attempt_id for event in bench.events)
        for blocker in blockers:
            bench.end_of(blocker)

    def _room(self, bench: Bench) -> int:
        """How many bodies fill the executor."""
        return getattr(bench.executor, "workers", 1)

    def test_canceling_an_unknown_attempt_is_ignored(self, bench: Bench) -> None:
        bench.open()
        bench.executor.cancel("no such attempt")
        assert isinstance(bench.end_of(bench.submit(bodies.echo, value=1)), Finished)

    def test_running_body_can_be_canceled(self, bench: Bench, tmp_path: Path) -> None:
        if bench.executor.uses_callers_thread:
            pytest.skip("a body on the caller's thread ends before anybody could cancel it")
        started, release = tmp_path / "started", tmp_path / "release"
        order = bench.submit(bodies.meet, started=str(started), release=str(release))
        bodies.await_file(started)
        bench.executor.cancel(order.attempt_id)
        end = bench.end_of(order)
        release.touch()
        assert isinstance(end, Finished)
        assert end.outcome.status is Status.CANCELED
        assert end.outlived is not bench.executor.kills_running_tasks
        assert isinstance(bench.end_of(bench.submit(bodies.echo, value=1)), Finished)

    def test_dead_worker_is_lost_and_its_neighbours_go_on(self, bench: Bench) -> None:
        if bench.executor.in_process:
            pytest.skip("a body in this process that ends its interpreter ends the test")
        dead = bench.submit(bodies.die, code=7)
        others = [bench.submit(bodies.echo, value=number) for number in range(5)]
        end = bench.end_of(dead)
        assert isinstance(end, Lost)
        assert end.started
        assert "7" in end.reason
        assert [bench.end_of(order).__class__ for order in others] == [Finished] * 5

    def test_missing_function_is_a_failed_task(self, bench: Bench) -> None:
        if bench.executor.in_process:
            pytest.skip("an order in this process carries the function itself")
        order = bench.order(bodies.echo, value=1)
        order.code = CodeRef("flowcore.testing.bodies", "not_there", "0" * 64)
        bench.send(order)
        end = bench.end_of(order)
        assert isinstance(end, Finished)
        assert end.outcome.error is not None
        assert "not_there" in end.outcome.error.message

    def test_changed_function_is_a_failed_task(self, bench: Bench) -> None:
        if bench.executor.in_process:
            pytest.skip("an order in this process carries the function itself")
        order = bench.order(bodies.echo, value=1)
        assert order.code is not None
        order.code = replace(order.code, digest="0" * 64)
        bench.send(order)
        end = bench.end_of(order)
        assert isinstance(end, Finished)
        assert end.outcome.error is not None
        assert "other code" in end.outcome.error.message

    def test_input_of_the_wrong_type_is_a_failed_task(self, bench: Bench) -> None:
        end = bench.end_of(bench.submit(bodies.echo, value="seven"))
        assert isinstance(end, Finished)
        assert end.outcome.error is not None
        assert "input 'value'" in end.outcome.error.message

    def test_reports_from_many_threads_all_arrive(self, bench: Bench) -> None:
        end = bench.end_of(bench.submit(bodies.report_from_threads, threads=8, each=25))
        assert isinstance(end, Finished)
        assert end.outcome.status is Status.SUCCEEDED, end.outcome.error
        reported = [(event.name, event.step) for event in bench.events if isinstance(event, Reported)]
        assert sorted(reported) == sorted((f"thread-{number}", step) for number in range(8) for step in range(25))

    def test_close_ends_what_waits_as_lost(self, bench: Bench) -> None:
        if not bench.executor.uses_callers_thread:
            pytest.skip("what waits may have started: the next test covers executors with workers of their own")
        order = bench.submit(bodies.echo, value=1)
        bench.close()
        ends = [event for event in bench.events if isinstance(event, Lost)]
        assert [(event.attempt_id, event.started) for event in ends] == [(order.attempt_id, False)]

    def test_close_reports_what_runs_as_lost(self, bench: Bench, tmp_path: Path) -> None:
        if bench.executor.uses_callers_thread:
            pytest.skip("nothing runs on the caller's thread while the caller closes")
        started, release = tmp_path / "started", tmp_path / "release"
        order = bench.submit(bodies.meet, started=str(started), release=str(release))
        bodies.await_file(started)
        bench.close()
        release.touch()
        ends = [event for event in bench.events if isinstance(event, Lost)]
        assert [(event.attempt_id, event.started) for event in ends] == [(order.attempt_id, True)]

    def test_executor_can_be_opened_again(self, bench: Bench) -> None:
        bench.end_of(bench.submit(bodies.echo, value=1))
        bench.close()
        assert isinstance(bench.end_of(bench.submit(bodies.echo, value=2)), Finished)

    def test_order_survives_a_fresh_process(self, bench: Bench) -> None:
        order = bench.order(bodies.write_table, rows=2)
        order.code = order.code or CodeRef("flowcore.testing.bodies", "write_table", "d" * 64)
        text = json.dumps(order.to_json())
        program = (
            "import json, sys; from flowcore.executor import WorkOrder; "
            "print(json.dumps(WorkOrder.from_json(json.load(sys.stdin)).to_json()))"
        )
        command = [sys.executable, "-c", program]
        again = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60)
        assert json.loads(again.stdout) == json.loads(text)
