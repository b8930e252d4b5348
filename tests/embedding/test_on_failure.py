"""What goes on after a task has failed, where bodies run at the same time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore import dsl
from flowcore.executors import LocalExecutor
from tests.embedding import pipelines


@dsl.pipeline
def mixed(started: str, release: str) -> None:
    failed = pipelines.explode(message="no such row")
    pipelines.add(a=failed.output, b=1)
    held = pipelines.hold(started=started, release=release)
    pipelines.double(x=held.output)


STATES = {
    "continue": {"explode": "FAILED", "add": "SKIPPED", "hold": "SUCCEEDED", "double": "SUCCEEDED"},
    "stop": {"explode": "FAILED", "add": "CANCELED", "hold": "CANCELED", "double": "CANCELED"},
}


@pytest.mark.parametrize("on_failure", ["continue", "stop"])
@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_rest_goes_on_or_is_canceled_while_it_runs(mode: Any, on_failure: Any, tmp_path: Path) -> None:
    arguments = {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}
    run = flowcore.submit(mixed, arguments, executor=LocalExecutor(mode, workers=2), on_failure=on_failure)
    for event in run.events():
        if event.task == "explode" and event.data.get("state") == "FAILED" and on_failure == "continue":
            (tmp_path / "release").touch()  # what is held ends after the failure, and only then
    assert run.wait(60)
    assert {path: task.state.value for path, task in run.tasks.items()} == STATES[on_failure]
    (tmp_path / "release").touch()
    for thread in threading.enumerate():
        if thread.name.startswith("flowcore"):
            thread.join()


@pytest.mark.parametrize(("on_failure", "last"), [("continue", "SUCCEEDED"), ("stop", "CANCELED")])
def test_rest_goes_on_or_is_canceled_inline(on_failure: Any, last: str) -> None:
    run = flowcore.run(pipelines.failing, executor=LocalExecutor("inline"), on_failure=on_failure, raise_on_failure=False)
    assert run.tasks["double-2"].state == last
