"""The published store suite on a remote file system with real directories, like SFTP: a stand-in on local disk."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.artifacts.server_files  # noqa: F401  registers server://
from flowcore.artifacts.store import ArtifactStore
from flowcore.errors import StorageError
from flowcore.testing.stores import StoreConformance


class TestServerStore(StoreConformance):
    @pytest.fixture
    def store_root(self, tmp_path: Path) -> str:
        return f"server://{tmp_path}/root"


def test_a_root_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"server://.*cannot be written: \w+Error.*credentials"):
        ArtifactStore(f"server://{tmp_path}/file/root").check()
