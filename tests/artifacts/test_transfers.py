"""Files that go up in a stream, as on any file system without S3's parts: a failure completes nothing."""

from __future__ import annotations

import gc
import hashlib
import json
import os
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from flowcore.artifacts.digests import digest_path
from flowcore.artifacts.store import ArtifactStore
from flowcore.artifacts.transfers import PART_BYTES
from flowcore.errors import StorageError


class BufferedFile(AbstractBufferedFile):
    """Completes what it holds when it is closed, as fsspec's buffered files do."""

    def _upload_chunk(self, final: bool = False) -> bool:
        if self.fs.broken and self.offset:
            raise ValueError("the second part is refused")
        self.fs.parts.setdefault(self.path, []).append(self.buffer.getvalue())
        if final:
            self.fs.files[self.path] = b"".join(self.fs.parts.pop(self.path))
        return True

    def _initiate_upload(self) -> None:
        pass

    def discard(self) -> None:
        self.fs.parts.pop(self.path, None)


class BufferedFileSystem(AbstractFileSystem):
    """An object store of few verbs."""

    protocol: ClassVar[str] = "buffered"
    files: ClassVar[dict[str, bytes]] = {}
    parts: ClassVar[dict[str, list[bytes]]] = {}
    broken: ClassVar[bool] = False

    def _open(self, path: str, mode: str = "rb", **options: Any) -> BufferedFile:
        return BufferedFile(self, path, mode, block_size=PART_BYTES // 2)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self.files[path] = value

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        return self.files[path][start:end]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        if path not in self.files:
            raise FileNotFoundError(path)
        return {"name": path, "size": len(self.files[path]), "type": "file"}

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        pass

    def rm_file(self, path: str) -> None:
        del self.files[path]


fsspec.register_implementation("buffered", BufferedFileSystem, clobber=True)


@pytest.mark.parametrize("broken", [False, True])
def test_a_stream_that_fails_completes_nothing(broken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(BufferedFileSystem, "broken", broken)
    monkeypatch.setattr(BufferedFileSystem, "files", {})
    data = os.urandom(PART_BYTES) * 2
    with ArtifactStore("buffered://bucket/runs", cache_dir=str(tmp_path)) as store:
        execution = store.begin(store.join("run", "task", "1"))
        output = execution.output("model", "system.Model")
        Path(output.path).write_bytes(data)
        if broken:
            with pytest.raises(StorageError, match=r"/model' cannot be written: ValueError: the second part is refused"):
                execution.seal_artifact(output)
            gc.collect()
            assert BufferedFileSystem.files == BufferedFileSystem.parts == {}
        else:
            ref = execution.seal_artifact(output)
            assert ref.sha256 == hashlib.sha256(data).hexdigest()
            assert Path(store.fetch(ref)).read_bytes() == data


def test_a_large_directory_is_hashed_by_several_threads_to_the_same_digest(tmp_path: Path) -> None:
    lines = []
    for number in range(5):
        data = bytes([number]) * (8 << 20)
        (tmp_path / "tree" / str(number)).parent.mkdir(exist_ok=True)
        (tmp_path / "tree" / str(number)).write_bytes(data)
        lines.append(json.dumps([str(number), len(data), hashlib.sha256(data).hexdigest()]) + "\n")
    found = digest_path(str(tmp_path / "tree"), "tree")
    assert found is not None
    assert found.sha256 == hashlib.sha256("".join(lines).encode()).hexdigest()
