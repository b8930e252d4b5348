"""What no pipeline may be, however it was made: each refusal names the DAG, the task and the port."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from flowcore.errors import CycleError, GraphError, TypeMismatch
from flowcore.graph import (
    Compare,
    Component,
    Constant,
    Dag,
    Loop,
    Pipeline,
    Port,
    PythonFunction,
    Retry,
    ScopeInput,
    Task,
    TaskOutput,
)
from flowcore.graph.checks import check_pipeline, dependencies
from flowcore.graph.walk import leaf_components, task_at

from .graphs import BOOL, DATASET, INT, STR, every_feature, step


def task(name: str, a: Any = Constant(1), **fields: Any) -> Task:  # noqa: B008  frozen
    return Task(name, step(), (("a", a),), **fields)


def of(*tasks: Task, inputs: tuple[Port, ...] = (), outputs: tuple[Port, ...] = (), bound: tuple[Any, ...] = ()) -> Pipeline:
    return Pipeline(Component("p", inputs, outputs, Dag(tasks, bound)))


def refused(pipeline: Pipeline) -> str:
    with pytest.raises(GraphError) as caught:
        check_pipeline(pipeline)
    return str(caught.value)


def test_every_feature_is_accepted() -> None:
    check_pipeline(every_feature())


def test_cycle_is_named() -> None:
    pipeline = of(task("a", TaskOutput("c", "Output")), task("b", TaskOutput("a", "Output")), task("c", after=("b",)), task("d"))
    with pytest.raises(CycleError) as caught:
        check_pipeline(pipeline)
    assert set(caught.value.cycle) == {"a", "b", "c"}
    assert str(caught.value).startswith("pipeline 'p' has a cycle: ")


def test_tasks_out_of_order_without_a_cycle_are_accepted() -> None:
    check_pipeline(of(task("b", TaskOutput("a", "Output")), task("a")))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "nul\0", "new\nline", "x" * 2000, "é" * 150, "\ud800"])
def test_poison_names_are_refused_in_short_words(name: str) -> None:
    port = Port(name, INT)
    bad_input = Component("c", (port,), (), PythonFunction("m", "c", "0"))
    for pipeline in (
        of(task(name)),
        of(task("a"), inputs=(port,)),
        of(Task("t", bad_input, ((name, Constant(1)),))),
        Pipeline(Component(name, (), (), Dag((task("a"),)))),
    ):
        message = refused(pipeline)
        assert "choose a short, plain name" in message
        assert len(message) < 250


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (of(task("a", after=("b",))), "pipeline 'p', task 'a' needs 'b', which is not a task beside it"),
        (of(task("a"), task("b", TaskOutput("a", "nothing"))), "task 'b', input 'a' reads a.nothing, which does not exist"),
        (of(task("a", ScopeInput("n"))), "reads an input 'n' that the pipeline does not have"),
        (of(task("a"), task("a")), "pipeline 'p' has two tasks named 'a'; name them apart"),
        (of(Task("a", step())), "task 'a': input 'a' of component 'step' is not bound"),
        (
            of(Task("a", step(), (("a", Constant(1)), ("z", Constant(1))))),
            "binds an input 'z' that component 'step' does not have",
        ),
        (of(Task("a", step(), (("a", Constant(1)), ("a", Constant(2))))), "task 'a' has two bindings named 'a'"),
        (of(task("a"), outputs=(Port("x", INT),)), "declares an output 'x' that nothing is bound to"),
        (of(task("a"), bound=(("x", Constant(1)),)), "binds an output 'x' that it does not declare"),
        (of(task("a"), inputs=(Port("x", INT), Port("x", INT))), "component 'p' has two inputs named 'x'"),
        (
            of(task("a"), inputs=(Port("x", INT, "telepathy"),)),
            "style is 'telepathy', wants one of value, artifact, path, return",
        ),
        (of(task("a", trigger="never")), "task 'a': trigger is 'never', wants one of all_succeeded, all_done"),
        (of(task("a", retry=Retry(-1))), "its retry limit is -1"),
        (of(task("a", condition=Compare("==", Constant(1), Constant(1)))), "only a sub-DAG may have a condition or a loop"),
        (Pipeline(step()), "its root is a function"),
    ],
)
def test_impossible_graph_is_refused(pipeline: Pipeline, message: str) -> None:
    assert message in refused(pipeline)


def group(**fields: Any) -> Pipeline:
    inner = Component("g", (Port("item", INT),), (), Dag((task("x", ScopeInput("item")),)))
    return of(Task("g", inner, **fields), inputs=(Port("names", STR), Port("flag", BOOL)))


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        (
            group(inputs=(("item", Constant(1)),), condition=Compare("~", Constant(1), Constant(1))),
            "a comparison is '~', wants one of ==",
        ),
        (
            group(inputs=(("item", Constant(1)),), condition=Compare("==", ScopeInput("no"), Constant(1))),
            "the condition of task 'g' reads",
        ),
        (group(loop=Loop(Constant([1]), "item", 0)), "parallelism is 0, wants 1 or more"),
        (group(loop=Loop(Constant([1]), "other")), "binds an input 'other'"),
        (group(inputs=(("item", Constant(1)),), loop=Loop(Constant([1]), "item")), "has two bindings named 'item'"),
    ],
)
def test_impossible_group_is_refused(pipeline: Pipeline, message: str) -> None:
    assert message in refused(pipeline)


def test_wrong_type_of_an_edge_names_both_types_and_the_place() -> None:
    with pytest.raises(TypeMismatch) as caught:
        check_pipeline(of(task("a", ScopeInput("s")), inputs=(Port("s", STR),)))
    assert str(caught.value) == (
        "component 'step', input 'a': got str, wants int; "
        "task 'a', input 'a' reads s: change one of the two types, or read another output"
    )


def test_wrong_type_of_an_output_is_refused() -> None:
    with pytest.raises(TypeMismatch, match=r"component 'p', output 'x': got int, wants Dataset"):
        check_pipeline(of(task("a"), outputs=(Port("x", DATASET),), bound=(("x", TaskOutput("a", "Output")),)))


def test_items_of_a_loop_are_a_list_of_its_item() -> None:
    with pytest.raises(TypeMismatch, match=r"got str, wants List\[int\]"):
        check_pipeline(group(loop=Loop(ScopeInput("names"), "item")))


def test_dependencies_tell_data_from_order() -> None:
    assert dependencies(task("c", TaskOutput("a", "Output"), after=("a", "b"))) == {"a": True, "b": False}


def test_deeper_dags_are_checked_too() -> None:
    bad = Component("inner", (), (), Dag((task("x", ScopeInput("gone")),)))
    assert "pipeline 'inner', task 'x', input 'a' reads an input 'gone'" in refused(of(Task("inner", bad)))


def test_leaves_and_paths_are_found() -> None:
    pipeline = every_feature()
    assert [leaf.name for leaf in leaf_components(pipeline.root)] == ["make", "step", "use"]
    assert task_at(pipeline, "sweep.3/step").name == "step"
    assert task_at(pipeline, "make").name == "make"
    for path in ("sweep/nothing", "nothing", "make/x", ""):
        with pytest.raises(KeyError):
            task_at(pipeline, path)


def test_retry_waits_longer_up_to_its_maximum() -> None:
    retry = Retry(5, 1.0, 2.0, 5.0)
    assert [retry.delay_seconds(number) for number in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert replace(retry, factor=10.0).delay_seconds(1000) == 5.0
