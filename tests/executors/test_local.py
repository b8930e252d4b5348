"""The local executor in each mode against the published suite, and what it promises beyond it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowcore.errors import UsageError
from flowcore.executor import Finished, Lost, Status
from flowcore.executors import LocalExecutor
from flowcore.testing import ExecutorConformance, ScriptedExecutor, bodies
from flowcore.testing.executors import Bench


class TestInline(ExecutorConformance):
    def make_executor(self) -> LocalExecutor:
        return LocalExecutor(mode="inline")


class TestThreads(ExecutorConformance):
    def make_executor(self) -> LocalExecutor:
        return LocalExecutor(mode="threads", workers=2)


class TestProcesses(ExecutorConformance):
    def make_executor(self) -> LocalExecutor:
        return LocalExecutor(mode="processes", workers=2)

    def test_worker_killed_from_outside_is_lost_with_the_signal(self, bench: Bench, tmp_path: Path) -> None:
        started = tmp_path / "started"
        order = bench.submit(bodies.meet, started=str(started), release=str(tmp_path / "never"))
        bodies.await_file(started)
        place = next(event.where for event in iter(bench.next_event, None) if hasattr(event, "where"))
        os.kill(int(place.removeprefix("pid ")), signal.SIGKILL)
        end = bench.end_of(order)
        assert isinstance(end, Lost)
        assert "SIGKILL" in end.reason
        assert end.started

    def test_one_process_serves_many_orders(self, bench: Bench) -> None:
        places = set()
        for number in range(20):
            bench.end_of(bench.submit(bodies.echo, value=number))
        places = {event.where for event in bench.events if hasattr(event, "where")}
        assert len(places) <= 2

    def test_workers_end_when_their_driver_is_killed(self, tmp_path: Path) -> None:
        program = tmp_path / "driver.py"
        program.write_text(
            "import sys, pathlib\n"
            "from flowcore.executors import LocalExecutor\n"
            "from flowcore.testing import bodies\n"
            "from flowcore.testing.executors import Bench\n"
            "folder = pathlib.Path(sys.argv[1])\n"
            "bench = Bench(LocalExecutor(mode='processes', workers=1), folder)\n"
            "bench.submit(bodies.meet, started=str(folder / 'started'), release=str(folder / 'never'))\n"
            "print(bench.next_event().where, flush=True)\n"
            "bench.next_event()\n"
        )
        driver = subprocess.Popen([sys.executable, str(program), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert driver.stdout is not None
        worker = int(driver.stdout.readline().removeprefix("pid "))
        driver.kill()
        driver.wait()
        driver.stdout.close()
        pidfd = os.pidfd_open(worker) if _alive(worker) else None
        if pidfd is not None:
            import select

            assert select.select([pidfd], [], [], 10)[0], "the worker outlived its driver by 10 s"
            os.close(pidfd)


class TestScripted(ExecutorConformance):
    def make_executor(self) -> ScriptedExecutor:
        return ScriptedExecutor()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_close_leaves_no_thread_and_no_child(mode: str, tmp_path: Path) -> None:
    before = set(threading.enumerate())
    bench = Bench(LocalExecutor(mode=mode, workers=2), tmp_path)  # type: ignore[arg-type]
    for number in range(5):
        bench.end_of(bench.submit(bodies.echo, value=number))
    bench.close()
    assert set(threading.enumerate()) == before
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    assert not children.exists() or not children.read_text().split()


def test_body_that_outlives_its_cancel_is_named_and_gives_its_place_to_others(tmp_path: Path) -> None:
    bench = Bench(LocalExecutor(mode="threads", workers=1), tmp_path)
    started, release = tmp_path / "started", tmp_path / "release"
    order = bench.submit(bodies.meet, started=str(started), release=str(release))
    bodies.await_file(started)
    bench.executor.cancel(order.attempt_id)
    end = bench.end_of(order)
    assert isinstance(end, Finished)
    assert end.outlived
    other = bench.end_of(bench.submit(bodies.echo, value=3))
    assert isinstance(other, Finished)
    assert other.outcome.status is Status.SUCCEEDED
    release.touch()
    bench.close()


WRONG_SETTINGS = [({"mode": "fibers"}, "inline, threads, processes"), ({"workers": 0}, "from 1 on")]


@pytest.mark.parametrize(("arguments", "text"), WRONG_SETTINGS)
def test_wrong_settings_are_refused_by_name(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        LocalExecutor(**arguments)  # type: ignore[arg-type]
