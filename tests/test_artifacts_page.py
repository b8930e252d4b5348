"""What docs/artifacts.md promises: its examples run, and its table is complete."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flowcore.artifacts.formats import FORMATS, KINDS

PAGE = (Path(__file__).parents[1] / "docs" / "artifacts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["pipeline", "views", "models"])
def test_the_examples_run(block: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(block, encoding="utf-8")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() in ("", "2.0 (10, 2) ['x', 'y'] {'slope': 2.0}")


def test_the_table_names_every_type_that_can_be_written() -> None:
    table = PAGE.partition("## What `write` knows")[2].partition("Where data")[0]
    assert not [kind for kind in KINDS if kind != "numpy.memmap" and kind.rpartition(".")[2] not in table]


def test_the_page_names_every_way_to_read_that_is_not_a_type_s_own() -> None:
    own = {"series", "batch", "bytearray", "json", "text"}
    views = {view for layout in FORMATS.values() for view in layout.views}
    assert not [view for view in views - own if f'"{view}"' not in PAGE]
