"""Folders at the paths that tasks name: shared where alike, else one after the other, gone afterwards, over nothing of others."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcore.errors import StorageError
from flowcore.mounts import Mount, mounted, obstacle, sweep


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files that is empty again after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def test_files_are_private_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "creds"
    with mounted([Mount(str(path), files={"user": b"joe", "password": b"\xff"})]):
        assert {file.name: file.read_bytes() for file in path.iterdir()} == {"user": b"joe", "password": b"\xff"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}
    assert not (tmp_path / "a").exists()


def test_folder_is_linked_and_kept(tmp_path: Path) -> None:
    folder, path = tmp_path / "data", tmp_path / "mnt"
    folder.mkdir()
    with mounted([Mount(str(path), str(folder))]):
        (path / "new").write_text("x")
    assert not path.is_symlink()
    assert (folder / "new").read_text() == "x"


def test_everything_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), mounted([Mount(str(tmp_path / "x" / "a")), Mount(str(tmp_path / "x" / "b"))]):
        raise RuntimeError
    assert not (tmp_path / "x").exists()


def test_folder_that_was_there_is_kept_with_what_others_put_beside(tmp_path: Path) -> None:
    with mounted([Mount(str(tmp_path / "x" / "a"))]):
        (tmp_path / "x" / "mine").touch()
    assert [file.name for file in (tmp_path / "x").iterdir()] == ["mine"]


def test_nothing_is_put_over_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.mkdir()
    with pytest.raises(StorageError, match="something is there already, and nothing is put over it; choose"):
        mounted([Mount(str(path))]).__enter__()
    assert obstacle(str(path)) is not None
    assert path.is_dir()


def test_obstacle_names_what_this_user_may_not_write() -> None:
    if os.geteuid() == 0:
        assert obstacle("/etc/flowcore-creds") is None
        assert "cannot write in '/proc/version'" in str(obstacle("/proc/version/creds"))
    else:
        assert "this user cannot write in '/etc'; choose a mount_path that it can make" in str(obstacle("/etc/flowcore/creds"))


def test_foreign_base_is_refused(temporary: Path, tmp_path: Path) -> None:
    base = temporary / f"flowcore-mounts-{os.getuid()}"
    base.symlink_to(tmp_path)
    with pytest.raises(StorageError, match="is not a private folder of this user"):
        mounted([Mount(str(tmp_path / "a"))]).__enter__()
    base.unlink()


def test_same_files_are_shared_and_stay_for_the_last(tmp_path: Path) -> None:
    mount = Mount(str(tmp_path / "creds"), files={"key": b"1"})
    first = mounted([mount])
    with mounted([mount]):
        first.__enter__()
    assert (tmp_path / "creds" / "key").read_bytes() == b"1"
    first.__exit__(None, None, None)
    assert not (tmp_path / "creds").is_symlink()


@pytest.mark.parametrize("mount", [Mount("creds", files={"key": b"2"}), Mount("creds", alone=True)])
def test_another_one_waits_until_the_path_is_free(tmp_path: Path, mount: Mount) -> None:
    path = tmp_path / "creds"
    seen: list[list[str]] = []

    def other() -> None:
        with mounted([Mount(str(path), files=mount.files, alone=mount.alone)]):
            seen.append([file.name for file in path.iterdir()])

    thread = threading.Thread(target=other)
    with mounted([Mount(str(path), files={"key": b"1", "more": b""})]):
        thread.start()
        thread.join(0.05)
        assert not seen
    thread.join(30)
    assert seen == [sorted(mount.files)]


def test_many_threads_get_what_they_want_at_one_path(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "creds"
    wrong: list[str] = []

    def use(number: int) -> None:
        content = str(number % 3).encode()
        for _ in range(20):
            with mounted([Mount(str(path), files={"key": content}, alone=number == 5)]):
                if (path / "key").read_bytes() != content:
                    wrong.append(str(number))

    threads = [threading.Thread(target=use, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not (tmp_path / "deep").exists()


KILLED = """
import sys
from flowcore.mounts import Mount, mounted
with mounted([Mount(sys.argv[1], files={"key": b"secret"})]):
    print("there", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def left(tmp_path: Path) -> str:
    """A path at which a killed process left its files."""
    path = str(tmp_path / "deep" / "creds")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        sweep()
        assert os.path.islink(path), "what is in use is not swept away"
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    assert os.path.islink(path)
    return path


def test_what_a_killed_process_left_is_swept_away(left: str) -> None:
    sweep()
    assert not os.path.lexists(os.path.dirname(left))


def test_what_a_killed_process_left_is_replaced(left: str) -> None:
    assert obstacle(left) is None
    with mounted([Mount(left, files={"other": b"1"})]):
        assert os.listdir(left) == ["other"]
    assert not os.path.lexists(os.path.dirname(left))


def test_sweep_finds_nothing_where_nothing_was() -> None:
    sweep()
