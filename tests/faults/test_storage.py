"""Disks that fill while an artifact is written, sealed, copied or fetched: the run fails and says so, nothing is sealed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore import dsl
from flowcore.artifacts.store import ArtifactStore, Execution
from flowcore.artifacts.types import ArtifactRef
from flowcore.dsl import Dataset, Input, Output
from flowcore.errors import RunFailed, StorageError
from flowcore.executors import LocalExecutor
from tests.faults.disks import fill, small_disk

DISK_BYTES = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


@pytest.fixture(params=["inline", "threads", "processes"])
def executor(request: pytest.FixtureRequest) -> LocalExecutor:
    mode: Any = request.param
    return LocalExecutor(mode=mode, workers=None if mode == "inline" else 1)


@pytest.fixture
def store(disk: Path) -> ArtifactStore:
    return ArtifactStore(str(disk / "root"))


@pytest.fixture
def execution(store: ArtifactStore) -> Execution:
    return store.begin(store.join("run", "task", "1"))


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[tuple[str, ArtifactRef]]:
    """A root in memory, and an artifact in it that is larger than the disk."""
    root = f"memory://flowcore-{os.urandom(4).hex()}"
    with ArtifactStore(root) as store:
        execution = store.begin(store.join("run", "task", "1"))
        output = execution.output("model", "system.Model")
        Path(output.path).write_bytes(b"x" * 2 * DISK_BYTES)
        yield root, execution.seal_artifact(output)
        store._files.remove(root)


@dsl.component
def write_much(table: Output[Dataset], size_bytes: int) -> None:
    with open(table.path, "wb") as file:
        file.write(b"x" * size_bytes)


@dsl.component
def write_and_fill(table: Output[Dataset], place: str) -> None:
    Path(table.path).write_text("written in time")
    fill(Path(place))


@dsl.component
def read(table: Input[Dataset]) -> int:
    return os.path.getsize(table.path)


def outcomes(root: Path) -> list[Path]:
    return list(root.rglob("outcome.json"))


def test_a_body_that_fills_the_disk_fails_its_run(disk: Path, executor: LocalExecutor) -> None:
    with pytest.raises(RunFailed, match="No space left on device"):
        flowcore.run(write_much, {"size_bytes": 2 * DISK_BYTES}, pipeline_root=disk / "root", executor=executor)
    assert outcomes(disk) == []
    assert not [file for file in disk.rglob("*") if file.is_file()]


def test_an_outcome_that_finds_no_room_fails_its_run(disk: Path, executor: LocalExecutor) -> None:
    with pytest.raises(RunFailed, match=r"outcome.json' cannot be written: .*the disk is full: free some space") as caught:
        flowcore.run(write_and_fill, {"place": str(disk)}, pipeline_root=disk / "root", executor=executor)
    [error] = caught.value.run.failures.values()
    assert error.type == "StorageError"
    assert outcomes(disk) == []


def test_contents_that_find_no_room_when_they_are_brought_home_are_a_storage_error(
    disk: Path, execution: Execution, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x" * 2 * DISK_BYTES)
    output = execution.output("model", "system.Model")
    output.set_path(str(tmp_path / "elsewhere"))
    with pytest.raises(StorageError, match=r"/model' cannot be written: .*the disk is full"):
        execution.seal_artifact(output)
    assert not [file for file in disk.rglob("*") if file.is_file()]


def test_a_code_blob_that_finds_no_room_is_a_storage_error(disk: Path, store: ArtifactStore) -> None:
    store.check()
    fill(disk)
    with pytest.raises(StorageError, match="the disk is full"):
        store.put_blob(b"x" * 5_000)
    assert [file.name for file in disk.rglob("*") if file.is_file()] == ["filler"]


def test_a_full_disk_is_refused_before_a_run_starts(disk: Path, tmp_path: Path) -> None:
    fill(disk)
    with pytest.raises(StorageError, match="the disk is full"):
        flowcore.run(write_much, {"size_bytes": 1}, pipeline_root=disk / "root")
    assert not (tmp_path / ".flowcore" / "runs.db").exists()


def test_a_fetch_that_fills_the_disk_is_a_storage_error_and_leaves_nothing(disk: Path, remote: tuple[str, ArtifactRef]) -> None:
    root, ref = remote
    with (
        ArtifactStore(root, cache_dir=str(disk / "cache")) as store,
        pytest.raises(StorageError, match=r"cannot be written: .*the disk is full: .*another fetch_cache"),
    ):
        store.fetch(ref)
    assert not [file for file in (disk / "cache").glob("[!.]*/**/*") if file.is_file()]


def test_a_fetch_that_fills_the_disk_fails_its_run(disk: Path, remote: tuple[str, ArtifactRef]) -> None:
    root, _ = remote

    @dsl.pipeline
    def both() -> int:
        return read(table=write_much(size_bytes=2 * DISK_BYTES).outputs["table"]).output

    client = flowcore.Client(pipeline_root=f"{root}/runs", fetch_cache=disk / "cache")
    with pytest.raises(RunFailed, match=r"the disk is full") as caught:
        client.run(both)
    states = {path: str(task.state) for path, task in caught.value.run.tasks.items()}
    assert states == {"write-much": "SUCCEEDED", "read": "FAILED"}
    [error] = caught.value.run.failures.values()
    assert error.type == "StorageError"
