"""What write and read promise whatever the data: a record in the metadata, the same type back, and refusals in words."""

from __future__ import annotations

import json
import resource
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from flowcore.artifacts.formats import FORMATS, KINDS
from flowcore.artifacts.types import HTML, Artifact, Dataset, Markdown, Model
from flowcore.errors import ArtifactError, StorageError

TABLE = pa.table({"a": [1, 2]})
SAMPLES = {
    "pandas.DataFrame": pd.DataFrame({"a": [1]}),
    "pandas.Series": pd.Series([1]),
    "polars.DataFrame": pl.DataFrame({"a": [1]}),
    "polars.LazyFrame": pl.LazyFrame({"a": [1]}),
    "pyarrow.Table": TABLE,
    "pyarrow.RecordBatch": TABLE.to_batches()[0],
    "pyarrow.RecordBatchReader": None,  # it can be written once: made for each test
    "numpy.ndarray": np.arange(3),
    "numpy.memmap": None,
    "dict": {"a": 1},
    "list": [1],
    "str": "a",
    "bytes": b"a",
    "bytearray": bytearray(b"a"),
    "matplotlib.Figure": None,
}


@pytest.mark.parametrize("kind", [kind for kind, sample in SAMPLES.items() if sample is not None])
def test_each_type_comes_back_as_itself_from_each_of_its_formats(anywhere, passed_on, kind: str) -> None:
    for format in KINDS[kind].formats:
        output = anywhere.output(f"data-{format}", "system.Artifact")
        output.write(SAMPLES[kind], format=format)
        assert output.metadata["flowcore"]["format"] == format
        assert output.metadata["flowcore"]["kind"] == kind
        assert type(passed_on(anywhere, output).read()) is type(SAMPLES[kind])


def test_the_samples_are_all_that_is_known() -> None:
    assert SAMPLES.keys() == KINDS.keys()
    assert {format for kind in KINDS.values() for format in kind.formats} == {name for name, it in FORMATS.items() if it.write}


def test_every_format_can_be_read_as_bytes(local) -> None:
    assert not [name for name, layout in FORMATS.items() if "bytes" not in layout.views]
    output = local.output("data", "system.Dataset")
    output.write(TABLE)
    assert output.read("bytes") == Path(output.path).read_bytes()


@pytest.mark.parametrize("title", ["system.Artifact", "system.Dataset", "system.Model", "system.HTML", "system.Markdown"])
def test_all_artifact_types_can_be_written(anywhere, passed_on, title: str) -> None:
    output = anywhere.output("it", title)
    output.write("<b>bold</b>")
    assert passed_on(anywhere, output).read() == "<b>bold</b>"


def test_new_metadata_does_not_make_the_format_unknown(local, passed_on) -> None:
    output = local.output("data", "system.Dataset")
    output.write(TABLE)
    output.metadata = {"rows": 2, "format": "mine"}
    sealed = passed_on(local, output)
    assert sealed.read().equals(TABLE)
    assert {key: sealed.metadata[key] for key in ("rows", "format")} == {"rows": 2, "format": "mine"}


def test_writing_again_leaves_earlier_readers_their_data(local) -> None:
    output = local.output("data", "system.Dataset")
    output.write(pa.table({"x": np.arange(100_000)}))
    table = output.read()
    output.write(np.zeros(1000))
    array = output.read()
    output.write({"now": "json"})
    assert table["x"][99_999].as_py() == 99_999
    assert not array.any()
    assert output.read() == {"now": "json"}


def test_unknown_types_are_named_with_the_known_ones_and_what_to_do(local) -> None:
    output = local.output("data", "system.Dataset")
    known = r"'data': write got a complex and knows pandas.DataFrame, .* and matplotlib.Figure; convert it, or write it to .path"
    with pytest.raises(ArtifactError, match=known):
        output.write(1j)
    remedies = {r"write .to_frame\(\)": pl.Series([1]), r"write list\(it\)": (1, 2), "set_path": Path("x"), "nothing": None}
    for remedy, unknown in remedies.items():
        with pytest.raises(ArtifactError, match=remedy):
            output.write(unknown)
    assert output.metadata == {}


GEO_FRAME = type("GeoFrame", (pd.DataFrame,), {})({"a": [1]})


@pytest.mark.parametrize("data", [OrderedDict(a=1), np.ma.array([1]), np.rec.array([(1,)], dtype=[("a", "i4")]), GEO_FRAME])
def test_subclasses_that_would_come_back_as_something_else_are_refused(local, data: object) -> None:
    with pytest.raises(ArtifactError, match=r"which would come back as a [\w.]+; convert it to one"):
        local.output("data", "system.Dataset").write(data)


def test_unknown_formats_are_named_with_the_known_ones(local) -> None:
    output = local.output("data", "system.Dataset")
    with pytest.raises(ArtifactError, match=r"'csv' is not known for a pandas.DataFrame; use arrow or parquet"):
        output.write(SAMPLES["pandas.DataFrame"], format="csv")
    with pytest.raises(ArtifactError, match=r"'parquet' is not known for a dict; use json"):
        output.write({}, format="parquet")


def test_a_view_that_a_format_does_not_have_is_refused_with_those_that_it_has(local) -> None:
    output = local.output("data", "system.Dataset")
    output.write({"a": 1})
    ways = "use json, text, bytes or bytearray"
    with pytest.raises(ArtifactError, match=f"'data' holds json, which cannot be read as 'pandas'; {ways}"):
        output.read("pandas")


def test_inputs_are_not_written_to(local, passed_on) -> None:
    output = local.output("data", "system.Dataset")
    output.write(TABLE)
    with pytest.raises(ArtifactError, match="is an input"):
        passed_on(local, output).write(TABLE)


def test_remote_artifacts_made_by_hand_are_not_written_to() -> None:
    with pytest.raises(ArtifactError, match="nothing can be written to"):
        Dataset(uri="memory://x/y").write(TABLE)


def test_artifacts_work_outside_a_pipeline(tmp_path: Path) -> None:
    dataset = Dataset(uri=str(tmp_path / "data"))
    dataset.write(TABLE)
    dataset.write([1, 2])
    assert dataset.read() == [1, 2]


def test_a_failed_write_leaves_no_file_and_no_record(local) -> None:
    output = local.output("data", "system.Dataset")
    output.write(TABLE)
    with pytest.raises(ArtifactError, match=r"cannot be written as json: what is at \['a'\] is a object"):
        output.write({"a": object()})
    assert not Path(output.path).exists()
    assert output.metadata == {}
    assert local.seal_artifact(output).sha256 is None


def test_a_disk_without_room_is_a_storage_error_and_leaves_no_file(local) -> None:
    output = local.output("data", "system.Dataset")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        random = np.random.default_rng(0).random(1_000_000)
        for data, format in ((random, "npy"), (pa.table({"a": random}), "arrow"), (pa.table({"a": random}), "parquet")):
            with pytest.raises(StorageError, match=r"cannot be written: OSError: .*File too large"):
                output.write(data, format=format)
            assert not Path(output.path).exists()
        model = local.output("model", "system.Model")
        with pytest.raises(StorageError, match="cannot be written"):
            model.save([np.arange(1_000_000)])
        assert not Path(model.path).exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_stream_raises_is_told_as_its_writer_s(local) -> None:
    def batches():
        yield TABLE.to_batches()[0]
        raise LookupError("no more rows")

    output = local.output("data", "system.Dataset")
    with pytest.raises(ArtifactError, match="cannot be written as arrow: no more rows") as caught:
        output.write(pa.RecordBatchReader.from_batches(TABLE.schema, batches()))
    assert isinstance(caught.value.__cause__, LookupError)
    assert not Path(output.path).exists()


def test_damaged_contents_are_artifact_errors(local) -> None:
    for format, kind in (("arrow", "pyarrow.Table"), ("parquet", "polars.DataFrame"), ("npy", "numpy.ndarray"), ("json", "dict")):
        output = local.output(format, "system.Dataset")
        Path(output.path).write_text("no table")
        output.metadata["flowcore"] = {"format": format, "version": 1, "kind": kind}
        with pytest.raises(ArtifactError, match=f"cannot be read as {format}"):
            output.read()


def test_what_a_later_version_wrote_is_refused_by_its_number(local) -> None:
    output = local.output("data", "system.Dataset")
    output.write(TABLE)
    output.metadata["flowcore"]["version"] = 2
    with pytest.raises(ArtifactError, match=r"later flowcore \(arrow 2\); upgrade"):
        output.read()


def test_a_missing_package_is_named(local, monkeypatch: pytest.MonkeyPatch) -> None:
    output = local.output("data", "system.Dataset")
    output.write(SAMPLES["polars.DataFrame"])
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ArtifactError, match=r"'data': polars is not installed here and this artifact needs it; Install polars"):
        output.read()
    assert output.read("arrow").num_rows == 1


def test_files_of_others_are_known_by_how_they_begin(tmp_path: Path, local, passed_on) -> None:
    table, array = pa.table({"a": [1]}), np.arange(3)
    pa.parquet.write_table(table, tmp_path / "p")
    with pa.ipc.new_file(str(tmp_path / "i"), table.schema) as writer:
        writer.write_table(table)
    np.save(tmp_path / "n.npy", array)
    (tmp_path / "j").write_text(' {"a": [1]}')
    assert Dataset(uri=str(tmp_path / "p")).read().equals(table)
    assert Artifact(uri=str(tmp_path / "i")).read("pandas").equals(pd.DataFrame({"a": [1]}))
    assert (Dataset(uri=str(tmp_path / "n.npy")).read() == array).all()
    assert Dataset(uri=str(tmp_path / "j")).read() == {"a": [1]}
    output = local.output("data", "system.Dataset")
    Path(output.path).write_text(json.dumps([1, 2]))
    assert passed_on(local, output).read() == [1, 2]


def test_files_of_others_are_known_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,x\n")
    (tmp_path / "t.txt").write_text("ü")
    (tmp_path / "t.json").write_text("null")
    (tmp_path / "torn.parquet").write_text("")
    assert Dataset(uri=str(tmp_path / "t.csv")).read().to_pylist() == [{"a": 1, "b": "x"}]
    assert Dataset(uri=f"file://{tmp_path}/t.csv").read("polars").shape == (1, 2)
    assert Dataset(uri=str(tmp_path / "t.csv")).read("batches").read_all().num_rows == 1
    assert Artifact(uri=str(tmp_path / "t.txt")).read() == "ü"
    assert Artifact(uri=str(tmp_path / "t.json")).read() is None
    with pytest.raises(ArtifactError, match="cannot be read as parquet"):
        Dataset(uri=str(tmp_path / "torn.parquet")).read()


def test_pages_are_text(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("[hello](x)")
    assert HTML(uri=str(tmp_path / "page")).read() == "[hello](x)"
    assert Markdown(uri=str(tmp_path / "page")).read() == "[hello](x)"


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "{torn", "[1, 2", "[" * 100_000, ""])
def test_what_is_not_known_is_not_guessed_at(local, passed_on, content: str) -> None:
    output = local.output("data", "system.Dataset")
    Path(output.path).write_text(content)
    unknown = r"'data' was not written by Dataset.write and is no Arrow, .*; open its .path yourself"
    with pytest.raises(ArtifactError, match=unknown) as caught:
        passed_on(local, output).read()
    assert output.path in str(caught.value)


def test_folders_and_missing_files_are_said_to_be_that(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"open its .path yourself"):
        Dataset("d", uri=str(tmp_path)).read()
    with pytest.raises(ArtifactError, match=r"'d' cannot be read: .*No such file.*; check that it was written"):
        Dataset("d", uri=str(tmp_path / "none")).read()


def test_models_and_data_are_not_taken_for_each_other(local) -> None:
    model = local.output("model", "system.Model")
    model.save([1])
    with pytest.raises(ArtifactError, match=r"load it with Model.load"):
        model.read()
    assert isinstance(model, Model)
    model.write([1])
    with pytest.raises(ArtifactError, match=r"read it with .read\(\)"):
        model.load()
