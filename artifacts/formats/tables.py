"""Tables of pandas, polars and pyarrow as Arrow IPC or Parquet files. Local Arrow files are mapped into memory, never copied."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flowcore.artifacts.formats.registry import Format, Kind, Record, package, read_bytes
from flowcore.artifacts.hashed_file import HashedFile
from flowcore.errors import ArtifactError

_BUFFER_BYTES = 1024 * 1024
_ROW_GROUP_BYTES = 64 * 1024 * 1024


class _Source(NamedTuple):
    """An opened file: all of it as a table, or batch by batch."""

    path: str
    table: Callable[[], Any]
    batches: Callable[[], Any]


def _write_arrow(data: Any, file: HashedFile) -> None:
    pa = package("pyarrow")
    with pa.output_stream(file, buffer_size=_BUFFER_BYTES) as sink, pa.ipc.new_file(sink, data.schema) as writer:
        if isinstance(data, pa.Table):
            writer.write_table(data)
        else:
            for batch in data:
                writer.write_batch(batch)


def _open_arrow(path: str) -> _Source:
    pa = package("pyarrow")
    reader = pa.ipc.open_file(pa.memory_map(path))

    def batches() -> Iterator[Any]:
        for place in range(reader.num_record_batches):
            yield reader.get_batch(place)

    return _Source(path, reader.read_all, lambda: pa.RecordBatchReader.from_batches(reader.schema, batches()))


def _write_parquet(data: Any, file: HashedFile) -> None:
    pa, parquet = package("pyarrow"), package("pyarrow.parquet")
    _check_parquet(data)
    with pa.output_stream(file, buffer_size=_BUFFER_BYTES) as sink, parquet.ParquetWriter(sink, data.schema) as writer:
        if isinstance(data, pa.Table):
            writer.write_table(data)
            return
        # Each call makes a row group of its own, and small ones are slow to read.
        held: list[Any] = []
        held_bytes = 0
        for batch in data:
            held.append(batch)
            held_bytes += batch.nbytes
            if held_bytes >= _ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, data.schema))
                held, held_bytes = [], 0
        if held:
            writer.write_table(pa.Table.from_batches(held, data.schema))


def _check_parquet(data: Any) -> None:
    """Refuse what Parquet files do not keep; what can be cast back is by ``_open_parquet``."""
    pa, parquet = package("pyarrow"), package("pyarrow.parquet")
    if not data.schema.names and isinstance(data, pa.Table) and data.num_rows:
        raise ArtifactError("without a column its rows would be lost; use format='arrow'")
    empty = pa.BufferOutputStream()
    parquet.write_table(data.schema.empty_table(), empty)
    for field, back in zip(data.schema, parquet.ParquetFile(pa.BufferReader(empty.getvalue())).schema_arrow, strict=True):
        if field.type != back.type and not _can_cast(field.type, back.type):
            text = f"its column {field.name!r} of type {field.type} would come back as {back.type}"
            raise ArtifactError(f"{text}; use format='arrow'")


def _can_cast(type_: Any, other: Any) -> bool:
    """Times kept in a finer unit, and categories kept as a shorter text type; neither loses anything on the way back."""
    types = package("pyarrow").types
    if types.is_timestamp(type_) and types.is_timestamp(other):
        return bool(type_.tz == other.tz)
    both = (types.is_time, types.is_dictionary)
    return any(test(type_) and test(other) for test in both)


def _open_parquet(path: str) -> _Source:
    pa = package("pyarrow")
    # ParquetFile, as read_table would make columns out of directories named "key=value".
    file = package("pyarrow.parquet").ParquetFile(path)
    schema = file.schema_arrow
    kept = (file.metadata.metadata or {}).get(b"ARROW:schema")
    for place, field in enumerate(pa.ipc.read_schema(pa.BufferReader(b64decode(kept))) if kept else ()):
        found = schema.field(place).type
        # Equal types may still differ in the names of what is inside: Parquet has "element" for Arrow's "item".
        if not field.type.equals(found, check_metadata=True) and (field.type == found or _can_cast(field.type, found)):
            schema = schema.set(place, field)

    def table() -> Any:
        with file:
            return file.read().cast(schema)

    def batches() -> Iterator[Any]:
        with file:
            for batch in file.iter_batches():
                yield batch.cast(schema)

    return _Source(path, table, lambda: pa.RecordBatchReader.from_batches(schema, batches()))


def _open_csv(path: str) -> _Source:
    csv = package("pyarrow.csv")
    return _Source(path, lambda: csv.read_csv(path), lambda: csv.open_csv(path))


def _table(source: _Source, record: Record) -> Any:
    return source.table()


def _batches(source: _Source, record: Record) -> Any:
    return source.batches()


def _batch(source: _Source, record: Record) -> Any:
    table = source.table().combine_chunks()
    return table.to_batches()[0] if table.num_rows else package("pyarrow").RecordBatch.from_pylist([], schema=table.schema)


def _numpy(source: _Source, record: Record) -> Any:
    numpy, table = package("numpy"), source.table()
    about = table.schema.pandas_metadata or {}
    columns = table.drop_columns([name for name in about.get("index_columns", ()) if isinstance(name, str)])
    arrays = [column.to_numpy() for column in columns.itercolumns()]
    if len(arrays) == 1:
        return arrays[0]
    unfit = [name for name, array in zip(columns.column_names, arrays, strict=True) if array.dtype.kind not in "biuf"]
    if unfit or not arrays:
        problem = f"its column {unfit[0]!r} holds no numbers" if unfit else "it has no columns"
        raise ArtifactError(f"{problem}, which an array of several columns needs; read it as arrow and take columns from that")
    return numpy.column_stack(arrays)


def _polars(source: _Source, record: Record) -> Any:
    return package("polars").from_arrow(source.table())


def _lazy(source: _Source, record: Record) -> Any:
    return _polars(source, record).lazy()


def _pandas(source: _Source, record: Record) -> Any:
    pandas, table = package("pandas"), source.table()
    # Integers with gaps were objects or nullable integers; as floats the large ones would change.
    frame = table.to_pandas(integer_object_nulls=True)
    for place, dtype in record.get("dtypes", {}).items():
        column = int(place)
        if dtype == "object":
            values = package("numpy").empty(len(frame), dtype=object)
            values[:] = table.column(column).to_pylist()
            frame.isetitem(column, pandas.Series(values, index=frame.index, dtype=object))
        else:
            frame.isetitem(column, frame.iloc[:, column].astype(_dtype(pandas, dtype)))
    if "index_dtype" in record:
        frame.index = frame.index.astype(_dtype(pandas, record["index_dtype"]))
    if "index_freq" in record:
        frame.index.freq = record["index_freq"]
    return frame


def _series(source: _Source, record: Record) -> Any:
    series = _pandas(source, record).iloc[:, 0]
    return series.rename(None) if record.get("unnamed") else series


def _of_frame(frame: Any, format: str) -> tuple[Any, dict[str, Any]]:
    pandas, pa = package("pandas"), package("pyarrow")
    table, notes = pa.Table.from_pandas(frame), dict[str, Any]()
    back = table.schema.empty_table().to_pandas()
    if list(back.columns) != list(frame.columns) or back.columns.dtype != frame.columns.dtype:
        text = f"its column names {[*frame.columns][:5]} would come back as {[*back.columns][:5]}"
        raise ArtifactError(f"{text}; give all columns names of one type")
    changed = {}
    for place, (dtype, other) in enumerate(zip(frame.dtypes, back.dtypes, strict=True)):
        if not _same(pandas, dtype, other):
            changed[str(place)] = _dtype_name(pandas, dtype, other)
        fields = {field.name for field in table.field(place).type} if pa.types.is_struct(table.field(place).type) else None
        if fields is not None and any(isinstance(value, dict) and value.keys() != fields for value in frame.iloc[:, place]):
            text = f"the dicts in its column {frame.columns[place]!r} have different keys and would all get the same"
            raise ArtifactError(f"{text}; make it one column a key, or text")
    if changed:
        notes["dtypes"] = changed
    if not isinstance(frame.index, pandas.MultiIndex):
        if not _same(pandas, frame.index.dtype, back.index.dtype):
            notes["index_dtype"] = _dtype_name(pandas, frame.index.dtype, back.index.dtype)
        freq = getattr(frame.index, "freqstr", None)
        if freq is not None and not isinstance(frame.index, pandas.PeriodIndex):
            notes["index_freq"] = freq
    return table, notes


def _same(pandas: Any, dtype: Any, other: Any) -> bool:
    # The categories are in the file, with the data.
    return type(dtype) is type(other) and (isinstance(dtype, pandas.CategoricalDtype) or bool(dtype == other))


def _dtype_name(pandas: Any, dtype: Any, other: Any) -> str:
    """Text from which ``_dtype`` makes it again; one name cannot tell the dtypes of strings apart."""
    name = str(dtype)
    if isinstance(dtype, pandas.StringDtype):
        name = f"string {dtype.storage} {'NA' if dtype.na_value is pandas.NA else 'nan'}"
    elif isinstance(dtype, pandas.ArrowDtype):
        name = f"arrow {dtype.pyarrow_dtype}"
    elif name != "object":
        raise ArtifactError(f"its dtype {dtype} would come back as {other}; convert it with .astype(...)")
    return name


def _dtype(pandas: Any, name: str) -> Any:
    kind, *rest = name.split(" ", 2)
    if kind == "string":
        return pandas.StringDtype(rest[0], na_value=pandas.NA if rest[1] == "NA" else float("nan"))
    return pandas.ArrowDtype(package("pyarrow").type_for_alias(rest[0])) if kind == "arrow" else name


def _of_series(series: Any, format: str) -> tuple[Any, dict[str, Any]]:
    table, notes = _of_frame(series.to_frame(), format)
    return table, {**notes, "unnamed": True} if series.name is None else notes


def _of_polars(frame: Any, format: str) -> tuple[Any, dict[str, Any]]:
    try:
        table = frame.to_arrow()
    except BaseException as error:
        # polars panics, which is no Exception, for instance on a zero byte in a name.
        if type(error).__name__ != "PanicException":
            raise
        raise ArtifactError(f"polars cannot export it ({error}); rename or cast the column that this names") from error
    back = package("polars").from_arrow(table.schema.empty_table()).schema
    changed = [name for name, dtype in frame.schema.items() if back.get(name) != dtype]
    if changed:
        raise ArtifactError(f"its column {changed[0]!r} of type {frame.schema[changed[0]]} has no Arrow form; cast it")
    return table, {}


def _of_lazy(frame: Any, format: str) -> tuple[Any, dict[str, Any]]:
    return _of_polars(frame.collect(), format)


def _of_batch(batch: Any, format: str) -> tuple[Any, dict[str, Any]]:
    return package("pyarrow").Table.from_batches([batch]), {}


def _as_is(data: Any, format: str) -> tuple[Any, dict[str, Any]]:
    return data, {}


_VIEWS: dict[str, Callable[[_Source, Record], Any]] = {
    "arrow": _table,
    "pandas": _pandas,
    "polars": _polars,
    "numpy": _numpy,
    "series": _series,
    "lazy": _lazy,
    "batch": _batch,
    "batches": _batches,
    "bytes": lambda source, record: read_bytes(source.path, record),
}
_BOTH = ("arrow", "parquet")
_REMEDY = "give each column one type and its own name, or write to .path yourself"

FORMATS = {
    "arrow": Format(_write_arrow, _open_arrow, _VIEWS, (".arrow", ".feather", ".ipc"), b"ARROW1"),
    "parquet": Format(_write_parquet, _open_parquet, _VIEWS, (".parquet", ".pq"), b"PAR1"),
    "csv": Format(None, _open_csv, _VIEWS, (".csv",)),
}
KINDS = {
    "pandas.DataFrame": Kind(_BOTH, _of_frame, "pandas", _REMEDY),
    "pandas.Series": Kind(_BOTH, _of_series, "series", _REMEDY),
    "polars.DataFrame": Kind(_BOTH, _of_polars, "polars", _REMEDY),
    "polars.LazyFrame": Kind(_BOTH, _of_lazy, "lazy", _REMEDY),
    "pyarrow.Table": Kind(_BOTH, _as_is, "arrow", _REMEDY),
    "pyarrow.RecordBatch": Kind(_BOTH, _of_batch, "batch", _REMEDY),
    "pyarrow.RecordBatchReader": Kind(_BOTH, _as_is, "batches", _REMEDY, subclasses=True),
}
