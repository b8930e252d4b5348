"""A file that is hashed while it is written: its digest is that of its contents, and is believed only while nobody touched it."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcore.artifacts import digests
from flowcore.artifacts.digests import digest_path
from flowcore.artifacts.hashed_file import HashedFile
from flowcore.errors import StorageError

MB = 1024 * 1024


def written(path: Path, *parts: object) -> HashedFile:
    file = HashedFile(str(path))
    for part in parts:
        file.write(part)
    file.close()
    return file


@given(sizes=st.lists(st.sampled_from([0, 1, 1000, 300_000, 9 * MB]), max_size=6))
def test_any_sequence_of_writes_gives_the_file_s_own_digest(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    path = tmp_path_factory.mktemp("any") / "f"
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]
    file = written(path, *parts)
    assert file.contents is not None
    assert path.read_bytes() == b"".join(parts)
    assert (file.contents.size_bytes, file.contents.sha256) == (sum(sizes), hashlib.sha256(b"".join(parts)).hexdigest())
    path.unlink()


def test_what_was_written_may_be_changed_after_write(tmp_path: Path) -> None:
    buffer = bytearray(b"a" * 20 * MB)
    file = HashedFile(str(tmp_path / "f"))
    file.write(buffer)
    buffer[:] = b"b" * len(buffer)
    file.write(memoryview(buffer))
    buffer[:] = b"c" * len(buffer)
    file.close()
    assert file.contents == digest_path(str(tmp_path / "f"), "f")


def test_arrow_buffers_are_not_copied(tmp_path: Path) -> None:
    data = pa.py_buffer(os.urandom(20 * MB))
    before = pa.total_allocated_bytes()
    file = written(tmp_path / "f", data)
    assert pa.total_allocated_bytes() == before
    assert file.contents == digest_path(str(tmp_path / "f"), "f")


def test_a_sealed_file_is_not_read_again(tmp_path: Path, local, monkeypatch: pytest.MonkeyPatch) -> None:
    output = local.output("data", "system.Dataset")
    output.write(pa.table({"a": [1]}))
    read: list[str] = []
    monkeypatch.setattr(digests, "_hash", lambda entry, what: read.append(entry.path))
    ref = local.seal_artifact(output)
    assert read == []
    assert ref.sha256 == hashlib.sha256(Path(output.path).read_bytes()).hexdigest()


def _append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


def _overwrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"X")


def _replace(path: Path, keep_times: bool = False) -> None:
    found, copy = path.stat(), path.with_name("copy")
    copy.write_bytes(b"X" + path.read_bytes()[1:])
    if keep_times:
        os.utime(copy, ns=(found.st_atime_ns, found.st_mtime_ns))
    copy.replace(path)


CHANGES = {
    "in place at once": _overwrite,
    "appended": _append,
    "replaced by a copy": _replace,
    "replaced with the same times": lambda path: _replace(path, keep_times=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_its_author_changed_afterwards_is_hashed_as_it_is(local, change: str) -> None:
    for turn in range(20):  # within one step of the file system's clock or across two
        output = local.output(f"data-{turn}", "system.Dataset")
        output.write(b"some bytes of data")
        path = Path(output.path)
        CHANGES[change](path)
        ref = local.seal_artifact(output)
        assert ref.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.read_bytes() != b"some bytes of data"


def test_set_path_after_write_seals_what_is_there(local, tmp_path: Path) -> None:
    output = local.output("data", "system.Dataset")
    output.write(b"first")
    (tmp_path / "other").write_bytes(b"second")
    output.set_path(str(tmp_path / "other"))
    assert local.seal_artifact(output).sha256 == hashlib.sha256(b"second").hexdigest()


def test_a_directory_in_the_file_s_place_is_hashed_as_it_is(local) -> None:
    output = local.output("data", "system.Dataset")
    output.write(b"file")
    os.unlink(output.path)
    os.mkdir(output.path)
    Path(output.path, "part").write_bytes(b"part")
    assert local.seal_artifact(output).is_directory


def test_a_failed_write_ends_its_thread_and_claims_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = HashedFile(str(tmp_path / "f"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (30 * MB, hard))
    try:
        with pytest.raises(StorageError, match="cannot be written: OSError"):
            file.write(b"x" * 50 * MB)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.abandon()
    assert file.closed
    assert file.contents is None
    assert "flowcore-hash" not in {thread.name for thread in threading.enumerate()}


def test_small_files_need_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread.name} was started")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert written(tmp_path / "f", b"x" * MB, b"y").contents == digest_path(str(tmp_path / "f"), "f")


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises(StorageError, match="FileExistsError"):
        HashedFile(str(tmp_path / "f"))
    assert (tmp_path / "f").read_bytes() == b"old"
