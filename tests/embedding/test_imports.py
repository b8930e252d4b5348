"""What a host loads: importing flowcore and a run of parameters load no data library. Its cost is in ``benchmarks.embedding``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"ray", "kubernetes", "pyarrow", "networkx", "pandas", "numpy"}


def loaded_by(tmp_path: Path, program: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after a program."""
    script = tmp_path / "host.py"
    script.write_text(f"{program}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))\n")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_no_data_library(tmp_path: Path) -> None:
    assert not HEAVY & loaded_by(tmp_path, "import flowcore")


@pytest.mark.parametrize("mode", ["inline", "threads", "processes"])
def test_run_of_parameters_loads_no_data_library(tmp_path: Path, mode: str) -> None:
    program = f"""
import flowcore
from flowcore import dsl
from flowcore.executors import LocalExecutor

@dsl.component
def double(x: int) -> int:
    return 2 * x

@dsl.pipeline
def doubled(x: int = 4) -> int:
    with dsl.ParallelFor([1, 2]) as item:
        double(x=item)
    return double(x=x).output

if __name__ == "__main__":
    assert flowcore.run(doubled, executor=LocalExecutor({mode!r})).output == 8
"""
    assert not HEAVY & loaded_by(tmp_path, program)
