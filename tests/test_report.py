"""Progress and summaries, as they are printed."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

import flowcore
from flowcore import dsl
from flowcore.dsl import Dataset, Metrics, Output
from flowcore.errors import RunFailed
from flowcore.executors import LocalExecutor
from flowcore.progress import Progress
from flowcore.report import print_runs, print_summary


@dsl.component
def numbers(count: int) -> list[int]:
    return list(range(count))


@dsl.component
def study(number: int, bad: int, metrics: Output[Metrics], table: Output[Dataset]) -> int:
    sys.stdout.write(f"studying {number}\n")
    if number == bad:
        raise ValueError(f"{number} is bad\nand that is a second line")
    metrics.log_metric("score", number / 3)
    Path(table.path).write_text("x" * 1500)
    return number


@dsl.component
def total(values: list[int]) -> int:
    return sum(values)


@dsl.pipeline(name="the study")
def study_all(count: int = 3, bad: int = -1) -> int:
    listed = numbers(count=count)
    with dsl.ParallelFor(listed.output, name="sweep") as number:
        studied = study(number=number, bad=bad)
    with dsl.If(total(values=[1]).output == 2, name="never"):
        total(values=[2])
    return total(values=dsl.Collected(studied.output)).output


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What progress printed before the summary, without the clock."""
    text = capsys.readouterr().out.partition("\n\n")[0]
    lines = text.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines), text
    return [line[9:] for line in lines]


def _summary(run: flowcore.Run, width: int = 80, *, full: bool = False) -> str:
    stream = io.StringIO()
    print_summary(run, console=Console(file=stream, width=width, highlight=False), full=full)
    return stream.getvalue()


def test_plain_progress_is_one_line_a_task_or_loop(capsys: pytest.CaptureFixture[str]) -> None:
    run = flowcore.run(study_all, {"count": 1}, progress=True)
    lines = [re.sub(r"\d+\.\ds", "0.0s", line) for line in _lines(capsys)]
    assert lines[0] == f"run {run.run_id} of the study RUNNING"
    assert lines[-1] == f"run {run.run_id} of the study SUCCEEDED 0.0s"
    assert "numbers SUCCEEDED 0.0s" in lines
    assert any(re.fullmatch(r"sweep SUCCEEDED 0\.0s \(1/1 done, \S+ each\)", line) for line in lines)
    assert not [line for line in lines if "sweep.0" in line]
    assert any(line.startswith("never SKIPPED its condition is false: ") for line in lines)


def test_a_failure_is_told_with_type_and_message_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunFailed):
        flowcore.run(study_all, {"bad": 1}, progress=True)
    assert any(re.fullmatch(r"sweep\.1/study FAILED \d\.\ds ValueError: 1 is bad \.\.\.", line) for line in _lines(capsys))


def test_a_long_loop_is_told_in_counts_and_its_failures_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    flowcore.run(study_all, {"count": 100, "bad": 57}, progress=True, raise_on_failure=False)
    told = [line for line in _lines(capsys) if line.startswith("sweep")]
    assert len(told) <= 13
    assert sum("study" in line for line in told) == 1
    assert any("sweep.57/study FAILED" in line for line in told)
    assert any(re.fullmatch(r"sweep FAILED \d\.\ds \(100/100 done, 1 failed, \S+ each\)", line) for line in told)


def test_inline_bodies_are_told_while_they_run(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    @dsl.component
    def wait() -> None:
        deadline = time.monotonic() + 20
        while "wait RUNNING" not in "".join(seen) and time.monotonic() < deadline:
            time.sleep(0.02)
            seen.append(capsys.readouterr().out)

    flowcore.run(wait, executor=LocalExecutor(mode="inline"), progress=True)
    assert "wait RUNNING" in "".join(seen)


@pytest.mark.parametrize("mode", ["inline", "threads"])
@pytest.mark.usefixtures("capsys")
def test_no_thread_and_no_stream_is_left(mode: str) -> None:
    before, streams = set(threading.enumerate()), (sys.stdout, sys.stderr)
    executor = LocalExecutor(mode=mode)  # type: ignore[arg-type]
    flowcore.run(study_all, progress=True, executor=executor)
    with pytest.raises(RunFailed):
        flowcore.run(study_all, {"bad": 1}, progress=True, executor=executor)
    assert set(threading.enumerate()) == before
    assert (sys.stdout, sys.stderr) == streams


@pytest.mark.usefixtures("capsys")
def test_progress_ends_with_its_block_even_if_the_run_goes_on() -> None:
    release = threading.Event()

    @dsl.component
    def hold() -> None:
        release.wait(30)

    before = set(threading.enumerate())
    run = flowcore.submit(hold)
    try:
        with pytest.raises(RuntimeError, match="mine"), Progress(run):
            raise RuntimeError("mine")
        assert not [thread for thread in threading.enumerate() if "progress" in thread.name]
        assert not run.done
    finally:
        release.set()
        run.result()
    assert set(threading.enumerate()) == before


def test_a_closed_stdout_does_not_disturb_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    assert flowcore.run(study_all, progress=True).state == "SUCCEEDED"


@pytest.mark.parametrize("width", [80, 120])
def test_a_summary_shows_tasks_metrics_outputs_and_places(width: int) -> None:
    run = flowcore.run(study_all, {"count": 2})
    text = _summary(run, width)
    assert re.search(r"^✓ SUCCEEDED  the study in \d+\.\ds$", text, re.MULTILINE)
    assert re.search(r"^  ✓ \.1 study +SUCCEEDED +\d\.\ds  score 0\.3333$", text, re.MULTILINE)
    assert re.search(r"^- never +SKIPPED +its condition is false: .*$", text, re.MULTILINE)
    assert f"artifacts in .flowcore/artifacts/the-study/{run.run_id}/" in text
    assert re.search(r"^  sweep\.1/study/1/[0-9a-f]{8}/table  Dataset, 1\.5 kB$", text, re.MULTILINE)
    assert "the pipeline's outputs\n  Output  1\n" in text
    assert f"run     {run.run_id}\n" in text
    assert text.endswith("record  .flowcore/runs.db\n")
    assert max(map(len, text.splitlines())) <= width


def test_places_are_never_broken_into_lines(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-folder-name"] * 5)
    run = flowcore.run(study_all, {"count": 1}, pipeline_root=deep, records=None)
    assert str(deep.relative_to(tmp_path) / "the-study" / run.run_id) in _summary(run)
    assert "record  in memory, gone with the run's object" in _summary(run)


def test_a_summary_of_a_failure_shows_where_it_was_and_what_the_task_wrote() -> None:
    run = flowcore.run(study_all, {"bad": 1}, raise_on_failure=False)
    text = _summary(run)
    assert "sweep.1/study failed: ValueError: 1 is bad" in text
    assert re.search(r'File ".*test_report\.py", line \d+, in study', text)
    assert "  what it wrote:\n    studying 1\n" in text
    assert re.search(r"✗ \.1 study +FAILED +\d\.\ds +ValueError: 1 is bad \.\.\.", text)


def test_a_summary_folds_long_loops_but_not_their_failures_and_full_shows_all() -> None:
    run = flowcore.run(study_all, {"count": 30, "bad": 7}, raise_on_failure=False)
    text = _summary(run)
    assert "30 iterations, 1 failed" in text
    assert ".7 study" in text
    assert ".8 study" not in text
    assert "and 29 more of loops' iterations" in text
    assert ".8 study" in _summary(run, full=True)


def test_a_stream_without_our_marks_gets_others() -> None:
    run = flowcore.run(study_all, {"count": 1})
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    print_summary(run, console=Console(file=stream, width=80, highlight=False))
    assert b"+ SUCCEEDED  the study" in raw.getvalue()


def test_runs_are_a_table_newest_first() -> None:
    flowcore.run(study_all, {"count": 1})
    flowcore.run(study_all, {"bad": 1}, name="the bad one", raise_on_failure=False)
    stream = io.StringIO()
    print_runs(flowcore.Client().list_runs(), console=Console(file=stream, width=100, highlight=False))
    first, second, third = stream.getvalue().splitlines()
    assert first.split() == ["run", "state", "began", "time", "pipeline"]
    assert "✗ FAILED" in second
    assert second.endswith("the study (the bad one)")
    assert "✓ SUCCEEDED" in third


TERMINAL = """
import time
import flowcore
from flowcore import dsl

@dsl.component
def wait(seconds: float) -> None:
    time.sleep(seconds)

@dsl.pipeline
def waits() -> None:
    with dsl.ParallelFor([0.0, 0.5, 1.0], name="sweep") as seconds:
        wait(seconds=seconds)

flowcore.run(waits, progress=True)
"""


def test_a_terminal_gets_a_live_view_and_then_the_summary(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(TERMINAL)
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    text = b""
    with process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    chunk = os.read(ours, 65536)
                except OSError:
                    break
                if not chunk:
                    break
                text += chunk
            elif process.poll() is not None:
                break
    os.close(ours)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())
    assert process.returncode == 0
    assert re.search(r"sweep +\d\.\ds +1/3 done, [12] running", shown)
    assert "RUNNING" not in shown
    assert "✓ SUCCEEDED  waits in" in shown
    assert text.endswith(b"runs.db\r\n")
