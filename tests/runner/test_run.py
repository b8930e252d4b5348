"""Whole runs, in each local mode where the mode could matter: values, errors, retries, losses, cancels, what is left behind."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, List  # noqa: UP035  Kubeflow's authors write it so

import pytest

import flowcore
from flowcore import dsl
from flowcore.errors import (
    ArgumentError,
    FlowcoreError,
    RefusedError,
    RunCanceled,
    RunFailed,
    StorageError,
    UsageError,
    ValueEncodingError,
)
from flowcore.executors import LocalExecutor
from flowcore.run_state import RunStatus, TaskState
from flowcore.testing import ScriptedExecutor, bodies
from flowcore.testing.scripted import lose, succeed
from tests.runner import pipelines

MODES = ["inline", "threads", "processes"]


@pytest.fixture(params=MODES)
def executor(request: pytest.FixtureRequest) -> LocalExecutor:
    return LocalExecutor(mode=request.param, workers=None if request.param == "inline" else 2)


def test_loops_conditions_and_collected_values_are_the_same_in_each_mode(executor: LocalExecutor) -> None:
    assert flowcore.run(pipelines.everything, executor=executor).output == 1033
    small = flowcore.run(pipelines.everything, {"count": 0}, executor=executor)
    assert small.output == 0
    assert {path: task.state.value for path, task in small.tasks.items()} == {
        "numbers": "SUCCEEDED",
        "for-loop-1": "SUCCEEDED",
        "total": "SUCCEEDED",
        "large": "SKIPPED",
        "small": "SUCCEEDED",
        "small/add": "SUCCEEDED",
    }


def test_groups_have_their_outputs_too() -> None:
    @dsl.pipeline
    def inner(rows: int) -> float:
        table = pipelines.write(rows=rows)
        return pipelines.train(table=table.outputs["table"]).output

    @dsl.component
    def count(models: List[dsl.Model]) -> int:  # noqa: UP006
        return sum(model.load()["rows"] for model in models)

    @dsl.pipeline
    def outer() -> int:
        inner(rows=2)
        table = pipelines.write(rows=5)
        with dsl.ParallelFor([0.1, 0.2], name="rates") as rate:
            trained = pipelines.train(table=table.outputs["table"], rate=rate)
        return count(models=dsl.Collected(trained.outputs["model"])).output

    run = flowcore.run(outer)
    assert run.output == 10
    assert run.tasks["inner"].outputs == {"Output": 1.0}
    (models,) = run.tasks["rates"].outputs.values()
    assert [model.load()["rate"] for model in models] == [0.1, 0.2]


def test_traceback_begins_at_the_authors_line() -> None:
    with pytest.raises(RunFailed) as caught:
        flowcore.run(pipelines.failing, executor=LocalExecutor(mode="inline"))
    trace = next(iter(caught.value.failures.values())).traceback
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.count("File ") == 1


def test_artifacts_metrics_and_lineage_are_recorded_in_each_mode(executor: LocalExecutor) -> None:
    run = flowcore.run(pipelines.learning, executor=executor)
    assert run.output == 1.0
    table = run.tasks["write"].outputs["table"]
    assert Path(table.path).read_text() == "0\n1\n2\n3"
    assert table.metadata == {"rows": 4}
    train = run.tasks["train"]
    assert train.outputs["model"].load() == {"rows": 4, "rate": 0.25}
    assert train.outputs["Output"] == train.output == 1.0
    assert train.metrics == {"objective": 1.5, "rows": 4, "rate": 0.25}
    assert run._records.lineage(table.uri) == {
        "written_by": [(run.run_id, "write", "table")],
        "read_by": [(run.run_id, "train", "table")],
    }


def test_failed_task_raises_with_its_own_error_in_each_mode(executor: LocalExecutor) -> None:
    with pytest.raises(RunFailed) as caught:
        flowcore.run(pipelines.failing, executor=executor)
    assert str(caught.value) == "pipeline 'failing': task 'explode' failed: LookupError: no such row"
    printed = "".join(traceback.format_exception(caught.value))
    assert printed.count("raise LookupError(message)") == 1
    assert "flowcore/worker.py" not in printed
    states = {path: task.state for path, task in caught.value.run.tasks.items()}
    assert states == {"explode": TaskState.FAILED, "add": TaskState.SKIPPED, "add-2": TaskState.SUCCEEDED}
    assert isinstance(caught.value.__cause__, LookupError) is executor.in_process


def test_failed_run_can_be_looked_at_instead(executor: LocalExecutor) -> None:
    run = flowcore.run(pipelines.failing, executor=executor, raise_on_failure=False)
    assert run.state is RunStatus.FAILED
    error = run.tasks["explode"].error
    assert error is not None
    assert (error.type, error.message) == ("LookupError", "no such row")


def test_stop_on_failure_cancels_what_has_not_begun() -> None:
    run = flowcore.run(pipelines.failing, executor=LocalExecutor(mode="inline"), raise_on_failure=False, on_failure="stop")
    assert run.tasks["add-2"].state is TaskState.CANCELED


def test_retry_runs_the_body_again_and_keeps_the_earlier_attempts(executor: LocalExecutor, tmp_path: Path) -> None:
    run = flowcore.run(pipelines.retried, {"folder": str(tmp_path)}, executor=executor)
    assert run.output == 3
    assert run.tasks["fail-first"].attempts == 3
    earlier = run._records.attempts(run.run_id, "fail-first")
    assert [(attempt["number"], attempt["error"].message) for attempt in earlier] == [(1, "try 0"), (2, "try 1")]


def test_killed_worker_is_lost_and_the_task_runs_again(tmp_path: Path) -> None:
    run = flowcore.run(pipelines.dying, {"folder": str(tmp_path)}, executor=LocalExecutor(mode="processes", workers=2))
    assert run.output == 3
    reasons = [attempt["reason"] for attempt in run._records.attempts(run.run_id, "die-first")]
    assert len(reasons) == 2
    assert all("SIGKILL" in reason for reason in reasons)


def test_task_that_kills_each_worker_fails_alone(tmp_path: Path) -> None:
    executor = LocalExecutor(mode="processes", workers=2)
    arguments = {"folder": str(tmp_path), "times": 99}
    run = flowcore.run(pipelines.dying, arguments, executor=executor, raise_on_failure=False)
    assert run.state is RunStatus.FAILED
    assert run.failures["die-first"].type == "InfrastructureLost"
    assert run.tasks["add"].state is TaskState.SUCCEEDED
    assert len(list(tmp_path.glob("try-*"))) == 4


def test_losses_of_any_executor_are_retried_by_the_core() -> None:
    tries: list[str] = []

    def script(order: Any) -> Any:
        tries.append(order.attempt_id)
        return lose(order) if len(tries) < 3 else succeed(order, Output=42)

    component = pipelines.add.pipeline
    assert flowcore.run(component, {"a": 1}, executor=ScriptedExecutor(script)).output == 42
    assert len(set(tries)) == 3


def test_body_longer_than_its_timeout_is_ended(tmp_path: Path) -> None:
    @dsl.pipeline
    def slow(started: str, release: str) -> None:
        bodies.meet(started=started, release=release).set_timeout(0.2)

    arguments = {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}
    for mode, left in (("processes", ""), ("threads", "; its body still runs in this process")):
        run = flowcore.run(slow, arguments, executor=LocalExecutor(mode=mode, workers=1), raise_on_failure=False)  # type: ignore[arg-type]
        assert run.failures["meet"].type == "TaskTimeout"
        assert run.failures["meet"].message == f"task 'meet' ran longer than 0.2 s{left}"
    release_bodies(tmp_path / "release")


def release_bodies(release: Path) -> None:
    """Let bodies that outlived their run end, and wait for their threads."""
    release.touch()
    for thread in threading.enumerate():
        if thread.name.startswith("flowcore"):
            thread.join()


def test_cancel_ends_a_submitted_run(tmp_path: Path) -> None:
    arguments = {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}
    run = flowcore.submit(pipelines.meeting, arguments, executor=LocalExecutor(mode="processes", workers=1))
    bodies.await_file(tmp_path / "started")
    assert run.state is RunStatus.RUNNING
    assert not run.done
    with pytest.raises(TimeoutError):
        run.result(timeout=0.01)
    run.cancel()
    with pytest.raises(RunCanceled):
        run.result(timeout=30)
    assert {path: task.state for path, task in run.tasks.items()} == {"meet": TaskState.CANCELED, "add": TaskState.CANCELED}


def test_cancel_asked_for_through_the_record_reaches_the_driver(tmp_path: Path) -> None:
    arguments = {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}
    run = flowcore.submit(pipelines.meeting, arguments, executor=LocalExecutor(mode="processes", workers=1))
    bodies.await_file(tmp_path / "started")
    flowcore.Client().get_run(run.run_id).cancel()
    with pytest.raises(RunCanceled):
        run.result(timeout=30)


def test_interrupt_in_run_cancels_it_and_is_raised_again() -> None:
    with pytest.raises(KeyboardInterrupt):
        flowcore.run(pipelines.interrupt, executor=LocalExecutor(mode="inline"))
    rows = flowcore.Client().list_runs()
    assert [row.state for row in rows] == ["CANCELED"]


def test_arun_leaves_the_event_loop_free() -> None:
    async def main() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        run = await flowcore.arun(pipelines.everything)
        ticking.cancel()
        return run.output, ticks

    output, ticks = asyncio.run(main())
    assert output == 1033
    assert ticks > 1


def test_canceling_arun_cancels_the_run(tmp_path: Path) -> None:
    arguments = {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}

    async def main() -> None:
        executor = LocalExecutor(mode="processes", workers=1)
        task = asyncio.create_task(flowcore.arun(pipelines.meeting, arguments, executor=executor))
        await asyncio.to_thread(bodies.await_file, tmp_path / "started")
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert [row.state for row in flowcore.Client().list_runs()] == ["CANCELED"]


def test_run_works_inside_a_running_loop_inline() -> None:
    async def main() -> int:
        output: int = flowcore.run(pipelines.everything, executor=LocalExecutor(mode="inline")).output
        return output

    assert asyncio.run(main()) == 1033


def test_run_works_inside_a_component_of_another_run() -> None:
    @dsl.component
    def outer(count: int) -> int:
        inner = flowcore.run(pipelines.everything, {"count": count}, records=None)
        output: int = inner.output
        return output

    assert flowcore.run(outer, {"count": 3}).output == 1033


def test_closures_and_functions_without_a_module_reach_worker_processes() -> None:
    factor = 7

    def scale(x: int) -> int:
        return x * factor

    @dsl.component
    def scaled(x: int) -> int:
        return scale(x)

    assert flowcore.run(scaled, {"x": 6}, executor=LocalExecutor(mode="processes", workers=1)).output == 42


def test_what_a_body_prints_and_logs_is_kept_by_task(executor: LocalExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    run = flowcore.run(pipelines.talk, {"text": "hello"}, executor=executor)
    lines = [(line.task, line.stream, line.text) for line in run.logs("talk")]
    assert sorted(lines) == [("talk", "log", "WARNING talk: heard hello\n"), ("talk", "stdout", "hello\n")]
    shown = capsys.readouterr().out
    assert shown == ("hello\n" if executor.mode == "inline" else "")


def test_each_body_gets_its_own_copy_of_its_arguments() -> None:
    @dsl.component
    def grow(items: list) -> int:  # type: ignore[type-arg]
        items.append(1)
        return len(items)

    @dsl.pipeline
    def twice(items: list) -> int:  # type: ignore[type-arg]
        first = grow(items=items)
        return grow(items=items).after(first).output

    mine = [0]
    assert flowcore.run(twice, {"items": mine}, executor=LocalExecutor(mode="inline")).output == 2
    assert mine == [0]


def test_events_count_without_gaps_and_replay_from_any_number(executor: LocalExecutor) -> None:
    run = flowcore.run(pipelines.everything, executor=executor)
    events = list(run.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[0].kind, events[0].data) == ("run", {"state": "RUNNING"})
    assert (events[-1].kind, events[-1].data) == ("run", {"state": "SUCCEEDED"})
    assert list(run.events(since=5)) == events[5:]
    assert sorted(event.offset_seconds for event in events) == [event.offset_seconds for event in events]


def test_events_of_a_submitted_run_arrive_while_it_runs(tmp_path: Path) -> None:
    arguments = {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}
    run = flowcore.submit(pipelines.meeting, arguments)
    seen = []
    for event in run.events():
        seen.append((event.task, event.data["state"]))
        if event.task == "meet" and event.data["state"] == "RUNNING":
            (tmp_path / "release").touch()  # the run can only end once its events were seen
    assert seen[-1] == ("", "SUCCEEDED")
    run.result()


def test_finished_run_is_read_back_from_its_record_by_another_client() -> None:
    run = flowcore.run(pipelines.learning, name="nightly")
    again = flowcore.Client().get_run(run.run_id)
    assert again.output == run.output
    assert again.pipeline == run.pipeline
    assert again.arguments == {"rows": 4}
    assert again.tasks["train"].outputs["model"].load() == {"rows": 4, "rate": 0.25}
    assert again.row().name == "nightly"


def test_without_records_nothing_is_written() -> None:
    run = flowcore.run(pipelines.everything, records=None)
    assert run.output == 1033
    assert run.tasks["total"].output == 33
    assert list(Path.cwd().iterdir()) == []


def test_tasks_with_parameters_only_touch_no_artifact_folder() -> None:
    flowcore.run(pipelines.everything)
    assert sorted(path.name for path in Path(".flowcore").iterdir()) == ["runs.db"]


def test_memory_root_works_in_this_process_and_is_refused_elsewhere() -> None:
    run = flowcore.run(pipelines.learning, pipeline_root="memory://runner-test")
    assert run.tasks["train"].outputs["model"].load()["rows"] == 4
    with pytest.raises(RefusedError, match=r"memory://runner-test.*exists in this process only"):
        flowcore.run(pipelines.learning, pipeline_root="memory://runner-test", executor=LocalExecutor(mode="processes"))


def test_runs_in_several_threads_share_one_record() -> None:
    outputs: list[int] = []

    def one() -> None:
        outputs.append(flowcore.run(pipelines.everything, executor=LocalExecutor(workers=2)).output)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == [1033] * 4
    assert [row.state for row in flowcore.Client().list_runs()] == ["SUCCEEDED"] * 4


def test_one_executor_object_serves_runs_at_the_same_time() -> None:
    executor = LocalExecutor(workers=2)
    runs = [flowcore.submit(pipelines.everything, executor=executor) for _ in range(3)]
    assert [run.result(timeout=60).output for run in runs] == [1033] * 3


WRONG_TYPE = "pipeline 'everything', argument 'count': got 'three' of type str, wants int"
REFUSED: list[tuple[dict[str, Any], type[FlowcoreError], str]] = [
    ({"arguments": {"count": "three"}}, ValueEncodingError, WRONG_TYPE),
    ({"arguments": {"cout": 3}}, ArgumentError, "unknown 'cout'; its arguments are 'count'"),
    ({"arguments": [3]}, UsageError, "arguments are a dict"),
    ({"on_failure": "explode"}, UsageError, "'continue' or 'stop'"),
    ({"executor": "threads"}, UsageError, "wants an Executor"),
    ({"pipeline_root": "nosuchscheme://x"}, StorageError, "nosuchscheme"),
    ({"pipeline_root": "file.txt/below"}, StorageError, "file.txt"),
]


@pytest.mark.parametrize(("options", "kind", "text"), REFUSED, ids=[text[:25] for *_, text in REFUSED])
def test_bad_input_is_refused_before_any_task_runs(options: dict[str, Any], kind: type[FlowcoreError], text: str) -> None:
    Path("file.txt").touch()
    with pytest.raises(kind) as caught:
        flowcore.run(pipelines.everything, **options)
    assert text in str(caught.value)


def test_missing_argument_is_named() -> None:
    with pytest.raises(ArgumentError, match="pipeline 'retried': missing 'folder'; its arguments are 'folder', 'times'"):
        flowcore.run(pipelines.retried)


def test_what_is_no_pipeline_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"decorate it with @dsl\.pipeline"):
        flowcore.run(lambda: 1)  # type: ignore[arg-type]


def test_packages_that_are_not_here_are_refused_by_name() -> None:
    @dsl.component(packages_to_install=["pytest", "no-such-package>=2"])
    def needy() -> int:
        return 1

    for executor in (LocalExecutor("inline"), LocalExecutor(install_packages=False)):
        with pytest.raises(RefusedError, match=r"task 'needy' needs no-such-package>=2, which this environment does not have"):
            flowcore.run(needy, executor=executor)


def test_unpicklable_code_is_refused_before_any_task_runs() -> None:
    lock = threading.Lock()

    @dsl.component
    def locked() -> bool:
        return lock.locked()

    with pytest.raises(FlowcoreError, match=r"locked cannot be sent to another process.*lock"):
        flowcore.run(locked, executor=LocalExecutor(mode="processes"))
    assert [row.state for row in flowcore.Client().list_runs()] == ["FAILED"]


@pytest.mark.parametrize("on_failure", ["continue", "stop"])
def test_no_body_starts_once_the_rest_is_canceled(tmp_path: Path, on_failure: Any) -> None:
    @dsl.component
    def hold(number: int, folder: str) -> int:
        Path(folder, f"started-{number}").touch()
        bodies.await_file(Path(folder, "release"))
        return number

    @dsl.component
    def fail_when_both_run(folder: str) -> int:
        bodies.await_file(Path(folder, "started-0"))
        raise LookupError("stop")

    @dsl.pipeline
    def crowd(folder: str) -> None:
        hold(number=0, folder=folder)
        if on_failure == "stop":
            fail_when_both_run(folder=folder)
        for number in range(1, 7):
            hold(number=number, folder=folder)

    executor = LocalExecutor(mode="threads", workers=2)
    run = flowcore.submit(crowd, {"folder": str(tmp_path)}, executor=executor, on_failure=on_failure)
    bodies.await_file(tmp_path / "started-0")
    if on_failure == "continue":
        bodies.await_file(tmp_path / "started-1")
        run.cancel()
    assert run.wait(timeout=30)
    release_bodies(tmp_path / "release")
    assert len(list(tmp_path.glob("started-*"))) <= 2
    states = [task.state for task in run.tasks.values()]
    assert TaskState.SUCCEEDED not in states
    reasons = {task.reason for task in run.tasks.values() if task.state is TaskState.CANCELED}
    assert all("the run was canceled" in str(reason) or "task 'fail-when-both-run' failed" in str(reason) for reason in reasons)


def test_module_that_runs_itself_when_imported_is_refused_in_its_workers(tmp_path: Path) -> None:
    (tmp_path / "selfrunner.py").write_text(
        "import flowcore\n"
        "from flowcore import dsl\n"
        "from flowcore.executors import LocalExecutor\n"
        "@dsl.component\n"
        "def one() -> int:\n"
        "    return 1\n"
        "flowcore.run(one, executor=LocalExecutor(mode='processes', workers=1))\n"
    )
    program = "import sys; sys.path.insert(0, '.'); import selfrunner"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "module 'selfrunner' runs a pipeline when it is imported" in done.stderr
    assert 'put the run under `if __name__ == "__main__":`' in done.stderr


def test_what_child_processes_of_a_body_write_is_kept_by_task() -> None:
    @dsl.component
    def shell(text: str) -> None:
        subprocess.run(["sh", "-c", f"echo {text}; echo {text}-error >&2"], check=True)

    @dsl.pipeline
    def both() -> None:
        first = shell(text="one")
        shell(text="two").after(first)

    run = flowcore.run(both, executor=LocalExecutor(mode="processes", workers=1))
    lines = [(line.task, line.stream, line.text) for line in run.logs()]
    assert lines == [
        ("shell", "stdout", "one\n"),
        ("shell", "stderr", "one-error\n"),
        ("shell-2", "stdout", "two\n"),
        ("shell-2", "stderr", "two-error\n"),
    ]


def test_plain_tuple_is_taken_for_a_namedtuple_of_as_many_values() -> None:
    assert flowcore.run(pipelines.pair, {"count": 2}).outputs == {"a": 1, "b": "x"}
    with pytest.raises(RunFailed, match=r"got a tuple of 3 values, wants the annotated NamedTuple \(a, b\)"):
        flowcore.run(pipelines.pair, {"count": 3})


def test_wrong_return_value_shows_where_its_component_is(executor: LocalExecutor) -> None:
    run = flowcore.run(pipelines.wrong, executor=executor, raise_on_failure=False)
    error = run.failures["wrong"]
    line = inspect.getsourcelines(pipelines.wrong.python_func)[1]
    where = f'  File "{pipelines.__file__}", line {line}, in wrong\n'
    assert error.traceback.startswith(f"{where}ValueEncodingError: component 'wrong'")


def test_output_that_nobody_wrote_is_named_where_it_is_read() -> None:
    @dsl.component
    def forget(table: dsl.Output[dsl.Dataset]) -> None:
        pass

    @dsl.component
    def read(table: dsl.Input[dsl.Dataset]) -> str:
        return Path(table.path).read_text()

    @dsl.pipeline
    def forgetful() -> None:
        read(table=forget().outputs["table"])

    with pytest.raises(RunFailed, match=r"task 'read' failed: ArtifactError: artifact 'table' has no contents"):
        flowcore.run(forgetful)


class Unreadable(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


@dsl.component
def raise_unreadable() -> int:
    raise Unreadable


@dsl.component
def raise_malformed() -> int:
    raise SyntaxError("bad", ("file", "no line", None, 7))  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "kind"), [(raise_unreadable, "Unreadable"), (raise_malformed, "SyntaxError")])
def test_exception_that_cannot_be_printed_is_still_a_result(body: Any, kind: str) -> None:
    run = flowcore.run(body, executor=LocalExecutor(workers=1), raise_on_failure=False)
    (error,) = run.failures.values()
    assert kind in error.type
    assert "test_run.py" in error.traceback


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_interrupt_that_a_body_raises_away_from_the_callers_thread_is_its_failure(mode: Any) -> None:
    run = flowcore.run(pipelines.interrupt, executor=LocalExecutor(mode, workers=1), raise_on_failure=False)
    assert [error.type for error in run.failures.values()] == ["KeyboardInterrupt"]


def test_task_that_is_submitted_and_canceled_in_one_step_does_not_run(tmp_path: Path) -> None:
    @dsl.pipeline
    def stopped(folder: str, items: list) -> None:  # type: ignore[type-arg]
        bodies.leave_mark(folder=folder)
        with dsl.ParallelFor(items) as item:
            pipelines.add(a=item["missing"])

    arguments = {"folder": str(tmp_path), "items": [{"other": 1}]}
    run = flowcore.run(stopped, arguments, executor=LocalExecutor("inline"), on_failure="stop", raise_on_failure=False)
    assert run.tasks["leave-mark"].state is TaskState.CANCELED
    assert not list(tmp_path.glob("ran-*"))


def test_timeout_longer_than_threads_can_wait_is_no_error() -> None:
    @dsl.pipeline
    def patient() -> None:
        pipelines.add(a=1).set_timeout(1e12)

    assert flowcore.run(patient).state is RunStatus.SUCCEEDED


class Broken(LocalExecutor):
    def open(self, report: Any) -> None:
        raise RuntimeError("no cluster")


def test_run_whose_executor_does_not_open_is_recorded_as_failed() -> None:
    with pytest.raises(RuntimeError, match="no cluster"):
        flowcore.run(pipelines.add, {"a": 1}, executor=Broken())
    assert [run.state for run in flowcore.Client().list_runs()] == ["FAILED"]
