"""The state machine as plain function calls: each rule of retries, losses, timeouts, skips, cancels and loops by itself."""

from __future__ import annotations

import pytest

from flowcore.errors import InternalError
from flowcore.executor import Finished, Lost, Outcome, Started, Status, TaskError
from flowcore.graph import And, Compare, Component, Constant, Dag, Loop, Or, Port, Retry, ScopeInput, Settings, Task, TaskOutput
from flowcore.run_state import (
    KFP_STATES,
    LOSSES,
    MOVES,
    TERMINAL,
    UNSTARTED_LOSSES,
    Cancel,
    CancelRequested,
    Command,
    Commit,
    FinishRun,
    Moved,
    RunState,
    RunStatus,
    SetTimer,
    Submit,
    TaskState,
    TimerFired,
)
from tests.run_state.naive import INT, compute, leaf

S = TaskState


def dag(*tasks: Task, outputs: tuple[tuple[str, TaskOutput], ...] = ()) -> Component:
    return Component("pipeline", (), tuple(Port(name, INT, "return") for name, _ in outputs), Dag(tasks, outputs))


def one(commands: list[Command], kind: type[Command]) -> Command:
    found = [command for command in commands if isinstance(command, kind)]
    assert len(found) == 1, commands
    return found[0]


def ok(attempt_id: str, inputs: dict[str, object] | None = None) -> Finished:
    return Finished(attempt_id, Outcome(Status.SUCCEEDED, compute(inputs or {})))


def failed(attempt_id: str) -> Finished:
    return Finished(attempt_id, Outcome(Status.FAILED, error=TaskError("ValueError", "bad row")))


def moved(commands: list[Command]) -> dict[str, TaskState]:
    return {command.path: command.state for command in commands if isinstance(command, Moved)}


def test_every_state_has_its_moves_and_a_name_of_kubeflow() -> None:
    assert set(MOVES) == set(KFP_STATES) == set(S)
    assert all(not MOVES[state] for state in TERMINAL)


def test_success_is_committed_once_and_a_duplicate_changes_nothing() -> None:
    state = RunState(dag(Task("a", leaf(0)), Task("b", leaf(0))), {})
    first, _ = (command.attempt_id for command in state.start() if isinstance(command, Submit))
    commit = one(state.handle(ok(first)), Commit)
    assert isinstance(commit, Commit)
    assert commit.path == "a"
    assert state.handle(ok(first)) == []
    assert state.handle(failed(first)) == []


def test_lost_attempt_is_retried_and_its_late_report_is_ignored() -> None:
    state = RunState(dag(Task("a", leaf(0))), {})
    first = one(state.start(), Submit)
    assert isinstance(first, Submit)
    second = one(state.handle(Lost(first.attempt_id, "node gone", started=True)), Submit)
    assert isinstance(second, Submit)
    assert second.number == 2
    assert state.handle(ok(first.attempt_id)) == []
    finish = one(state.handle(ok(second.attempt_id)), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.status is RunStatus.SUCCEEDED


@pytest.mark.parametrize(("started", "budget"), [(True, LOSSES), (False, UNSTARTED_LOSSES)])
def test_losses_have_their_own_budget_and_end_with_the_last_reason(started: bool, budget: int) -> None:
    state = RunState(dag(Task("a", leaf(0), retry=Retry(5))), {})
    commands = state.start()
    for _ in range(budget + 1):
        order = one(commands, Submit)
        assert isinstance(order, Submit)
        commands = state.handle(Lost(order.attempt_id, "node gone", started=started))
    finish = one(commands, FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.failures["a"].type == "InfrastructureLost"
    assert "node gone" in finish.failures["a"].message


def test_losses_spend_no_retry_of_the_author() -> None:
    state = RunState(dag(Task("a", leaf(0), retry=Retry(1))), {})
    order = one(state.start(), Submit)
    for event in (lambda a: Lost(a, "x", started=True), failed, lambda a: Lost(a, "x", started=True)):
        assert isinstance(order, Submit)
        order = one(state.handle(event(order.attempt_id)), Submit)
    assert isinstance(order, Submit)
    finish = one(state.handle(failed(order.attempt_id)), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.failures["a"].message == "bad row"


def test_retries_wait_longer_each_time_up_to_the_maximum() -> None:
    retry = Retry(limit=4, backoff_seconds=2, factor=3, maximum_seconds=10)
    state = RunState(dag(Task("a", leaf(0), retry=retry)), {})
    commands, waits = state.start(), []
    for _ in range(4):
        order = one(commands, Submit)
        assert isinstance(order, Submit)
        timer = one(state.handle(failed(order.attempt_id)), SetTimer)
        assert isinstance(timer, SetTimer)
        waits.append(timer.seconds)
        commands = state.handle(TimerFired(timer.key))
    assert waits == [2, 6, 10, 10]


def test_timeout_cancels_the_attempt_and_its_end_is_a_failure_that_says_so() -> None:
    state = RunState(dag(Task("a", leaf(0), settings=Settings(timeout_seconds=1.5))), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    timer = one(state.handle(Started(order.attempt_id, "here")), SetTimer)
    assert isinstance(timer, SetTimer)
    assert timer.seconds == 1.5
    assert state.handle(TimerFired(timer.key)) == [Cancel(order.attempt_id)]
    end = state.handle(Finished(order.attempt_id, Outcome(Status.CANCELED), outlived=True))
    finish = one(end, FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.failures["a"].type == "TaskTimeout"
    assert "longer than 1.5 s; its body still runs" in finish.failures["a"].message


def test_timer_of_an_attempt_that_has_ended_does_not_touch_the_next_one() -> None:
    state = RunState(dag(Task("a", leaf(0), retry=Retry(1), settings=Settings(timeout_seconds=1))), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    timer = one(state.handle(Started(order.attempt_id, "here")), SetTimer)
    assert isinstance(timer, SetTimer)
    again = one(state.handle(failed(order.attempt_id)), Submit)
    assert isinstance(again, Submit)
    state.handle(Started(again.attempt_id, "here"))
    assert state.handle(TimerFired(timer.key)) == []


def test_dependents_of_a_failed_task_are_skipped_and_others_go_on() -> None:
    reader = Task("b", leaf(1), (("a", TaskOutput("a", "Output")),))
    tasks = (Task("a", leaf(0)), reader, Task("c", leaf(0)), Task("d", leaf(0), after=("b",)))
    state = RunState(dag(*tasks), {})
    orders = {command.path: command.attempt_id for command in state.start() if isinstance(command, Submit)}
    assert moved(state.handle(failed(orders["a"]))) == {"a": S.FAILED, "b": S.SKIPPED, "d": S.SKIPPED}
    finish = one(state.handle(ok(orders["c"])), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.status is RunStatus.FAILED
    assert list(finish.failures) == ["a"]


def branch(name: str, holds: bool) -> Task:
    inner = Component("branch", (), (), Dag((Task("inside", leaf(0)),)))
    return Task(name, inner, condition=Compare("==", Constant(1), Constant(1 if holds else 2)))


def test_task_that_only_comes_after_a_skipped_branch_runs() -> None:
    state = RunState(dag(branch("if", holds=False), Task("next", leaf(0), after=("if",))), {})
    commands = state.start()
    assert moved(commands) == {"if": S.SKIPPED}
    order = one(commands, Submit)
    assert isinstance(order, Submit)
    assert order.path == "next"


def test_branch_on_a_value_that_was_skipped_is_skipped_whatever_the_rest_of_its_condition_says() -> None:
    task = branch("next", holds=True)
    maybe = Compare("==", TaskOutput("if", "Output"), Constant(1))
    tasks = Dag((Task("in", leaf(0)),), (("Output", TaskOutput("in", "Output")),))
    inner = Component("b", (), (Port("Output", INT, "return"),), tasks)
    true, false = Compare("==", Constant(1), Constant(1)), Compare("==", Constant(1), Constant(2))
    first = Task("if", inner, condition=false)
    for condition in (Or((true, maybe)), And((false, maybe))):
        state = RunState(dag(first, Task(task.name, task.component, condition=condition)), {})
        assert [command.reason for command in state.start() if isinstance(command, Moved) and command.path == "next"] == [
            "task 'if' was skipped"
        ]


def test_failure_upstream_counts_for_more_than_a_skip() -> None:
    tasks = Dag((Task("in", leaf(0)),), (("Output", TaskOutput("in", "Output")),))
    inner = Component("b", (), (Port("Output", INT, "return"),), tasks)
    skipped = Task("if", inner, condition=Compare("==", Constant(1), Constant(2)))
    both = Task("both", leaf(1), (("a", TaskOutput("if", "Output")),), after=("if", "bad"))
    state = RunState(dag(skipped, Task("bad", leaf(0)), both, Task("last", leaf(0), after=("both",))), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    assert moved(state.handle(failed(order.attempt_id))) == {"bad": S.FAILED, "both": S.SKIPPED, "last": S.SKIPPED}


def test_condition_on_values_that_do_not_compare_fails_the_branch_by_name() -> None:
    task = branch("if", holds=True)
    task = Task(task.name, task.component, condition=Compare("<", Constant("a"), Constant(1)))
    finish = one(RunState(dag(task), {}).start(), FinishRun)
    assert isinstance(finish, FinishRun)
    assert "condition of task 'if'" in finish.failures["if"].message


def loop(items: object, parallelism: int | None = None) -> Task:
    inner = Component(
        "body", (Port("item", INT),), (Port("Output", INT, "return"),),
        Dag((Task("work", leaf(1), (("a", ScopeInput("item")),)),), (("Output", TaskOutput("work", "Output")),)),
    )  # fmt: skip
    return Task("loop", inner, loop=Loop(Constant(items), "item", parallelism))


def test_loop_opens_at_most_its_parallelism_and_gathers_in_order() -> None:
    state = RunState(dag(loop([10, 20, 30], parallelism=2), outputs=(("all", TaskOutput("loop", "Output")),)), {})
    orders = [command for command in state.start() if isinstance(command, Submit)]
    assert [order.path for order in orders] == ["loop.0/work", "loop.1/work"]
    third = one(state.handle(ok(orders[1].attempt_id, orders[1].inputs)), Submit)
    assert isinstance(third, Submit)
    assert third.path == "loop.2/work"
    state.handle(ok(third.attempt_id, third.inputs))
    finish = one(state.handle(ok(orders[0].attempt_id, orders[0].inputs)), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.outputs == {"all": [11, 21, 31]}


def test_loop_over_nothing_succeeds_with_empty_lists() -> None:
    finish = one(RunState(dag(loop([]), outputs=(("all", TaskOutput("loop", "Output")),)), {}).start(), FinishRun)
    assert isinstance(finish, FinishRun)
    assert (finish.status, finish.outputs) == (RunStatus.SUCCEEDED, {"all": []})


def test_loop_over_what_is_no_list_fails_by_name() -> None:
    finish = one(RunState(dag(loop("abc")), {}).start(), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.failures["loop"].message == "loop 'loop': got str for its items, wants a list"


def test_cancel_ends_what_waits_at_once_and_what_runs_when_it_reports() -> None:
    state = RunState(dag(Task("a", leaf(0)), Task("b", leaf(1), (("a", TaskOutput("a", "Output")),))), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    commands = state.handle(CancelRequested())
    assert Cancel(order.attempt_id) in commands
    assert moved(commands) == {"b": S.CANCELED}
    finish = one(state.handle(Lost(order.attempt_id, "killed", started=True)), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.status is RunStatus.CANCELED


def test_success_that_a_cancel_did_not_reach_is_kept() -> None:
    state = RunState(dag(Task("a", leaf(0)), Task("b", leaf(0), after=("a",))), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    state.handle(CancelRequested())
    assert isinstance(one(state.handle(ok(order.attempt_id)), Commit), Commit)


def test_exit_task_runs_after_a_cancel_unless_it_is_forced() -> None:
    tasks = (Task("a", leaf(0)), Task("bye", leaf(0), after=("a",), trigger="all_done"))
    state = RunState(dag(*tasks), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    state.handle(CancelRequested())
    bye = one(state.handle(Finished(order.attempt_id, Outcome(Status.CANCELED))), Submit)
    assert isinstance(bye, Submit)
    assert bye.path == "bye"
    assert state.handle(CancelRequested(force=True)) == [Cancel(bye.attempt_id)]


def test_stop_on_failure_cancels_the_rest_and_still_runs_the_exit_task() -> None:
    tasks = (Task("a", leaf(0)), Task("b", leaf(0)), Task("bye", leaf(0), after=("a", "b"), trigger="all_done"))
    state = RunState(dag(*tasks), {}, stop_on_failure=True)
    orders = {command.path: command.attempt_id for command in state.start() if isinstance(command, Submit)}
    commands = state.handle(failed(orders["a"]))
    assert Cancel(orders["b"]) in commands
    bye = one(state.handle(Finished(orders["b"], Outcome(Status.CANCELED))), Submit)
    assert isinstance(bye, Submit)
    finish = one(state.handle(ok(bye.attempt_id)), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.status is RunStatus.FAILED


def test_success_without_a_declared_output_is_a_failure_that_names_it() -> None:
    state = RunState(dag(Task("a", leaf(0))), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    finish = one(state.handle(Finished(order.attempt_id, Outcome(Status.SUCCEEDED, {"Output": 1}))), FinishRun)
    assert isinstance(finish, FinishRun)
    assert "without outputs ['odd']" in finish.failures["a"].message


def test_sub_item_that_is_not_there_fails_the_task_and_says_what_is() -> None:
    task = Task("a", leaf(1), (("a", ScopeInput("x", ("lr",))),))
    root = Component("p", (Port("x", INT),), (), Dag((task,)))
    finish = one(RunState(root, {"x": {"rate": 1}}).start(), FinishRun)
    assert isinstance(finish, FinishRun)
    assert finish.failures["a"].message == "x.lr: there is no 'lr'; the value has keys ['rate']"


def test_settings_are_resolved_at_each_submit() -> None:
    settings = Settings(cpu_limit=TaskOutput("cores", "Output"))
    state = RunState(dag(Task("cores", leaf(0)), Task("train", leaf(0), settings=settings, retry=Retry(1))), {})
    assert one(state.start(), Submit).settings is None
    second = one(state.handle(ok("run/cores#1")), Submit)
    third = one(state.handle(failed(second.attempt_id)), Submit)
    assert second.settings == third.settings == Settings(cpu_limit="1")
    assert third.number == 2


def test_setting_whose_value_cannot_be_one_fails_the_task_by_name() -> None:
    settings = Settings(memory_limit=TaskOutput("size", "Output"))
    state = RunState(dag(Task("size", leaf(0)), Task("train", leaf(0), settings=settings)), {})
    state.start()
    outcome = Outcome(Status.SUCCEEDED, {"Output": -5, "odd": True})
    finish = one(state.handle(Finished("run/size#1", outcome)), FinishRun)
    assert finish.failures["train"].message.startswith("task 'train': memory_limit is '-5', wants bytes such as")


def test_task_whose_setting_comes_from_a_skipped_task_is_skipped() -> None:
    settings = Settings(memory_limit=TaskOutput("size", "Output"))
    branch = dag(Task("a", leaf(0)), outputs=(("Output", TaskOutput("a", "Output")),))
    size = Task("size", branch, condition=Compare("==", Constant(1), Constant(2)))
    commands = RunState(dag(size, Task("train", leaf(0), settings=settings)), {}).start()
    assert moved(commands) == {"size": S.SKIPPED, "train": S.SKIPPED}


def test_chain_of_ten_thousand_skipped_tasks_settles_in_one_event() -> None:
    tasks = [Task("t0", leaf(0))]
    tasks += [Task(f"t{n}", leaf(1), (("a", TaskOutput(f"t{n - 1}", "Output")),)) for n in range(1, 10_000)]
    state = RunState(dag(*tasks), {})
    order = one(state.start(), Submit)
    assert isinstance(order, Submit)
    commands = state.handle(failed(order.attempt_id))
    assert sum(isinstance(command, Moved) and command.state is S.SKIPPED for command in commands) == 9_999


def test_illegal_move_raises_with_the_tasks_story() -> None:
    state = RunState(dag(Task("a", leaf(0))), {})
    state.start()
    node = next(state.nodes())
    with pytest.raises(InternalError, match=r"task 'a' cannot go from SUBMITTED to SKIPPED \(attempt 1"):
        state._move(node, S.SKIPPED)
