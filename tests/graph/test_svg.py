"""A pipeline as SVG: everything is drawn, nothing overlaps, texts are escaped, large ones stay drawable."""

from __future__ import annotations

from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcore import dsl
from flowcore.graph import Component, Constant, Dag, Loop, Pipeline, PythonFunction, Task
from flowcore.graph.layout import LIMIT, Block, fitted, lay_out, text_width
from flowcore.graph.svg import STATES, Mark, to_svg

LEAF = Component("leaf", (), (), PythonFunction("m", "leaf", "0" * 64))
SVG = "{http://www.w3.org/2000/svg}"


def _group(name: str, tasks: tuple[Task, ...], after: tuple[str, ...] = (), *, loop: bool = False) -> Task:
    component = Component(name, (), (), Dag(tasks))
    return Task(name, component, after=after, loop=Loop(Constant([1]), "item") if loop else None)


@st.composite
def dags(draw: st.DrawFn, depth: int = 2) -> tuple[Task, ...]:
    tasks: list[Task] = []
    for number in range(draw(st.integers(1, 7))):
        after = tuple(name for name in (task.name for task in tasks) if draw(st.booleans()))
        if depth and draw(st.integers(0, 3)) == 0:
            tasks.append(_group(f"g{number}", draw(dags(depth=depth - 1)), after, loop=draw(st.booleans())))
        else:
            tasks.append(Task(f"t{number}" + "x" * draw(st.integers(0, 60)), LEAF, after=after))
    return tuple(draw(st.permutations(tasks)))


def _check(block: Block) -> None:
    for box in block.boxes:
        assert box.x >= -0.01
        assert box.x + box.width <= block.width + 0.01
        assert box.y >= -0.01
        assert box.y + box.height <= block.height + 0.01
        if box.inner is not None:
            assert box.inner.width <= box.width
            assert box.header + box.inner.height <= box.height
            _check(box.inner)
    for one, other in combinations(block.boxes, 2):
        apart = one.x + one.width <= other.x + 0.01 or other.x + other.width <= one.x + 0.01
        assert apart or one.y + one.height <= other.y + 0.01 or other.y + other.height <= one.y + 0.01
    for edge in block.edges:
        heights = [y for _, y in edge.points]
        assert heights == sorted(heights)
        assert heights[0] < heights[-1]


@settings(max_examples=60)
@given(dags())
def test_boxes_never_overlap_and_edges_go_downwards(tasks: tuple[Task, ...]) -> None:
    block = lay_out(Dag(tasks), lambda path, task: [task.name, "second line"])
    _check(block)
    assert len(block.edges) == sum(len(task.after) for task in tasks)


def test_groups_conditions_and_loops_are_labelled() -> None:
    @dsl.component
    def one(number: int) -> int:
        return number

    @dsl.pipeline
    def nested() -> None:
        first = one(number=1)
        with dsl.If(first.output > 3, name="branch"), dsl.ParallelFor([1, 2], name="loop") as item:
            one(number=item)

    root = ElementTree.fromstring(nested.pipeline.to_svg())
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert texts == ["one", "branch", "if one.Output > 3", "loop", "for each of [1, 2]", "one"]


@pytest.mark.parametrize("state", STATES)
def test_a_state_shows_by_its_mark_and_word_besides_its_colour(state: str) -> None:
    pipeline = Pipeline(Component("p", (), (), Dag((Task("leaf", LEAF),))))
    root = ElementTree.fromstring(to_svg(pipeline, {"leaf": Mark(state, "1.5s")}))
    assert f"{STATES[state][0]} {state}  1.5s" in [element.text for element in root.iter(f"{SVG}text")]
    assert state in [element.get("class") for element in root.iter(f"{SVG}g")]


def test_names_never_become_markup() -> None:
    name = "<script>alert(1)<b>&\"'"
    pipeline = Pipeline(Component(name, (), (), Dag((Task(name, LEAF),))))
    root = ElementTree.fromstring(pipeline.to_svg())
    assert name in [element.text for element in root.iter(f"{SVG}text")]
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "style", "g", "title", "rect", "text"}


def test_a_wide_layer_goes_on_in_the_next_row() -> None:
    block = lay_out(Dag(tuple(Task(f"task-number-{number}", LEAF) for number in range(100))), lambda path, task: [task.name])
    _check(block)
    assert block.width < 1500
    assert len({round(box.y) for box in block.boxes}) > 5


def test_a_very_large_pipeline_says_how_many_tasks_are_not_drawn() -> None:
    tasks = [Task("t0", LEAF)]
    tasks += [Task(f"t{number}", LEAF, after=(f"t{number - 1}",)) for number in range(1, 1000)]
    text = Pipeline(Component("chain", (), (), Dag(tuple(tasks)))).to_svg()
    assert f"and {1000 - LIMIT} more tasks" in text
    assert text.count('<rect class="t') == LIMIT


def test_long_texts_are_cut_to_their_box_and_kept_in_the_tooltip() -> None:
    name = "日本語" * 20
    text = Pipeline(Component("p", (), (), Dag((Task(name, LEAF),)))).to_svg()
    assert text_width(fitted(name, 200)) <= 200
    assert fitted(name, 200).endswith("…")
    assert fitted("group/task", 50, end=True).startswith("…")
    assert f"<title>{name}</title>" in text
