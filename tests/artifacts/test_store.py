"""What only a local store promises: outputs in place, read-only when sealed, cheap checks, plain words about bad roots."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

from flowcore.artifacts import digests
from flowcore.artifacts.store import ArtifactStore, fetch_uri
from flowcore.artifacts.types import Artifact, ArtifactRef
from flowcore.errors import ArtifactError, InternalError, StorageError


@pytest.fixture
def store(tmp_path: Path):
    with ArtifactStore(str(tmp_path / "root")) as store:
        yield store


@pytest.fixture
def execution(store: ArtifactStore):
    return store.begin(store.join("run", "task", "1"))


def sealed(execution, port: str, data: bytes) -> ArtifactRef:
    output = execution.output(port, "system.Artifact")
    Path(output.path).write_bytes(data)
    return execution.seal_artifact(output)


def test_roots_are_absolute_paths_or_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    found = {root: ArtifactStore(root).root for root in ("runs/", "file:///a/b/", "file:/a", "~/runs", "s3://bucket/runs/", "memory://")}
    assert found == {
        "runs/": str(tmp_path / "runs"),
        "file:///a/b/": "/a/b",
        "file:/a": "/a",
        "~/runs": "/home/someone/runs",
        "s3://bucket/runs/": "s3://bucket/runs",
        "memory://": "memory://",
    }
    assert (ArtifactStore("s3://b").protocol, ArtifactStore("s3://b").is_local) == ("s3", False)
    assert (ArtifactStore("runs").protocol, ArtifactStore("runs").is_local) == ("file", True)


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ArtifactStore("runs")
    monkeypatch.chdir("/")
    store.check()
    assert (tmp_path / "runs").is_dir()


@pytest.mark.parametrize("root", ["", "file://"])
def test_an_empty_root_is_refused(root: str) -> None:
    with pytest.raises(StorageError, match="names no place"):
        ArtifactStore(root)


def test_a_root_below_a_file_is_refused_with_reason_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file" / "runs", tmp_path / "file"):
        with pytest.raises(StorageError, match=r"cannot be written: \w+Error.*choose another pipeline_root") as caught:
            ArtifactStore(str(root)).check()
        assert repr(str(root)) in str(caught.value)


def test_an_output_is_written_in_its_final_place(store: ArtifactStore, execution) -> None:
    output = execution.output("model", "system.Model")
    assert output.path == output.uri == f"{execution.uri}/model"
    Path(output.path).write_bytes(b"weights")
    inode = os.stat(output.path).st_ino
    ref = execution.seal_artifact(output)
    assert store.fetch(ref) == output.path
    assert (os.stat(output.path).st_ino, ref.inode) == (inode, inode)


def test_nothing_touches_the_disk_until_an_output_is_asked_for(store: ArtifactStore, execution) -> None:
    assert not os.path.exists(store.root)
    execution.output("model", "system.Model")
    assert os.listdir(execution.uri) == []


def test_sealed_files_are_read_only(execution) -> None:
    path = sealed(execution, "model", b"weights").uri
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o222 == 0
    output = execution.output("tree", "system.Artifact")
    os.makedirs(output.path)
    Path(output.path, "a").write_text("1")
    execution.seal_artifact(output)
    assert stat.S_IMODE(os.stat(f"{output.path}/a").st_mode) & 0o222 == 0


def test_contents_are_not_read_while_time_and_inode_match(store: ArtifactStore, execution, monkeypatch) -> None:
    ref = sealed(execution, "model", b"weights")
    monkeypatch.setattr(digests, "_hash", lambda *_: pytest.fail("the contents were read"))
    assert store.fetch(ref) == ref.uri


def test_a_copied_run_directory_is_read_once_and_accepted(store: ArtifactStore, execution, monkeypatch) -> None:
    ref = sealed(execution, "model", b"weights")
    shutil.copy(ref.uri, ref.uri + ".copy")
    os.replace(ref.uri + ".copy", ref.uri)
    assert store.fetch(ref) == ref.uri
    monkeypatch.setattr(digests, "_hash", lambda *_: pytest.fail("the contents were read again"))
    assert store.fetch(ref) == ref.uri


def test_contents_that_changed_behind_the_same_size_and_time_fail_verification(store: ArtifactStore, execution) -> None:
    ref = sealed(execution, "model", b"weights")
    os.chmod(ref.uri, 0o644)
    with open(ref.uri, "r+b") as file:
        file.write(b"x")
    os.utime(ref.uri, ns=(ref.mtime_ns, ref.mtime_ns))
    with pytest.raises(ArtifactError, match="has changed"):
        store.verify(ref)


def test_a_file_in_the_place_of_a_directory_is_refused(store: ArtifactStore, execution) -> None:
    ref = sealed(execution, "model", b"weights")
    ref.is_directory = True
    with pytest.raises(ArtifactError, match="has changed"):
        store.fetch(ref)


def test_an_output_pointed_to_its_own_place_stays_ours(execution) -> None:
    output = execution.output("model", "system.Model")
    output.path = str(output.path)
    Path(output.path).write_bytes(b"x")
    assert execution.seal_artifact(output).sha256 is not None


def test_set_path_may_point_into_the_output_itself(store: ArtifactStore, execution) -> None:
    output = execution.output("model", "system.Model")
    os.makedirs(output.path)
    output.set_path(output.path + "/model.bin")
    Path(output.path).write_bytes(b"x")
    ref = execution.seal_artifact(output)
    assert (ref.is_directory, Path(store.fetch(ref)).read_bytes()) == (False, b"x")


def test_set_path_to_a_directory_around_the_output_is_refused(store: ArtifactStore, execution) -> None:
    output = execution.output("model", "system.Model")
    output.set_path(store.root)
    with pytest.raises(ArtifactError, match="holds the artifact's own place"):
        execution.seal_artifact(output)


def test_numpy_scalars_in_metadata_become_numbers(execution) -> None:
    output = execution.output("metrics", "system.Metrics")
    output.metadata.update(a=np.float32(0.5), b=[np.int64(3)], c={"d": np.bool_(True)}, e=float("nan"))
    metadata = execution.seal_artifact(output).metadata
    assert (metadata["a"], metadata["b"], metadata["c"]) == (0.5, [3], {"d": True})
    assert type(metadata["b"][0]) is int
    assert metadata["e"] != metadata["e"]


@pytest.mark.parametrize("metadata", [{1: 2}, None, {"a": np.zeros(3)}, {"a": {1, 2}}, {"a": b"x"}])
def test_other_metadata_is_refused(execution, metadata) -> None:
    output = execution.output("data", "system.Dataset")
    output.metadata = metadata
    with pytest.raises(ArtifactError, match="'data'"):
        execution.seal_artifact(output)


def test_an_artifact_made_by_hand_is_sealed_as_external(execution) -> None:
    ref = execution.seal_artifact(Artifact("mine", "s3://bucket/key", {"a": 1}))
    assert (ref.name, ref.uri, ref.external, ref.metadata) == ("mine", "s3://bucket/key", True, {"a": 1})


def test_an_outcome_that_is_not_json_writes_nothing(store: ArtifactStore, execution) -> None:
    with pytest.raises(TypeError):
        execution.seal({"a": object()})
    assert not os.path.exists(execution.uri)


def test_an_execution_is_sealed_once(execution) -> None:
    execution.seal({})
    with pytest.raises(InternalError, match="sealed twice"):
        execution.seal({"other": 1})


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = store.put_blob(b"code")
    path = Path(store.join(".code", digest))
    path.write_bytes(b"torn")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match="disk is full"):
        store.put_blob(b"code")
    assert (os.listdir(path.parent), path.read_bytes()) == ([digest], b"torn")


def test_discard_goes_through_read_only_directories(store: ArtifactStore, execution) -> None:
    output = execution.output("tree", "system.Artifact")
    os.makedirs(output.path + "/a")
    Path(output.path, "a", "b").write_text("1")
    execution.seal_artifact(output)
    os.chmod(output.path + "/a", 0o500)
    execution.discard()
    assert not os.path.exists(execution.uri)


def test_many_threads_put_the_same_blob(store: ArtifactStore) -> None:
    data, found = os.urandom(50_000), []
    threads = [threading.Thread(target=lambda: found.append(store.put_blob(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 8
    assert store.get_blob(found[0]) == data


def test_a_fork_leaves_its_parent_s_scratch_alone(store: ArtifactStore, execution) -> None:
    scratch = execution.scratch_path("number")
    store._pid += 1
    store.close()
    assert os.path.isdir(os.path.dirname(scratch))
    store._pid -= 1


def test_local_uris_made_by_hand_are_paths() -> None:
    assert (fetch_uri("/a/b"), fetch_uri("file:///a/b"), fetch_uri("a")) == ("/a/b", "/a/b", "a")
    with pytest.raises(ArtifactError, match="no uri"):
        _ = Artifact("x").path


def test_a_directory_digest_is_the_documented_one(tmp_path: Path) -> None:
    import hashlib
    import json

    (tmp_path / "d" / "b").mkdir(parents=True)
    (tmp_path / "d" / "b" / "c").write_bytes(b"2")
    (tmp_path / "d" / "a").write_bytes(b"1")
    lines = [["a", 1, hashlib.sha256(b"1").hexdigest()], ["b/c", 1, hashlib.sha256(b"2").hexdigest()]]
    expected = hashlib.sha256("".join(json.dumps(line) + "\n" for line in lines).encode()).hexdigest()
    assert digests.digest_path(str(tmp_path / "d"), "d").sha256 == expected
