"""Hosts that run pipelines: threads, event loops, web services, notebooks, other runs, several processes on one record."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore import dsl
from flowcore.executors import LocalExecutor
from flowcore.run_state import RunStatus, TaskState
from flowcore.testing import bodies
from tests.embedding import pipelines
from tests.embedding.processes import host

MODES = ["inline", "threads", "processes"]
pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(params=MODES)
def executor(request: pytest.FixtureRequest) -> LocalExecutor:
    return LocalExecutor(mode=request.param, workers=None if request.param == "inline" else 2)


# Threads


def in_thread(call: Any) -> Any:
    """What a call gives in a thread of its own."""
    given: list[Any] = []
    thread = threading.Thread(target=lambda: given.append(call()))
    thread.start()
    thread.join()
    return given[0]


def test_run_works_in_a_thread(executor: LocalExecutor) -> None:
    assert in_thread(lambda: flowcore.run(pipelines.values, executor=executor).output) == 3


def test_several_threads_have_each_their_own_records_root_and_executor(tmp_path: Path) -> None:
    everyone = threading.Barrier(6)

    def host(number: int) -> tuple[str, list[str], bool]:
        home = tmp_path / f"host-{number}"
        client = flowcore.Client(
            records=home / "runs.db",
            pipeline_root=home / "artifacts",
            executor=LocalExecutor(MODES[number % 3], workers=None if number % 3 == 0 else 1 + number // 3),  # type: ignore[arg-type]
        )
        home.mkdir()
        everyone.wait(60)
        run = client.run(pipelines.files, {"text": f"of {number}"}, name=str(number))
        table = run.tasks["write"].outputs["table"]
        names = [str(row.name) for row in client.list_runs()]
        return run.output, names, Path(table.path).is_relative_to(home / "artifacts")

    with ThreadPoolExecutor(6) as hosts:
        found = list(hosts.map(host, range(6)))
    assert found == [(f"of {number}", [str(number)], True) for number in range(6)]
    assert not Path(".flowcore").exists()


# Event loops


def test_arun_works_in_a_running_loop(executor: LocalExecutor) -> None:
    async def main() -> int:
        output: int = (await flowcore.arun(pipelines.values, executor=executor)).output
        return output

    assert asyncio.run(main()) == 3


def test_run_works_inside_a_coroutine(executor: LocalExecutor) -> None:
    async def main() -> int:
        output: int = flowcore.run(pipelines.values, executor=executor).output
        return output

    assert asyncio.run(main()) == 3


def test_async_bodies_work_inside_a_coroutine(executor: LocalExecutor) -> None:
    @dsl.component
    async def patient(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    async def main() -> list[int]:
        return [
            flowcore.run(patient, {"x": 1}, executor=executor).output,
            (await flowcore.arun(patient, {"x": 2}, executor=executor)).output,
        ]

    assert asyncio.run(main()) == [2, 3]


def test_several_aruns_go_on_at_once(executor: LocalExecutor) -> None:
    async def main() -> list[int]:
        runs = await asyncio.gather(*(flowcore.arun(pipelines.values, {"x": x}, executor=executor) for x in range(4)))
        return [run.output for run in runs]

    assert asyncio.run(main()) == [1, 3, 5, 7]


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_timeout_around_arun_cancels_the_run(mode: Any, tmp_path: Path) -> None:
    held = {"started": str(tmp_path / "started"), "release": str(tmp_path / "release")}

    async def main() -> None:
        async with asyncio.timeout(None) as timeout:

            async def expire() -> None:
                await asyncio.to_thread(bodies.await_file, held["started"])
                timeout.reschedule(0)

            expiring = asyncio.create_task(expire())
            await flowcore.arun(pipelines.holding, held, executor=LocalExecutor(mode, workers=2))
            await expiring

    with pytest.raises(TimeoutError):
        asyncio.run(main())
    (row,) = flowcore.Client().list_runs()
    assert row.state == RunStatus.CANCELED
    Path(held["release"]).touch()
    for thread in threading.enumerate():
        if thread.name.startswith("flowcore"):
            thread.join()


def test_arun_that_is_canceled_before_it_began_leaves_no_running_run() -> None:
    async def main() -> None:
        running = asyncio.create_task(flowcore.arun(pipelines.values))
        await asyncio.sleep(0)
        running.cancel()
        await running

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    client = flowcore.Client()
    rows = client.list_runs()
    assert len(rows) == 1
    run = client.get_run(rows[0].run_id)
    assert run.done
    assert not [task for task in run.tasks.values() if task.state in (TaskState.RUNNING, TaskState.SUBMITTED)]


def test_arun_does_not_hold_the_loop_up_while_the_record_is_busy() -> None:
    import sqlite3

    flowcore.run(pipelines.values, records="runs.db")
    other = sqlite3.connect("runs.db", isolation_level=None)

    async def main() -> int:
        other.execute("BEGIN IMMEDIATE")
        running = asyncio.create_task(flowcore.arun(pipelines.values, records="runs.db"))
        await asyncio.sleep(0)  # it has begun, and waits for the other writer; this loop goes on and lets that one end
        other.execute("COMMIT")
        output: int = (await running).output
        return output

    try:
        assert asyncio.run(main()) == 3
    finally:
        other.close()


def test_arun_refuses_as_run_does() -> None:
    async def main() -> None:
        await flowcore.arun(pipelines.values, {"y": 1})

    with pytest.raises(flowcore.errors.ArgumentError, match="unknown 'y'"):
        asyncio.run(main())


# Other runs


@dsl.component
def nest(mode: str, x: int) -> int:
    """Run a pipeline inside a task."""
    run = flowcore.run(pipelines.values, {"x": x}, records=None, executor=LocalExecutor(mode, workers=1))  # type: ignore[arg-type]
    output: int = run.output
    return output


@pytest.mark.parametrize("inner", MODES)
def test_run_works_inside_a_component_of_another_run(executor: LocalExecutor, inner: str) -> None:
    @dsl.pipeline
    def outer() -> None:
        with dsl.ParallelFor([1, 2, 3]) as item:
            nest(mode=inner, x=item)

    run = flowcore.run(outer, executor=executor)
    assert [task.output for path, task in sorted(run.tasks.items()) if path.endswith("/nest")] == [3, 5, 7]


@dsl.component
def nest_aloud(mode: str) -> None:
    """Print before, in and after a run inside a task."""
    print("before")  # noqa: T201
    inner = flowcore.run(bodies.speak, {"text": "inside"}, records=None, executor=LocalExecutor(mode, workers=1))  # type: ignore[arg-type]
    print("after", *[line.text.strip() for line in inner.logs()])  # noqa: T201


@pytest.mark.parametrize("inner", ["threads", "processes"])
def test_what_nested_runs_print_is_kept_by_their_own_tasks(executor: LocalExecutor, inner: str) -> None:
    run = flowcore.run(nest_aloud, {"mode": inner}, executor=executor)
    assert "".join(line.text for line in run.logs()) == "before\nafter inside\n"


# Web services


def service() -> Any:
    """A web service with one endpoint of each kind; its runs go to the default record."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/await/{x}")
    async def awaited(x: int) -> int:
        run = await flowcore.arun(pipelines.values, {"x": x})
        return int(run.output)

    @app.get("/threadpool/{x}")
    def in_threadpool(x: int) -> int:
        return int(flowcore.run(pipelines.values, {"x": x}).output)

    return app


def test_fastapi_through_its_test_client(recwarn: pytest.WarningsRecorder) -> None:
    from fastapi.testclient import TestClient

    with TestClient(service()) as client:
        assert [client.get(f"/await/{x}").json() for x in range(3)] == [1, 3, 5]
        assert [client.get(f"/threadpool/{x}").json() for x in range(3)] == [1, 3, 5]
    assert [row.state for row in flowcore.Client().list_runs()] == ["SUCCEEDED"] * 6


SERVER = """
import asyncio, sys, threading
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request

import flowcore
from flowcore.executors import LocalExecutor
from tests.embedding import pipelines
from tests.embedding.test_hosts import service

app = service()


@app.get("/hold")
async def hold(request: Request) -> int:
    # The usual pattern: a client that goes away ends what it asked for.
    arguments = {"started": "started", "release": "release"}
    running = asyncio.create_task(flowcore.arun(pipelines.holding, arguments, executor=LocalExecutor("processes", workers=1)))
    while not running.done() and (await request.receive())["type"] != "http.disconnect":
        pass
    running.cancel()
    try:
        return int((await running).output)
    except asyncio.CancelledError:
        Path("canceled").touch()
        raise


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        Path("port.new").write_text(str(port))
        Path("port.new").rename("port")


server = Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
threading.Thread(target=lambda: (sys.stdin.read(), setattr(server, "should_exit", True)), daemon=True).start()
server.run()
left = [thread.name for thread in threading.enumerate() if thread.name.startswith("flowcore")]
print("left:", *left)
"""


def test_uvicorn_with_clients_at_once_and_one_that_goes_away(tmp_path: Path) -> None:
    import httpx

    server = host(SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        bodies.await_file("port")
        base = f"http://127.0.0.1:{Path('port').read_text()}"
        with httpx.Client(base_url=base, timeout=60) as client, ThreadPoolExecutor(4) as users:
            paths = [f"/{kind}/{x}" for kind in ("await", "threadpool") for x in range(4)]
            answers = list(users.map(lambda path: client.get(path).json(), paths))
        assert answers == [1, 3, 5, 7, 1, 3, 5, 7]
        go_away(int(Path("port").read_text()))
        bodies.await_file("canceled")
    finally:
        server.stdin.close()
        left = server.stdout.read()
        server.stdout.close()
        server.wait()
    assert left == "left:\n"
    states = [row.state for row in flowcore.Client().list_runs()]
    assert sorted(states) == ["CANCELED", *["SUCCEEDED"] * 8]


def go_away(port: int) -> None:
    """Ask for what takes long, and close the connection once its body runs."""
    import socket

    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /hold HTTP/1.1\r\nHost: here\r\n\r\n")
        bodies.await_file("started")


# Several processes


SHARER = """
import sys
import flowcore
from tests.embedding import pipelines

sys.stdin.readline()
for number in range(int(sys.argv[2])):
    run = flowcore.run(pipelines.values, {"x": number}, records="shared.db", name=f"{sys.argv[1]}-{number}")
    assert run.output == 2 * number + 1
"""


def test_two_processes_share_one_record() -> None:
    each = 15
    names = ("left", "right")
    sharers = [host(SHARER, name, str(each), stdin=subprocess.PIPE, stderr=subprocess.PIPE) for name in names]
    for sharer in sharers:
        assert sharer.stdin is not None
        sharer.stdin.write("go\n")
        sharer.stdin.flush()
    errors = [sharer.communicate()[1] for sharer in sharers]
    assert errors == ["", ""]
    client = flowcore.Client(records="shared.db")
    rows = client.list_runs()
    assert sorted(str(row.name) for row in rows) == sorted(f"{name}-{number}" for name in names for number in range(each))
    assert {row.state for row in rows} == {"SUCCEEDED"}
    created = [row.created_at for row in rows]
    assert created == sorted(created, reverse=True)
    for row in rows:
        run = client.get_run(row.run_id)
        assert run.output == 2 * row.arguments["x"]["value"] + 1
        assert sorted(run.tasks) == ["add", "double", "for-loop-1", *[f"for-loop-1.{index}/double" for index in range(3)]]
        events = [event.seq for event in run.events()]
        assert events == list(range(1, len(events) + 1))
