"""What every artifact store promises, as checks that need no test framework. They know no backend and reach it through the store.

Each ``test_`` method is one promise; its arguments are made anew for it: ``store``, ``store_root``, ``attempt``, ``execution``,
``tmp_path``, and the one that ``cases`` names.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from flowcore.artifacts.places import open_filesystem
from flowcore.artifacts.store import ArtifactStore, Execution
from flowcore.artifacts.transfers import PART_BYTES
from flowcore.artifacts.types import Artifact, ArtifactRef, Dataset
from flowcore.errors import ArtifactError, CodeError

POISON_NAMES = ("", ".", "..", "a/b", "/etc", "a\\b", "a\0b", "a\nb", "\x7f", "x" * 201, "ü" * 101, "\ud800")

Check = TypeVar("Check", bound=Callable[..., None])


def cases(argument: str, values: Sequence[Any]) -> Callable[[Check], Check]:
    """The check holds for each of ``values``, given to it as ``argument``."""

    def mark(check: Check) -> Check:
        vars(check)["cases"] = (argument, values)
        return check

    return mark


class Caught:
    """The error that ``raises`` waited for."""

    value: BaseException


@contextmanager
def raises(kind: type[BaseException], match: str = "") -> Iterator[Caught]:
    """The block raises an error of this kind, whose text ``match`` finds."""
    caught = Caught()
    try:
        yield caught
    except kind as error:
        caught.value = error
        assert re.search(match, str(error)), f"{kind.__name__} says {str(error)!r}, which does not match {match!r}"
        return
    raise AssertionError(f"no {kind.__name__} was raised")


class StoreChecks:
    """The promises of ``ArtifactStore``."""

    storage_options: ClassVar[Mapping[str, Any]] = {}

    def test_check_leaves_nothing_behind(self, store: ArtifactStore) -> None:
        assert store.outcomes(store.root) == []
        assert self.names(store, store.root) == []

    def test_sealed_file_fetches_back_equal_and_ends_in_its_name(self, store: ArtifactStore, execution: Execution) -> None:
        ref = self.sealed(execution, "model", b"weights")
        path = store.fetch(ref)
        assert Path(path).read_bytes() == b"weights"
        assert (Path(path).name, ref.size_bytes, ref.uri) == ("model", 7, f"{execution.uri}/model")
        store.verify(ref)

    def test_empty_file_is_contents_not_metadata_only(self, store: ArtifactStore, execution: Execution) -> None:
        ref = self.sealed(execution, "empty", b"")
        assert ref.size_bytes == 0
        assert Path(store.fetch(ref)).read_bytes() == b""

    def test_sealed_directory_fetches_back_whole(self, store: ArtifactStore, execution: Execution) -> None:
        ref = self.sealed(execution, "tree", {"b/c.txt": b"c", "a.txt": b"aa", "b/d/e": b"", "*[x]?": b"glob"})
        assert ref.is_directory
        assert ref.size_bytes == 7
        assert self.tree(store.fetch(ref)) == {"b/c.txt": b"c", "a.txt": b"aa", "b/d/e": b"", "*[x]?": b"glob"}
        store.verify(ref)

    def test_file_of_several_parts_fetches_back_equal(self, store: ArtifactStore, execution: Execution) -> None:
        block = os.urandom(PART_BYTES + 1)
        ref = self.sealed(execution, "model", block + block[:1000])
        assert (ref.size_bytes, ref.sha256) == (PART_BYTES + 1001, hashlib.sha256(block + block[:1000]).hexdigest())
        assert Path(store.fetch(ref)).read_bytes() == block + block[:1000]

    def test_directory_of_many_files_fetches_back_whole(self, store: ArtifactStore, execution: Execution) -> None:
        contents = {f"{number % 7}/{number}": b"%d" % number for number in range(100)}
        ref = self.sealed(execution, "tree", contents)
        assert self.tree(store.fetch(ref)) == contents
        store.verify(ref)

    def test_empty_directory_fetches_back_as_an_empty_directory(self, store: ArtifactStore, execution: Execution) -> None:
        ref = self.sealed(execution, "tree", {})
        assert (ref.is_directory, ref.size_bytes) == (True, 0)
        assert os.listdir(store.fetch(ref)) == []

    def test_directory_digest_does_not_depend_on_the_order_of_creation(self, store: ArtifactStore, execution: Execution) -> None:
        one = self.sealed(execution, "one", {"a": b"1", "b/c": b"2"})
        two = self.sealed(execution, "two", {"b/c": b"2", "a": b"1"})
        other = self.sealed(execution, "other", {"a": b"2", "b/c": b"1"})
        assert one.sha256 == two.sha256 != other.sha256

    def test_refs_survive_json(self, store: ArtifactStore, execution: Execution) -> None:
        ref = self.sealed(execution, "model", b"weights")
        again = ArtifactRef.from_json(json.loads(json.dumps(ref.to_json())))
        assert again == ref
        assert Path(store.fetch(again)).read_bytes() == b"weights"

    def test_nothing_counts_before_the_seal(self, store: ArtifactStore, execution: Execution, attempt: str) -> None:
        assert store.outcomes(attempt) == []
        self.sealed(execution, "model", b"weights")
        assert store.outcomes(attempt) == []
        execution.seal({"state": "SUCCEEDED"})
        assert store.outcomes(attempt) == [(execution.name, {"state": "SUCCEEDED"})]

    def test_outcomes_come_sorted_by_execution_name(self, store: ArtifactStore, attempt: str) -> None:
        for name in ("cccc0000", "aaaa0000", "bbbb0000"):
            store.begin(attempt, name).seal({"by": name})
        assert [name for name, _ in store.outcomes(attempt)] == ["aaaa0000", "bbbb0000", "cccc0000"]

    @cases("torn", [b"", b'{"state": "SUC', b"\xff\xfe", b"[]", b"[" * 100_000])
    def test_half_written_outcomes_are_ignored(self, store: ArtifactStore, attempt: str, torn: bytes) -> None:
        self.overwrite(store, f"{attempt}/aaaa0000/outcome.json", torn)
        store.begin(attempt, "bbbb0000").seal({})
        assert store.outcomes(attempt) == [("bbbb0000", {})]

    def test_a_truncated_outcome_does_not_count(self, store: ArtifactStore, execution: Execution, attempt: str) -> None:
        execution.seal({"status": "SUCCEEDED", "parameters": {"Output": 1}})
        uri = f"{execution.uri}/outcome.json"
        whole = self.contents(uri)
        for length in (0, 1, len(whole) // 2, len(whole) - 1):
            self.overwrite(store, uri, whole[:length])
            assert store.outcomes(attempt) == []

    def test_a_changed_outcome_is_refused_with_both_digests(
        self, store: ArtifactStore, execution: Execution, attempt: str
    ) -> None:
        execution.seal({"status": "SUCCEEDED", "parameters": {"Output": 1}})
        uri = f"{execution.uri}/outcome.json"
        self.overwrite(store, uri, self.contents(uri).replace(b'"Output": 1', b'"Output": 3'))
        with raises(ArtifactError, match=r"outcome.json' is damaged: found sha256 [0-9a-f]{64}, recorded [0-9a-f]{64}; restore"):
            store.outcomes(attempt)

    def test_executions_have_names_of_their_own(self, store: ArtifactStore, attempt: str) -> None:
        names = {store.begin(attempt).name for _ in range(50)}
        assert len(names) == 50
        assert all(len(name) == 8 and int(name, 16) >= 0 for name in names)

    def test_symlinks_in_outputs_are_refused_by_name(self, execution: Execution, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("secret")
        output = execution.output("tree", "system.Artifact")
        os.makedirs(output.path)
        os.symlink(tmp_path / "secret", os.path.join(output.path, "link"))
        with raises(ArtifactError, match=r"'tree'.*link.*symlink"):
            execution.seal_artifact(output)

    def test_an_output_that_is_a_symlink_is_refused(self, execution: Execution, tmp_path: Path) -> None:
        output = execution.output("link", "system.Artifact")
        os.symlink(tmp_path / "nowhere", output.path)
        with raises(ArtifactError, match="symlink"):
            execution.seal_artifact(output)

    def test_named_pipes_in_outputs_are_refused(self, execution: Execution) -> None:
        output = execution.output("pipe", "system.Artifact")
        os.mkfifo(output.path)
        with raises(ArtifactError, match="named pipe"):
            execution.seal_artifact(output)

    @cases("name", POISON_NAMES)
    def test_poison_names_are_refused(self, store: ArtifactStore, execution: Execution, attempt: str, name: str) -> None:
        for use in (lambda: store.join("pipeline", name), lambda: store.begin(attempt, name)):
            with raises(ArtifactError, match="cannot be part"):
                use()
        for make in (lambda: execution.output(name, "system.Artifact"), lambda: execution.scratch_path(name)):
            with raises(ArtifactError):
                make()

    @cases("name", ["with space", "Größe-数据", "a*b[c]?", "100%25", "#hash", "x" * 200, "~", "a:b"])
    def test_unusual_names_work(self, store: ArtifactStore, name: str) -> None:
        execution = store.begin(store.join(name, "run"))
        ref = self.sealed(execution, name, b"x")
        execution.seal({})
        assert Path(store.fetch(ref)).name == name
        assert len(store.outcomes(store.join(name, "run"))) == 1
        execution.discard()
        assert store.outcomes(store.join(name, "run")) == []

    def test_the_outcome_s_own_name_is_refused_as_an_output(self, execution: Execution) -> None:
        with raises(ArtifactError, match="keeps for itself"):
            execution.output("outcome.json", "system.Artifact")

    @cases("uri", ["gs://elsewhere/model", "/data/model", "relative/model", "file:///data/model"])
    def test_external_outputs_are_kept_as_they_are(self, execution: Execution, uri: str) -> None:
        output = execution.output("model", "system.Model")
        output.uri, output.metadata["size"] = uri, 3
        assert execution.seal_artifact(output) == ArtifactRef("model", "system.Model", uri, {"size": 3}, external=True)

    def test_external_files_fetch_without_verification(self, store: ArtifactStore, execution: Execution, tmp_path: Path) -> None:
        (tmp_path / "data.csv").write_text("1")
        output = execution.output("data", "system.Dataset")
        output.path = str(tmp_path / "data.csv")
        ref = execution.seal_artifact(output)
        (tmp_path / "data.csv").write_text("22")
        store.verify(ref)
        assert store.fetch(ref) == str(tmp_path / "data.csv")

    def test_an_input_is_not_external_and_keeps_the_ref_apart(self, store: ArtifactStore, execution: Execution) -> None:
        output = execution.output("data", "system.Dataset")
        Path(output.path).write_bytes(b"x")
        output.metadata["columns"] = ["a"]
        ref = execution.seal_artifact(output)
        before = copy.deepcopy(ref)
        artifact = store.open_input(ref)
        artifact.metadata["columns"].append("b")
        assert isinstance(artifact, Dataset)
        assert (artifact.name, artifact.uri, artifact._external) == ("data", ref.uri, False)
        assert Path(artifact.path).read_bytes() == b"x"
        assert ref == before

    def test_inputs_and_outputs_keep_titles_that_are_not_known(self, store: ArtifactStore, execution: Execution) -> None:
        output = execution.output("model", "google.VertexModel")
        ref = execution.seal_artifact(output)
        assert (output.schema_title, ref.schema_title) == ("google.VertexModel", "google.VertexModel")
        assert store.open_input(ref).schema_title == "google.VertexModel"
        assert Artifact.schema_title == "system.Artifact"

    def test_an_output_that_was_not_written_holds_metadata_only(self, store: ArtifactStore, execution: Execution) -> None:
        output = execution.output("metrics", "system.Metrics")
        output.metadata["loss"] = 0.5
        ref = execution.seal_artifact(output)
        assert (ref.size_bytes, ref.sha256, ref.external, ref.metadata) == (None, None, False, {"loss": 0.5})
        store.verify(ref)
        with raises(ArtifactError, match=r"artifact 'metrics' has no contents: the task that made it wrote nothing"):
            store.fetch(ref)

    def test_set_path_brings_the_contents_home(self, store: ArtifactStore, execution: Execution, tmp_path: Path) -> None:
        (tmp_path / "elsewhere.bin").write_bytes(b"abc")
        output = execution.output("model", "system.Model")
        output.set_path(str(tmp_path / "elsewhere.bin"))
        ref = execution.seal_artifact(output)
        (tmp_path / "elsewhere.bin").unlink()
        assert ref.uri == f"{execution.uri}/model"
        assert Path(store.fetch(ref)).read_bytes() == b"abc"

    def test_set_path_brings_directories_home(self, store: ArtifactStore, execution: Execution, tmp_path: Path) -> None:
        (tmp_path / "d" / "e").mkdir(parents=True)
        (tmp_path / "d" / "e" / "f").write_bytes(b"abc")
        output = execution.output("model", "system.Model")
        output.set_path(str(tmp_path / "d"))
        assert self.tree(store.fetch(execution.seal_artifact(output))) == {"e/f": b"abc"}

    @cases("contents", [b"other!!", b"longer than before"])
    def test_changed_contents_are_refused(self, store: ArtifactStore, execution: Execution, contents: bytes) -> None:
        ref = self.sealed(execution, "model", b"weights")
        self.overwrite(store, ref.uri, contents)
        for read in (store.fetch, store.verify):
            with raises(ArtifactError, match=r"'model' has changed"):
                read(ref)

    @cases("damaged", [b"weight", b"weighus", b""])
    def test_damaged_contents_are_refused_with_both_digests(
        self, store: ArtifactStore, execution: Execution, damaged: bytes
    ) -> None:
        ref = self.sealed(execution, "model", b"weights")
        self.overwrite(store, ref.uri, damaged)
        for read in (store.fetch, store.verify):
            with raises(ArtifactError, match="'model'.*run the task that made it again") as caught:
                read(ref)
            for digest in (hashlib.sha256(damaged).hexdigest(), hashlib.sha256(b"weights").hexdigest()):
                assert digest in str(caught.value)

    def test_a_directory_that_lost_a_file_is_refused(self, store: ArtifactStore, execution: Execution) -> None:
        ref = self.sealed(execution, "tree", {"a": b"1", "b": b"2"})
        fs, path = open_filesystem(f"{ref.uri}/b", self.storage_options)
        fs.rm_file(path)
        for read in (store.fetch, store.verify):
            with raises(ArtifactError, match="'tree' has changed"):
                read(ref)

    def test_changed_directories_are_refused(self, store: ArtifactStore, execution: Execution) -> None:
        ref = self.sealed(execution, "tree", {"a": b"1", "b": b"2"})
        self.overwrite(store, f"{ref.uri}/b", b"3")
        for read in (store.fetch, store.verify):
            with raises(ArtifactError, match="'tree' has changed"):
                read(ref)

    @cases("contents", [b"weights", {"a": b"1"}])
    def test_missing_contents_are_named(self, store: ArtifactStore, execution: Execution, contents: Any) -> None:
        ref = self.sealed(execution, "model", contents)
        execution.discard()
        for read in (store.fetch, store.verify):
            with raises(ArtifactError, match="'model'") as caught:
                read(ref)
            assert ref.uri in str(caught.value)

    def test_blobs_come_back_and_putting_one_twice_is_the_same(self, store: ArtifactStore) -> None:
        digest = store.put_blob(b"code")
        assert store.put_blob(b"code") == digest
        assert store.get_blob(digest) == b"code"
        assert self.names(store, store.join(".code")) == [digest]

    def test_tampered_and_missing_blobs_are_refused(self, store: ArtifactStore) -> None:
        digest = store.put_blob(b"code")
        self.overwrite(store, store.join(".code", digest), b"evil")
        with raises(CodeError, match="not what was put there"):
            store.get_blob(digest)
        with raises(CodeError, match="missing"):
            store.get_blob("0" * 64)
        assert store.put_blob(b"code") == digest
        assert store.get_blob(digest) == b"code"

    @cases("name", ["", "../secret", "A" * 64, "0" * 63, "0" * 64 + "\n"])
    def test_blobs_are_asked_for_by_digest_only(self, store: ArtifactStore, name: str) -> None:
        with raises(CodeError, match="no sha256"):
            store.get_blob(name)

    def test_discard_leaves_nothing(self, store: ArtifactStore, execution: Execution, attempt: str) -> None:
        self.sealed(execution, "model", b"weights")
        self.sealed(execution, "tree", {"a/b": b"1", "*": b"2"})
        scratch = execution.scratch_path("number")
        Path(scratch).write_text("3")
        execution.discard()
        execution.discard()
        assert self.names(store, attempt) == []
        assert not os.path.exists(scratch)

    def test_discard_leaves_other_executions_alone(self, store: ArtifactStore, attempt: str) -> None:
        keep, drop = store.begin(attempt, "aaaa"), store.begin(attempt, "aaaab")
        ref = self.sealed(keep, "model", b"weights")
        keep.seal({})
        drop.seal({})
        drop.discard()
        assert [name for name, _ in store.outcomes(attempt)] == ["aaaa"]
        store.verify(ref)

    def test_scratch_ends_with_the_seal(self, execution: Execution) -> None:
        scratch = execution.scratch_path("number")
        Path(scratch).write_text("3")
        assert os.path.basename(scratch) == "number"
        execution.seal({})
        assert not os.path.exists(os.path.dirname(scratch))

    def test_close_removes_what_was_private(self, store_root: str) -> None:
        store = ArtifactStore(store_root, self.storage_options)
        execution = store.begin(store.join("run"))
        ref = self.sealed(execution, "model", b"weights")
        scratch = execution.scratch_path("number")
        fetched = store.fetch(ref)
        store.close()
        store.close()
        assert not os.path.exists(os.path.dirname(scratch))
        assert fetched == ref.uri or not os.path.exists(fetched)

    def test_concurrent_fetches_all_get_the_contents(self, store: ArtifactStore, execution: Execution) -> None:
        file = self.sealed(execution, "file", b"x" * 100_000)
        tree = self.sealed(execution, "tree", {f"{number}": b"x" * number for number in range(20)})

        def fetch(ref: ArtifactRef) -> Any:
            path = store.fetch(ref)
            return self.tree(path) if ref.is_directory else Path(path).read_bytes()

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(fetch, [file, tree] * 16))
        assert all(contents == b"x" * 100_000 for contents in found[::2])
        assert all(contents == {f"{number}": b"x" * number for number in range(20)} for contents in found[1::2])

    def test_metadata_that_is_not_json_is_refused_by_artifact_and_key(self, execution: Execution) -> None:
        output = execution.output("data", "system.Dataset")
        output.metadata["bad key"] = object()
        with raises(ArtifactError, match=r"'data'.*'bad key'.*object"):
            execution.seal_artifact(output)

    def test_inputs_cross_to_other_processes(self, store: ArtifactStore, execution: Execution) -> None:
        artifact = store.open_input(self.sealed(execution, "tree", {}))
        again = pickle.loads(pickle.dumps(artifact))
        assert (again, again.name) == (artifact, "tree")
        assert again._fetch.func.__self__.root == store.root

    def sealed(self, execution: Execution, port: str, contents: bytes | dict[str, bytes]) -> ArtifactRef:
        """An output with these contents: a file's, or a directory's by relative path."""
        output = execution.output(port, "system.Artifact")
        if isinstance(contents, bytes):
            Path(output.path).write_bytes(contents)
        else:
            os.makedirs(output.path)
            for relative, data in contents.items():
                target = Path(output.path) / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
        return execution.seal_artifact(output)

    def tree(self, path: str) -> dict[str, bytes]:
        """The files below a local directory by relative path."""
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}

    def overwrite(self, store: ArtifactStore, uri: str, data: bytes) -> None:
        """Change what lies at ``uri`` behind the store's back."""
        fs, path = open_filesystem(uri, self.storage_options)
        fs.makedirs(fs._parent(path), exist_ok=True)
        if fs.exists(path):
            fs.rm_file(path)
        with fs.open(path, "wb") as file:
            file.write(data)

    def contents(self, uri: str) -> bytes:
        """What lies at ``uri``, read behind the store's back."""
        fs, path = open_filesystem(uri, self.storage_options)
        return bytes(fs.cat_file(path))

    def names(self, store: ArtifactStore, uri: str) -> list[str]:
        """The names of all files and directories in ``uri``."""
        fs, path = open_filesystem(uri, self.storage_options)
        fs.invalidate_cache()
        if not fs.exists(path):
            return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in fs.ls(path, detail=True))
