"""Runs in a real notebook kernel: live progress in one output that is updated in place, and what a cell shows by itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

SETUP = """
import threading, time
import flowcore
from flowcore import dsl
from flowcore.executors import LocalExecutor

@dsl.component
def square(number: int) -> int:
    time.sleep(0.3)
    return number * number

@dsl.component
def total(values: list[int]) -> int:
    return sum(values)

@dsl.component
def broken() -> None:
    raise ValueError("<b>bad</b>")

@dsl.pipeline
def study() -> int:
    with dsl.ParallelFor([1, 2, 3], name="sweep") as number:
        one = square(number=number)
    return total(values=dsl.Collected(one.output)).output
"""


def _execute(folder: Path, *cells: str) -> list[list[Any]]:
    """The outputs of each cell, run one after another in a kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (SETUP, *cells)])
    client = NotebookClient(notebook, timeout=100, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [cell.outputs for cell in notebook.cells[1:]]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    return _execute(
        tmp_path_factory.mktemp("notebook"),
        "run = flowcore.run(study, progress=True)",
        "run",
        "study",
        "study.pipeline",
        "flowcore.Client().list_runs()",
        "run.timeline()",
        "print([thread.name for thread in threading.enumerate() if 'flowcore' in thread.name])",
        "flowcore.run(broken, progress=True, raise_on_failure=False);",
        "flowcore.run(study, progress=True, executor=LocalExecutor('inline')).output",
    )


def _html(output: Any) -> str:
    html: str = output["data"]["text/html"]
    return html


def test_progress_is_one_output_that_ends_with_the_runs_state(outputs: list[list[Any]]) -> None:
    (shown,) = outputs[0]
    assert shown["output_type"] == "display_data"
    html = _html(shown)
    assert "✓ SUCCEEDED" in html
    assert "<svg" in html
    assert "RUNNING" not in re.sub("<style>.*?</style>", "", html)
    assert shown["data"]["text/plain"].startswith("<run ")


def test_a_run_shows_its_state_graph_and_outputs(outputs: list[list[Any]]) -> None:
    html = _html(outputs[1][0])
    for part in ("SUCCEEDED", "study", "<svg", "for each of [1, 2, 3]", "14"):
        assert part in html


@pytest.mark.parametrize("cell", [2, 3])
def test_a_pipeline_shows_its_graph(outputs: list[list[Any]], cell: int) -> None:
    html = _html(outputs[cell][0])
    assert html.startswith("<svg")
    for part in ("sweep", "square", "total"):
        assert f">{part}</text>" in html
    assert "SUCCEEDED</text>" not in html


def test_recorded_runs_show_as_a_table(outputs: list[list[Any]]) -> None:
    html = _html(outputs[4][0])
    assert html.count("<tr>") == 2
    assert "study" in html


def test_a_timeline_shows_its_chart(outputs: list[list[Any]]) -> None:
    assert "sweep.1/square" in _html(outputs[5][0])


def test_no_thread_is_left_in_the_kernel(outputs: list[list[Any]]) -> None:
    assert outputs[6][0]["text"] == "[]\n"


def test_a_failure_is_shown_escaped_in_the_final_state(outputs: list[list[Any]]) -> None:
    html = _html(outputs[7][0])
    assert "ValueError: &lt;b&gt;bad&lt;/b&gt;" in html
    assert "<b>bad" not in html


def test_bodies_on_the_kernels_own_thread_are_shown_too(outputs: list[list[Any]]) -> None:
    progress, result = outputs[8]
    assert "✓ SUCCEEDED" in _html(progress)
    assert result["data"]["text/plain"] == "14"


def test_progress_updates_while_the_run_goes_on(tmp_path: Path) -> None:
    # The kernel's own messages are what a front end would draw; those of the display are kept here as they are sent.
    watch = """
from IPython import get_ipython
sent = []
publish = get_ipython().display_pub.publish
def keep(data, metadata=None, *, transient=None, update=False, **options):
    sent.append((update, (transient or {}).get("display_id"), data.get("text/html", "")))
    return publish(data, metadata, transient=transient, update=update, **options)
get_ipython().display_pub.publish = keep
run = flowcore.run(study, progress=True)
get_ipython().display_pub.publish = publish
print(len(sent) > 2, [update for update, _, _ in sent][:2], len({name for _, name, _ in sent}))
print(any("running" in html and "/3 done" in html for _, _, html in sent))
"""
    (cell,) = _execute(tmp_path, watch)
    assert "".join(output.get("text", "") for output in cell) == "True [False, True] 1\nTrue\n"


def test_outside_of_a_notebook_nothing_of_ipython_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys, flowcore\nfrom flowcore import dsl\n@dsl.component\ndef one() -> int:\n    return 1\n"
        "flowcore.run(one, progress=True, records=None)\n"
        "assert not [name for name in sys.modules if name.lower().startswith(('ipython', 'ipykernel'))]\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True)
