"""A host that forks: after a run, while a run is active in another thread, inside a body. The child runs pipelines of its own."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

import flowcore
from tests.embedding.processes import host

pytestmark = pytest.mark.usefixtures("own_temporary_folder")

START = """
import json, os, sys, threading
from pathlib import Path

import flowcore
from flowcore import dsl
from flowcore.executors import LocalExecutor
from flowcore.testing import bodies
from tests.embedding import pipelines
from tests.embedding.traces import changes, traces

mode = sys.argv[1]
inline = mode == "inline"
executor = LocalExecutor(mode, workers=None if inline else 2)
client = flowcore.Client("runs.db", executor=executor, limits={"db": 1})


def in_child(work, leave=sys.exit) -> dict:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        before = traces()
        result = work()
        told = {"result": result, "left": {kind: repr(change) for kind, change in changes(before, traces()).items()}}
        os.write(writing, json.dumps(told).encode())
        os.close(writing)
        leave(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = json.loads(pipe.read() or "{}")
    return {**told, "status": os.waitpid(child, 0)[1]}


def run_values() -> int:
    return client.run(pipelines.values, {"x": 4}, name="child").output
"""

AFTER = """
client.run(pipelines.values, name="parent")
print(json.dumps(in_child(run_values)))
"""

DURING = """
@dsl.pipeline
def held(started: str, release: str) -> None:
    pipelines.hold(started=started, release=release).set_limit("db")

@dsl.pipeline
def limited() -> int:
    return pipelines.double(x=4).set_limit("db").output

run = client.submit(held, {"started": "started", "release": "release"}, name="parent", executor=LocalExecutor("threads"))
bodies.await_file("started")
next(event for event in run.events() if event.task)  # what the child looks at is in the record


def run_both():
    print("the child prints to its terminal", file=sys.stderr)
    return [run_values(), client.run(limited, name="child-limited").output, client.get_run(run.run_id).state]


told = in_child(run_both)
Path("release").touch()
run.result(60)
print(json.dumps(told))
"""

INSIDE = """
@dsl.component
def forking() -> str:
    def work() -> int:
        return flowcore.run(pipelines.values, {"x": 4}, records="runs.db", executor=executor, name="child").output

    told = in_child(work, leave=os._exit)  # as any child that is forked deep in somebody else's calls
    return json.dumps(told)

run = client.run(forking, name="parent", executor=LocalExecutor("threads"))
print(run.output)
"""


def told_by(program: str, mode: str) -> tuple[dict[str, Any], str]:
    with host(START + program, mode, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out), err


def states() -> dict[str, str]:
    return {str(row.name): row.state for row in flowcore.Client("runs.db").list_runs()}


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_child_forked_after_a_run_runs_pipelines(mode: str) -> None:
    told, _ = told_by(AFTER, mode)
    assert told == {"result": 9, "left": {}, "status": 0}
    assert states() == {"parent": "SUCCEEDED", "child": "SUCCEEDED"}


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_child_forked_during_a_run_in_another_thread_runs_pipelines(mode: str) -> None:
    told, err = told_by(DURING, mode)
    assert told == {"result": [9, 8, "RUNNING"], "left": {}, "status": 0}
    assert "the child prints to its terminal" in err
    assert states() == {"parent": "SUCCEEDED", "child": "SUCCEEDED", "child-limited": "SUCCEEDED"}


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_child_forked_inside_a_body_runs_pipelines(mode: str) -> None:
    told, _ = told_by(INSIDE, mode)
    assert told == {"result": 9, "left": {}, "status": 0}
    assert states()["child"] == "SUCCEEDED"
