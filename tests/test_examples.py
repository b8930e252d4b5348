"""Both examples end well in every mode, run as a user runs them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import flowcore

EXAMPLES = Path(__file__).parents[1] / "examples"
pytest.importorskip("sklearn")


def _run(example: str, mode: str, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / example), "--mode", mode]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_breast_cancer_is_trained_and_deployed(mode: str, tmp_path: Path) -> None:
    printed = _run("breast_cancer.py", mode, tmp_path)
    found = re.fullmatch(r"Model deployed with accuracy (0\.\d+)", printed.strip().splitlines()[-1])
    assert found is not None, printed
    assert float(found[1]) > 0.9

    client = flowcore.Client(records=tmp_path / ".flowcore" / "runs.db")
    run = client.get_run(client.list_runs()[0].run_id)
    assert run.state == "SUCCEEDED"
    train = run.tasks["train-and-evaluate"]
    assert train.metrics["accuracy"] == train.output
    assert Path(train.outputs["model"].path).stat().st_size > 1000
    assert run.tasks["validate-data"].output is True


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_search_finds_the_best_of_its_parameter_sets(mode: str, tmp_path: Path) -> None:
    printed = _run("search.py", mode, tmp_path)
    assert re.search(r"^Best: \d+ trees of depth 4, accuracy 0\.9\d\d$", printed, re.MULTILINE), printed

    client = flowcore.Client(records=tmp_path / ".flowcore" / "runs.db")
    run = client.get_run(client.list_runs()[0].run_id)
    scores = [run.tasks[f"sweep.{index}/train"].output for index in range(len(run.arguments["parameter_sets"]))]
    assert run.output["accuracy"] == max(scores)
    assert run.output == {"accuracy": max(scores), **run.arguments["parameter_sets"][scores.index(max(scores))]}
