"""A real notebook, executed by nbclient in a real kernel; nbclient's own traces are why this is a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.embedding.processes import environment

AUTHORING = """
import flowcore
from flowcore import dsl
from flowcore.executors import LocalExecutor

@dsl.component
def double(x: int) -> int:
    print('doubling', x)
    return 2 * x

@dsl.pipeline
def doubled(x: int = 3) -> int:
    return double(x=x).output

from tests.embedding.traces import changes, traces
before = traces()
"""


@pytest.mark.usefixtures("own_temporary_folder")
def test_notebook_runs_and_awaits_pipelines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    cells = [
        AUTHORING,
        "[flowcore.run(doubled, executor=LocalExecutor(mode)).output for mode in ('inline', 'threads', 'processes')]",
        "run = await flowcore.arun(doubled, {'x': 5})\nrun.output",
        "{kind: change for kind, change in changes(before, traces()).items() if kind not in ('context variables', 'open files')}",
        "[line.text for line in run.logs()]",
        "print('the notebook prints as before')",
    ]
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    results = [result(cell) for cell in notebook.cells]
    assert results == [None, "[6, 6, 6]", "10", "{}", "['doubling 5\\n']", None]
    assert printed(notebook.cells[1]) == "doubling 3\n", "only inline bodies print where they are called"
    assert printed(notebook.cells[5]) == "the notebook prints as before\n"


def result(cell: Any) -> str | None:
    """The text of a cell's value."""
    found = [output["data"]["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
    return found[0] if found else None


def printed(cell: Any) -> str:
    return "".join(output["text"] for output in cell.outputs if output.output_type == "stream")
