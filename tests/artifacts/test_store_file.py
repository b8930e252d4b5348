"""The published store suite on a local directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowcore.testing.stores import StoreConformance


class TestFileStore(StoreConformance):
    @pytest.fixture
    def store_root(self, tmp_path: Path) -> str:
        return str(tmp_path / "root")


class TestFileUrlStore(StoreConformance):
    @pytest.fixture
    def store_root(self, tmp_path: Path) -> str:
        return f"file://{tmp_path}/my root/"
