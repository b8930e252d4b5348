"""Pipelines: arguments and their errors, pipelines within pipelines, what they return, names, and tracing by context."""

from __future__ import annotations

import copy
import threading
from typing import Any, Dict, List, NamedTuple  # noqa: UP035  authors write both ways

import pytest

from flowcore import dsl
from flowcore.dsl import Dataset, Input, Model
from flowcore.errors import (
    ArgumentError,
    AuthoringError,
    ComponentError,
    GraphError,
    TypeMismatch,
    UsageError,
    ValueEncodingError,
)
from flowcore.graph import Retry

from .conftest import RunInline
from .parts import add, half, is_big, kind_of, maybe, number, numbers, read, shown, split, text, total, train, write


def author(function: Any) -> str:
    """The message with which a pipeline is refused."""
    with pytest.raises(AuthoringError) as caught:
        dsl.pipeline(function)
    return str(caught.value)


class Pair(NamedTuple):
    low: int
    high: int


class Out(NamedTuple):
    constant: float
    given: int
    values: List[int]  # noqa: UP006
    label: str


class Trained(NamedTuple):
    size: int
    model: Model


class TestArguments:
    def test_positional_and_keyword_calls_mean_the_same(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def calls(n: int = 1) -> None:
            add(n, 5)
            add(n, b=5)
            add(b=5, a=n)

        assert [task.output for task in run_inline(calls).tasks.values()] == [6, 6, 6]

    def test_defaults_and_arguments_of_the_pipeline(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def defaults(n: int, f: float = 1, o: int | None = None, d: Dict[str, Any] = {"a": [1]}) -> None:  # noqa: B006, UP006
            number(n)
            half(f)
            maybe(o)
            shown(d)

        run = run_inline(defaults, {"n": 7})
        assert [task.output for task in run.tasks.values()] == [7, 0.5, "None", "{'a': [1]}"]
        assert run_inline(defaults, {"n": 7, "o": 3, "f": 4}).tasks["maybe"].output == "3"

    def test_int_is_taken_for_a_float_and_arrives_as_one(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def widen(n: int = 3) -> float:
            return half(number(n).output).output

        output = run_inline(widen).output
        assert output == 1.5
        assert type(output) is float

    def test_texts_take_outputs(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def texts(n: int = 3, name: str = "x{y}") -> None:
            text(f"n={n}, {name}: {number(4).output} {is_big(20).output} {half(3.0).output}")
            text("plus " + str(number(5).output))
            text(f"{numbers(2).output}{{literal}}")

        outputs = [task.output for task in run_inline(texts).tasks.values() if task.name.startswith("text")]
        assert outputs == ["n=3, x{y}: 4 true 1.5", "plus 5", "[0, 1]{literal}"]

    def test_named_tuple_outputs_feed_by_name(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def by_name() -> float:
            parts = split(10)
            number(parts.outputs["train"])
            return half(parts.outputs["test"]).output

        run = run_inline(by_name)
        assert run.output == 0.5
        assert run.tasks["number"].output == 9

    def test_same_component_gets_numbered_names(self) -> None:
        @dsl.pipeline
        def many() -> None:
            assert [number(1).name for _ in range(4)] == ["number", "number-2", "number-3", "number-4"]

        assert [task.name for task in many.pipeline.dag.tasks] == ["number", "number-2", "number-3", "number-4"]


class TestArgumentsThatAreRefused:
    def test_missing(self) -> None:
        def wrong() -> None:
            add(b=3)

        with pytest.raises(TypeError):
            dsl.pipeline(wrong)
        assert author(wrong) == "component 'add': missing 'a'; its arguments are 'a', 'b'"

    def test_unknown(self) -> None:
        def wrong() -> None:
            add(1, c=3)

        assert author(wrong) == "component 'add': unknown 'c'; its arguments are 'a', 'b'"

    def test_too_many(self) -> None:
        def wrong() -> None:
            add(1, 2, 3)

        assert author(wrong) == "component 'add': unknown 'positional argument 3'; its arguments are 'a', 'b'"

    def test_given_twice(self) -> None:
        def wrong() -> None:
            add(1, a=2)

        assert author(wrong) == "component 'add': unknown 'a (given twice)'; its arguments are 'a', 'b'"

    def test_constant_of_the_wrong_type(self) -> None:
        def wrong() -> None:
            add("1")

        with pytest.raises(TypeMismatch) as caught:
            dsl.pipeline(wrong)
        assert str(caught.value) == (
            "component 'add', input 'a': got '1' of type str, wants int; convert it to int or change the port's type"
        )
        assert caught.value.__suppress_context__

    def test_element_of_the_wrong_type(self) -> None:
        def wrong() -> None:
            total([1, "2"])

        assert "component 'total', input 'values[1]': got '2' of type str, wants int" in author(wrong)

    def test_output_of_the_wrong_type(self) -> None:
        def wrong() -> None:
            number(text("x").output)

        assert author(wrong) == (
            "component 'number', input 'value': got str (output 'Output' of 'text'), wants int; "
            "change the port's type or pass another output"
        )

    def test_elements_of_an_output_of_the_wrong_type(self) -> None:
        def wrong(names: List[str]) -> None:  # noqa: UP006
            total(names)

        assert "got List[str] (pipeline input 'names'), wants List[int]" in author(wrong)

    def test_optional_output_for_a_value(self) -> None:
        def wrong(n: int | None = None) -> None:
            number(n)

        assert "got Optional[int] (pipeline input 'n'), wants int; it may be None: declare the port Optional[int]" in author(
            wrong
        )

    def test_artifact_for_a_parameter(self) -> None:
        def wrong() -> None:
            text(write("x").outputs["data"])

        assert (
            "got Dataset (output 'data' of 'write'), wants str; pass a parameter, or annotate the port Input[Dataset]"
            in author(wrong)
        )

    def test_parameter_for_an_artifact(self) -> None:
        def wrong() -> None:
            read(write("x").output)

        assert "got int (output 'Output' of 'write'), wants Dataset; pass an artifact output" in author(wrong)

    def test_artifact_of_another_type(self) -> None:
        def wrong() -> None:
            read(train(write("x").outputs["data"]).outputs["model"])

        assert "component 'read', input 'data': got Model (output 'model' of 'train'), wants Dataset" in author(wrong)

    def test_constant_for_an_artifact(self) -> None:
        def wrong() -> None:
            read("/data/x.csv")

        assert "got '/data/x.csv' of type str, wants Dataset; pass a task's artifact output" in author(wrong)

    def test_task_instead_of_its_output(self) -> None:
        def plain() -> None:
            number(number(1))

        def in_list() -> None:
            total([number(1)])

        assert "input 'value': got the task 'number', wants int; pass task.output or task.outputs[...]" in author(plain)
        assert "got the task 'number', wants int; pass task.output" in author(in_list)

    def test_condition_as_a_value(self) -> None:
        def wrong(n: int) -> None:
            is_big(n == 1)

        assert "got a condition, wants int; conditions belong into dsl.If; compute a bool in a component" in author(wrong)

    def test_list_with_outputs_for_a_scalar(self) -> None:
        def wrong(n: int) -> None:
            number([n])

        assert "got a list with outputs in it, wants int" in author(wrong)

    def test_text_with_outputs_for_a_number(self) -> None:
        def wrong(n: int) -> None:
            number(f"{n}")

        assert "got a str with outputs in it, wants int; pass the output itself" in author(wrong)

    def test_artifact_in_a_text(self) -> None:
        def wrong() -> None:
            data = write("x").outputs["data"]
            text(f"at {data}")

        assert "output 'data' of 'write' is an artifact and has no text; pass it to a component" in author(wrong)

    def test_task_in_a_text(self) -> None:
        def wrong() -> None:
            text(f"{number(1)}")

        assert author(wrong) == "task 'number' has no text; write {task.output} or {task.outputs[...]}"

    def test_repr_or_format_of_an_output_in_a_text(self) -> None:
        def shown_as_repr(n: int) -> None:
            text(f"{n!r}")

        def formatted(n: float) -> None:
            text(f"{n:.2f}")

        assert "holds the repr of an output; write {x} instead of {x!r}" in author(shown_as_repr)
        assert "pipeline input 'n' is not known yet, so it cannot be formatted with '.2f'" in author(formatted)

    def test_output_as_a_dict_key(self) -> None:
        def wrong(n: str) -> None:
            shown({f"{n}": 1})

        assert "a dict key holds an output that is not known yet; put it into the value" in author(wrong)

    @pytest.mark.parametrize("compute", [lambda n: n + 1, lambda n: 2 * n, lambda n: "a" + n, float, len, round, lambda n: -n])
    def test_arithmetic_on_an_output(self, compute: Any) -> None:
        def wrong(n: int) -> None:
            number(compute(n))

        assert author(wrong).startswith("pipeline input 'n' is not known yet, so nothing can be computed from it here")

    def test_attribute_of_an_output(self) -> None:
        def wrong() -> None:
            number(numbers(1).output.size)  # type: ignore[attr-defined]

        with pytest.raises(AttributeError, match=r"output 'Output' of 'numbers' is List\[int\] and has no attribute 'size'"):
            dsl.pipeline(wrong)

    def test_unknown_output(self) -> None:
        def wrong() -> None:
            number(split(1).outputs["tran"])

        assert author(wrong) == "task 'split' has no output 'tran'; its outputs are 'train', 'test'"

    def test_output_of_a_task_with_several(self) -> None:
        def wrong() -> None:
            number(split(1).output)

        assert author(wrong) == "task 'split' has no single output; it has .outputs['train'], .outputs['test']"

    def test_output_of_another_pipeline(self) -> None:
        kept: list[Any] = []

        @dsl.pipeline
        def other(n: int) -> None:
            kept.extend([n, number(n).output, f"{n}"])

        def bare() -> None:
            number(kept[1])

        def in_list() -> None:
            total([kept[0]])

        def in_text() -> None:
            text(kept[2])

        assert "output 'Output' of 'number' belongs to another pipeline; pass it in as an input of this one" in author(bare)
        assert "pipeline input 'n' belongs to another pipeline" in author(in_list)
        assert "its text holds an output of another pipeline" in author(in_text)

    def test_arguments_of_a_run(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def one(n: int, data: Input[Dataset]) -> None:
            number(n)
            read(data)

        with pytest.raises(ArgumentError, match=r"pipeline 'one': missing 'data' and unknown 'm'; its arguments are 'n', 'data'"):
            run_inline(one, {"n": 1, "m": 2})
        with pytest.raises(ValueEncodingError, match=r"pipeline 'one', argument 'n': got True of type bool, wants int"):
            run_inline(one, {"n": True, "data": Dataset(uri="/x")})
        with pytest.raises(TypeMismatch, match=r"'one', input 'data': got Model, wants Dataset"):
            run_inline(one, {"n": 1, "data": Model(uri="/x")})


class TestPipelinesAsComponents:
    def test_used_twice_with_defaults(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def inner(a: int, b: int = 10) -> int:
            return add(add(a, b).output, 1).output

        @dsl.pipeline
        def outer(n: int = 1) -> int:
            first = inner(n)
            second = inner(first.output, b=100)
            return second.output

        run = run_inline(outer)
        assert run.output == 113
        assert run.tasks["inner/add-2"].output == 12
        assert run.tasks["inner-2/add-2"].output == 113

    def test_named_tuple_and_artifacts(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def fit(content: str, note: str = "") -> Trained:
            data = write(content)
            return Trained(data.output, train(data.outputs["data"]).outputs["model"])

        @dsl.pipeline
        def outer() -> Trained:
            inner = fit("rows")
            number(inner.outputs["size"])
            return Trained(inner.outputs["size"], inner.outputs["model"])

        run = run_inline(outer)
        assert run.outputs["size"] == 4
        with open(run.outputs["model"].path) as file:
            assert file.read() == "ROWS"

    def test_artifact_input_of_a_pipeline(self, run_inline: RunInline, tmp_path: Any) -> None:
        @dsl.pipeline
        def reads(data: Input[Dataset]) -> str:
            return read(data).output

        @dsl.pipeline
        def outer(data: Input[Dataset]) -> None:
            reads(data)
            reads(write("made").outputs["data"])

        (tmp_path / "mine").write_text("mine")
        run = run_inline(outer, {"data": Dataset(uri=str(tmp_path / "mine"))})
        assert [run.tasks[path].output for path in ("reads/read", "reads-2/read")] == ["mine", "made"]

    def test_within_loops_and_branches(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def inner(a: int) -> int:
            with dsl.ParallelFor([1, 2]) as item:
                b = add(a, item)
            return total(dsl.Collected(b.output)).output

        @dsl.pipeline
        def outer() -> List[int]:  # noqa: UP006
            with dsl.ParallelFor([10, 20]) as item, dsl.If(item > 10):
                deep = inner(item)
            return dsl.Collected(deep.output)

        assert run_inline(outer).output == [43]

    def test_wrong_argument_names_the_inner_pipeline(self) -> None:
        @dsl.pipeline
        def inner(a: int) -> None:
            number(a)

        def wrong() -> None:
            inner("x")

        assert "component 'inner', input 'a': got 'x' of type str, wants int" in author(wrong)

    def test_retry_of_a_pipeline_is_refused(self) -> None:
        @dsl.pipeline
        def inner(a: int) -> None:
            number(a)

        def wrong() -> None:
            inner(1).set_retry(2)

        assert author(wrong) == "task 'inner' is a pipeline: set_retry on its tasks instead"

    def test_call_outside_a_pipeline_says_how_to_run(self) -> None:
        @dsl.pipeline
        def mine() -> None:
            number(1)

        with pytest.raises(UsageError, match=r"run it with flowcore.run\(mine, \{...\}\)"):
            mine()


class TestReturns:
    def test_constants_inputs_and_structures(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def returns(n: int = 2) -> Out:
            return Out(1, n, [n, number(5).output], f"n={n}")

        assert run_inline(returns).outputs == {"constant": 1.0, "given": 2, "values": [2, 5], "label": "n=2"}

    def test_value_without_annotation(self) -> None:
        def wrong():  # type: ignore[no-untyped-def]
            return number(1).output

        assert author(wrong) == "pipeline 'wrong' returns a value but has no return annotation; write -> and its type"

    def test_nothing_where_an_output_is_declared(self) -> None:
        def wrong() -> int:  # type: ignore[return]
            number(1)

        assert author(wrong) == "pipeline 'wrong' declares 'Output' but returns nothing; return a task's output"

    def test_wrong_type(self) -> None:
        def wrong() -> int:
            return text("x").output  # type: ignore[return-value]

        assert "component 'wrong', output 'Output': got str (output 'Output' of 'text'), wants int" in author(wrong)

    def test_task_instead_of_its_output(self) -> None:
        def wrong() -> int:
            return number(1)  # type: ignore[return-value]

        assert "output 'Output': got the task 'number', wants int; pass task.output" in author(wrong)

    def test_plain_tuple_for_a_named_tuple(self) -> None:
        def wrong() -> Pair:
            return (number(1).output, number(2).output)  # type: ignore[return-value]

        assert author(wrong) == "pipeline 'wrong': got tuple, wants the annotated NamedTuple Pair; return Pair(...)"

    def test_another_named_tuple(self) -> None:
        def wrong() -> Pair:
            number(1)
            return Trained(1, 2)  # type: ignore[return-value, arg-type]

        assert author(wrong) == "pipeline 'wrong': got Trained, wants the annotated NamedTuple Pair; return Pair(...)"


class TestPipelinesThatAreRefused:
    def test_no_tasks(self) -> None:
        def empty(n: int) -> None: ...

        assert author(empty) == "pipeline 'empty' has no tasks; call a component in it"

    def test_no_function(self) -> None:
        class Thing: ...

        async def later() -> None:
            number(1)

        for wrong in (Thing, later):
            with pytest.raises(ComponentError, match=r"it is not a plain function; make the pipeline with def"):
                dsl.pipeline(wrong)

    def test_parameter_without_annotation(self) -> None:
        def bare(x): ...  # type: ignore[no-untyped-def]

        assert "parameter 'x' has no type annotation; annotate it, for example x: str" in author(bare)

    def test_output_parameter(self) -> None:
        def wrong(x: dsl.Output[Dataset]) -> None: ...

        assert "parameter 'x' is an output or a path; return outputs from the pipeline" in author(wrong)

    @pytest.mark.parametrize("name", ["..", "a/b", "nul\0", "x" * 2000, "tab\t", "back\\slash", "\ud800"])
    def test_poison_name(self, name: str) -> None:
        @dsl.component
        def step() -> None: ...

        def mine() -> None:
            step()

        with pytest.raises(GraphError, match=r"pipeline name .* choose a short, plain name") as caught:
            dsl.pipeline(name=name)(mine)
        assert len(str(caught.value)) < 200

    def test_group_names_become_plain(self) -> None:
        @dsl.pipeline
        def mine(n: int) -> None:
            with dsl.If(n == 1, name="../Äpfel & \0Birnen"):
                number(1)

        assert mine.pipeline.dag.tasks[0].name == "äpfel-birnen"

    def test_error_in_the_function_is_the_authors_own(self) -> None:
        def broken() -> None:
            with dsl.ParallelFor([1]):
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            dsl.pipeline(broken)
        assert number(3).output == 3, "a call after a failed trace is outside any pipeline"


class TestSetters:
    def test_retry_is_kept(self) -> None:
        @dsl.pipeline
        def mine() -> None:
            number(1).set_retry(3, "5m", 1.5, "1h")
            number(1).set_retry(1)

        first, second = mine.pipeline.dag.tasks
        assert first.retry == Retry(3, 300.0, 1.5, 3600.0)
        assert second.retry == Retry(1, 0.0, 2.0, 3600.0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_retries": -1}, "set_retry(num_retries=-1) wants a whole number from 0 on"),
            ({"num_retries": True}, "set_retry(num_retries=True) wants a whole number"),
            ({"num_retries": 1.5}, "set_retry(num_retries=1.5) wants a whole number"),
            (
                {"num_retries": 1, "backoff_duration": "soon"},
                "set_retry(backoff_duration='soon') wants a duration like '30s', '5m' or '1h'",
            ),
            ({"num_retries": 1, "backoff_duration": ""}, "set_retry(backoff_duration='') wants a duration"),
            ({"num_retries": 1, "backoff_max_duration": "-1s"}, "set_retry(backoff_max_duration='-1s') wants a duration"),
            ({"num_retries": 1, "backoff_factor": -1}, "set_retry(backoff_factor=-1) wants a number from 0 on"),
            ({"num_retries": 1, "backoff_factor": "x"}, "set_retry(backoff_factor='x') wants a number from 0 on"),
            ({"num_retries": 1, "backoff_factor": float("nan")}, "set_retry(backoff_factor=nan) wants a number from 0 on"),
        ],
    )
    def test_retry_is_checked(self, arguments: dict[str, Any], message: str) -> None:
        def wrong() -> None:
            number(1).set_retry(**arguments)

        assert author(wrong).startswith(f"task 'number': {message}")

    @pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), float("inf")])
    def test_timeout_is_checked(self, seconds: Any) -> None:
        def wrong() -> None:
            number(1).set_timeout(seconds)

        assert author(wrong) == f"task 'number': set_timeout({seconds!r}) wants a number of seconds above 0"

    def test_failing_body_is_retried(self, run_inline: RunInline) -> None:
        tries: list[int] = []

        @dsl.component
        def flaky() -> int:
            tries.append(1)
            if len(tries) < 3:
                raise OSError("not yet")
            return len(tries)

        @dsl.pipeline
        def mine() -> int:
            return flaky().set_retry(2).output

        assert run_inline(mine).output == 3


def test_two_threads_trace_at_once() -> None:
    both_inside = threading.Barrier(2)
    made: dict[str, list[str]] = {}

    def trace(name: str) -> None:
        @dsl.pipeline(name=name)
        def mine() -> None:
            number(1)
            both_inside.wait(10)
            with dsl.ParallelFor([1]):
                both_inside.wait(10)
                text(name)

        made[name] = [task.name for task in mine.pipeline.dag.tasks]

    threads = [threading.Thread(target=trace, args=[name]) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == {"one": ["number", "for-loop-1"], "two": ["number", "for-loop-1"]}


def test_component_called_in_another_thread_while_tracing_runs_at_once() -> None:
    results: list[int] = []

    @dsl.pipeline
    def mine() -> None:
        number(1)
        thread = threading.Thread(target=lambda: results.append(number(7).output))
        thread.start()
        thread.join()

    assert results == [7]
    assert len(mine.pipeline.dag.tasks) == 1


def test_outputs_can_be_copied_while_authoring() -> None:
    @dsl.pipeline
    def mine(n: int) -> None:
        number(copy.copy(n))
        total([copy.copy(n)])

    assert len(mine.pipeline.dag.tasks) == 2


def test_constant_that_looks_like_ours_stays_data(run_inline: RunInline) -> None:
    @dsl.pipeline
    def mine(config: dict = {"input": {"name": "x"}}) -> None:  # type: ignore[type-arg]  # noqa: B006
        shown({"constant": {"value": 1}})
        shown(config)
        kind_of([{"output": {"task": "t", "port": "p"}}])

    outputs = [task.output for task in run_inline(mine).tasks.values()]
    assert outputs == ["{'constant': {'value': 1}}", "{'input': {'name': 'x'}}", "[{'output': {'task': 't', 'port': 'p'}}]"]
