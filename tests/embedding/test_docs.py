"""What docs/embedding.md shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "embedding.md"
SECTION = r"^## ([^\n]*)\n(?:(?!^## ).)*?^```python\n(.*?)^```"
SECTIONS: dict[str, str] = dict(re.findall(SECTION, PAGE.read_text(), re.MULTILINE | re.DOTALL))
PRINTED = {
    "In a thread, with several configurations": "SUCCEEDED SUCCEEDED",
    "In an event loop, and cancellation": "[0, 2, 4]",
    "FastAPI": "8 10",
    "Limits": "SUCCEEDED",
    "After `os.fork`": "2",
    "In tests": "passed",
}


def test_every_example_of_the_page_is_run() -> None:
    assert set(SECTIONS) == set(PRINTED)
    assert PAGE.read_text().count("```python\n") == len(PRINTED) + 1


@pytest.mark.parametrize("section", PRINTED)
def test_example_runs_as_it_stands(section: str, tmp_path: Path) -> None:
    shared = re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert shared is not None
    (tmp_path / "work.py").write_text(shared[1])
    (tmp_path / "example.py").write_text(SECTIONS[section])
    # What FastAPI's own test client warns of is not ours.
    command = [sys.executable, "-W", "ignore::DeprecationWarning:fastapi", "-W", "ignore:Using `httpx`", "example.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == PRINTED[section]
