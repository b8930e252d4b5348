"""Branches, loops and what comes out of them, proved by running."""

from __future__ import annotations

from typing import Any, List  # noqa: UP035  authors write both ways

import pytest

from flowcore import dsl
from flowcore.errors import AuthoringError, CycleError, RunFailed
from flowcore.run_state import TaskState
from flowcore.runs import Run

from .conftest import RunInline
from .parts import add, configs, is_big, kind_of, maybe, number, numbers, read, read_all, shown, text, total, write


def states(run: Run) -> dict[str, str]:
    return {path: task.state.value for path, task in run.tasks.items()}


def author(function: Any) -> str:
    """The message with which a pipeline is refused."""
    with pytest.raises(AuthoringError) as caught:
        dsl.pipeline(function)
    return str(caught.value)


class TestBranches:
    @pytest.mark.parametrize(("value", "taken"), [(1, "small"), (5, "middle"), (50, "large")])
    def test_one_branch_of_a_chain_runs(self, run_inline: RunInline, value: int, taken: str) -> None:
        @dsl.pipeline
        def choose(n: int) -> str:
            v = number(n)
            with dsl.If(v.output < 3):
                a = text("small")
            with dsl.Elif(v.output < 10):
                b = text("middle")
            with dsl.Else():
                c = text("large")
            return dsl.OneOf(a.output, b.output, c.output)

        run = run_inline(choose, {"n": value})
        assert run.output == taken
        assert sum(task.name.startswith("text") and task.state is TaskState.SUCCEEDED for task in run.tasks.values()) == 1

    @pytest.mark.parametrize(("a", "b", "expected"), [(1, 1, "and or"), (1, 0, "or"), (0, 1, "or not"), (0, 0, "not")])
    def test_conditions_combine(self, run_inline: RunInline, a: int, b: int, expected: str) -> None:
        @dsl.pipeline
        def combine(a: int, b: int) -> None:
            with dsl.If((a == 1) & (b == 1), name="and"):
                text("x")
            with dsl.If((a == 1) | (b == 1), name="or"):
                text("x")
            with dsl.If(~(a == 1), name="not"):
                text("x")

        run = run_inline(combine, {"a": a, "b": b})
        assert " ".join(path for path, state in states(run).items() if "/" not in path and state == "SUCCEEDED") == expected

    @pytest.mark.parametrize("value", [5, 15])
    def test_bool_output_is_a_condition_by_itself(self, run_inline: RunInline, value: int) -> None:
        @dsl.pipeline
        def check(n: int) -> None:
            big = is_big(n).output
            with dsl.If(big, name="yes"):
                text("yes")
            with dsl.If(~big, name="no"):
                text("no")
            with dsl.If(big & (n == 15), name="both"):
                text("both")

        run = run_inline(check, {"n": value})
        wanted = ["SUCCEEDED", "SKIPPED", "SUCCEEDED"] if value == 15 else ["SKIPPED", "SUCCEEDED", "SKIPPED"]
        assert [run.tasks[name].state for name in ("yes", "no", "both")] == wanted

    def test_condition_is_an_alias_of_if(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def check(n: int = 3) -> None:
            with dsl.Condition(n >= 3, "named"):
                text("yes")

        assert run_inline(check).tasks["named/text"].output == "yes"

    def test_text_with_quotes_is_compared_as_a_value(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def check(name: str) -> None:
            with dsl.If(name == 'it\'s "x" == 1 or True', name="same"):
                text("yes")

        assert run_inline(check, {"name": "other"}).tasks["same"].state is TaskState.SKIPPED
        assert run_inline(check, {"name": 'it\'s "x" == 1 or True'}).tasks["same"].state is TaskState.SUCCEEDED

    def test_none_is_compared_with_an_optional(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def check(n: int | None = None) -> None:
            with dsl.If(n == None, name="none"):  # noqa: E711
                text("yes")
            with dsl.If(n != None, name="some"):  # noqa: E711
                maybe(n)

        assert run_inline(check).tasks["none/text"].output == "yes"
        assert run_inline(check, {"n": 2}).tasks["some/maybe"].output == "2"

    def test_numpy_constant_is_compared_from_either_side(self, run_inline: RunInline) -> None:
        numpy = pytest.importorskip("numpy")

        @dsl.pipeline
        def check(n: int = 3) -> None:
            with dsl.If(n > numpy.float64(2.5), name="left"):
                text("yes")
            with dsl.If(numpy.int64(3) == n, name="right"):
                text("yes")

        run = run_inline(check)
        assert [run.tasks[name].state for name in ("left", "right")] == ["SUCCEEDED", "SUCCEEDED"]

    def test_five_hundred_terms_are_one_flat_condition(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def check(n: int = 3) -> None:
            condition = n == 3
            for bound in range(500):
                condition = condition & (n != bound + 10)
            with dsl.If(condition):
                text("yes")

        assert run_inline(check).tasks["text"].output == "yes"

    def test_untyped_item_that_is_no_bool_is_no_condition(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def check() -> None:
            with dsl.ParallelFor([{"on": "false"}]) as item, dsl.If(item.on):
                text("yes")

        with pytest.raises(RunFailed, match=r"'false' of type str, a condition wants a bool"):
            run_inline(check)


class TestConditionsThatAreRefused:
    def test_python_if_on_an_output(self) -> None:
        def wrong(n: int) -> None:
            if n:
                text("x")

        message = author(wrong)
        assert message.startswith("pipeline input 'n' is not known yet: `if`, `and`, `or` and `not` cannot use it")
        assert "with dsl.If(x):" in message

    def test_python_and_on_conditions(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n > 1 and n < 3):
                text("x")

        assert "write `with dsl.If(a & b):` with `&`, `|`, `~` and parentheses" in author(wrong)

    def test_chained_comparison(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(1 < n < 3):
                text("x")

        assert "`a < b < c` cannot use it" in author(wrong)

    def test_missing_parentheses(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == 1 & n == 2):
                text("x")

        assert "parentheses around each comparison next to `&` and `|`" in author(wrong)

    def test_output_that_is_no_bool(self) -> None:
        def wrong() -> None:
            with dsl.If(number().output):
                text("x")

        assert author(wrong) == "output 'Output' of 'number' is int, a condition wants a bool; compare it, for example `x == 1`"

    def test_plain_bool(self) -> None:
        def wrong() -> None:
            with dsl.If(True):
                text("x")

        assert author(wrong).startswith("got True of type bool as a condition; wants a comparison of a task's output")

    def test_types_that_never_compare(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == "3"):  # type: ignore[comparison-overlap]
                text("x")

        message = "pipeline input 'n' is int, '3' is str: they never compare; use a constant or output of the same type"
        assert author(wrong) == message

    def test_artifact(self) -> None:
        def wrong() -> None:
            with dsl.If(write("x").outputs["data"] == 1):
                text("x")

        assert "output 'data' of 'write' is Dataset: conditions compare str, int, float and bool" in author(wrong)

    def test_text_that_holds_outputs(self) -> None:
        def wrong(name: str) -> None:
            with dsl.If(name == f"{name}"):
                text("x")

        assert author(wrong) == "pipeline input 'name' is compared with a text that holds outputs; make that text in a component"

    def test_collected_list_is_named_as_the_author_wrote_it(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1]):
                a = number(1)
            with dsl.If(dsl.Collected(a.output) == 1):  # type: ignore[comparison-overlap]
                text("x")

        assert author(wrong).startswith("Collected(output 'Output' of 'number') is List[int]: conditions compare")

    def test_none_for_what_is_never_none(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == None):  # noqa: E711
                text("x")

        assert "pipeline input 'n' is int and never == None; compare it with a value" in author(wrong)

    def test_elif_after_a_task(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == 1):
                text("x")
            text("between")
            with dsl.Elif(n == 2):
                text("y")

        assert author(wrong) == "dsl.Elif must directly follow the with block of a dsl.If or dsl.Elif"

    def test_else_after_else(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == 1):
                text("x")
            with dsl.Else():
                text("y")
            with dsl.Else():
                text("z")

        assert "dsl.Else must directly follow" in author(wrong)

    def test_else_after_a_loop(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1]):
                text("x")
            with dsl.Else():
                text("z")

        assert "dsl.Else must directly follow" in author(wrong)

    def test_condition_of_a_branch_used_outside(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == 1):
                inner = number(1).output == 1
            with dsl.If(inner):
                text("x")

        assert "the condition of 'condition-2': output 'Output' of 'number' is inside the branch 'condition-1'" in author(wrong)

    def test_empty_branch(self) -> None:
        def wrong(n: int) -> None:
            number(1)
            with dsl.If(n == 1, name="empty"):
                pass

        assert author(wrong) == "group 'empty' has no tasks; call a component inside the with block"

    def test_group_entered_twice(self) -> None:
        def wrong(n: int) -> None:
            group = dsl.If(n == 1, name="g")
            for _ in range(2):
                with group:
                    number(1)

        assert "group 'g' is entered twice" in author(wrong)

    def test_control_outside_a_pipeline(self) -> None:
        with pytest.raises(AuthoringError, match=r"dsl.ParallelFor is only of use inside a @dsl.pipeline function"):
            dsl.ParallelFor([1])


class TestLoops:
    def test_constant_list(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> int:
            with dsl.ParallelFor([1, 2, 3]) as item:
                a = add(item)
            return total(dsl.Collected(a.output)).output

        assert run_inline(loop).output == 12

    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_list_of_a_task(self, run_inline: RunInline, count: int) -> None:
        @dsl.pipeline
        def loop(count: int) -> List[int]:  # noqa: UP006
            with dsl.ParallelFor(numbers(count).output) as item:
                a = add(item, 0)
            return dsl.Collected(a.output)

        assert run_inline(loop, {"count": count}).output == list(range(count))

    def test_list_of_a_pipeline_input(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop(values: list[int]) -> int:
            with dsl.ParallelFor(values, parallelism=1) as item:
                a = add(item, 0)
            return total(dsl.Collected(a.output)).output

        assert run_inline(loop, {"values": [5, 6]}).output == 11

    def test_keys_that_are_names_of_ours_are_keys_of_the_item(self, run_inline: RunInline) -> None:
        keys = [
            "type",
            "path",
            "key",
            "port",
            "frame",
            "producer",
            "name",
            "choices",
            "describe",
            "trace",
            "item",
            "items",
            "source",
        ]

        @dsl.pipeline
        def loop() -> None:
            with dsl.ParallelFor([{name: place for place, name in enumerate(keys)}]) as item:
                for name in keys:
                    add(getattr(item, name), item[name])

        run = run_inline(loop)
        results = [task.output for path, task in run.tasks.items() if "/" in path]
        assert sorted(results) == [2 * place for place in range(len(keys))]

    def test_runtime_dict_items(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> int:
            with dsl.ParallelFor(configs(3).output) as item:
                a = add(item.type, item["path"])
            return total(dsl.Collected(a.output)).output

        assert run_inline(loop).output == 33

    def test_whole_dict_item_and_deeper_keys(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> None:
            with dsl.ParallelFor([{"a": {"b-c": 7}}]) as item:
                shown(item)
                number(item.a["b-c"])

        run = run_inline(loop)
        assert run.tasks["shown"].output == "{'a': {'b-c': 7}}"
        assert run.tasks["number"].output == 7

    def test_missing_key_fails_the_task_and_names_the_key(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> None:
            with dsl.ParallelFor([{"a": 1}]) as item:
                number(item.nothing)

        with pytest.raises(RunFailed, match=r"there is no 'nothing'; the value has keys \['a'\]"):
            run_inline(loop)

    def test_nested_loops_collect_nested_lists(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> List[List[int]]:  # noqa: UP006
            with dsl.ParallelFor([{"xs": [1, 2], "k": 10}, {"xs": [3], "k": 20}]) as outer, dsl.ParallelFor(outer.xs) as inner:
                a = add(inner, outer.k)
            return dsl.Collected(a.output)  # type: ignore[arg-type]

        assert run_inline(loop).output == [[11, 12], [23]]

    def test_inner_loop_collects_within_the_outer(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> List[int]:  # noqa: UP006
            with dsl.ParallelFor([1, 2]) as outer:
                with dsl.ParallelFor([10, 20]) as inner:
                    a = add(outer, inner)
                t = total(dsl.Collected(a.output))
            return dsl.Collected(t.output)

        assert run_inline(loop).output == [32, 34]

    def test_collected_over_a_branch_skips_the_missing(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> List[int]:  # noqa: UP006
            with dsl.ParallelFor([1, 5, 9]) as item, dsl.If(item > 3):
                a = add(item, 0)
            return dsl.Collected(a.output)

        assert run_inline(loop).output == [5, 9]

    def test_collected_feeds_a_consumer_within_another_group(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop(n: int = 1) -> None:
            with dsl.ParallelFor([1, 2]) as item:
                a = add(item, 0)
            gathered = dsl.Collected(a.output)
            with dsl.If(n == 1), dsl.ParallelFor([100]) as extra:
                total([extra, 1])
                total(gathered)

        run = run_inline(loop)
        assert sorted(task.output for task in run.tasks.values() if task.name.startswith("total")) == [3, 101]

    def test_artifacts_are_collected_in_order(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> str:
            with dsl.ParallelFor(["a", "b", "c"]) as item:
                w = write(item)
            return read_all(dsl.Collected(w.outputs["data"])).output

        assert run_inline(loop).output == "a,b,c"

    def test_list_of_artifact_outputs_is_a_list_input_and_loop_items(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def join() -> str:
            parts = [write("x").outputs["data"], write("y").outputs["data"]]
            with dsl.ParallelFor(parts) as part:
                read(part)
            return read_all(parts).output

        run = run_inline(join)
        assert run.output == "x,y"
        assert sorted(task.output for task in run.tasks.values() if task.name == "read") == ["x", "y"]

    def test_items_may_hold_outputs(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop(n: int = 4) -> List[int]:  # noqa: UP006
            with dsl.ParallelFor([number(3).output, n, 5]) as item:
                a = add(item, 0)
            return dsl.Collected(a.output)

        assert run_inline(loop).output == [3, 4, 5]

    def test_one_output_is_collected_once_for_two_readers(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def loop() -> None:
            with dsl.ParallelFor([1]) as item:
                a = add(item)
            total(dsl.Collected(a.output))
            total(dsl.Collected(a.output))

        loop_task = loop.pipeline.dag.tasks[0]
        assert len(loop_task.component.outputs) == 1
        assert run_inline(loop).tasks["total-2"].output == 3


class TestLoopsThatAreRefused:
    @pytest.mark.parametrize("parallelism", [-1, True, 1.5, "2"])
    def test_parallelism(self, parallelism: Any) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1], name="x", parallelism=parallelism):
                number(1)

        assert author(wrong) == f"loop 'x': parallelism={parallelism!r} wants a whole number from 0 on"

    @pytest.mark.parametrize(
        ("items", "message"),
        [
            ([], "loop 'x', items: the list is empty, so the loop would never run; give it items"),
            ("abc", "loop 'x', items: got str, wants a list or an output that is one"),
            ({"a": 1}, "loop 'x', items: got dict, wants a list or an output that is one"),
            ([1, object], "of type type, wants plain data"),
        ],
    )
    def test_items(self, items: Any, message: str) -> None:
        def wrong() -> None:
            with dsl.ParallelFor(items, name="x"):
                number(1)

        assert message in author(wrong)

    def test_items_of_an_output_that_is_no_list(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor(number(1).output, name="x"):
                number(1)

        assert (
            author(wrong) == "loop 'x', items: output 'Output' of 'number' is int, wants a list; return a list from a component"
        )

    def test_items_that_may_be_none(self) -> None:
        def wrong(values: list[int] | None = None) -> None:
            with dsl.ParallelFor(values, name="x"):
                number(1)

        assert "is Optional[List[int]] and may be None; return a list" in author(wrong)

    def test_item_of_the_wrong_type(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor(["a"]) as item:
                number(item)

        assert "component 'number', input 'value': got str (loop item 'item'), wants int" in author(wrong)

    def test_key_of_an_item_that_is_no_dict(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1]) as item:
                number(item["a"])

        assert "loop item 'item' is int and not known yet, so ['a'] cannot be taken from it" in author(wrong)

    def test_python_for_over_an_output(self) -> None:
        def wrong() -> None:
            for item in numbers(3).output:
                number(item)

        assert "write `with dsl.ParallelFor(x) as item:` to go over it" in author(wrong)


class TestReadingFromOutside:
    def test_output_of_a_loop_without_collected(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1], name="sweep"):
                a = number(1)
            add(a.output)

        assert author(wrong) == (
            "component 'add', input 'a': output 'Output' of 'number' is inside the loop 'sweep' and is read outside; "
            "dsl.Collected(...) after the loop gives the list over its iterations"
        )

    def test_output_of_a_branch_without_oneof(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == 1, name="maybe"):
                a = number(1)
            add(a.output)

        assert author(wrong) == (
            "component 'add', input 'a': output 'Output' of 'number' is inside the branch 'maybe' and is read outside; "
            "dsl.OneOf(...) with an output of each branch gives that of the branch that ran, or read it inside the branch"
        )

    def test_loop_item_outside(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1], name="sweep") as item:
                number(1)
            add(item)

        assert "loop item 'item' is inside the loop 'sweep' and is read outside" in author(wrong)

    def test_output_hidden_in_a_list_or_text(self) -> None:
        def in_list() -> None:
            with dsl.ParallelFor([1], name="sweep"):
                a = number(1)
            total([1, a.output])

        def in_text() -> None:
            with dsl.ParallelFor([1], name="sweep"):
                a = number(1)
            text(f"is {a.output}")

        assert "input 'values'[1]: output 'Output' of 'number' is inside the loop 'sweep'" in author(in_list)
        assert "input 'value': output 'Output' of 'number' is inside the loop 'sweep'" in author(in_text)

    def test_returned_output_of_a_branch(self) -> None:
        def wrong(n: int) -> int:
            with dsl.If(n == 1):
                a = number(1)
            return a.output

        assert "component 'wrong', output 'Output': output 'Output' of 'number' is inside the branch" in author(wrong)

    def test_collected_inside_its_loop(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1]):
                a = number(1)
                total(dsl.Collected(a.output))

        assert "is used where no loop lies between; use it after the loop's with block" in author(wrong)

    def test_collected_of_a_task(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1]):
                a = number(1)
            total(dsl.Collected(a))

        assert "dsl.Collected takes a task's output, got PipelineTask; write dsl.Collected(task.output)" in author(wrong)

    def test_collected_list_for_a_single_value(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1]):
                a = number(1)
            number(dsl.Collected(a.output))

        assert "component 'number', input 'value': got List[int] (Collected(output 'Output' of 'number')), wants int" in author(
            wrong
        )

    def test_single_value_for_a_list(self) -> None:
        def wrong() -> None:
            total(number(1).output)

        assert "got int (output 'Output' of 'number'), wants List[int]; put it into a list" in author(wrong)


class TestOneOf:
    def test_artifacts_of_branches(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def choose(n: int) -> str:
            with dsl.If(n == 1):
                a = write("one")
            with dsl.Else():
                b = write("other")
            return read(dsl.OneOf(a.outputs["data"], b.outputs["data"])).output

        assert run_inline(choose, {"n": 1}).output == "one"
        assert run_inline(choose, {"n": 2}).output == "other"

    def test_chosen_value_is_read_within_a_group(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def choose(n: int) -> List[int]:  # noqa: UP006
            with dsl.If(n == 1):
                a = number(10)
            with dsl.Else():
                b = number(20)
            chosen = dsl.OneOf(a.output, b.output)
            with dsl.ParallelFor([1, 2]) as item:
                c = add(chosen, item)
            return dsl.Collected(c.output)

        assert run_inline(choose, {"n": 1}).output == [11, 12]
        assert run_inline(choose, {"n": 0}).output == [21, 22]

    def test_within_a_loop_it_is_collected(self, run_inline: RunInline) -> None:
        @dsl.pipeline
        def choose() -> List[str]:  # noqa: UP006
            with dsl.ParallelFor([1, 5]) as item:
                with dsl.If(item < 3):
                    a = text("small")
                with dsl.Else():
                    b = text("large")
                chosen = dsl.OneOf(a.output, b.output)
            return dsl.Collected(chosen)

        assert run_inline(choose).output == ["small", "large"]

    def test_different_types_are_refused(self) -> None:
        def wrong(n: int) -> None:
            with dsl.If(n == 1):
                a = number(1)
            with dsl.Else():
                b = text("x")
            maybe(dsl.OneOf(a.output, b.output))

        assert "dsl.OneOf: its outputs are of different types (int, str); make them the same" in author(wrong)

    def test_pipeline_inputs_and_nothing_are_refused(self) -> None:
        def inputs(n: int) -> None:
            number(dsl.OneOf(n))

        def nothing() -> None:
            number(dsl.OneOf())

        for wrong in (inputs, nothing):
            assert "dsl.OneOf takes the outputs of tasks in the branches" in author(wrong)


class TestAfter:
    def test_task_waits_without_data(self, run_inline: RunInline) -> None:
        order: list[str] = []

        @dsl.component
        def note(name: str) -> None:
            order.append(name)

        @dsl.pipeline
        def chain() -> None:
            first = note("first")
            second = note("second")
            third = note("third")
            first.after(second, third)
            third.after(second)

        run_inline(chain)
        assert order == ["second", "third", "first"]
        assert chain.pipeline.dag.tasks[0].after == ("note-2", "note-3")

    def test_groups_and_tasks_inside_groups_order_their_groups(self, run_inline: RunInline) -> None:
        order: list[str] = []

        @dsl.component
        def note(name: str) -> None:
            order.append(name)

        @dsl.pipeline
        def chain() -> None:
            loop = dsl.ParallelFor(["a", "b"], name="late")
            with loop as item:
                inside = note(item)
            first = note("first")
            last = note("last")
            loop.after(first)
            last.after(loop)
            very_last = note("very last")
            very_last.after(inside)
            with dsl.ParallelFor(["x"], name="group") as item:
                x = note(item)
                y = note(item).after(x)
                y.after(last)

        run_inline(chain)
        assert order[0] == "first"
        assert sorted(order[1:3]) == ["a", "b"]
        assert order.index("last") < order.index("x")
        after = {task.name: task.after for task in chain.pipeline.dag.tasks}
        assert after["group"] == ("note-2",)
        assert after["note-3"] == ("late",)

    def test_cycle_is_named(self) -> None:
        def wrong() -> None:
            a = number(1)
            b = add(a.output)
            c = text("x").after(b)
            a.after(c)

        with pytest.raises(CycleError) as caught:
            dsl.pipeline(wrong)
        assert set(caught.value.cycle) == {"number", "add", "text"}
        assert "pipeline 'wrong' has a cycle: " in str(caught.value)
        assert str(caught.value).endswith("; remove one of these dependencies")

    def test_cycle_through_groups_is_named(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1], name="one"):
                a1, a2 = number(1), number(2)
            with dsl.ParallelFor([1], name="two"):
                b1, b2 = number(1), number(2)
            a1.after(b1)
            b2.after(a2)

        with pytest.raises(CycleError, match=r"one → two → one|two → one → two"):
            dsl.pipeline(wrong)

    def test_task_after_itself_is_a_cycle(self) -> None:
        def wrong() -> None:
            a = number(1)
            a.after(a)

        with pytest.raises(CycleError, match=r"number → number"):
            dsl.pipeline(wrong)

    def test_output_is_no_task(self) -> None:
        def wrong() -> None:
            number(1).after(number(2).output)

        assert author(wrong) == "task 'number': after() takes tasks and groups, got Channel; pass the task itself, not its output"

    def test_group_after_something_else(self) -> None:
        def wrong() -> None:
            with dsl.ParallelFor([1], name="x").after("number"):
                number(1)

        assert "group 'x': after() takes tasks and groups, got str" in author(wrong)

    def test_task_of_another_pipeline(self) -> None:
        kept: list[Any] = []

        @dsl.pipeline
        def other() -> None:
            kept.append(number(1))

        def wrong() -> None:
            number(2).after(kept[0])

        assert "'number' is after 'number', which belongs to another pipeline" in author(wrong)


def test_untyped_list_keeps_the_types_of_what_it_holds(run_inline: RunInline) -> None:
    @dsl.pipeline
    def nest(n: int = 3, flag: bool = True) -> None:
        kind_of([n, {"f": flag, "deep": [number(1).output, 2.5, None]}, f"n={n}"])
        shown({"a": n, "b": [numbers(2).output]})

    run = run_inline(nest)
    assert run.tasks["kind-of"].output == "[3, {'f': True, 'deep': [1, 2.5, None]}, 'n=3']"
    assert run.tasks["shown"].output == "{'a': 3, 'b': [[0, 1]]}"


def test_elements_of_a_list_with_outputs_are_checked() -> None:
    def artifacts() -> None:
        read_all([write("x").outputs["data"], 3])

    def values() -> None:
        total([1, text("x").output])

    assert "component 'read-all', input 'data[1]': got 3 of type int, wants Dataset" in author(artifacts)
    assert "component 'total', input 'values[1]': got str (output 'Output' of 'text'), wants int" in author(values)
