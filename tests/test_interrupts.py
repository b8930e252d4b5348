"""Ctrl-C at the command line, as a real signal to a real process: once cancels, twice ends it soon, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

#: What a person would still call "at once", on a busy machine: 3 s of our own, then the interpreter's end.
AT_ONCE_SECONDS = 5.0

STUBBORN = """
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from flowcore import dsl

def deaf(seconds=90.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.02)
        except BaseException:
            pass

@dsl.component
def stubborn() -> None:
    pids = [os.getpid()]
    if os.getppid() == DRIVER:  # in a worker process
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pids.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(90)"]).pid)
    Path("pids").write_text(" ".join(map(str, pids)))
    Path("started").touch()
    deaf()

@dsl.component
def threaded() -> None:
    # A thread that is no daemon: the interpreter's own end would wait for it.
    threading.Thread(target=deaf).start()
    Path("pids").write_text(str(os.getpid()))
    Path("started").touch()
    deaf()

@dsl.component
def later() -> None:
    Path("later").touch()

@dsl.pipeline
def study() -> None:
    later().after(stubborn())

@dsl.pipeline
def leaves_thread() -> None:
    later().after(threaded())

DRIVER = int(os.environ["DRIVER"]) if "DRIVER" in os.environ else 0
"""


class Command:
    """A running ``flowcore run``; what it writes goes to files, so that it can be read meanwhile."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self._out, self._err = folder / "stdout", folder / "stderr"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                # The command keeps the shell's number, by which bodies in worker processes know their driver.
                ["sh", "-c", 'DRIVER=$$ exec "$@"', "sh", sys.executable, "-m", "flowcore.cli", "run", *arguments],
                cwd=folder, stdout=out, stderr=err,
                # A test run in the background inherits an ignored SIGINT.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
            )  # fmt: skip
        _wait_for(lambda: (folder / "started").exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.err

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def wait(self, seconds: float = 30.0) -> int:
        return self.process.wait(timeout=seconds)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Runs a stubborn pipeline, and waits until its body runs."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    started: list[Command] = []

    def start(executor: str, pipeline: str = "study", *options: str) -> Command:
        started.append(Command(tmp_path, f"stubborn.py:{pipeline}", "--executor", executor, *options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.wait()
    for pid in _pids(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _pids(folder: Path) -> list[int]:
    file = folder / "pids"
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _recorded(folder: Path, *command: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "flowcore.cli", "runs", *command, "--json"], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def _assert_canceled(folder: Path) -> None:
    run = _recorded(folder, "list")["runs"][0]
    assert run["state"] == "CANCELED"
    tasks = _recorded(folder, "show", run["run_id"])["tasks"]
    assert {task["state"] for task in tasks.values()} <= {"CANCELED", "SKIPPED"}
    assert not (folder / "later").exists()


def _assert_nothing_runs(folder: Path) -> None:
    # A killed process is gone a moment after its parent has ended.
    _wait_for(lambda: not any(map(_lives, _pids(folder))), 5)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_one_interrupt_ends_a_run_whose_body_ignores_it(executor: str, command: Callable[..., Command], tmp_path: Path) -> None:
    run = command(executor)
    run.interrupt()
    assert run.wait() == 1
    assert "canceling the run; Ctrl-C once more stops at once" in run.err
    assert "canceled; run " in run.out
    assert "Traceback" not in run.out + run.err
    _assert_canceled(tmp_path)
    _assert_nothing_runs(tmp_path)


@pytest.mark.parametrize("executor", ["threads", "processes", "inline"])
def test_two_interrupts_stop_at_once_and_leave_nothing(executor: str, command: Callable[..., Command], tmp_path: Path) -> None:
    run = command(executor)
    run.interrupt()
    _wait_for(lambda: "canceling" in run.err)
    run.interrupt()
    began = time.monotonic()
    assert run.wait() == 1
    assert time.monotonic() - began < AT_ONCE_SECONDS
    assert "Traceback" not in run.out + run.err
    _assert_canceled(tmp_path)
    _assert_nothing_runs(tmp_path)


def test_an_inline_body_that_swallows_the_interrupt_goes_on_until_the_second(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    run = command("inline")
    run.interrupt()
    _wait_for(lambda: "canceling" in run.err)
    with pytest.raises(subprocess.TimeoutExpired):
        run.wait(1)
    run.interrupt()
    assert run.wait(AT_ONCE_SECONDS) == 1
    assert "stopping at once" in run.err
    _assert_canceled(tmp_path)


def test_a_thread_that_a_body_left_does_not_hold_up_the_end(command: Callable[..., Command], tmp_path: Path) -> None:
    run = command("threads", "leaves_thread")
    run.interrupt()
    assert run.wait() == 1
    _assert_canceled(tmp_path)


def test_json_stays_json_where_the_run_is_interrupted(command: Callable[..., Command]) -> None:
    run = command("threads", "study", "--json")
    run.interrupt()
    run.wait()
    assert json.loads(run.out)["state"] == "CANCELED"
    assert "canceling the run" in run.err
