"""The fixture that every host's test uses: what is here after a run is what was here before it."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.embedding.traces import changes, traces


@pytest.fixture
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporary files go to a folder that only the test uses."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))


@pytest.fixture
def nothing_left(own_temporary_folder: None) -> Iterator[None]:
    """Compare every trace of a run before and after the test."""
    gc.collect()  # what earlier tests left to the collector is not ours
    before = traces()
    yield
    assert changes(before, traces()) == {}
