"""The published store suite on a remote file system with real directories, like SFTP: a stand-in on local disk."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from flowcore.artifacts.store import ArtifactStore
from flowcore.errors import StorageError
from flowcore.testing.stores import StoreConformance


class ServerFileSystem(LocalFileSystem):
    protocol: ClassVar[str] = "server"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("server://").rstrip("/")


fsspec.register_implementation("server", ServerFileSystem, clobber=True)


class TestServerStore(StoreConformance):
    @pytest.fixture
    def store_root(self, tmp_path: Path) -> str:
        return f"server://{tmp_path}/root"


def test_a_root_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"server://.*cannot be written: \w+Error.*credentials"):
        ArtifactStore(f"server://{tmp_path}/file/root").check()
