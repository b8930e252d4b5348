"""Components: what signatures they accept, what they refuse, and calls outside a pipeline."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional  # noqa: UP035  authors write both ways

import pytest

from flowcore import dsl
from flowcore.dsl import Artifact, Dataset, Input, InputPath, Model, Output, OutputPath
from flowcore.errors import ArgumentError, ComponentError, FlowcoreError, TypeMismatch, UsageError, ValueEncodingError
from flowcore.graph import ArtifactType, ParameterType, Port

from . import parts
from .conftest import RunInline

INT, FLOAT = ParameterType("int"), ParameterType("float")


@dsl.component
def every(
    s: str = "a",
    i: int = 1,
    f: float = 2,
    b: bool = True,
    l: list = [1, "x"],  # type: ignore[type-arg]  # noqa: B006, E741
    d: dict = {"k": [1]},  # type: ignore[type-arg]  # noqa: B006
    li: List[int] = [1, 2],  # noqa: B006, UP006
    df: Dict[str, float] = {"a": 1},  # noqa: B006, UP006
    o: Optional[int] = None,  # noqa: UP045
    u: str | None = "u",
    n: int = None,  # type: ignore[assignment]  # noqa: RUF013
) -> str:
    return repr((s, i, f, b, l, d, li, df, o, u, n))


def inputs(component: Any) -> dict[str, Port]:
    ports: dict[str, Port] = component.component.input_ports
    return ports


def test_defaults_of_every_type_reach_the_body(run_inline: RunInline) -> None:
    expected = repr(("a", 1, 2.0, True, [1, "x"], {"k": [1]}, [1, 2], {"a": 1.0}, None, "u", None))
    assert run_inline(every).output == expected
    assert every().output == expected


def test_arguments_of_every_type_reach_the_body(run_inline: RunInline) -> None:
    arguments = {
        "s": "é",
        "i": 2**70,
        "f": 1,
        "b": False,
        "l": [],
        "d": {},
        "li": (3,),
        "df": {"z": 0.5},
        "o": 4,
        "u": None,
        "n": 5,
    }
    expected = repr(("é", 2**70, 1.0, False, [], {}, [3], {"z": 0.5}, 4, None, 5))
    assert run_inline(every, arguments).output == expected


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("s", ParameterType("str")),
        ("li", ParameterType("list", (INT,))),
        ("df", ParameterType("dict", (ParameterType("str"), FLOAT))),
        ("o", ParameterType("int", optional=True)),
        ("u", ParameterType("str", optional=True)),
        ("n", ParameterType("int", optional=True)),
    ],
)
def test_annotation_is_read_as_a_type(name: str, type_: ParameterType) -> None:
    assert inputs(every)[name].type == type_


def test_module_with_postponed_annotations_is_read_as_any_other() -> None:
    assert isinstance(every.python_func.__annotations__["i"], str)
    assert inputs(every)["i"].type == INT


def test_every_form_of_path_is_read() -> None:
    @dsl.component
    def paths(
        a: InputPath("Dataset"),  # type: ignore[valid-type]
        b: InputPath(Dataset),  # type: ignore[valid-type]
        c: InputPath[Dataset],
        d: InputPath("system.Model"),  # type: ignore[valid-type]
        e: InputPath(str),  # type: ignore[valid-type]
        f: InputPath[int],
        g: OutputPath("Dataset"),  # type: ignore[valid-type]
        h: OutputPath(str),  # type: ignore[valid-type]
        i: OutputPath[float],
        j: InputPath(),  # type: ignore[valid-type]
    ) -> None: ...

    def types(ports: tuple[Port, ...]) -> dict[str, str]:
        assert {port.style for port in ports} == {"path"}
        return {port.name: str(port.type) for port in ports}

    assert types(paths.component.inputs) == {
        "a": "Dataset", "b": "Dataset", "c": "Dataset", "d": "Model", "e": "str", "f": "int", "j": "str",
    }  # fmt: skip
    assert types(paths.component.outputs) == {"g": "Dataset", "h": "str", "i": "float"}


@dsl.component
def write_paths(count: OutputPath(int), data: OutputPath("Dataset"), note: OutputPath[str]) -> None:  # type: ignore[valid-type]
    Path(count).write_text("41")
    Path(data).write_text("rows")
    Path(note).write_text("hello\n")


@dsl.component
def read_paths(count: InputPath(int), data: InputPath("Dataset"), note: InputPath[str]) -> str:  # type: ignore[valid-type]
    return "|".join(Path(path).read_text() for path in (count, data, note))


def test_paths_carry_values_as_text_and_artifacts_as_files(run_inline: RunInline) -> None:
    @dsl.pipeline
    def chain() -> str:
        made = write_paths()
        return read_paths(made.outputs["count"], made.outputs["data"], made.outputs["note"]).output

    run = run_inline(chain)
    assert run.tasks["write-paths"].outputs["count"] == 41
    assert run.output == "41|rows|hello\n"


def test_return_value_wins_over_artifact_outputs(run_inline: RunInline) -> None:
    assert parts.write("abc").output == 3
    assert run_inline(parts.write, {"content": "abc"}).tasks["write"].output == 3


def test_named_tuple_gives_an_output_a_field(run_inline: RunInline) -> None:
    run = run_inline(parts.split, {"rows": 5})
    assert run.outputs == {"train": 4, "test": 1.0}
    with pytest.raises(FlowcoreError, match=r"train, test"):
        _ = run.tasks["split"].output


def test_async_body_is_awaited(run_inline: RunInline) -> None:
    @dsl.component
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    assert later(1).output == 2
    assert run_inline(later, {"value": 2}).output == 3


def test_call_inside_a_running_event_loop_works() -> None:
    @dsl.component
    async def later(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    async def main() -> int:
        return later(1).output

    assert asyncio.run(main()) == 2


class TestCallOutsideAPipeline:
    def test_it_runs_at_once_and_gives_a_finished_task(self) -> None:
        finished = parts.add(1, b=4)
        assert finished.output == 5
        assert finished.outputs == {"Output": 5}

    def test_bare_function_stays_callable(self) -> None:
        assert parts.add.python_func(1) == 3

    def test_artifacts_are_passed_and_come_back(self, tmp_path: Path) -> None:
        table = tmp_path / "table.csv"
        table.write_text("rows")
        trained = parts.train(data=Dataset(uri=str(table)))
        model = trained.outputs["model"]
        assert isinstance(model, Model)
        assert Path(model.path).read_text() == "ROWS"
        assert model.framework == "none"

    def test_output_of_one_call_is_an_input_of_the_next(self) -> None:
        assert parts.read(parts.write("rows").outputs["data"]).output == "rows"

    def test_exception_of_the_body_is_raised_as_it_is(self) -> None:
        @dsl.component
        def broken() -> None:
            raise ZeroDivisionError("of mine")

        with pytest.raises(ZeroDivisionError, match="of mine"):
            broken()

    def test_body_gets_its_own_copy(self) -> None:
        @dsl.component
        def spoil(values: list[int]) -> int:
            values.append(1)
            return len(values)

        mine = [5]
        assert spoil(mine).output == 2
        assert mine == [5]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, r"component 'read': missing 'data'; its arguments are 'data'"),
            (
                {"data": "x"},
                r"component 'read', input 'data': got 'x' of type str, wants Dataset; pass an artifact, .*dsl.Dataset\(uri=",
            ),
            ({"data": Model(uri="/m")}, r"component 'read', input 'data': got Model, wants Dataset"),
            ({"data": Dataset()}, r"input 'data': got an artifact without a URI, wants Dataset; set its uri"),
        ],
    )
    def test_wrong_artifact_is_refused(self, arguments: dict[str, Any], message: str) -> None:
        with pytest.raises((TypeMismatch, ArgumentError), match=message):
            parts.read(**arguments)

    def test_wrong_value_is_refused(self) -> None:
        with pytest.raises(TypeMismatch, match=r"component 'add', input 'a': got '1' of type str, wants int"):
            parts.add("1")
        with pytest.raises(TypeMismatch, match=r"component 'total', input 'values\[1\]': got None, wants int"):
            parts.total([1, None])

    def test_finished_task_instead_of_its_output_is_refused(self) -> None:
        with pytest.raises(TypeMismatch, match=r"input 'a': got <finished task 'number': .*>, wants int; pass its .output"):
            parts.add(parts.number(1))

    def test_configuring_a_finished_task_is_refused(self) -> None:
        finished = parts.number(1)
        with pytest.raises(UsageError, match=r"task 'number' has already run, outside a pipeline, so .set_retry means nothing"):
            finished.set_retry(2)
        with pytest.raises(AttributeError, match=r"finished task 'number' has no attribute 'result'"):
            _ = finished.result  # type: ignore[attr-defined]

    def test_missing_return_value_names_component_and_port(self) -> None:
        @dsl.component
        def forgets() -> str:
            return None  # type: ignore[return-value]

        with pytest.raises(ValueEncodingError, match=r"component 'forgets', output 'Output': got None, wants str"):
            forgets()

    def test_several_outputs_have_no_single_one(self) -> None:
        with pytest.raises(FlowcoreError, match=r"component 'split' has no single output; its outputs are train, test"):
            _ = parts.split(3).output


def refused(function: Any) -> str:
    with pytest.raises(ComponentError) as caught:
        dsl.component(function)
    return str(caught.value)


class Local(NamedTuple):
    when: datetime.date


class TestRefused:
    def test_parameter_without_annotation(self) -> None:
        def bare(x): ...  # type: ignore[no-untyped-def]

        assert refused(bare) == "component 'bare': parameter 'x' has no type annotation; annotate it, for example x: str"

    def test_unknown_type_names_it_and_what_is_allowed(self) -> None:
        def strange(when: datetime.date) -> None: ...

        message = refused(strange)
        assert (
            "component 'strange': parameter 'when' has type datetime.date, which flowcore does not know; use str, int" in message
        )
        assert "Input[Dataset]" in message

    def test_union_of_two_types(self) -> None:
        def either(x: int | str) -> None: ...

        assert "has type int | str" in refused(either)

    def test_unknown_return_type(self) -> None:
        def strange() -> datetime.date: ...  # type: ignore[empty-body]

        assert "output 'Output' has type datetime.date" in refused(strange)

    def test_unknown_type_in_a_named_tuple(self) -> None:
        def strange() -> Local: ...  # type: ignore[empty-body]

        assert "output 'when' has type datetime.date" in refused(strange)

    def test_lambda(self) -> None:
        assert "a lambda has no annotations and no name; write it with def" in refused(lambda: 1)

    def test_generator(self) -> None:
        def stream() -> Iterator[int]:
            yield 1

        assert "component 'stream': a generator never returns one value; return a list" in refused(stream)

    def test_async_generator(self) -> None:
        async def stream() -> AsyncIterator[int]:
            yield 1

        assert "a generator" in refused(stream)

    def test_class(self) -> None:
        class Thing: ...

        assert "it is a type, not a function; decorate a function made with def" in refused(Thing)

    def test_star_arguments(self) -> None:
        def many(*values: int) -> None: ...

        assert "parameter *values: int" in refused(many)

    def test_keyword_arguments(self) -> None:
        def many(**values: int) -> None: ...

        assert "has no name to bind; name each parameter" in refused(many)

    def test_parameter_named_output(self) -> None:
        def clash(Output: int) -> None: ...  # noqa: N803

        assert "'Output' is the name of the returned value; rename the parameter" in refused(clash)

    def test_returned_artifact(self) -> None:
        def make() -> Dataset: ...  # type: ignore[empty-body]

        assert "it returns an artifact (Dataset); take it as a parameter, output: Output[Dataset]" in refused(make)

    def test_output_of_a_parameter_type(self) -> None:
        def make(x: Output[int]) -> None: ...

        assert "output 'x' is a parameter (int), and Output[...] holds artifacts; return the value, write to a path" in refused(
            make
        )

    def test_output_that_is_a_list_of_artifacts(self) -> None:
        def make(x: Output[List[Dataset]]) -> None: ...  # noqa: UP006

        assert "output 'x' is a list of artifacts" in refused(make)

    def test_default_of_the_wrong_type(self) -> None:
        def wrong(x: List[int] = [1, "a"]) -> None: ...  # type: ignore[list-item]  # noqa: B006, UP006

        message = (
            "component 'wrong': the default of 'x'[1] is 'a' of type str, the parameter wants int; change the default or the type"
        )
        assert refused(wrong) == message

    def test_default_of_an_artifact(self) -> None:
        def wrong(x: Input[Dataset] = 3) -> None: ...  # type: ignore[assignment]

        assert "artifact 'x' has a default; only None is allowed" in refused(wrong)

    def test_path_as_a_default_instead_of_an_annotation(self) -> None:
        def wrong(x: str = OutputPath(str)) -> None: ...

        assert "the default of 'x' is OutputPath(str); annotate it: x: OutputPath(str)" in refused(wrong)

    def test_annotation_that_names_nothing(self) -> None:
        def lost(x: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

        message = refused(lost)
        assert "its annotations cannot be read: NameError: name 'Missing' is not defined" in message
        assert "import the names that they use at the top of the module" in message

    def test_two_outputs_of_one_name(self) -> None:
        def twice(train: Output[Model], rows: int) -> parts.Split: ...  # type: ignore[empty-body]

        assert "two outputs are named 'train'" in refused(twice)


def test_optional_artifact_may_be_left_out(run_inline: RunInline) -> None:
    @dsl.component
    def peek(data: Optional[Input[Dataset]] = None) -> bool:  # noqa: UP045
        return data is None

    assert inputs(peek)["data"].type == ArtifactType("system.Dataset", optional=True)
    assert peek().output is True
    assert run_inline(peek).output is True


def test_any_artifact_is_taken_where_the_base_class_is_wanted() -> None:
    @dsl.component
    def name(item: Input[Artifact]) -> str:
        return type(item).__name__

    assert name(Model(uri="/nowhere")).output == "Model"


def test_component_keeps_name_and_docstring() -> None:
    @dsl.component
    def my_step() -> None:
        """What it does."""

    assert my_step.__name__ == "my_step"
    assert my_step.component.name == "my-step"
    assert my_step.component.description == "What it does."


def test_options_are_kept() -> None:
    @dsl.component(base_image="python:3.12", packages_to_install=["pandas>=2"])
    def step() -> None: ...

    implementation = step.component.implementation
    assert (implementation.base_image, implementation.packages) == ("python:3.12", ("pandas>=2",))  # type: ignore[union-attr]
