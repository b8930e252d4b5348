"""What ``Dataset.write``/``read`` and ``Model.save``/``load`` do. pyarrow, pandas and joblib are imported on first use.

The format and the kind of data are kept in the artifact's metadata; what was not written here is not guessed at.
"""

from __future__ import annotations

import importlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from flowcore.artifacts.places import local_path
from flowcore.artifacts.types import Artifact
from flowcore.errors import ArtifactError, FlowcoreError


def write_dataset(artifact: Artifact, data: Any, format: str | None) -> None:
    """Write ``data`` to the artifact's path and note its format and kind in the metadata.

    Raises:
        ArtifactError: the type or format is not known, the data does not fit it, or the artifact is an input.
    """
    kind, chosen = _kind_of(artifact, data), format or "arrow"
    if chosen not in _FORMATS:
        raise ArtifactError(f"artifact {artifact.name!r}: format {chosen!r} is not known; use one of {_names(_FORMATS)}")
    path = _new_path(artifact)
    try:
        _FORMATS[chosen][0](_KINDS[kind][0](data), path)
    except FlowcoreError:
        raise
    except Exception as error:
        with suppress(OSError):
            os.unlink(path)
        text = f"artifact {artifact.name!r}: this {kind} cannot be written as {chosen}: {error}"
        raise ArtifactError(f"{text}; give each column one type and its own name, or write to .path yourself") from error
    artifact.metadata.update(format=chosen, kind=kind)


def read_dataset(artifact: Artifact) -> Any:
    """What ``write_dataset`` was given.

    Raises:
        ArtifactError: it was written otherwise, or its contents cannot be read.
    """
    format, kind = artifact.metadata.get("format"), artifact.metadata.get("kind")
    if format not in _FORMATS or kind not in _KINDS:
        raise _foreign(artifact, "Dataset.write")
    path = artifact.path
    try:
        return _KINDS[kind][1](_FORMATS[format][1](path))
    except FlowcoreError:
        raise
    except Exception as error:
        text = f"artifact {artifact.name!r}: {path!r} cannot be read as {format}: {error}"
        raise ArtifactError(f"{text}; run the task that made it again") from error


def save_model(artifact: Artifact, model: Any) -> None:
    """Pickle ``model`` to the artifact's path, through joblib where it is installed.

    Raises:
        ArtifactError: it cannot be pickled, or the artifact is an input.
    """
    format, path = "joblib" if _installed("joblib") else "pickle", _new_path(artifact)
    try:
        _MODELS[format][0](model, path)
    except Exception as error:
        with suppress(OSError):
            os.unlink(path)
        text = f"artifact {artifact.name!r}: this {type(model).__qualname__} cannot be saved with {format}: {error}"
        raise ArtifactError(f"{text}; use the model's own way of saving, to .path") from error
    artifact.metadata["format"] = format


def load_model(artifact: Artifact) -> Any:
    """What ``save_model`` was given. Unpickles: load only what you trust.

    Raises:
        ArtifactError: it was saved otherwise, or cannot be unpickled here.
    """
    format = artifact.metadata.get("format")
    if format not in _MODELS:
        raise _foreign(artifact, "Model.save")
    path = artifact.path
    try:
        return _MODELS[format][1](path)
    except FlowcoreError:
        raise
    except Exception as error:
        text = f"artifact {artifact.name!r}: {path!r} cannot be loaded with {format}: {type(error).__name__}: {error}"
        raise ArtifactError(f"{text}; install what its task had, in the same versions") from error


def _kind_of(artifact: Artifact, data: Any) -> str:
    for base in type(data).__mro__:
        kind = f"{base.__module__.partition('.')[0]}.{base.__qualname__}"
        if kind in _KINDS:
            return kind
    given = f"{type(data).__module__}.{type(data).__qualname__}"
    text = f"artifact {artifact.name!r}: write got a {given} and knows {_names(_KINDS)}"
    raise ArtifactError(f"{text}; convert it, or write it to .path yourself")


def _new_path(artifact: Artifact) -> str:
    """The artifact's path with nothing there: an older version may be memory-mapped, so it is never written over."""
    if artifact._ref is not None:
        raise ArtifactError(f"artifact {artifact.name!r} is an input and stays as it is; write to an output")
    by_hand = artifact._path is None and artifact._fetch is None and artifact.custom_path is None
    if by_hand and local_path(artifact.uri) is None:
        text = f"artifact {artifact.name!r}: nothing can be written to {artifact.uri!r} from here"
        raise ArtifactError(f"{text}; write to an Output[...] of a component")
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        os.unlink(artifact.path)
    return artifact.path


def _foreign(artifact: Artifact, writer: str) -> ArtifactError:
    return ArtifactError(f"artifact {artifact.name!r} was not written by {writer}; open its .path yourself: {artifact.path!r}")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise ArtifactError(f"{package} is not installed here and this artifact needs it; Install {package}") from error


def _installed(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def _names(table: dict[str, Any]) -> str:
    return " and ".join(table)


def _as_is(table: Any) -> Any:
    return table


def _table_of_frame(frame: Any) -> Any:
    return _package("pyarrow").Table.from_pandas(frame)


def _frame_of_table(table: Any) -> Any:
    _package("pandas")
    return table.to_pandas()


def _write_arrow(table: Any, path: str) -> None:
    pa = _package("pyarrow")
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_arrow(path: str) -> Any:
    pa = _package("pyarrow")
    return pa.ipc.open_file(pa.memory_map(path)).read_all()


def _write_parquet(table: Any, path: str) -> None:
    _package("pyarrow.parquet").write_table(table, path)


def _read_parquet(path: str) -> Any:
    # ParquetFile, as read_table would make columns out of directories named "key=value".
    with _package("pyarrow.parquet").ParquetFile(path) as file:
        return file.read()


def _dump_joblib(model: Any, path: str) -> None:
    _package("joblib").dump(model, path)


def _load_joblib(path: str) -> Any:
    return _package("joblib").load(path)


def _dump_pickle(model: Any, path: str) -> None:
    with open(path, "wb") as file:
        pickle.dump(model, file, protocol=pickle.HIGHEST_PROTOCOL)


def _load_pickle(path: str) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


_Pair = tuple[Callable[..., Any], Callable[..., Any]]
_KINDS: dict[str, _Pair] = {
    "pandas.DataFrame": (_table_of_frame, _frame_of_table),
    "pyarrow.Table": (_as_is, _as_is),
}
_FORMATS: dict[str, _Pair] = {"arrow": (_write_arrow, _read_arrow), "parquet": (_write_parquet, _read_parquet)}
_MODELS: dict[str, _Pair] = {"joblib": (_dump_joblib, _load_joblib), "pickle": (_dump_pickle, _load_pickle)}
