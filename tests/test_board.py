"""Looking on while a run goes on: what a look tells of tasks and nested loops, and that it does not read every event."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

import flowcore
from flowcore import dsl
from flowcore.board import Board
from flowcore.executors import LocalExecutor
from flowcore.progress import Progress, _Lines, _Tree, choose
from flowcore.report import Row

_gates: dict[str, threading.Event] = {}


@dsl.component
def pass_on(number: int) -> int:
    return number


@dsl.component
def hold(number: int, at: int, gate: str) -> int:
    if number >= at:
        _gates[gate].wait(60)
    if number == 1:
        raise ValueError("one is bad")
    return number


@dsl.component
def release_and_hold(gate: str) -> None:
    _gates[gate].wait(60)


@dsl.pipeline
def nested(rows: list[int], columns: list[int], at: int, gate: str, big: bool = False) -> None:
    with dsl.ParallelFor(rows, name="rows") as row:
        first = pass_on(number=row)
        with dsl.ParallelFor(columns, name="columns"):
            hold(number=first.output, at=at, gate=gate)
    with dsl.If(big == True, name="large"):  # noqa: E712
        pass_on(number=1)
    release_and_hold(gate=gate)


@dsl.pipeline
def flat(numbers: list[int]) -> None:
    with dsl.ParallelFor(numbers, name="loop") as number:
        pass_on(number=number)


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> Iterator[str]:
    name = request.node.nodeid
    _gates[name] = threading.Event()
    yield name
    _gates.pop(name).set()


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def halfway(gate: str) -> Iterator[Board]:
    """A run whose rows 3 and on are held: 0 and 2 are done, 1 failed, as seen by one look."""
    # One worker more than what is held at once, which takes a worker each.
    executor = LocalExecutor("threads", 8)
    arguments = {"rows": [0, 1, 2, 3], "columns": [10, 20, 30], "at": 3, "gate": gate}
    run = flowcore.submit(nested, arguments, executor=executor)
    board = Board(run)

    def settled() -> bool:
        board.look()
        return "rows" in board.loops and board.loops["rows"].done == 3 and board.loops["rows"].running == 1

    try:
        _wait_for(settled)
        yield board
    finally:
        _gates[gate].set()
        run.wait()


def test_a_look_counts_iterations_done_running_and_failed_with_their_mean_duration(halfway: Board) -> None:
    assert re.fullmatch(r"3/4 done, 1 running, 1 failed, \S+ each", halfway.counts("rows"))


def test_loops_within_loops_are_counted_over_all_iterations(halfway: Board) -> None:
    inner = halfway.inner["rows"]["columns"]
    assert (inner.done, inner.running, inner.failed) == (9, 3, 3)


def test_every_place_of_the_pipeline_has_one_line_and_skipped_groups_none_inside(halfway: Board) -> None:
    rows = [(row.depth, row.name, row.state) for row in halfway.rows(time.time())]
    assert rows == [
        (0, "rows", "RUNNING"),
        (1, "columns", "RUNNING"),
        (0, "large", "SKIPPED"),
        (0, "release-and-hold", "RUNNING"),
    ]


@pytest.mark.parametrize("width", [120, 60, 30])
def test_the_live_tree_fits_its_terminal(width: int, halfway: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    tree = _Tree(halfway.run)
    tree.board = halfway
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(tree.render())
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if "rows" in line]
    assert width < 60 or [line for line in lines if "3/4 done, 1 running, 1 failed" in line]


def test_the_end_is_seen_whole(gate: str) -> None:
    _gates[gate].set()
    arguments = {"rows": [0, 2, 3], "columns": [1, 2], "at": 3, "gate": gate}
    board = Board(flowcore.run(nested, arguments))
    board.look()
    assert board.state == "SUCCEEDED"
    assert re.fullmatch(r"3/3 done, \S+ each", board.counts("rows"))
    assert board.inner["rows"]["columns"].done == 6


def test_ten_thousand_iterations_are_told_in_a_dozen_lines(capsys: pytest.CaptureFixture[str]) -> None:
    flowcore.run(flat, {"numbers": list(range(10_000))}, executor=LocalExecutor("inline"), progress=True)
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert len(lines) <= 14
    assert re.search(r" loop SUCCEEDED \d+\.\ds \(10000/10000 done, \S+ each\)$", lines[-2])


def test_hundreds_of_failures_are_named_up_to_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    @dsl.component
    def bad(number: int) -> None:
        raise ValueError(f"bad {number}")

    @dsl.pipeline
    def all_bad() -> None:
        with dsl.ParallelFor(list(range(300)), name="loop") as number:
            bad(number=number)

    flowcore.run(all_bad, executor=LocalExecutor("inline"), progress=True, raise_on_failure=False)
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert sum("FAILED" in line and "loop." in line for line in lines) == 20
    assert sum("loop: further failures are only counted" in line for line in lines) == 1


def test_a_retry_is_told_with_its_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    tries: list[int] = []

    @dsl.component
    def flaky() -> None:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("not yet")

    @dsl.pipeline
    def retried() -> None:
        flaky().set_retry(1, "1s")

    flowcore.run(retried, progress=True)
    out = capsys.readouterr().out
    assert re.search(r" flaky WAITING retry 1 of 1\n", out)
    assert re.search(r" flaky SUCCEEDED \d\.\ds \(attempt 2\)\n", out)


def test_what_a_look_costs_does_not_grow_with_the_events_before_it() -> None:
    run = flowcore.run(flat, {"numbers": list(range(3000))}, executor=LocalExecutor("inline"))
    read: list[int] = []

    class Counting:
        """The run's record, which counts the events that are read from it."""

        def __init__(self, records: object) -> None:
            self._records = records

        def __getattr__(self, name: str) -> object:
            found = getattr(self._records, name)
            if name != "events":
                return found

            def events(*arguments: object) -> object:
                listed = found(*arguments)
                read.append(len(listed))
                return listed

            return events

    run._records = Counting(run._records)  # type: ignore[assignment]
    board = Board(run)
    for _ in range(3):
        board.look()
    assert sum(read) == 0
    assert board.loops["loop"].done == 3000


def test_a_progress_that_is_left_early_has_no_thread(gate: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"rows": [5], "columns": [1], "at": 3, "gate": gate}
    run = flowcore.submit(nested, arguments)
    with Progress(run):
        told: list[str] = []
        _wait_for(lambda: told.append(capsys.readouterr().out) or "release-and-hold RUNNING" in "".join(told))
    assert not [thread for thread in threading.enumerate() if "progress" in thread.name]
    _gates[gate].set()
    run.result()


def test_lines_tell_each_state_once(gate: str, capsys: pytest.CaptureFixture[str]) -> None:
    _gates[gate].set()
    run = flowcore.run(nested, {"rows": [0], "columns": [1], "at": 3, "gate": gate})
    capsys.readouterr()
    lines = _Lines(run)
    lines.board.look()
    lines.show()
    once = capsys.readouterr().out
    lines.board.look()
    lines.show()
    assert once.count("\n") == 3
    assert capsys.readouterr().out == ""


def test_where_not_all_rows_fit_those_that_matter_are_kept() -> None:
    states = ["SUCCEEDED"] * 5 + ["RUNNING", "WAITING", "FAILED"]
    rows = [Row(f"t{place}", f"t{place}", 0, state, None, "") for place, state in enumerate(states)]
    shown, rest = choose(rows, 3)
    assert [row.name for row in shown] == ["t5", "t6", "t7"]
    assert rest == "and 5 succeeded"

