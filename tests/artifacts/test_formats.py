"""Tables and models come back as what they were; what cannot be kept or read is said in words."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flowcore.artifacts.store import ArtifactStore
from flowcore.artifacts.types import Dataset, Model
from flowcore.errors import ArtifactError


@pytest.fixture
def execution(tmp_path: Path):
    with ArtifactStore(str(tmp_path / "a=b")) as store:
        yield store.begin(store.join("run"))


def passed_on(execution, output):
    """The output as the next task gets it."""
    ref = execution.seal_artifact(output)
    return execution._store.open_input(ref)


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "int": pd.array([1, None, 3], dtype="Int64"),
            "text": ["a", "ü", None],
            "when": pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin"),
            "kind": pd.Categorical(["x", "y", "x"]),
            "small": np.array([1, 2, 3], dtype="int8"),
        },
        index=pd.Index(["r1", "r2", "r3"], name="row"),
    )


@pytest.mark.parametrize("format", [None, "arrow", "parquet"])
def test_frames_keep_index_and_dtypes(execution, frame: pd.DataFrame, format: str | None) -> None:
    output = execution.output("data", "system.Dataset")
    output.write(frame, format=format)
    assert output.metadata == {"format": format or "arrow", "kind": "pandas.DataFrame"}
    pd.testing.assert_frame_equal(passed_on(execution, output).read(), frame)


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_empty_frames_and_multi_indexes_survive(execution, format: str) -> None:
    many = pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"]))
    for port, given in (("many", many), ("empty", pd.DataFrame({"x": pd.Series([], dtype="float32")})), ("none", pd.DataFrame())):
        output = execution.output(port, "system.Dataset")
        output.write(given, format=format)
        pd.testing.assert_frame_equal(passed_on(execution, output).read(), given)


@pytest.mark.parametrize("format", ["arrow", "parquet"])
def test_tables_come_back_as_tables(execution, format: str) -> None:
    table = pa.table({"a": [1, 2], "b": [["x"], None]}).replace_schema_metadata({"mine": "kept"})
    output = execution.output("data", "system.Dataset")
    output.write(table, format=format)
    read = passed_on(execution, output).read()
    assert output.metadata == {"format": format, "kind": "pyarrow.Table"}
    assert read.equals(table)
    assert read.schema.metadata[b"mine"] == b"kept"


def test_arrow_tables_are_memory_mapped(execution) -> None:
    output = execution.output("data", "system.Dataset")
    output.write(pa.table({"x": np.arange(1_000_000)}))
    artifact = passed_on(execution, output)
    before = pa.total_allocated_bytes()
    table = artifact.read()
    assert (table.num_rows, table.nbytes) == (1_000_000, 8_000_000)
    assert pa.total_allocated_bytes() - before < 100_000


def test_writing_again_leaves_earlier_readers_their_data(execution) -> None:
    output = execution.output("data", "system.Dataset")
    output.write(pa.table({"x": np.arange(100_000)}))
    first = output.read()
    output.write(pa.table({"x": [1]}))
    assert first["x"][99_999].as_py() == 99_999
    assert output.read().num_rows == 1


def test_unknown_types_are_named_with_the_known_ones(execution) -> None:
    output = execution.output("data", "system.Dataset")
    with pytest.raises(ArtifactError, match=r"'data': write got a builtins.list and knows pandas.DataFrame and pyarrow.Table"):
        output.write([1, 2])


def test_unknown_formats_are_named_with_the_known_ones(execution, frame: pd.DataFrame) -> None:
    with pytest.raises(ArtifactError, match=r"'csv' is not known; use one of arrow and parquet"):
        execution.output("data", "system.Dataset").write(frame, format="csv")


@pytest.mark.parametrize("bad", [pd.DataFrame({"x": [1, "a", object()]}), pd.DataFrame([[1, 2]], columns=["a", "a"])])
def test_frames_that_arrow_cannot_hold_are_refused_and_leave_no_file(execution, bad: pd.DataFrame) -> None:
    output = execution.output("data", "system.Dataset")
    with pytest.raises(ArtifactError, match="cannot be written as arrow"):
        output.write(bad)
    assert not Path(output.path).exists()
    assert output.metadata == {}


def test_what_write_did_not_write_is_not_guessed_at(execution) -> None:
    output = execution.output("data", "system.Dataset")
    Path(output.path).write_text("a,b\n1,2\n")
    with pytest.raises(ArtifactError, match=r"'data' was not written by Dataset.write; open its .path yourself") as caught:
        passed_on(execution, output).read()
    assert output.path in str(caught.value)


def test_damaged_tables_are_artifact_errors(execution) -> None:
    output = execution.output("data", "system.Dataset")
    Path(output.path).write_text("no table")
    output.metadata.update(format="arrow", kind="pyarrow.Table")
    with pytest.raises(ArtifactError, match="cannot be read as arrow"):
        output.read()


def test_inputs_are_not_written_to(execution, frame: pd.DataFrame) -> None:
    output = execution.output("data", "system.Dataset")
    output.write(frame)
    with pytest.raises(ArtifactError, match="is an input"):
        passed_on(execution, output).write(frame)
    model = execution.output("model", "system.Model")
    model.save(1)
    with pytest.raises(ArtifactError, match="is an input"):
        passed_on(execution, model).save(2)


def test_remote_artifacts_made_by_hand_are_not_written_to(frame: pd.DataFrame) -> None:
    with pytest.raises(ArtifactError, match="nothing can be written to"):
        Dataset(uri="memory://x/y").write(frame)


def test_datasets_work_outside_a_pipeline(tmp_path: Path, frame: pd.DataFrame) -> None:
    dataset = Dataset(uri=str(tmp_path / "data"))
    dataset.write(frame)
    pd.testing.assert_frame_equal(dataset.read(), frame)


def test_models_come_back(execution) -> None:
    output = execution.output("model", "system.Model")
    output.save({"weights": np.arange(3)})
    assert output.metadata == {"format": "joblib"}
    assert list(passed_on(execution, output).load()["weights"]) == [0, 1, 2]


def test_models_are_pickled_without_joblib(execution, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "joblib", None)
    output = execution.output("model", "system.Model")
    output.save({"a": 1})
    assert output.metadata == {"format": "pickle"}
    assert pickle.loads(Path(output.path).read_bytes()) == {"a": 1}
    assert passed_on(execution, output).load() == {"a": 1}


def test_a_joblib_model_without_joblib_says_what_to_install(execution, monkeypatch: pytest.MonkeyPatch) -> None:
    output = execution.output("model", "system.Model")
    output.save(1)
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(ArtifactError, match="Install joblib"):
        output.load()


def test_what_cannot_be_pickled_is_named(execution) -> None:
    output = execution.output("model", "system.Model")
    with pytest.raises(ArtifactError, match=r"'model': this function cannot be saved"):
        output.save(lambda: 1)
    assert not Path(output.path).exists()


def test_what_save_did_not_save_is_not_unpickled(execution, tmp_path: Path) -> None:
    model = Model("m", str(tmp_path / "model.pkl"))
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(1))
    with pytest.raises(ArtifactError, match=r"not written by Model.save"):
        model.load()
