"""``flowcore runs`` on runs that other processes drive: following logs, canceling, pages, and what it says where it cannot."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import flowcore
from flowcore import dsl
from flowcore.cli import cli


@dsl.component
def speak(text: str) -> str:
    sys.stdout.write(f"{text}\n")
    return text


@dsl.pipeline
def speech(text: str = "hello") -> str:
    return speak(text=text).output


DRIVEN = """
import time
from pathlib import Path
from flowcore import dsl

def wait_for(name):
    end = time.monotonic() + 90
    while not Path(name).exists():
        assert time.monotonic() < end
        time.sleep(0.02)

@dsl.component
def first() -> int:
    print("first line")
    Path("started").touch()
    wait_for("go")
    print("second line")
    return 1

@dsl.component
def second(value: int, bad: bool) -> None:
    print("the last line")
    if bad:
        raise ValueError("bad on purpose")

@dsl.pipeline
def driven(bad: bool = False) -> None:
    second(value=first().output, bad=bad)
"""


def _flowcore(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flowcore.cli", *arguments]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[Callable[..., tuple[str, subprocess.Popen[str]]]]:
    """Starts a run in a process of its own; its first task waits for the file ``go``."""
    (tmp_path / "driven.py").write_text(DRIVEN)
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple[str, subprocess.Popen[str]]:
        processes.append(_start(tmp_path, "run", "driven.py", "--json", *options))
        _wait_for(lambda: (tmp_path / "started").exists() or processes[-1].poll() is not None)
        assert processes[-1].poll() is None, processes[-1].communicate()
        _wait_for(lambda: flowcore.Client().list_runs()[0].state == "RUNNING")
        return flowcore.Client().list_runs()[0].run_id, processes[-1]

    yield start
    (tmp_path / "go").touch()
    for process in processes:
        process.communicate(timeout=60)


def _make_silent(run_id: str, state: str = "RUNNING") -> None:
    """Make the record look as a driver leaves it that was killed long ago."""
    with closing(sqlite3.connect(".flowcore/runs.db")) as connection, connection:
        connection.execute("UPDATE runs SET state = ?, finished_at = NULL WHERE run_id = ?", (state, run_id))
        connection.execute("UPDATE leases SET heartbeat_at = heartbeat_at - 3600")


@pytest.mark.parametrize(("bad", "status", "state"), [("false", 0, "SUCCEEDED"), ("true", 1, "FAILED")])
def test_logs_are_followed_to_the_end_of_a_run_that_another_process_drives(
    bad: str, status: int, state: str, driven: Callable[..., Any], tmp_path: Path
) -> None:
    run_id, _ = driven("--arg", f"bad={bad}")
    with _start(tmp_path, "runs", "logs", "-f", run_id) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first | first line\n"
        (tmp_path / "go").touch()
        out, err = follower.communicate(timeout=60)
    assert out == "first | second line\nsecond | the last line\n"
    assert err == f"run {run_id} {state}\n"
    assert follower.returncode == status


def test_a_task_that_has_not_begun_can_be_followed(driven: Callable[..., Any], tmp_path: Path) -> None:
    run_id, _ = driven()
    with _start(tmp_path, "runs", "logs", "-f", run_id, "second", "--json") as follower:
        (tmp_path / "go").touch()
        out, _ = follower.communicate(timeout=60)
    assert json.loads(out) == {"task": "second", "attempt": 1, "stream": "stdout", "text": "the last line\n"}
    assert follower.returncode == 0


def test_following_an_ended_run_prints_all_and_ends() -> None:
    run = flowcore.run(speech)
    result = _flowcore("runs", "logs", "-f", run.run_id)
    assert result.stdout == "speak | hello\n"
    assert result.exit_code == 0


def test_following_a_task_that_there_is_not_is_refused() -> None:
    run = flowcore.run(speech)
    result = _flowcore("runs", "logs", "-f", run.run_id, "speach")
    assert result.exit_code == 2
    assert "no single task 'speach'; its tasks are: speak" in result.stderr


@pytest.mark.parametrize("command", [["logs", "-f"], ["cancel"]])
def test_a_run_whose_driver_is_gone_is_not_waited_for(command: list[str]) -> None:
    run = flowcore.run(speech)
    _make_silent(run.run_id)
    result = _flowcore("runs", *command, run.run_id)
    assert result.exit_code == 3
    assert re.search(r"is RUNNING in the record, but its driver \S+:\d+ has not been heard of for 36\d\d s", result.stderr)


def test_cancel_reaches_a_run_of_another_process_and_waits_for_its_end(driven: Callable[..., Any]) -> None:
    run_id, process = driven()
    result = _flowcore("runs", "cancel", run_id)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"run {run_id} was asked to end and ended: CANCELED\n"
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(out)["state"] == "CANCELED"


def test_cancel_tells_where_the_run_takes_longer(driven: Callable[..., Any]) -> None:
    run_id, _ = driven()
    result = _flowcore("runs", "cancel", run_id, "--timeout", "0")
    assert result.exit_code == 3
    assert result.stdout.startswith(f"run {run_id} was asked to end; it has not ended after 0 s")


def test_cancel_without_waiting_only_asks(driven: Callable[..., Any]) -> None:
    run_id, process = driven()
    result = _flowcore("runs", "cancel", run_id, "--no-wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["was"] == "RUNNING"
    process.wait(timeout=60)
    assert flowcore.Client().get_run(run_id).state == "CANCELED"


def test_cancel_of_an_ended_run_says_so() -> None:
    run = flowcore.run(speech)
    result = _flowcore("runs", "cancel", run.run_id)
    assert result.exit_code == 0
    assert result.stdout == f"run {run.run_id} has ended already: SUCCEEDED\n"
    assert run.state == "SUCCEEDED"


def test_a_page_is_written_beside_or_where_it_is_told_to_be(tmp_path: Path) -> None:
    run = flowcore.run(speech)
    result = _flowcore("runs", "html", run.run_id)
    assert result.stdout == f"{run.run_id}.html\n"
    assert (tmp_path / f"{run.run_id}.html").read_text().startswith("<!DOCTYPE html>")
    assert _flowcore("runs", "html", run.run_id, "-o", "page.html").exit_code == 0
    assert (tmp_path / "page.html").exists()
    assert _flowcore("runs", "html", run.run_id, "-o", "-").stdout.startswith("<!DOCTYPE html>")


def test_a_page_that_cannot_be_written_is_refused() -> None:
    run = flowcore.run(speech)
    result = _flowcore("runs", "html", run.run_id, "-o", "not/there/page.html")
    assert result.exit_code == 2
    assert "the page cannot be written to not/there/page.html: No such file or directory" in result.stderr


def test_an_unknown_run_is_told_with_the_nearest_and_where_it_looked(tmp_path: Path) -> None:
    run = flowcore.run(speech)
    nearly = run.run_id[:-2] + "zz"
    for command in ("show", "logs", "cancel", "html"):
        result = _flowcore("runs", command, nearly)
        assert result.exit_code == 2
        assert f"there is no run {nearly!r} in {tmp_path}/.flowcore/runs.db; the nearest: {run.run_id}" in result.stderr
    assert f"the nearest: {run.run_id}" in _flowcore("runs", "show", run.run_id[-6:]).stderr


def test_no_record_is_told_with_the_place_where_it_looked(tmp_path: Path) -> None:
    for command in (["list"], ["show", "x"], ["logs", "x"], ["cancel", "x"], ["html", "x"]):
        result = _flowcore("runs", *command)
        assert result.exit_code == 2
        assert f"there is no record at {tmp_path}/.flowcore/runs.db" in result.stderr
