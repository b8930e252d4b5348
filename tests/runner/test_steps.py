"""Steps of a run that other threads take: what they raise, what an interrupt does to them, and timeouts meanwhile."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

import flowcore
from flowcore import dsl
from flowcore.executor import WorkOrder
from flowcore.executors import LocalExecutor
from flowcore.testing import bodies
from flowcore.testing.bodies import await_file
from tests.runner import interrupted, pipelines


def test_interrupt_of_a_threads_run_is_raised_and_no_body_gets_it(tmp_path: Path) -> None:
    release, mark = tmp_path / "release", tmp_path / "mark"
    arguments = {"release": str(release), "mark": str(mark)}
    with pytest.raises(KeyboardInterrupt):
        flowcore.run(interrupted.press_ctrl_c, arguments, executor=LocalExecutor("threads"))
    release.touch()
    await_file(mark)
    assert mark.read_text().startswith("flowcore-")


class Fails(LocalExecutor):
    """Refuses its second order."""

    def submit(self, order: WorkOrder) -> None:
        if order.task == "add-2":
            raise RuntimeError("refused by the test")
        super().submit(order)


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_error_in_a_step_on_another_thread_ends_the_run_and_is_raised(mode: str) -> None:
    @dsl.pipeline
    def two() -> None:
        pipelines.add(a=pipelines.add(a=1).output)

    with pytest.raises(RuntimeError, match="refused by the test"):
        flowcore.run(two, executor=Fails(mode))  # type: ignore[arg-type]


def test_process_that_outlives_its_timeout_is_gone_when_the_run_ends(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    @dsl.pipeline
    def one(pid_file: str) -> None:
        interrupted.stay(pid_file=pid_file).set_timeout(0.5)

    began = time.monotonic()
    executor = LocalExecutor("processes", workers=1)
    run = flowcore.run(one, {"pid_file": str(pid_file)}, executor=executor, raise_on_failure=False)
    assert [error.type for error in run.failures.values()] == ["TaskTimeout"]
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_timeout_fires_while_a_chain_of_others_goes_on(mode: str, tmp_path: Path) -> None:
    release = tmp_path / "release"

    @dsl.pipeline
    def both(folder: str) -> None:
        bodies.meet(started=f"{folder}/started", release=f"{folder}/release").set_timeout(0.3)
        task = interrupted.touch(path=f"{folder}/x")
        for _ in range(30):
            task = interrupted.touch(path=f"{folder}/x").after(task)

    executor = LocalExecutor(mode, workers=2)  # type: ignore[arg-type]
    run = flowcore.run(both, {"folder": str(tmp_path)}, executor=executor, raise_on_failure=False)
    release.touch()
    assert {path: error.type for path, error in run.failures.items()} == {"meet": "TaskTimeout"}
    assert ("still runs in this process" in run.failures["meet"].message) is (mode == "threads")


def test_many_runs_in_many_threads_take_each_others_steps_never(tmp_path: Path) -> None:
    outputs: dict[int, int] = {}

    def one(number: int) -> None:
        @dsl.pipeline
        def chain(start: int) -> int:
            task = pipelines.add(a=start)
            for _ in range(20):
                task = pipelines.add(a=task.output)
            return task.output

        executor = LocalExecutor("threads", workers=2)
        outputs[number] = flowcore.run(chain, {"start": 1000 * number}, executor=executor).output

    threads = [threading.Thread(target=one, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: 1000 * number + 21 for number in range(6)}
