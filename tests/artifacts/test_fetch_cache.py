"""The fetch cache: its bound, what goes first, what stays while somebody has it open, in this process and in others."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowcore.artifacts.fetch_cache import FetchCache
from flowcore.artifacts.store import ArtifactStore
from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import StorageError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


class Source:
    """Artifacts of 1,000 bytes in a store of their own, fetched through caches of 2,500."""

    def __init__(self, folder: Path) -> None:
        self.root, self.folder = f"memory://flowcore-{os.urandom(4).hex()}", folder
        with ArtifactStore(self.root) as store:
            execution = store.begin(store.join("run", "task", "1"))
            self.refs = {}
            for name in "abcd":
                output = execution.output(name, "system.Dataset")
                Path(output.path).write_text(name * 1_000)
                self.refs[name] = execution.seal_artifact(output)

    def store(self) -> ArtifactStore:
        return ArtifactStore(self.root, cache_dir=str(self.folder), cache_bytes=2_500)

    def kept(self) -> str:
        return "".join(sorted(file.name for file in self.folder.glob("[!.]*/*/*")))


@pytest.fixture
def source(folder: Path) -> Source:
    return Source(folder)


def use(store: ArtifactStore, ref: ArtifactRef) -> None:
    """As a task does: open it, read it, let it go."""
    assert Path(store.open_input(ref).path).read_text() == ref.name * 1_000
    gc.collect()


def test_what_was_used_longest_ago_goes_first(source: Source) -> None:
    with source.store() as store:
        for name in "ab":
            use(store, source.refs[name])
            os.utime(source.folder / source.refs[name].sha256[:2] / source.refs[name].sha256, (1_000, 1_000 + ord(name)))
        use(store, source.refs["a"])
        use(store, source.refs["c"])
        assert source.kept() == "ac"


def test_nothing_goes_while_an_artifact_has_it_open(source: Source) -> None:
    with source.store() as store:
        opened = [store.open_input(source.refs[name]) for name in "abc"]
        paths = [artifact.path for artifact in opened]
        use(store, source.refs["d"])
        assert source.kept() == "abcd"
        assert [Path(path).read_text()[0] for path in paths] == ["a", "b", "c"]
        del opened
        gc.collect()
        store.fetch(source.refs["d"])
        use(store, ArtifactRef(**{**source.refs["a"].to_json(), "name": "a"}))
        assert "d" in source.kept()


def test_what_another_process_has_open_stays_until_that_process_is_gone(source: Source, tmp_path: Path) -> None:
    code = (
        "import sys; from flowcore.artifacts.fetch_cache import FetchCache\n"
        "cache = FetchCache(sys.argv[1], 2_500); cache.pin(sys.argv[2]); print('pinned', flush=True); sys.stdin.read()"
    )
    first = source.refs["a"].sha256
    with source.store() as store:
        use(store, source.refs["a"])
        command = [sys.executable, "-c", code, str(source.folder), f"{first[:2]}/{first}"]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == b"pinned\n"
        for name in "bcd":
            use(store, source.refs[name])
        assert source.kept() == "ad"
        other.kill()
        other.wait()
        other.stdin.close()
        other.stdout.close()
        os.utime(source.folder / first[:2] / first, (1_000, 1_000))
        use(store, source.refs["b"])
        assert source.kept() == "bd"


def test_what_is_larger_than_the_cache_is_fetched_all_the_same(source: Source, folder: Path) -> None:
    with ArtifactStore(source.root, cache_dir=str(folder), cache_bytes=10) as store:
        use(store, source.refs["a"])
        assert source.kept() == "a"
        use(store, source.refs["b"])
        assert source.kept() == "b"


def test_the_bound_holds_for_many_artifacts_without_looking_at_all_each_time(folder: Path) -> None:
    cache = FetchCache(str(folder), 1_000)
    totals = [0]
    for number in range(500):
        key = f"{number % 256:02x}/{number:064x}"
        cache.pin(key, holder=key)
        cache.make_room(10)
        totals.append(int((folder / ".total").read_text()))
        (folder / key).mkdir(parents=True)
        (folder / key / "data").write_bytes(b"x" * 10)
        cache.release(key)
    assert len(list(folder.glob("[!.]*/*/data"))) <= 100
    assert max(totals) <= 1_000
    assert 1 <= sum(after < before for before, after in itertools.pairwise(totals)) <= 50
    cache.close()


def test_threads_that_want_the_same_fetch_it_once(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    with source.store() as store:
        begun, makes = threading.Barrier(8), []
        made = os.replace

        def counted(old: str, new: str) -> None:
            makes.append(new)
            made(old, new)

        monkeypatch.setattr(os, "replace", counted)

        def fetch(_: int) -> str:
            begun.wait()
            return store.fetch(source.refs["a"])

        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(fetch, range(8)))) == 1
        assert len(makes) == 1


def test_processes_that_share_a_cache_all_read_whole_contents(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(8):
        (tmp_path / "source" / str(number)).write_text(f"{number}" * 1_000)
    code = (
        "import os, sys, hashlib\n"
        "import tests.artifacts.server_files\n"
        "from flowcore.artifacts.store import ArtifactStore\n"
        "from flowcore.artifacts.types import ArtifactRef\n"
        "root = 'server://' + sys.argv[1]\n"
        "with ArtifactStore(root, cache_dir=sys.argv[2], cache_bytes=2_500) as store:\n"
        "    for turn in range(40):\n"
        "        text = str(turn * int(sys.argv[3]) % 8) * 1_000\n"
        "        digest = hashlib.sha256(text.encode()).hexdigest()\n"
        "        ref = ArtifactRef(text[0], 'system.Dataset', f'{root}/source/{text[0]}', size_bytes=1_000, sha256=digest)\n"
        "        artifact = store.open_input(ref)\n"
        "        assert open(artifact.path).read() == text\n"
        "        assert open(artifact.path).read() == text\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "cache")]
    workers = [subprocess.Popen([*command, str(step)], cwd=Path(__file__).parents[2]) for step in (1, 3, 5)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert sum(file.stat().st_size for file in (tmp_path / "cache").glob("[!.]*/*/*")) <= 3 * 2_500


def test_a_cache_that_cannot_be_written_is_a_storage_error(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        ArtifactStore(source.root, cache_dir=str(tmp_path / "file" / "cache")) as store,
        pytest.raises(StorageError, match=r"file/cache.*cannot be written.*part of this path is a file"),
    ):
        store.fetch(source.refs["a"])


@pytest.mark.parametrize("size_bytes", [0, -1])
def test_a_cache_that_holds_nothing_is_refused(size_bytes: int) -> None:
    with pytest.raises(UsageError, match=f"a fetch cache of {size_bytes} bytes"):
        ArtifactStore("memory://x", cache_bytes=size_bytes)


def test_a_store_takes_its_cache_along_when_it_is_pickled(folder: Path) -> None:
    again = pickle.loads(pickle.dumps(ArtifactStore("memory://x", cache_dir=str(folder), cache_bytes=5)))
    assert (again.cache_dir, again.cache_bytes) == (str(folder), 5)


def test_without_a_folder_nothing_is_left_after_close(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with ArtifactStore(source.root) as store:
        artifact = store.open_input(source.refs["a"])
        assert Path(artifact.path).is_relative_to(tmp_path / "temporary")
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_fork_pins_for_itself_and_leaves_its_parent_s_pins(folder: Path) -> None:
    cache = FetchCache(str(folder), 1_000)
    cache.pin("aa/one")
    child = os.fork()
    if child == 0:
        cache.pin("aa/two")
        os._exit(0 if len(os.listdir(folder / ".pins")) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    cache.close()
