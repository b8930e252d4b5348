"""Nothing of a run is left in its host, in each mode and however the run ends."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore import dsl
from flowcore.errors import FlowcoreError, RefusedError, RunCanceled, RunFailed
from flowcore.executors import LocalExecutor
from flowcore.testing import bodies
from tests.embedding import pipelines

MODES = ["inline", "threads", "processes"]
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=MODES)
def executor(request: pytest.FixtureRequest) -> LocalExecutor:
    return LocalExecutor(mode=request.param, workers=None if request.param == "inline" else 2)


@pytest.fixture
def held(tmp_path: Path) -> dict[str, Any]:
    return {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}


def release(held: dict[str, Any]) -> None:
    """Let a body that outlived its run end, and wait for its thread."""
    Path(held["release"]).touch()
    for thread in threading.enumerate():
        if thread.name.startswith("flowcore"):
            thread.join()


@pytest.mark.parametrize("records", [None, "runs.db"])
def test_success(executor: LocalExecutor, records: str | None) -> None:
    assert flowcore.run(pipelines.values, executor=executor, records=records).output == 3


def test_success_with_artifacts(executor: LocalExecutor) -> None:
    assert flowcore.run(pipelines.files, executor=executor).output == "seen"


def test_success_with_progress(executor: LocalExecutor) -> None:
    assert flowcore.run(pipelines.values, executor=executor, progress=True).output == 3


@pytest.mark.parametrize("on_failure", ["continue", "stop"])
def test_failure(executor: LocalExecutor, on_failure: Any) -> None:
    with pytest.raises(RunFailed, match="no such row"):
        flowcore.run(pipelines.failing, executor=executor, on_failure=on_failure)


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_cancel(mode: Any, held: dict[str, Any]) -> None:
    run = flowcore.submit(pipelines.holding, held, executor=LocalExecutor(mode=mode, workers=2))
    bodies.await_file(held["started"])
    run.cancel()
    with pytest.raises(RunCanceled):
        run.result()
    release(held)


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_canceled_arun(mode: Any, held: dict[str, Any]) -> None:
    async def main() -> None:
        running = asyncio.create_task(flowcore.arun(pipelines.holding, held, executor=LocalExecutor(mode=mode, workers=2)))
        await asyncio.to_thread(bodies.await_file, held["started"])
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    release(held)


@pytest.mark.parametrize("times", [1, 2])
def test_interrupt(executor: LocalExecutor, times: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        flowcore.run(pipelines.interrupted, {"pid": os.getpid(), "times": times}, executor=executor)


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_body_longer_than_its_timeout(mode: Any, held: dict[str, Any]) -> None:
    run = flowcore.run(pipelines.slow, held, executor=LocalExecutor(mode=mode, workers=2), raise_on_failure=False)
    assert run.failures["hold"].type == "TaskTimeout"
    release(held)


def refuse_argument(executor: LocalExecutor) -> None:
    flowcore.run(pipelines.values, {"x": "three"}, executor=executor)


def refuse_packages(executor: LocalExecutor) -> None:
    flowcore.run(pipelines.needy, executor=executor)


def refuse_root(executor: LocalExecutor) -> None:
    Path("file.txt").touch()
    flowcore.run(pipelines.files, executor=executor, pipeline_root="file.txt/below")


def refuse_record(executor: LocalExecutor) -> None:
    Path("foreign.db").write_text("not a database")
    flowcore.run(pipelines.values, executor=executor, records="foreign.db")


@pytest.mark.parametrize("refused", [refuse_argument, refuse_packages, refuse_root, refuse_record])
def test_refused_run(executor: LocalExecutor, refused: Callable[[LocalExecutor], None]) -> None:
    with pytest.raises(FlowcoreError):
        refused(executor)


def test_code_that_cannot_be_sent() -> None:
    lock = threading.Lock()

    @dsl.component
    def locked() -> bool:
        return lock.locked()

    with pytest.raises(FlowcoreError, match="cannot be sent to another process"):
        flowcore.run(locked, executor=LocalExecutor("processes"))


def test_memory_root() -> None:
    assert flowcore.run(pipelines.files, pipeline_root="memory://left").output == "seen"
    with pytest.raises(RefusedError):
        flowcore.run(pipelines.files, pipeline_root="memory://left", executor=LocalExecutor("processes"))
