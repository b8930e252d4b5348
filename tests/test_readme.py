"""What the README promises: its example runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import flowcore.dsl

README = Path(__file__).parents[1] / "README.md"


def _blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_example_runs_as_it_stands(tmp_path: Path) -> None:
    example = tmp_path / "tour.py"
    example.write_text(_blocks()[0], encoding="utf-8")
    done = subprocess.run([sys.executable, "tour.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "SUCCEEDED 4890"
    assert f"`{done.stdout.strip()}`" in README.read_text(encoding="utf-8")


def test_the_example_is_short() -> None:
    assert len(_blocks()[0].splitlines()) <= 40


def test_what_is_not_there_yet_is_not_there() -> None:
    missing = README.read_text(encoding="utf-8").partition("## Not there yet")[2]
    assert "RayExecutor" in missing
    assert "ExitHandler" in missing
    assert not hasattr(flowcore.dsl, "ExitHandler")
