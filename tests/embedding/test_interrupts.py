"""Ctrl-C in a host: real signals to a process of its own. The run is canceled, nothing is left, the interrupt is raised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

import flowcore
from flowcore.testing import bodies
from tests.embedding.processes import host

MODES = ["inline", "threads", "processes"]
pytestmark = pytest.mark.usefixtures("own_temporary_folder")

HOST = """
import json, os, sys, threading
from pathlib import Path

import flowcore
from flowcore.executors import LocalExecutor
from tests.embedding import interrupted
from tests.embedding.traces import changes, traces

mode, name = sys.argv[1:3]
executor = LocalExecutor(mode, workers=None if mode == "inline" else 2)
before = traces()
raised = None
client = flowcore.Client("runs.db", executor=executor)
try:
    client.run(getattr(interrupted, name), {"driver": os.getpid()}, raise_on_failure=False)
except BaseException as error:
    raised = type(error).__name__
Path("release").touch()
for thread in threading.enumerate():
    if thread.name.startswith("flowcore"):
        thread.join()
print(json.dumps({"raised": raised, "left": {kind: repr(change) for kind, change in changes(before, traces()).items()}}))
"""


def interrupted_host(mode: str, name: str, signals: int = 0) -> tuple[dict[str, Any], flowcore.Run]:
    """What a host says that gets so many signals once its body runs, and its run."""
    with host(HOST, mode, name, stdout=subprocess.PIPE) as process:
        if signals:
            bodies.await_file("started")
        for _ in range(signals):
            os.kill(process.pid, signal.SIGINT)
        said = json.loads(process.communicate()[0])
    client = flowcore.Client(records="runs.db")
    (row,) = client.list_runs()
    return said, client.get_run(row.run_id)


def states(run: flowcore.Run) -> dict[str, str]:
    return {path: task.state.value for path, task in run.tasks.items()}


@pytest.mark.parametrize("mode", MODES)
def test_one_interrupt_cancels_the_run(mode: str) -> None:
    said, run = interrupted_host(mode, "held", signals=1)
    assert said == {"raised": "KeyboardInterrupt", "left": {}}
    assert run.state == "CANCELED"
    assert states(run) == {"hold": "CANCELED", "double": "CANCELED"}


@pytest.mark.parametrize("mode", MODES)
def test_two_interrupts_at_once_leave_nothing(mode: str) -> None:
    said, run = interrupted_host(mode, "held", signals=2)
    assert said == {"raised": "KeyboardInterrupt", "left": {}}
    assert run.state == "CANCELED"
    assert "RUNNING" not in states(run).values()
    assert "SUBMITTED" not in states(run).values()


def test_inline_body_that_swallows_interrupts_is_not_interrupted() -> None:
    said, run = interrupted_host("inline", "swallowing")
    assert said == {"raised": None, "left": {}}
    assert run.state == "SUCCEEDED"


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_body_elsewhere_cannot_swallow_the_callers_interrupt(mode: str) -> None:
    said, run = interrupted_host(mode, "swallowing")
    assert said == {"raised": "KeyboardInterrupt", "left": {}}
    assert run.state == "CANCELED"


STORM = """
import gc, json, os, random, signal, sys, threading, time
from collections import Counter
from pathlib import Path

import flowcore
from flowcore.executors import LocalExecutor
from tests.embedding import interrupted
from tests.embedding.traces import changes, traces

mode, rounds = sys.argv[1], int(sys.argv[2])
executor = LocalExecutor(mode, workers=None if mode == "inline" else 2)
chance = random.Random(7)


def press(pause: float, begun: threading.Event) -> None:
    begun.wait()
    time.sleep(pause)
    os.kill(os.getpid(), signal.SIGINT)


def run_once() -> None:
    flowcore.run(interrupted.busy, executor=executor, records="runs.db")


took = time.monotonic()
run_once()
took = time.monotonic() - took
said = Counter()
left = {}
for number in range(rounds):
    gc.collect()
    before = traces()
    begun = threading.Event()
    presser = threading.Thread(target=press, args=[chance.uniform(0, 1.2 * took), begun])
    raised = "interrupt"
    try:
        presser.start()
        begun.set()
        run_once()
        raised = "nothing"
        while True:
            time.sleep(0.01)  # the signal is still to come; a run that swallowed it fails here, by the test's timeout
    except KeyboardInterrupt:
        presser.join()
    said[raised] += 1
    gc.collect()
    left.update({kind: repr(change) for kind, change in changes(before, traces()).items()})
print(json.dumps({"said": said, "left": left}))
"""


@pytest.mark.parametrize("mode", MODES)
def test_interrupt_at_any_moment_leaves_nothing_and_ends_the_record(mode: str) -> None:
    rounds = {"inline": 30, "threads": 20, "processes": 5}[mode]
    with host(STORM, mode, str(rounds), stdout=subprocess.PIPE) as process:
        said = json.loads(process.communicate()[0])
    assert said["left"] == {}
    assert set(said["said"]) <= {"nothing", "interrupt"}
    client = flowcore.Client(records="runs.db")
    for row in client.list_runs():
        assert row.state in ("SUCCEEDED", "CANCELED")
        run = client.get_run(row.run_id)
        assert not {"RUNNING", "SUBMITTED"} & {*states(run).values()}
        numbers = [event.seq for event in run.events()]
        assert numbers == list(range(1, len(numbers) + 1))
