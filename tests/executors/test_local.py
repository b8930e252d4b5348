"""The local executor in each mode against the published suite, and what it promises beyond it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flowcore.errors import UsageError
from flowcore.executor import Finished, Lost, Status
from flowcore.executors import LocalExecutor
from flowcore.testing import ExecutorConformance, ScriptedExecutor, bodies
from flowcore.testing.executors import Bench
from tests.runner import pipelines


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
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    others = children.read_text().split() if children.exists() else []  # servers of other tests
    before = set(threading.enumerate())
    bench = Bench(LocalExecutor(mode=mode, workers=2), tmp_path)  # type: ignore[arg-type]
    for number in range(5):
        bench.end_of(bench.submit(bodies.echo, value=number))
    bench.close()
    assert set(threading.enumerate()) == before
    assert not children.exists() or children.read_text().split() == others


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


def ended(pid: int) -> bool:
    """Whether a process is gone, or at most waits to be reaped by its new parent."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def test_two_orders_in_quick_succession_run_at_once_on_two_workers(tmp_path: Path) -> None:
    for number in range(30):
        first, second = str(tmp_path / f"{number}-a"), str(tmp_path / f"{number}-b")
        bench = Bench(LocalExecutor(mode="threads", workers=2), tmp_path)
        # Each waits for the other: were the second to wait for the first one's worker, both would time out.
        pairs = [(first, second), (second, first)]
        orders = [bench.submit(bodies.meet, started=started, release=release) for started, release in pairs]
        ends = [bench.end_of(order) for order in orders]
        assert [end.outcome.status for end in ends if isinstance(end, Finished)] == [Status.SUCCEEDED] * 2
        bench.close()


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_order_canceled_while_a_worker_takes_it_does_not_run_on(mode: str, tmp_path: Path) -> None:
    for number in range(40 if mode == "threads" else 5):
        bench = Bench(LocalExecutor(mode=mode, workers=1), tmp_path)  # type: ignore[arg-type]
        started, release = tmp_path / f"{number}-started", tmp_path / f"{number}-release"
        order = bench.submit(bodies.meet, started=str(started), release=str(release))
        bench.executor.cancel(order.attempt_id)
        end = bench.end_of(order)
        threading.Timer(5.0 if mode == "processes" else 0.5, release.touch).start()
        bench.close()  # returns without the release: nothing that can be ended runs on
        assert not release.exists()
        assert isinstance(end, Finished)
        assert end.outcome.status is Status.CANCELED
        assert end.outlived is False or mode == "threads"
        release.touch()


def test_close_starts_nothing_that_still_waits(tmp_path: Path) -> None:
    bench = Bench(LocalExecutor(mode="threads", workers=1), tmp_path)
    started, release, queued = tmp_path / "started", tmp_path / "release", tmp_path / "queued"
    bench.submit(bodies.meet, started=str(started), release=str(release))
    for _ in range(1000):
        bench.submit(bodies.meet, started=str(queued), release=str(release))
    bodies.await_file(started)
    bench.close()
    assert not queued.exists()
    assert len(bench.ends()) == 1001
    release.touch()


def test_canceled_worker_takes_the_processes_of_its_body_with_it(tmp_path: Path) -> None:
    bench = Bench(LocalExecutor(mode="processes", workers=1), tmp_path)
    mark = tmp_path / "child"
    order = bench.submit(pipelines.start_child, mark=str(mark))
    bodies.await_file(mark)
    bench.executor.cancel(order.attempt_id)
    bench.end_of(order)
    bench.close()
    assert ended(int(mark.read_text()))


def test_dead_worker_is_lost_although_a_fork_of_it_lives(tmp_path: Path) -> None:
    bench = Bench(LocalExecutor(mode="processes", workers=1), tmp_path)
    mark = tmp_path / "child"
    end = bench.end_of(bench.submit(pipelines.die_before_its_child, mark=str(mark)))
    bench.close()
    assert isinstance(end, Lost)
    assert "exit code 9" in end.reason
    assert ended(int(mark.read_text()))


def test_order_that_cannot_be_sent_is_a_failed_task(tmp_path: Path) -> None:
    bench = Bench(LocalExecutor(mode="processes", workers=1), tmp_path)
    order = bench.order(bodies.echo, value=1)
    order.storage_options = {"session": object()}
    bench.send(order)
    end = bench.end_of(order)
    assert isinstance(end, Finished)
    assert end.outcome.error is not None
    assert "not JSON serializable" in end.outcome.error.message
    assert isinstance(bench.end_of(bench.submit(bodies.echo, value=1)), Finished)
    bench.close()


WRONG_SETTINGS = [({"mode": "fibers"}, "inline, threads, processes"), ({"workers": 0}, "from 1 on")]


@pytest.mark.parametrize(("arguments", "text"), WRONG_SETTINGS)
def test_wrong_settings_are_refused_by_name(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        LocalExecutor(**arguments)  # type: ignore[arg-type]
