"""Whole runs with pipeline_root on S3: artifacts between tasks, where secrets go and do not go, what is left, what fails how."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import List  # noqa: UP035  Kubeflow's authors write it so

import pytest

import flowcore
from flowcore import dsl
from flowcore.dsl import Dataset, Input, InputPath, Output
from flowcore.errors import RunFailed, StorageError
from flowcore.executors import LocalExecutor
from tests.runner import pipelines
from tests.services.fault_proxy import FaultProxy
from tests.services.s3 import KEY, SECRET, Bucket

pytestmark = pytest.mark.s3


@pytest.fixture(params=["inline", "threads", "processes"])
def executor(request: pytest.FixtureRequest) -> LocalExecutor:
    return LocalExecutor(mode=request.param, workers=None if request.param == "inline" else 2)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where everything temporary goes, here and in workers."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@dsl.component
def split(parts: Output[Dataset]) -> int:
    os.makedirs(parts.path)
    for number in range(20):
        Path(parts.path, f"part-{number}").write_text(str(number))
    return 20


@dsl.component
def add_up(parts: InputPath("Dataset"), models: Input[List[dsl.Model]]) -> float:  # type: ignore[valid-type]  # noqa: UP006
    found = sum(int(file.read_text()) for file in Path(parts).iterdir())
    return found + sum(model.load()["rate"] for model in models)


@dsl.pipeline
def mixed() -> float:
    table = pipelines.write(rows=5)
    with dsl.ParallelFor([1.0, 2.0, 3.0]) as rate:
        trained = pipelines.train(table=table.outputs["table"], rate=rate)
    return add_up(parts=split().outputs["parts"], models=dsl.Collected(trained.outputs["model"])).output


def test_artifacts_pass_between_tasks_and_nothing_temporary_is_left(
    s3_bucket: Bucket, executor: LocalExecutor, temporary: Path
) -> None:
    run = flowcore.run(mixed, pipeline_root=s3_bucket.root, storage_options=s3_bucket.storage_options, executor=executor)
    assert run.output == 190 + 6
    assert list(temporary.iterdir()) == []
    table = run.tasks["write"].outputs["table"]
    assert table.uri.startswith(s3_bucket.root)
    assert Path(table.path).read_text() == "0\n1\n2\n3\n4"
    assert s3_bucket.unfinished_uploads() == []


def test_secrets_are_references_that_no_record_order_or_repr_resolves(
    s3_bucket: Bucket, executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    monkeypatch.setenv("BUCKET_KEY", KEY)
    options = {"key": {"env": "BUCKET_KEY"}, "secret": {"file": str(tmp_path / "secret")}, "endpoint_url": s3_bucket.endpoint_url}
    client = flowcore.Client(pipeline_root=s3_bucket.root, storage_options=options)
    run = client.run(mixed, executor=executor)
    assert run.output == 196
    assert run._store.storage_options == options
    for file in (tmp_path / ".flowcore").rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()


def test_literal_secrets_are_in_no_record(s3_bucket: Bucket, executor: LocalExecutor, tmp_path: Path) -> None:
    run = flowcore.run(mixed, pipeline_root=s3_bucket.root, storage_options=s3_bucket.storage_options, executor=executor)
    assert run.output == 196
    assert not [file for file in (tmp_path / ".flowcore").rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert SECRET not in repr(run) + repr(run._store)


def test_a_missing_secret_is_refused_before_the_run_starts(s3_bucket: Bucket, tmp_path: Path) -> None:
    options = {**s3_bucket.storage_options, "secret": {"env": "NO_SUCH_VARIABLE"}}
    with pytest.raises(StorageError, match=r"storage_options\['secret'\] refers to the environment variable 'NO_SUCH_VARIABLE'"):
        flowcore.run(mixed, pipeline_root=s3_bucket.root, storage_options=options)
    assert not (tmp_path / ".flowcore").exists()
    assert s3_bucket.all_keys() == []


def test_a_bucket_that_does_not_exist_is_refused_and_not_made(s3_bucket: Bucket) -> None:
    with pytest.raises(StorageError, match=r"'s3://flowcore-nosuch/runs.*specified bucket does not exist; create the bucket"):
        flowcore.run(mixed, pipeline_root="s3://flowcore-nosuch/runs", storage_options=s3_bucket.storage_options)
    assert "flowcore-nosuch" not in [bucket["Name"] for bucket in s3_bucket.client().list_buckets()["Buckets"]]


def test_a_server_that_is_not_there_is_refused_with_a_remedy(s3_bucket: Bucket) -> None:
    few = {"config_kwargs": {"retries": {"max_attempts": 1}}, "endpoint_url": "http://127.0.0.1:9"}
    with pytest.raises(StorageError, match=r"cannot be written: EndpointConnectionError: .*check the address and the network"):
        flowcore.run(mixed, pipeline_root=s3_bucket.root, storage_options={**s3_bucket.storage_options, **few})


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_a_storage_that_stops_answering_fails_the_run_with_a_reason(
    faulty_bucket: Bucket, fault_proxy: FaultProxy, mode: str, temporary: Path
) -> None:
    fault_proxy.fail("503", "PUT ", "/outcome.json", times=1_000)
    with pytest.raises(RunFailed, match=r"outcome.json' cannot be written.*try later") as caught:
        flowcore.run(
            pipelines.write, {"rows": 3}, pipeline_root=faulty_bucket.root, storage_options=faulty_bucket.storage_options,
            executor=LocalExecutor(mode=mode, workers=1),
        )  # fmt: skip
    [error] = caught.value.run.failures.values()
    assert error.type == "StorageError"
    assert not [key for key in faulty_bucket.all_keys() if "/.code/" not in key]
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_a_fetch_cache_serves_later_runs(s3_bucket: Bucket, tmp_path: Path, mode: str, temporary: Path) -> None:
    client = flowcore.Client(
        pipeline_root=s3_bucket.root, storage_options=s3_bucket.storage_options, fetch_cache=tmp_path / "kept",
        fetch_cache_bytes=1_000_000, executor=LocalExecutor(mode=mode, workers=2),
    )  # fmt: skip
    first = client.run(mixed)
    copies = {file: file.stat().st_ino for file in (tmp_path / "kept").glob("[!.]*/*/*")}
    assert {file.name for file in copies} == {"table", "parts", "model"}
    assert client.run(mixed).output == first.output
    assert {file: file.stat().st_ino for file in (tmp_path / "kept").glob("[!.]*/*/*")} == copies
    # Workers are killed; what they leave here is removed by the next that comes.
    assert len(list((tmp_path / "kept" / ".pins").iterdir())) <= 2
    assert list(temporary.iterdir()) == []
