"""Data of every kind goes from task to task, and to the caller, in each local mode and on stores of files and of copies."""

from __future__ import annotations

import os

import pytest

import flowcore
from flowcore.executors import LocalExecutor
from tests.runner.formats import exchange


@pytest.mark.parametrize(
    ("mode", "root"),
    [("inline", "file"), ("threads", "file"), ("processes", "file"), ("inline", "memory"), ("threads", "memory")],
)
def test_data_goes_from_task_to_task_and_to_the_caller(mode: str, root: str) -> None:
    place = None if root == "file" else f"memory://flowcore-{os.urandom(4).hex()}"
    run = flowcore.run(exchange, executor=LocalExecutor(mode=mode), pipeline_root=place)
    assert run.output == "all read"
    outputs = run.tasks["make"].outputs
    assert outputs["frame"].read("polars").columns == ["x", "__index_level_0__"]
    assert outputs["frame"].read().index.tolist() == ["a", "b"]
    assert outputs["stream"].read("arrow").num_rows == 3_000_000
    assert outputs["array"].read().tolist() == [0, 1, 2]
    assert outputs["notes"].read() == "# hello"
    assert outputs["model"].load()["w"].tolist() == [0, 1, 2]
    found = flowcore.Client().get_run(run.run_id) if root == "file" else run
    assert found.tasks["make"].outputs["settings"].read() == {"rate": 0.5}
