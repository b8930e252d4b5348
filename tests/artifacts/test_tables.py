"""Tables of three libraries, through files and back: values, types, indexes, and memory that stays where it is."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcore.artifacts.types import Dataset
from flowcore.errors import ArtifactError

BOTH = pytest.mark.parametrize("format", ["arrow", "parquet"])


def objects(*values: object) -> pd.DataFrame:
    return pd.DataFrame({"x": pd.Series(values, dtype=object)})


FRAMES = {
    "mixed": pd.DataFrame(
        {
            "int": pd.array([1, None, 3], dtype="Int64"),
            "text": ["a", "ü", None],
            "when": pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin"),
            "kind": pd.Categorical(["x", "y", "x"], categories=["y", "z", "x"]),
            "small": np.array([1, 2, 3], dtype="int8"),
        },
        index=pd.Index(["r1", "r2", "r3"], name="row"),
    ),
    "multi index": pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"])),
    "no rows": pd.DataFrame({"x": pd.Series([], dtype="float32")}),
    "nothing": pd.DataFrame(),
    "seconds": pd.DataFrame({"x": pd.Series(pd.to_datetime(["2020-01-01"])).dt.as_unit("s")}),
    "durations": pd.DataFrame({"x": pd.to_timedelta(["1D"])}),
    "periods": pd.DataFrame({"x": pd.period_range("2020", periods=2, freq="M")}),
    "intervals": pd.DataFrame({"x": pd.interval_range(0, 2)}),
    "daily index": pd.DataFrame({"x": [1, 2]}, index=pd.date_range("2020", periods=2, freq="D")),
    "range index": pd.DataFrame({"x": [1, 2]}, index=pd.RangeIndex(5, 9, 2, name="r")),
    "object index": pd.DataFrame({"x": [1, 2]}, index=pd.Index([1, 2], dtype=object)),
    "number columns": pd.DataFrame({0: [1], 1: [2]}),
    "two-level columns": pd.DataFrame({("a", "b"): [1]}),
    "string of python": pd.DataFrame({"x": pd.Series(["a", None], dtype=pd.StringDtype("python"))}),
    "string of pyarrow": pd.DataFrame({"x": pd.Series(["a", None], dtype=pd.StringDtype("pyarrow"))}),
    "string of Arrow": pd.DataFrame({"x": pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string()))}),
    "object text": objects("a", None),
    "object ints": objects(1, None),
    "object large ints": objects(2**53 + 1, None),
    "object bools": objects(True, None),
    "object floats": objects(1.5, None),
    "object dates": objects(datetime.date(2020, 1, 1), None),
    "object times": objects(datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)),
    "object decimals": objects(Decimal("1.20"), None),
    "object lists": objects([1, 2], None),
    "object dicts": objects({"a": 1}, {"a": None}),
}


@BOTH
@pytest.mark.parametrize("name", FRAMES)
def test_frames_keep_index_and_dtypes(local, round_trip, name: str, format: str) -> None:
    pd.testing.assert_frame_equal(round_trip(local, FRAMES[name], format), FRAMES[name], check_freq=True)


@pytest.mark.filterwarnings("ignore:The DataFrame has column names of mixed type")
@BOTH
@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (objects(1, "a", object()), "give each column one type"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "its own name"),
        (pd.DataFrame({0: [1], "a": [2]}), r"column names \[0, 'a'\] would come back as \['0', 'a'\]"),
        (objects({"a": 1}, {"b": 2}), "the dicts in its column 'x' have different keys"),
        (pd.DataFrame({"x": [1 + 2j]}), "complex128"),
        (pd.DataFrame({"x": pd.arrays.SparseArray([0, 1])}), "Sparse"),
    ],
)
def test_frames_that_would_come_back_changed_are_refused_and_leave_no_file(local, bad, reason: str, format: str) -> None:
    output = local.output("data", "system.Dataset")
    with pytest.raises(ArtifactError, match=f"'data': this pandas.DataFrame cannot be written as {format}: .*{reason}"):
        output.write(bad, format=format)
    assert not Path(output.path).exists()
    assert output.metadata == {}


@BOTH
@pytest.mark.parametrize(
    "series",
    [
        pd.Series([1, 2], name="n"),
        pd.Series([1, 2]),
        pd.Series(["a", "b"], index=["x", "y"], name=("t", 1)),
        pd.Series([1.0], name=5),
        pd.Series([1], index=pd.Index([2], name="q"), name="q"),
        pd.Series(["a", None], dtype="category"),
        pd.Series([], dtype="int16"),
    ],
    ids=repr,
)
def test_series_keep_name_index_and_dtype(local, round_trip, series: pd.Series, format: str) -> None:
    pd.testing.assert_series_equal(round_trip(local, series, format), series)


POLARS = pl.DataFrame(
    {
        "i": [1, None],
        "s": ["ü", None],
        "c": pl.Series(["x", "y"], dtype=pl.Categorical),
        "e": pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"])),
        "d": [datetime.date(2020, 1, 1), None],
        "at": pl.Series([datetime.datetime(2020, 1, 1)] * 2, dtype=pl.Datetime("ms", "Europe/Berlin")),
        "took": [datetime.timedelta(1)] * 2,
        "t": [datetime.time(1, 2)] * 2,
        "l": [[1], None],
        "a": pl.Series([[1, 2]] * 2, dtype=pl.Array(pl.Int8, 2)),
        "st": [{"a": 1, "b": "x"}] * 2,
        "bin": [b"a", None],
        "dec": [Decimal("1.20")] * 2,
        "n": pl.Series([None] * 2, dtype=pl.Null),
        "f": [float("nan"), None],
    }
)


@BOTH
def test_polars_frames_keep_their_types(anywhere, round_trip, format: str) -> None:
    read = round_trip(anywhere, POLARS, format)
    pl.testing.assert_frame_equal(read, POLARS)
    assert read.schema == POLARS.schema


@BOTH
def test_lazy_frames_are_collected_and_come_back_lazy(local, round_trip, format: str) -> None:
    lazy = round_trip(local, POLARS.lazy().filter(pl.col("i") == 1), format)
    pl.testing.assert_frame_equal(lazy.select("s").collect(), POLARS.filter(pl.col("i") == 1).select("s"))


@BOTH
def test_polars_columns_of_objects_are_refused(local, format: str) -> None:
    with pytest.raises(ArtifactError, match="its column 'o' of type Object has no Arrow form"):
        local.output("data", "system.Dataset").write(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}), format=format)


@BOTH
def test_arrow_tables_keep_schema_and_metadata(local, round_trip, format: str) -> None:
    table = pa.table(
        {
            "a": pa.array([1], pa.timestamp("s", "UTC")),
            "b": pa.array([1], pa.time32("s")),
            "c": pa.nulls(1),
            "d": pa.array([1], pa.float16()),
            "e": pa.array(["a"], pa.large_string()),
            "f": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8())),
            "g": pa.array(["x"]).cast(pa.dictionary(pa.uint32(), pa.large_string())),
        }
    ).replace_schema_metadata({"mine": "kept"})
    read = round_trip(local, table, format)
    assert read.equals(table, check_metadata=True)
    assert round_trip(local, table.to_reader(), format).read_all().equals(table)


def test_what_parquet_would_change_is_refused_for_arrow(local) -> None:
    output = local.output("data", "system.Dataset")
    with pytest.raises(ArtifactError, match=r"'x' of type dictionary<.*> would come back as int64; use format='arrow'"):
        output.write(pd.DataFrame({"x": pd.Categorical([3, 1])}), format="parquet")
    with pytest.raises(ArtifactError, match=r"without a column its rows would be lost"):
        output.write(pd.DataFrame(index=range(3)), format="parquet")


@BOTH
def test_batches_come_back_as_one(local, round_trip, format: str) -> None:
    for batch in (pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": pa.array([], pa.int8())})):
        assert round_trip(local, batch, format).equals(batch)


@BOTH
def test_readers_are_written_and_read_batch_by_batch(local, passed_on, format: str) -> None:
    """Each batch is given up before the next is made: the sum of all is many times what is allowed at once."""
    rows, count = 1_000_000, 40
    schema, peak, before = pa.schema({"x": pa.int64()}), 0, pa.total_allocated_bytes()

    def batches():
        nonlocal peak
        for number in range(count):
            yield pa.record_batch({"x": pa.nulls(rows, pa.int64()).fill_null(number)})
            peak = max(peak, pa.total_allocated_bytes() - before)

    output = local.output("data", "system.Dataset")
    output.write(pa.RecordBatchReader.from_batches(schema, batches()), format=format)
    assert peak < 160_000_000 < rows * count * 8
    reader = passed_on(local, output).read()
    assert isinstance(reader, pa.RecordBatchReader)
    seen = 0
    for batch in reader:
        seen += batch.num_rows
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert seen == rows * count
    assert peak < 160_000_000


def test_small_batches_become_few_row_groups(local) -> None:
    output = local.output("data", "system.Dataset")
    one = pa.record_batch({"a": [1]})
    output.write(pa.RecordBatchReader.from_batches(one.schema, iter([one] * 100)), format="parquet")
    assert pa.parquet.ParquetFile(output.path).num_row_groups == 1


def test_arrow_tables_lie_in_the_map_and_allocate_nothing(local, passed_on) -> None:
    output = local.output("data", "system.Dataset")
    output.write(pa.table({"x": np.arange(1_000_000), "y": np.arange(1_000_000)}))
    artifact = passed_on(local, output)
    before = pa.total_allocated_bytes()
    table = artifact.read()
    assert (table.num_rows, table.nbytes) == (1_000_000, 16_000_000)
    assert pa.total_allocated_bytes() - before < 100_000
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(artifact.path):
            begin, end = (int(part, 16) for part in line.split()[0].split("-"))
            mapped.append((begin, end))
    for column in table.itercolumns():
        for buffer in column.chunk(0).buffers():
            assert buffer is None or any(begin <= buffer.address < end for begin, end in mapped)


def test_tables_are_read_as_what_the_reader_wants(anywhere, round_trip) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, None]}, index=pd.Index(["x", "y"], name="i"))
    assert round_trip(anywhere, frame, as_="arrow").column_names == ["a", "b", "i"]
    assert round_trip(anywhere, frame, as_="polars").columns == ["a", "b", "i"]
    assert round_trip(anywhere, frame, as_="batches").read_all().num_rows == 2
    np.testing.assert_array_equal(round_trip(anywhere, frame, as_="numpy"), [[1, 0.5], [2, np.nan]])
    np.testing.assert_array_equal(round_trip(anywhere, frame["a"], as_="numpy"), [1, 2])
    as_pandas = pd.DataFrame({"i": pd.Series([1, None], dtype=object), "s": ["ü", None]})
    pd.testing.assert_frame_equal(round_trip(anywhere, POLARS.select("i", "s"), as_="pandas"), as_pandas)
    assert round_trip(anywhere, frame, "parquet", as_="lazy").collect().shape == (2, 3)


def test_columns_without_numbers_make_no_array(local, round_trip) -> None:
    with pytest.raises(ArtifactError, match=r"its column 'b' holds no numbers, .*; read it as arrow"):
        round_trip(local, pa.table({"a": [1], "b": ["x"]}), as_="numpy")


CELLS = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.bool_(): st.booleans(),
    pa.string(): st.text(st.characters(codec="utf-8"), max_size=8),
    pa.binary(): st.binary(max_size=8),
    pa.timestamp("us", "UTC"): st.datetimes(timezones=st.just(datetime.UTC)),
    pa.list_(pa.int64()): st.lists(st.integers(-9, 9), max_size=3),
}


#: polars panics on names with a zero byte.
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from(list(CELLS)), max_size=4))
    rows = draw(st.integers(0, 5)) if kinds else 0
    cells = [pa.array([draw(st.none() | CELLS[kind]) for _ in range(rows)], kind) for kind in kinds]
    names = draw(st.lists(NAMES, min_size=len(kinds), max_size=len(kinds), unique=True))
    return pa.table(cells, names=names)


@BOTH
@given(table=tables())
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, table: pa.Table, format: str) -> None:
    dataset = Dataset(uri=str(tmp_path_factory.mktemp("any") / "data"))
    dataset.write(table, format=format)
    read = dataset.read()
    assert read.schema.equals(table.schema, check_metadata=True)
    # nan is not equal to itself: compared as text.
    assert str(read.to_pylist()) == str(table.to_pylist())


@BOTH
@given(table=tables())
def test_any_polars_frame_comes_back(tmp_path_factory: pytest.TempPathFactory, table: pa.Table, format: str) -> None:
    frame = pl.from_arrow(table)
    dataset = Dataset(uri=str(tmp_path_factory.mktemp("any") / "data"))
    dataset.write(frame, format=format)
    pl.testing.assert_frame_equal(dataset.read(), frame)


@BOTH
@given(table=tables())
def test_any_pandas_frame_comes_back(tmp_path_factory: pytest.TempPathFactory, table: pa.Table, format: str) -> None:
    frame = table.to_pandas(integer_object_nulls=True)
    dataset = Dataset(uri=str(tmp_path_factory.mktemp("any") / "data"))
    dataset.write(frame, format=format)
    pd.testing.assert_frame_equal(dataset.read(), frame)
