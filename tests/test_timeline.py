"""The timeline: bars of attempts in lanes, retries visible, what is too much folded."""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree

import pytest

import flowcore
from flowcore import dsl
from flowcore.errors import UsageError
from flowcore.executors import LocalExecutor

SVG = "{http://www.w3.org/2000/svg}"
_tries: list[int] = []


@dsl.component
def flaky() -> None:
    _tries.append(1)
    if len(_tries) < 3:
        raise ConnectionError("not yet")


@dsl.component
def work(number: int, bad: int = -1) -> int:
    time.sleep(0)
    if number == bad:
        raise ValueError("bad")
    return number


@dsl.pipeline
def sweep(numbers: list[int], bad: int = -1) -> None:
    with dsl.ParallelFor(numbers, name="loop") as number:
        work(number=number, bad=bad)


@dsl.pipeline
def retried() -> None:
    flaky().set_retry(2)


def _titles(text: str) -> list[str]:
    """The tooltips of a chart, which is well-formed XML."""
    return [element.text or "" for element in ElementTree.fromstring(text).iter(f"{SVG}title")]


def test_each_task_has_a_lane_with_its_bar() -> None:
    chart = flowcore.run(sweep, {"numbers": [1, 2, 3]}).timeline()
    titles = _titles(chart.svg())
    assert sorted(title for title in titles if ":" not in title) == ["loop.0/work", "loop.1/work", "loop.2/work"]
    assert sum(title.startswith("loop.1/work: SUCCEEDED, ") for title in titles) == 1


def test_every_attempt_is_a_bar_of_its_tasks_lane() -> None:
    _tries.clear()
    chart = flowcore.run(retried).timeline()
    bars = [title.splitlines()[0].rpartition(", ")[0] for title in _titles(chart.svg()) if ":" in title]
    assert bars == ["flaky: FAILED, attempt 1", "flaky: FAILED, attempt 2", "flaky: SUCCEEDED, attempt 3"]
    assert "ConnectionError: not yet" in chart.svg()


def test_by_worker_the_lanes_are_the_places_where_tasks_ran() -> None:
    chart = flowcore.run(sweep, {"numbers": [1, 2, 3]}, executor=LocalExecutor("inline")).timeline("worker")
    assert [lane.name for lane in chart.lanes] == ["inline"]
    assert len(chart.lanes[0].bars) == 3


def test_many_lanes_are_folded_into_one_a_place_that_tells_counts() -> None:
    run = flowcore.run(
        sweep, {"numbers": list(range(300)), "bad": 7}, executor=LocalExecutor("inline"), raise_on_failure=False
    )
    chart = run.timeline()
    assert [lane.name for lane in chart.lanes] == ["loop/work"]
    text = chart.svg()
    assert re.search(r"loop/work: 300 attempts, up to \d at once, 1 failed", text)
    assert len(text) < 30_000


def test_two_hundred_lanes_are_not_folded() -> None:
    run = flowcore.run(sweep, {"numbers": list(range(200))}, executor=LocalExecutor("inline"))
    assert len(run.timeline().lanes) == 200


def test_a_chart_is_its_svg_as_text_and_in_a_notebook() -> None:
    chart = flowcore.run(work, {"number": 1}).timeline()
    assert str(chart) == chart.svg() == chart._repr_svg_() == chart._repr_html_()
    assert "1 attempts in 1 lanes" in repr(chart)


def test_a_run_that_began_nothing_has_an_empty_chart() -> None:
    chart = flowcore.run(sweep, {"numbers": []}).timeline()
    assert chart.lanes == []
    assert _titles(chart.svg()) == []


def test_other_lanes_are_refused_with_those_there_are() -> None:
    run = flowcore.run(work, {"number": 1})
    with pytest.raises(UsageError, match="'task' or 'worker'"):
        run.timeline("node")  # type: ignore[arg-type]
