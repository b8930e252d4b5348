"""Pipeline ↔ JSON: equal after a round trip, the same text and hash everywhere, and every other text refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowcore.errors import AuthoringError, GraphError
from flowcore.graph import (
    Component,
    Constant,
    Dag,
    ParameterType,
    Pipeline,
    Port,
    PythonFunction,
    Retry,
    ScopeInput,
    Settings,
    Task,
    TaskOutput,
)

from .graphs import INT, every_feature, pipelines, step

GOLDEN = "db34ea7a7999cd99a17dfe5da27a7510e0d6f99a33f2716f5e97b6e642797586"


def one_task(constant: Any, default: Any = None) -> Pipeline:
    config = Port("config", ParameterType("dict"), has_default=True, default=default)
    component = Component("use", (config,), (), PythonFunction("m", "use", "0" * 64))
    return Pipeline(Component("p", (), (), Dag((Task("use", component, (("config", Constant(constant)),)),))))


@settings(max_examples=40)
@given(pipelines())
def test_any_graph_comes_back_equal(pipeline: Pipeline) -> None:
    text = pipeline.to_json()
    back = Pipeline.from_json(text)
    assert back == pipeline
    assert back.root == pipeline.root
    assert back.to_json() == text
    assert back.hash == pipeline.hash


def test_every_feature_comes_back_equal() -> None:
    pipeline = every_feature()
    assert Pipeline.from_json(pipeline.to_json()).root == pipeline.root


def test_hash_is_the_same_in_every_process() -> None:
    program = "from tests.graph.graphs import every_feature; print(every_feature().hash)"
    seen = {every_feature().hash}
    for seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        done = subprocess.run([sys.executable, "-c", program], env=env, cwd=root, capture_output=True, text=True, check=True)
        seen.add(done.stdout.strip())
    assert seen == {GOLDEN}


def test_text_does_not_depend_on_the_order_of_a_dict() -> None:
    assert one_task({"a": 1, "b": 2}).hash == one_task({"b": 2, "a": 1}).hash


@pytest.mark.parametrize(("one", "other"), [([1], [True]), ([1], [1.0]), ([0], [False]), ([""], [None]), ({}, {"a": None})])
def test_constants_of_different_types_make_different_pipelines(one: Any, other: Any) -> None:
    assert one_task(one) != one_task(other)
    assert one_task(one).hash != one_task(other).hash
    assert one_task({}, one).hash != one_task({}, other).hash


def test_nan_is_equal_to_itself_after_a_round_trip() -> None:
    pipeline = one_task({"x": float("nan")}, {"y": float("nan")})
    assert Pipeline.from_json(pipeline.to_json()) == pipeline


def test_equal_looking_components_with_different_constants_stay_apart() -> None:
    def group(value: Any) -> Component:
        return Component("g", (), (), Dag((Task("use", one_task({}).dag.tasks[0].component, (("config", Constant(value)),)),)))

    pipeline = Pipeline(Component("p", (), (), Dag((Task("a", group({"x": 1})), Task("b", group({"x": True}))))))
    back = Pipeline.from_json(pipeline.to_json())
    values = [task.component.implementation.tasks[0].inputs[0][1].value for task in back.dag.tasks]  # type: ignore[union-attr]
    assert repr(values) == "[{'x': 1}, {'x': True}]"


@pytest.mark.parametrize(
    "data", [{"input": {"name": "x"}}, {"constant": 1}, {"task": {}}, [{"output": {"task": "t", "port": "p"}}]]
)
def test_data_that_looks_like_a_tag_stays_data(data: Any) -> None:
    back = Pipeline.from_json(one_task(data, data).to_json()).dag.tasks[0]
    binding = back.inputs[0][1]
    assert isinstance(binding, Constant)
    assert binding.value == data
    assert back.component.inputs[0].default == data


def test_lone_surrogates_come_back() -> None:
    pipeline = one_task({"name": "\ud800"})
    assert len(pipeline.hash) == 64
    assert Pipeline.from_json(pipeline.to_json()) == pipeline


def test_components_used_often_are_written_once() -> None:
    used = step()
    tasks = tuple(Task(f"t{number}", used, (("a", Constant(number)),)) for number in range(50))
    assert len(json.loads(Pipeline(Component("p", (), (), Dag(tasks))).to_json())["components"]) == 2


def test_fields_at_their_defaults_are_left_out() -> None:
    text = Pipeline(Component("p", (), (), Dag((Task("t", step(), (("a", Constant(1)),)),)))).to_json()
    assert '"retry"' not in text
    assert '"settings"' not in text
    task = Task("t", step(), (("a", Constant(1)),), retry=Retry(2), settings=Settings(5.0))
    assert '"retry":{"retry":{"limit":2}}' in Pipeline(Component("p", (), (), Dag((task,)))).to_json()


TEXT = every_feature().to_json()


def changed(change: Callable[[dict[str, Any]], None]) -> str:
    data = json.loads(TEXT)
    change(data)
    return json.dumps(data)


def task_of(data: dict[str, Any]) -> dict[str, Any]:
    task: dict[str, Any] = data["components"][-1]["implementation"]["dag"]["tasks"][0]["task"]
    return task


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(version=2), "version 2; this flowcore reads 1 to 1: upgrade flowcore"),
        (lambda data: data.update(version=0), "version 0"),
        (lambda data: data.update(version="1"), "wants int"),
        (lambda data: data.update(format="other"), "has no format 'flowcore.pipeline'"),
        (lambda data: data.update(extra=1), "the text has unknown fields 'extra'; upgrade flowcore"),
        (lambda data: data.pop("root"), "KeyError"),
        (lambda data: data.update(root=-1), "there is no component -1"),
        (lambda data: data.update(root=True), "wants int"),
        (lambda data: data.update(components={}), "wants list"),
        (lambda data: data["components"][0].update(color="red"), "component has unknown fields 'color'"),
        (lambda data: task_of(data).update(color="red"), "task has unknown fields 'color'"),
        (lambda data: task_of(data).pop("name"), "task has no name"),
        (lambda data: task_of(data).update(component=99), "there is no component 99"),
        (lambda data: task_of(data).update(after="abc"), "wants list"),
        (lambda data: task_of(data).update(inputs=[["a", 3]]), "got 3 where it cannot be"),
        (lambda data: task_of(data).update(inputs=[["a"]]), "ValueError"),
        (lambda data: task_of(data).update(inputs=[["a", {"truth": {}}]]), "where it cannot be"),
        (lambda data: data["components"][0]["inputs"][0]["port"].update(type="complex"), "no parameter type"),
    ],
)
def test_changed_text_is_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    with pytest.raises(GraphError) as caught:
        Pipeline.from_json(changed(change))
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", "garbage", "1e999", '"flowcore.pipeline"', "[" * 100_000])
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(GraphError):
        Pipeline.from_json(text)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_text_is_refused(part: float) -> None:
    with pytest.raises(GraphError):
        Pipeline.from_json(TEXT[: int(len(TEXT) * part)])


def places(data: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in JSON data."""
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [place for key, item in pairs for place in [(data, key), *places(item)]]


@given(st.data())
def test_text_with_anything_replaced_is_read_or_refused(data: st.DataObject) -> None:
    whole = json.loads(TEXT)
    container, key = data.draw(st.sampled_from(places(whole)))
    container[key] = data.draw(
        st.sampled_from([None, 0, -1, 1.5, True, "", "..", "x", [], {}, [1], {"input": {"name": "x"}}, "a\0"])
    )
    try:
        pipeline = Pipeline.from_json(json.dumps(whole))
    except AuthoringError:
        return
    assert Pipeline.from_json(pipeline.to_json()) == pipeline


@pytest.mark.parametrize(
    "data",
    [
        "complex",
        {"name": "int", "items": ["int"], "optional": False},
        {"name": "list", "items": ["int", "int"], "optional": False},
        {"name": "dict", "items": ["any", "int"], "optional": False},
        {"name": "int", "items": [], "optional": "no"},
        {"artifact": 3, "list": False, "optional": False},
    ],
)
def test_unknown_type_is_refused(data: Any) -> None:
    with pytest.raises(GraphError, match=r"is no (parameter|artifact) type"):
        Pipeline.from_json(changed(lambda whole: whole["components"][0]["inputs"][0]["port"].update(type=data)))


def test_reading_does_not_import_anything() -> None:
    component = Component("x", (), (), PythonFunction("antigravity_that_is_not_there", "f", "0" * 64))
    pipeline = Pipeline(Component("p", (), (), Dag((Task("x", component),))))
    assert Pipeline.from_json(pipeline.to_json()) == pipeline


def test_pipelines_are_values() -> None:
    one, other = every_feature(), every_feature()
    assert one == other
    assert len({one, other}) == 1
    assert one != every_feature().to_json()
    with pytest.raises(AttributeError):
        one.description = "x"  # type: ignore[misc]


def test_outputs_keep_their_order() -> None:
    root = Component(
        "p",
        (Port("n", INT),),
        (Port("z", INT), Port("a", INT)),
        Dag((Task("t", step(), (("a", ScopeInput("n")),)),), (("z", TaskOutput("t", "Output")), ("a", ScopeInput("n")))),
    )
    assert [port.name for port in Pipeline.from_json(Pipeline(root).to_json()).root.outputs] == ["z", "a"]
