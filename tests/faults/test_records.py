"""What a run does when its record cannot be written: it ends soon, says why, and leaves a record that can be read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore.errors import RecordError
from flowcore.executors import LocalExecutor
from tests.faults.disks import fill, small_disk
from tests.faults.parts import loop, talk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 2 << 20) as place:
        yield place


@pytest.fixture
def release(tmp_path: Path) -> Iterator[str]:
    """A file that bodies wait for; it is there at the latest when the test ends."""
    place = tmp_path / "release"
    yield str(place)
    place.touch()


@pytest.fixture(params=["threads", "processes"])
def executor(request: pytest.FixtureRequest) -> LocalExecutor:
    return LocalExecutor(mode=request.param, workers=1)


def test_disk_that_fills_with_a_log_ends_the_run_while_its_body_waits(
    disk: Path, release: str, executor: LocalExecutor, tmp_path: Path
) -> None:
    client = flowcore.Client(records=disk / "runs.db", pipeline_root=tmp_path / "artifacts", executor=executor)
    with pytest.raises(RecordError, match=r"runs\.db cannot be written: .*No space left on device"):
        client.run(talk, {"text_bytes": 4 << 20, "wait_for": release})
    for log in (disk / "runs.db.logs").iterdir():
        log.unlink()
    (row,) = client.list_runs()
    assert row.pipeline == "talk"


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_disk_that_is_full_of_other_files_is_named_and_the_record_stays_readable(disk: Path, tmp_path: Path, mode: Any) -> None:
    client = flowcore.Client(records=disk / "runs.db", pipeline_root=tmp_path / "artifacts", executor=LocalExecutor(mode=mode))
    before = client.run(loop, {"items": [1, 2]})
    filler = fill(disk)
    with pytest.raises(RecordError, match=r"runs\.db (cannot be written|cannot be used): .*(full|disk I/O)"):
        client.run(loop, {"items": list(range(20_000))})
    filler.unlink()
    assert client.get_run(before.run_id).state == "SUCCEEDED"
    assert client.run(loop, {"items": [3]}).state == "SUCCEEDED"


def test_record_that_fails_in_the_writer_ends_a_run_that_waits(release: str, executor: LocalExecutor, tmp_path: Path) -> None:
    """What the writer's thread raises is told to a driver that has nothing else to wake it."""
    records = tmp_path / "runs.db"
    client = flowcore.Client(records=records, pipeline_root=tmp_path / "artifacts", executor=executor)
    run = client.submit(talk, {"text_bytes": 0, "wait_for": release})
    for event in run.events():
        if event.data.get("state") == "RUNNING" and event.task:
            break
    with sqlite3.connect(records) as other:
        other.execute("DELETE FROM leases")
    other.close()
    with pytest.raises(RecordError, match="has another driver now"):
        run.result(timeout=30)
    assert not os.path.exists(release)
