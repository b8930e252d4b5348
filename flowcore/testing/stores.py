"""What every artifact store promises, as tests to inherit: the checks of ``store_checks`` with pytest's fixtures.

    class TestMyStore(StoreConformance):
        storage_options = {"key": "value"}

        @pytest.fixture
        def store_root(self):
            return "s3://bucket/somewhere-empty"

``flowcore storage check URL`` runs the same checks without pytest.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if "flowcore.testing.store_checks" not in sys.modules:
    pytest.register_assert_rewrite("flowcore.testing.store_checks")

from flowcore.artifacts.store import ArtifactStore, Execution
from flowcore.testing.store_checks import StoreChecks


class StoreConformance(StoreChecks):
    """A subclass gives the fixture ``store_root``, an empty place for each test."""

    @pytest.fixture
    def store_root(self) -> str:
        raise NotImplementedError("give a fixture store_root that returns an empty root")

    @pytest.fixture
    def store(self, store_root: str, tmp_path: Path) -> Iterator[ArtifactStore]:
        with ArtifactStore(store_root, self.storage_options, cache_dir=str(tmp_path / "cache")) as store:
            store.check()
            yield store

    @pytest.fixture
    def attempt(self, store: ArtifactStore) -> str:
        return store.join("pipeline", "run", "task", "1")

    @pytest.fixture
    def execution(self, store: ArtifactStore, attempt: str) -> Execution:
        return store.begin(attempt)


for _check in vars(StoreChecks).values():
    if hasattr(_check, "cases"):
        pytest.mark.parametrize(*_check.cases)(_check)
