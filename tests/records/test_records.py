"""The record by itself: what it refuses, the lease, groups, gapless events, two processes on one file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import LeaseLost, RecordError
from flowcore.executor import Outcome, Status, TaskError
from flowcore.record_schema import VERSION
from flowcore.recorder import RunRecorder
from flowcore.records import LogLine, Records, RunRow


def row(run_id: str) -> RunRow:
    return RunRow(run_id, "p", "hash", "PENDING", {}, {}, time.time(), None, None, None, None)


def begin(records: Records, run_id: str = "r1") -> RunRecorder:
    return records.begin(row(run_id), "{}", "continue", lambda kind: None)


@pytest.fixture(params=["file", "memory"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    records = Records(None if request.param == "memory" else str(tmp_path / "runs.db"))
    yield records
    records.end_writing()


def test_what_was_flushed_can_be_read(records: Records) -> None:
    recorder = begin(records)
    recorder.submitted("a", 1, {"x": 1}, [])
    recorder.running("a", "here")
    recorder.flush()
    (task,) = records.tasks("r1")
    assert (task.path, task.state, task.inputs, task.place) == ("a", "RUNNING", {"x": 1}, "here")


def test_task_that_begins_and_ends_in_one_group_is_one_row_with_all_it_has(records: Records) -> None:
    recorder = begin(records)
    ref = ArtifactRef("m", "system.Metrics", "/m", {"accuracy": 0.5, "note": "text"})
    recorder.submitted("a", 1, {"x": 1}, [("table", -1, "/t")])
    recorder.running("a", "here", "0badcafe")
    recorder.wrote("a", 1, "stdout", "half ")
    recorder.wrote("a", 1, "stdout", "line\n")
    recorder.reported("a", "loss", 3, 0.25)
    outcome = Outcome(Status.SUCCEEDED, {"Output": 2}, {"m": ref}, execution="0badcafe", started_at=1.0, finished_at=2.0)
    recorder.committed("a", outcome)
    recorder.close()
    (task,) = records.tasks("r1")
    assert (task.state, task.outputs, task.execution) == ("SUCCEEDED", {"Output": 2}, "0badcafe")
    assert (task.started_at, task.finished_at) == pytest.approx((1.0, 2.0), abs=2e-6)  # kept in microseconds
    assert records.artifacts("r1") == [("a", "m", -1, ref)]
    assert records.metrics("r1") == [("a", "loss", 3, 0.25), ("a", "accuracy", None, 0.5)]
    assert list(records.logs("r1")) == [LogLine("a", 1, "stdout", "half line\n")]
    assert records.lineage("/t")["read_by"] == [("r1", "a", "table")]


def test_errors_and_earlier_attempts_are_kept(records: Records) -> None:
    recorder = begin(records)
    recorder.submitted("a", 1, {}, [])
    recorder.again("a", TaskError("ValueError", "first", "trace"), "retry 1 of 1")
    recorder.submitted("a", 2, {}, [])
    recorder.ended("a", "FAILED", TaskError("ValueError", "second", "trace"))
    recorder.close()
    (task,) = records.tasks("r1")
    assert task.error == TaskError("ValueError", "second", "trace")
    assert task.attempt == 2
    assert [attempt["error"] for attempt in records.attempts("r1", "a")] == [TaskError("ValueError", "first", "trace")]


def test_events_are_gapless_over_groups(records: Records) -> None:
    recorder = begin(records)
    for number in range(50):
        recorder.submitted(f"t{number}", 1, {}, [])
        recorder.running(f"t{number}")
        if number % 7 == 0:
            recorder.flush()
    recorder.close()
    assert [event.seq for event in records.events("r1")] == list(range(1, 51))
    assert [event.task for event in records.events("r1", since=48)] == ["t48", "t49"]


def test_log_text_that_is_no_unicode_is_kept_readable(records: Records) -> None:
    recorder = begin(records)
    recorder.wrote("a", 1, "stdout", "lone \ud800 surrogate\n")
    recorder.close()
    assert [line.text for line in records.logs("r1")] == ["lone ? surrogate\n"]


def test_driver_that_lost_its_lease_writes_nothing_more(records: Records) -> None:
    recorder = begin(records)
    recorder.flush()
    with records.transaction() as connection:
        connection.execute("UPDATE leases SET epoch = 2")
    recorder.submitted("a", 1, {}, [])
    with pytest.raises(LeaseLost, match="run 'r1' has another driver now"):
        recorder.flush()
    with pytest.raises(LeaseLost):
        recorder.close()
    assert records.tasks("r1") == []


def test_request_reaches_the_driver(records: Records) -> None:
    asked: list[str] = []
    recorder = records.begin(row("r1"), "{}", "continue", asked.append)
    records.request("r1", "cancel")
    recorder._next_look = 0.0
    recorder.running("a")
    recorder.flush()
    recorder.close()
    assert asked == ["cancel"]


def test_unknown_run_is_named_with_the_remedy(records: Records) -> None:
    with pytest.raises(RecordError, match=r"no run 'nope'.*flowcore runs list"):
        records.run("nope")


def test_foreign_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(RecordError, match="database of another program; it was left as it is"):
        Records(str(path))
    assert path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [path]


def test_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and long enough to have a header of a hundred bytes " * 5)
    before = path.read_bytes()
    with pytest.raises(RecordError, match="is not a record of flowcore"):
        Records(str(path))
    assert path.read_bytes() == before


def test_record_from_before_the_first_release_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    Records(str(path)).end_writing()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=1")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(RecordError, match="version 1, written before the first release"):
        Records(str(path))
    assert path.read_bytes() == before


def test_record_of_a_later_version_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    Records(str(path)).end_writing()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    with pytest.raises(RecordError, match=f"version {VERSION + 1}, this flowcore reads up to {VERSION}: upgrade"):
        Records(str(path))


def test_folder_url_and_network_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="that is a folder"):
        Records(str(tmp_path))
    with pytest.raises(RecordError, match=r"only sqlite:///path\.db or a path"):
        Records("postgresql://host/db")
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="its folder cannot be made"):
        Records(str(tmp_path / "file" / "runs.db"))


def test_reading_a_record_that_is_not_there_makes_none(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="there is no record at"):
        Records(str(tmp_path / "none.db"), create=False)
    assert list(tmp_path.iterdir()) == []


READ_ONLY = """
import os, sys
from flowcore.errors import RecordError
from flowcore.records import Records
os.setuid(65534)
try:
    Records(sys.argv[1])
except RecordError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_read_only_record_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:  # unlike tmp_path, not below a folder that is closed to others
        path = Path(folder, "runs.db")
        Records(str(path)).end_writing()
        Path(folder).chmod(0o755)
        path.chmod(0o444)
        command = [sys.executable, "-c", READ_ONLY, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "is read-only; make it writable, or name another" in done.stdout, done.stderr


WRITER = """
import sys
import flowcore
from flowcore.executors import LocalExecutor
from tests.runner import pipelines
for _ in range(10):
    flowcore.run(pipelines.everything, executor=LocalExecutor(mode="inline"), records=sys.argv[1])
"""


def test_two_processes_write_one_record_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", WRITER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    for writer in writers:
        _, errors = writer.communicate(timeout=90)
        assert writer.returncode == 0, errors
    records = Records(str(path))
    assert [run.state for run in records.runs()] == ["SUCCEEDED"] * 20
    records.end_writing()


def test_url_is_relative_with_three_slashes_and_absolute_with_four(tmp_path: Path) -> None:
    for url, path in (("sqlite:///a/runs.db", "a/runs.db"), (f"sqlite:///{tmp_path}/b/runs.db", "b/runs.db"), ("c.db", "c.db")):
        records = Records(url)
        records.end_writing()
        assert records.path == str(tmp_path / path)
        assert Path(path).exists()


def test_record_holds_nothing_that_runs_when_it_is_read(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "runs.db"))
    records.end_writing()
    with sqlite3.connect(tmp_path / "runs.db") as connection:
        kinds = {kind for (kind,) in connection.execute("SELECT type FROM sqlite_master")}
        types = {column[2] for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
                 for column in connection.execute(f"PRAGMA table_info({name})")}  # fmt: skip
    connection.close()
    assert kinds == {"table", "index"}
    assert "BLOB" not in types


def test_any_text_that_a_python_string_can_hold_is_kept(records: Records) -> None:
    text = "grüße 데이터 \ud800 \x00 \"quoted\" \\ \n"
    recorder = begin(records)
    recorder.submitted("a", 1, {"x": text, "nan": float("nan")}, [])
    recorder.again("a", TaskError("ValueError", text, text), text)
    recorder.ended("a", "FAILED", TaskError("ValueError", text, text), reason=text)
    recorder.submitted("b", 1, {"x": text}, [])
    recorder.committed("b", Outcome(Status.SUCCEEDED, {"Output": text}))
    recorder.close()
    failed, done = sorted(records.tasks("r1"), key=lambda task: task.path)
    assert failed.inputs["x"] == text
    assert failed.inputs["nan"] != failed.inputs["nan"]
    assert failed.error == TaskError("ValueError", text, text)
    assert done.outputs == {"Output": text}


def test_row_of_a_new_attempt_has_nothing_of_the_one_before(records: Records) -> None:
    recorder = begin(records)
    recorder.submitted("a", 1, {}, [])
    recorder.running("a", "there", "0badcafe")
    recorder.again("a", TaskError("ValueError", "first"), "retry 1 of 1")
    recorder.submitted("a", 2, {}, [])
    recorder.flush()
    (task,) = records.tasks("r1")
    assert (task.state, task.attempt, task.place, task.execution, task.started_at) == ("SUBMITTED", 2, None, None, None)
    assert (task.error, task.reason) == (None, None)


def test_flush_waits_for_a_group_that_the_writer_has_taken(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "runs.db"))
    recorder = begin(records)
    recorder.flush()
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    recorder.submitted("a", 1, {}, [])
    end = time.monotonic() + 10
    while recorder.dirty and time.monotonic() < end:  # the writer takes the group, then waits for the other's lock
        time.sleep(0.01)
    release = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    release.start()
    recorder.flush()
    assert other.execute("SELECT count(*) FROM tasks").fetchone() == (1,)
    release.join()
    other.close()
    recorder.close()
    records.end_writing()


def test_full_disk_is_named_as_such(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "runs.db"))
    recorder = begin(records)
    recorder.flush()
    with records.transaction() as connection:
        connection.execute("PRAGMA max_page_count=1")
    recorder.submitted("a", 1, {"x": "y" * 1_000_000}, [])
    with pytest.raises(RecordError, match="full"):
        recorder.flush()
    records.end_writing()


def test_log_that_cannot_be_written_is_an_error_of_the_record(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "runs.db"))
    recorder = begin(records)
    (tmp_path / "runs.db.logs").write_text("in the way")
    recorder.wrote("a", 1, "stdout", "text")
    with pytest.raises(RecordError, match=r"runs\.db cannot be written"):
        recorder.flush()
    records.end_writing()


def test_metrics_and_steps_of_any_size_are_kept(records: Records) -> None:
    recorder = begin(records)
    recorder.submitted("a", 1, {}, [])
    recorder.reported("a", "loss", 2**70, 1.0)
    metrics = ArtifactRef("m", "system.Metrics", "/m", {"large": 2**70, "huge": -(10**400)})
    recorder.committed("a", Outcome(Status.SUCCEEDED, artifacts={"m": metrics}))
    recorder.close()
    found = {name: (step, value) for _, name, step, value in records.metrics("r1")}
    assert found == {"loss": (2**63 - 1, 1.0), "large": (None, 2.0**70), "huge": (None, float("-inf"))}


def test_large_values_are_kept_beside_small_ones(records: Records) -> None:
    recorder = begin(records)
    for path, text in [("large", "\ud800é\"" * 1_000_000), ("small", "x")]:
        recorder.submitted(path, 1, {"x": text}, [])
        recorder.committed(path, Outcome(Status.SUCCEEDED, {"Output": text}))
    recorder.close()
    assert {task.path: task.outputs["Output"] for task in records.tasks("r1")} == {"large": "\ud800é\"" * 1_000_000, "small": "x"}
    assert all(task.inputs["x"] == task.outputs["Output"] for task in records.tasks("r1"))
