"""The published store suite on fsspec's memory file system, and what only a store of copies shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from flowcore.artifacts.store import ArtifactStore, fetch_uri
from flowcore.artifacts.types import Artifact, ArtifactRef
from flowcore.errors import ArtifactError, StorageError
from flowcore.testing.stores import StoreConformance


class TestMemoryStore(StoreConformance):
    @pytest.fixture
    def store_root(self) -> Iterator[str]:
        root = f"memory://flowcore-{os.urandom(4).hex()}/runs"
        yield root
        fs, path = fsspec.core.url_to_fs(root)
        for name in fs.find(path):
            fs.rm_file(name)

    def test_fetched_copies_lie_under_their_digest(self, store: ArtifactStore, execution, tmp_path: Path) -> None:
        ref = self.sealed(execution, "model", b"weights")
        assert store.fetch(ref) == str(tmp_path / "cache" / ref.sha256[:2] / ref.sha256 / "model")

    def test_damaged_cache_entries_are_fetched_again(self, store: ArtifactStore, execution) -> None:
        file, tree = self.sealed(execution, "model", b"weights"), self.sealed(execution, "tree", {"a": b"1"})
        for ref, inside in ((file, ""), (tree, "a")):
            damaged = Path(store.fetch(ref), inside)
            damaged.chmod(0o644)
            damaged.write_bytes(b"!")
        assert Path(store.fetch(file)).read_bytes() == b"weights"
        assert self.tree(store.fetch(tree)) == {"a": b"1"}
        assert os.listdir(os.path.dirname(store.fetch(tree))) == ["tree"]

    def test_a_failed_fetch_leaves_nothing_in_the_cache(self, store: ArtifactStore, execution, tmp_path: Path) -> None:
        ref = self.sealed(execution, "model", b"weights")
        self.overwrite(store, ref.uri, b"others!")
        with pytest.raises(ArtifactError):
            store.fetch(ref)
        assert not [file for file in (tmp_path / "cache").glob("[!.]*/**/*") if file.is_file()]

    def test_a_digest_that_is_none_never_becomes_a_path(self, store: ArtifactStore) -> None:
        with pytest.raises(ArtifactError, match="no sha256"):
            store.fetch(ArtifactRef("model", "system.Model", f"{store.root}/model", size_bytes=1, sha256="../../etc"))

    def test_keys_that_climb_out_of_a_directory_are_refused(self, store: ArtifactStore, execution, tmp_path: Path) -> None:
        ref = self.sealed(execution, "tree", {"a": b"1"})
        fs = fsspec.filesystem("memory")
        path = fs._strip_protocol(ref.uri)
        fs.store[f"{path}/../../../evil"] = fs.store[f"{path}/a"]
        try:
            with pytest.raises(ArtifactError):
                store.fetch(ref)
        finally:
            del fs.store[f"{path}/../../../evil"]
        assert not list(tmp_path.rglob("evil"))

    def test_an_output_pointed_into_the_scratch_directory_is_refused(self, execution) -> None:
        output = execution.output("data", "system.Dataset")
        output.path += ".csv"
        Path(output.path).write_text("1")
        with pytest.raises(ArtifactError, match="scratch"):
            execution.seal_artifact(output)

    def test_external_objects_are_fetched_anew(self, store: ArtifactStore, execution) -> None:
        uri = f"{store.root}/elsewhere/data.csv"
        output = execution.output("data", "system.Dataset")
        output.uri = uri
        ref = execution.seal_artifact(output)
        for contents in (b"1", b"2"):
            self.overwrite(store, uri, contents)
            assert Path(store.fetch(ref)).read_bytes() == contents
            assert Path(store.fetch(ref)).name == "data.csv"

    def test_artifacts_of_other_stores_are_read_where_they_are(self, store: ArtifactStore, tmp_path: Path) -> None:
        with ArtifactStore(str(tmp_path / "old")) as old:
            here = self.sealed(old.begin(old.join("run")), "model", b"old")
            there = self.sealed(store.begin(store.join("run")), "model", b"new")
            assert store.fetch(here) == here.uri
            assert Path(old.fetch(there)).read_bytes() == b"new"
            old.verify(there)

    def test_artifacts_made_by_hand_fetch_their_uri(self, store: ArtifactStore) -> None:
        uri = f"{store.root}/hand/data.csv"
        self.overwrite(store, uri, b"1")
        path = Artifact(uri=uri).path
        assert (Path(path).name, Path(path).read_bytes()) == ("data.csv", b"1")
        assert self.tree(fetch_uri(f"{store.root}/hand")) == {"data.csv": b"1"}
        with pytest.raises(ArtifactError, match="nothing is at"):
            fetch_uri(f"{store.root}/nothing")


def test_the_root_of_the_memory_file_system_works(tmp_path: Path) -> None:
    with ArtifactStore("memory://", cache_dir=str(tmp_path)) as store:
        store.check()
        execution = store.begin(store.join("root-run"))
        execution.seal({"a": 1})
        assert [outcome for _, outcome in store.outcomes(store.join("root-run"))] == [{"a": 1}]
        execution.discard()


def test_unknown_protocols_are_named() -> None:
    with pytest.raises(StorageError, match="no file system is known for nosuch://"):
        ArtifactStore("nosuch://x").check()


@pytest.mark.parametrize(("module", "url", "remedy"), [("s3fs", "s3://b/x", r"flowcore\[s3\]"), ("gcsfs", "gs://b/x", "'gcsfs'")])
def test_missing_drivers_come_with_a_remedy(module: str, url: str, remedy: str) -> None:
    # In a process of its own, as fsspec keeps what it has imported once.
    code = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "from flowcore.artifacts.store import ArtifactStore; ArtifactStore(sys.argv[2]).check()"
    )
    done = subprocess.run([sys.executable, "-c", code, module, url], check=False, capture_output=True, text=True)
    assert re.search(f"StorageError: .*not installed.*Install.*{remedy}", done.stderr)


def test_storage_that_fails_is_a_storage_error_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore("memory://broken")
    monkeypatch.setattr(type(store._files._fs), "ls", lambda *_, **__: 1 / 0)
    with pytest.raises(StorageError, match=r"broken.*cannot be read: ZeroDivisionError.*credentials"):
        store.outcomes(store.join("run"))


def test_the_local_store_imports_neither_fsspec_nor_pyarrow(tmp_path: Path) -> None:
    code = (
        "import sys; from flowcore.artifacts.store import ArtifactStore\n"
        "s = ArtifactStore(sys.argv[1]); s.check(); e = s.begin(s.join('a')); o = e.output('x', 'system.Dataset')\n"
        "open(o.path, 'w').close(); s.fetch(e.seal_artifact(o)); e.seal({}); s.outcomes(s.join('a'))\n"
        "print(sorted({'fsspec', 'pyarrow', 'pandas', 'joblib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
