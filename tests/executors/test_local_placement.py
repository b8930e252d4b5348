"""Where the local executor runs a task and what it sees: environment, secrets, packages, requests."""

from __future__ import annotations

import asyncio
import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore import dsl
from flowcore.dsl.frames import PipelineTask
from flowcore.errors import RefusedError
from flowcore.executors import LocalExecutor
from flowcore.runs import Run
from tests.executors import seeing

MODES = ("inline", "threads", "processes")


def run_one(component: Any, configure: Callable[[PipelineTask[Any]], object], executor: LocalExecutor, **arguments: Any) -> Run:
    """A run of one configured task; a failure is left to look at."""

    @dsl.pipeline
    def one() -> None:
        configure(component(**arguments).set_display_name("it"))

    return flowcore.run(one, executor=executor, raise_on_failure=False)


def output(run: Run, name: str) -> Any:
    run.raise_for_state()
    return run.tasks[name].output


@pytest.mark.parametrize("mode", MODES)
def test_task_sees_the_variables_that_its_author_set(mode: Any) -> None:
    run = run_one(seeing.look, lambda task: task.set_env_variable("MINE", "yes"), LocalExecutor(mode), name="MINE")
    assert output(run, "look") == "yes"
    assert "MINE" not in os.environ


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_variables_of_a_task_are_not_seen_by_others(mode: Any) -> None:
    @dsl.pipeline
    def two() -> None:
        first = seeing.look(name="MINE").set_env_variable("MINE", "yes")
        seeing.look(name="MINE").after(first)

    run = flowcore.run(two, executor=LocalExecutor(mode, workers=1))
    assert [run.tasks["look"].output, run.tasks["look-2"].output] == ["yes", "<not set>"]


def test_task_with_variables_leaves_this_process_and_others_stay() -> None:
    @dsl.pipeline
    def two() -> None:
        seeing.where().set_env_variable("MINE", "yes")
        seeing.where()

    run = flowcore.run(two, executor=LocalExecutor())
    assert run.tasks["where"].output["pid"] != os.getpid()
    assert run.tasks["where-2"].output["pid"] == os.getpid()


REFUSED = [
    (lambda task: task.set_cpu_request("3"), "asks for 3 cores, and the budget is 2: ask for less, or give LocalExecutor"),
    (lambda task: task.set_memory_request("2Gi"), "asks for .* bytes of memory, and the budget is"),
    (lambda task: task.set_accelerator_limit(2), "asks for 2 GPUs, and the budget is 1"),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("configure", "text"), REFUSED)
def test_what_cannot_be_had_is_refused_before_the_run(mode: Any, configure: Any, text: str) -> None:
    executor = LocalExecutor(mode, cpus=2, memory="1Gi", gpus=1)
    with pytest.raises(RefusedError, match=text):
        run_one(seeing.look, configure, executor, name="X")


def test_memory_store_is_refused_for_a_task_that_leaves_this_process() -> None:
    @dsl.pipeline
    def one() -> None:
        seeing.look(name="MINE").set_env_variable("MINE", "yes")

    with pytest.raises(RefusedError, match=r"exists in this process only.*runs task 'look' in another"):
        flowcore.run(one, executor=LocalExecutor(), pipeline_root="memory://root")


@pytest.mark.parametrize("mode", MODES)
def test_gpus_are_handed_out_through_the_environment(mode: Any) -> None:
    executor = LocalExecutor(mode, gpus=[4, 6])
    run = run_one(seeing.look, lambda task: task.set_accelerator_limit(2), executor, name="CUDA_VISIBLE_DEVICES")
    assert output(run, "look") == "4,6"


def test_gpus_that_the_author_chose_are_kept() -> None:
    def configure(task: PipelineTask[Any]) -> None:
        task.set_accelerator_limit(1).set_env_variable("CUDA_VISIBLE_DEVICES", "7")

    run = run_one(seeing.look, configure, LocalExecutor(gpus=2), name="CUDA_VISIBLE_DEVICES")
    assert output(run, "look") == "7"


def test_tasks_that_run_at_once_get_different_gpus() -> None:
    @dsl.pipeline
    def many() -> None:
        with dsl.ParallelFor(list(range(6))):
            seeing.look(name="CUDA_VISIBLE_DEVICES").set_accelerator_limit(1)

    run = flowcore.run(many, executor=LocalExecutor(workers=2, gpus=2))
    assert {task.output for task in run.tasks.values() if task.name == "look"} <= {"0", "1"}


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_requests_bound_what_runs_at_once(mode: Any) -> None:
    @dsl.pipeline
    def many() -> None:
        with dsl.ParallelFor(list(range(8))):
            seeing.interval(seconds=0.02).set_cpu_request("0.5")

    run = flowcore.run(many, executor=LocalExecutor(mode, workers=4, cpus=1))
    intervals = [task.output for task in run.tasks.values() if task.name == "interval"]
    assert len(intervals) == 8
    assert max(sum(begin <= moment < end for begin, end in intervals) for moment, _ in intervals) <= 2


def wheel(folder: Path, version: str = "2.1") -> None:
    """A package of the test's own, made by hand."""
    name, info = "flowcore_test_tool", f"flowcore_test_tool-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"def answer():\n    return 'tool {version}'\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: flowcore-test-tool\nVersion: {version}\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "flowcore" / "venvs"


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_missing_package_is_installed_once_for_the_tasks_that_name_it(mode: Any, tmp_path: Path, cache: Path) -> None:
    wheel(tmp_path)

    @dsl.pipeline
    def three() -> None:
        with dsl.ParallelFor([1, 2]):
            seeing.use_tool()
        seeing.where()

    pip_args = ("--no-index", "--find-links", str(tmp_path))
    run = flowcore.run(three, executor=LocalExecutor(mode, workers=2, pip_args=pip_args))
    assert [task.output for task in run.tasks.values() if task.name == "use-tool"] == ["tool 2.1 True"] * 2
    assert (run.tasks["where"].output["pid"] == os.getpid()) is (mode == "threads")
    (tmp_path / "flowcore_test_tool-2.1-py3-none-any.whl").unlink()
    again = flowcore.run(seeing.use_tool, executor=LocalExecutor(mode, pip_args=pip_args))  # from the cache
    assert again.output == "tool 2.1 True"
    assert len([folder for folder in cache.iterdir() if folder.is_dir()]) == 1


def test_package_that_cannot_be_installed_fails_its_task_with_what_pip_said(tmp_path: Path, cache: Path) -> None:
    executor = LocalExecutor(pip_args=("--no-index", "--find-links", str(tmp_path)))
    run = flowcore.run(seeing.use_absent, executor=executor, raise_on_failure=False)
    ((_, error),) = run.failures.items()
    assert "flowcore-test-absent cannot be made" in error.message
    assert "No matching distribution found for flowcore-test-absent" in error.message
    assert not [folder for folder in cache.iterdir() if folder.is_dir()]


def test_environment_of_its_own_is_made_where_the_author_wants_one(cache: Path) -> None:
    assert flowcore.run(seeing.prefix, executor=LocalExecutor()).output.startswith(str(cache))
    for executor in (LocalExecutor("inline"), LocalExecutor(install_packages=False)):
        with pytest.raises(RefusedError, match="task 'prefix' wants an environment of its own"):
            flowcore.run(seeing.prefix, executor=executor)


@pytest.mark.parametrize("mode", MODES)
def test_async_body_runs_on_a_loop_of_its_own(mode: Any) -> None:
    assert flowcore.run(seeing.later, {"value": 1}, executor=LocalExecutor(mode)).output == 2


def test_async_body_runs_inline_in_a_running_loop() -> None:
    async def host() -> Any:
        return flowcore.run(seeing.later, {"value": 1}, executor=LocalExecutor("inline")).output

    assert asyncio.run(host()) == 2


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_breakpoint_away_from_the_terminal_names_the_remedy(mode: Any) -> None:
    run = flowcore.run(seeing.stop, executor=LocalExecutor(mode), raise_on_failure=False)
    ((_, error),) = run.failures.items()
    assert "use LocalExecutor(mode='inline')" in error.message


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_runs_pipelines_while_its_parent_does(mode: Any, tmp_path: Path) -> None:
    release, started = tmp_path / "release", tmp_path / "started"
    from flowcore.testing import bodies

    held = flowcore.submit(
        bodies.meet, {"started": str(started), "release": str(release)}, executor=LocalExecutor("processes", workers=1)
    )
    bodies.await_file(started)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            records = f"sqlite:///{tmp_path}/child.db"
            run = flowcore.run(seeing.later, {"value": 1}, executor=LocalExecutor(mode), records=records)
            code = 0 if run.output == 2 else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    release.touch()
    assert os.waitstatus_to_exitcode(status) == 0
    assert held.result(60).output == 1


def test_bodies_of_a_chain_stay_on_one_thread_that_is_not_the_callers() -> None:
    @dsl.pipeline
    def chain() -> None:
        task = seeing.where()
        for _ in range(20):
            task = seeing.where().after(task)

    run = flowcore.run(chain, executor=LocalExecutor("threads", workers=2))
    threads = [task.output["thread"] for task in run.tasks.values()]
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads
