"""Data of every kind goes from task to task, and to the caller, in each local mode and on stores of files and of copies."""

from __future__ import annotations

import os

import pytest

import flowcore
from flowcore.executors import LocalExecutor
from tests.runner.formats import exchange


def exchanged(client: flowcore.Client, mode: str) -> None:
    run = client.run(exchange, executor=LocalExecutor(mode=mode))
    assert run.output == "all read"
    outputs = client.get_run(run.run_id).tasks["make"].outputs
    assert outputs["frame"].read("polars").columns == ["x", "__index_level_0__"]
    assert outputs["frame"].read().index.tolist() == ["a", "b"]
    assert outputs["stream"].read("arrow").num_rows == 3_000_000
    assert outputs["array"].read().tolist() == [0, 1, 2]
    assert outputs["settings"].read() == {"rate": 0.5}
    assert outputs["notes"].read() == "# hello"
    assert outputs["model"].load()["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_data_goes_through_files(mode: str) -> None:
    exchanged(flowcore.Client(), mode)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_data_goes_through_a_store_of_copies(mode: str) -> None:
    exchanged(flowcore.Client(pipeline_root=f"memory://flowcore-{os.urandom(4).hex()}"), mode)


@pytest.mark.s3
@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_data_goes_through_s3(s3_bucket, mode: str) -> None:
    exchanged(flowcore.Client(pipeline_root=s3_bucket.root, storage_options=s3_bucket.storage_options), mode)
