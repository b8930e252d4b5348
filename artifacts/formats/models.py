"""What ``Model.save`` and ``Model.load`` do: tensors as safetensors, everything else pickled, through joblib where it is there.

Only what was recorded as saved here is ever unpickled; files of unknown origin are not.
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from flowcore.artifacts.formats.registry import Record, listed, package, type_name
from flowcore.artifacts.formats.writing import new_file, new_path, noted, record_of
from flowcore.artifacts.types import Artifact
from flowcore.errors import ArtifactError, FlowcoreError


class _ModelFormat(NamedTuple):
    dump: Callable[[Any, Artifact], None]
    load: Callable[[str, Record], Any]
    version: int = 1


def save_model(artifact: Artifact, model: Any, format: str | None) -> None:
    """Save ``model`` to the artifact's path and note how.

    Raises:
        ArtifactError: it cannot be saved, the format is not known or does not fit, or the artifact is an input.
        StorageError: the disk is full, or cannot be written.
    """
    if format is not None and format not in _MODELS:
        raise ArtifactError(f"artifact {artifact.name!r}: format {format!r} is not known; use one of {listed(_MODELS)}")
    chosen, *others = [format] if format is not None else _formats_of(model)
    while True:
        try:
            _MODELS[chosen].dump(model, artifact)
            break
        except FlowcoreError:
            raise
        except Exception as error:
            if not others:
                text = f"artifact {artifact.name!r}: this {type(model).__qualname__} cannot be saved with {chosen}: {error}"
                raise ArtifactError(f"{text}; use the model's own way of saving, to .path") from error
            chosen = others.pop(0)
    kind = _tensors(model) if chosen == "safetensors" else f"{type(model).__module__}.{type(model).__qualname__}"
    noted(artifact, format=chosen, version=_MODELS[chosen].version, kind=kind, made_with=_made_with(model))


def load_model(artifact: Artifact) -> Any:
    """What ``save_model`` was given. Unpickles: load only what you trust.

    Raises:
        ArtifactError: it was saved otherwise, or cannot be unpickled here.
    """
    record = record_of(artifact)
    if record is None and artifact.uri.endswith(".safetensors"):
        record = {"format": "safetensors", "kind": "numpy.ndarray"}
    format = None if record is None else record.get("format")
    if record is None or format not in _MODELS:
        remedy = "read it with .read()" if format else f"open its .path yourself: {artifact.path!r}"
        raise ArtifactError(f"artifact {artifact.name!r} was not written by Model.save; {remedy}")
    if record.get("version", 1) > _MODELS[format].version:
        text = f"artifact {artifact.name!r} was saved by a later flowcore ({format} {record['version']})"
        raise ArtifactError(f"{text}; upgrade this one")
    path = artifact.path
    try:
        return _MODELS[format].load(path, record)
    except FlowcoreError:
        raise
    except Exception as error:
        text = f"artifact {artifact.name!r}: {path!r} cannot be loaded with {format}: {type(error).__name__}: {error}"
        made = ", ".join(record["made_with"]) if record.get("made_with") else "unknown"
        raise ArtifactError(f"{text}; install what its task had, in the same versions ({made})") from error


def _formats_of(model: Any) -> list[str]:
    """What to save ``model`` with; safetensors refuses tensors that share memory, as those of tied layers do."""
    pickled = "joblib" if _installed("joblib") else "pickle"
    return ["safetensors", pickled] if _tensors(model) and _installed("safetensors") else [pickled]


def _made_with(model: Any) -> list[str]:
    top = type(model).__module__.partition(".")[0]
    version = getattr(sys.modules.get(top), "__version__", None)
    return [f"Python {platform.python_version()}", *([f"{top} {version}"] if isinstance(version, str) else [])]


def _tensors(model: Any) -> str | None:
    """"numpy.ndarray" or "torch.Tensor" where ``model`` is a dict of nothing else, by names that safetensors can keep."""
    if not isinstance(model, dict) or not model or not all(type(name) is str for name in model):
        return None
    kinds = {type_name(type(value)) for value in model.values()}
    if kinds == {"numpy.ndarray"}:
        # Text, times and foreign byte orders have no counterpart there, nor has a dict of another class.
        plain = type(model) is dict and all(value.dtype.kind in "biuf" and value.dtype.isnative for value in model.values())
        return "numpy.ndarray" if plain else None
    return "torch.Tensor" if kinds <= {"torch.Tensor", "torch.Parameter"} else None


def _installed(name: str) -> bool:
    try:
        package(name)
    except ArtifactError:
        return False
    return True


def _dump_joblib(model: Any, artifact: Artifact) -> None:
    joblib = package("joblib")
    with new_file(artifact) as file:
        joblib.dump(model, file)


def _load_joblib(path: str, record: Record) -> Any:
    return package("joblib").load(path)


def _dump_pickle(model: Any, artifact: Artifact) -> None:
    with new_file(artifact) as file:
        pickle.dump(model, file, protocol=pickle.HIGHEST_PROTOCOL)


def _load_pickle(path: str, record: Record) -> Any:
    with open(path, "rb") as file:
        return pickle.load(file)


def _dump_safetensors(model: Any, artifact: Artifact) -> None:
    kind = _tensors(model)
    if kind is None:
        found = f"artifact {artifact.name!r}: this {type(model).__qualname__}"
        raise ArtifactError(f"{found} is not a dict of numpy arrays or torch tensors of numbers; use format='joblib'")
    save = package(_FLAVOURS[kind]).save_file
    if kind == "numpy.ndarray":
        # It writes an array's memory as it lies, in whatever order.
        model = {name: value if value.flags.c_contiguous else value.copy(order="C") for name, value in model.items()}
    path = new_path(artifact)
    try:
        save(dict(model), path)
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


def _load_safetensors(path: str, record: Record) -> Any:
    return package(_FLAVOURS[record["kind"]]).load_file(path)


_FLAVOURS = {"numpy.ndarray": "safetensors.numpy", "torch.Tensor": "safetensors.torch"}
_MODELS = {
    "joblib": _ModelFormat(_dump_joblib, _load_joblib),
    "pickle": _ModelFormat(_dump_pickle, _load_pickle),
    "safetensors": _ModelFormat(_dump_safetensors, _load_safetensors),
}
