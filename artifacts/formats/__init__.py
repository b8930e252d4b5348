"""What ``Artifact.write`` and ``read`` do: by the data's type into a file, and from the file's record back to that type.

pyarrow, pandas, polars, numpy and matplotlib are imported on first use. Reading never executes what a file holds.
"""

from __future__ import annotations

import json
import os
from typing import Any

from flowcore.artifacts.formats import arrays, documents, tables
from flowcore.artifacts.formats.models import load_model, save_model
from flowcore.artifacts.formats.registry import Format, Kind, Record, listed, type_name
from flowcore.artifacts.formats.writing import new_file, noted, record_of
from flowcore.artifacts.types import Artifact
from flowcore.errors import ArtifactError, FlowcoreError

KINDS: dict[str, Kind] = {**tables.KINDS, **arrays.KINDS, **documents.KINDS}
FORMATS: dict[str, Format] = {**tables.FORMATS, **arrays.FORMATS, **documents.FORMATS}

#: What to write instead of a type that is not known.
_INSTEAD = {
    "polars.Series": "write .to_frame()",
    "pandas.Index": "write .to_frame(index=False)",
    "pyarrow.ChunkedArray": "write pyarrow.table({'name': it})",
    "pyarrow.Array": "write pyarrow.table({'name': it})",
    "torch.Tensor": "write .numpy(force=True), or Model.save a dict of tensors",
    "tuple": "write list(it)",
    "set": "write sorted(it)",
    "NoneType": "write what was made, or nothing at all",
    "pathlib.Path": "copy the file to .path, or use set_path",
    "matplotlib.Axes": "write .figure",
}
_SNIFFED_BYTES = 64


def write_artifact(artifact: Artifact, data: Any, format: str | None) -> None:
    """Write ``data`` to the artifact's path and note its format and kind in the metadata.

    Raises:
        ArtifactError: the type or format is not known, the data does not fit it, or the artifact is an input.
        StorageError: the disk is full, or cannot be written.
    """
    kind = _kind_of(artifact, data)
    known = KINDS[kind]
    chosen = format or known.formats[0]
    if chosen not in known.formats:
        text = f"artifact {artifact.name!r}: format {chosen!r} is not known for a {kind}"
        raise ArtifactError(f"{text}; use {listed(known.formats).replace(' and ', ' or ')}")
    layout = FORMATS[chosen]
    assert layout.write is not None
    with new_file(artifact) as file:
        try:
            encoded, notes = known.encode(data, chosen)
            layout.write(encoded, file)
        except Exception as error:
            if isinstance(error, FlowcoreError) and not isinstance(error, ArtifactError):
                raise
            text = f"artifact {artifact.name!r}: this {kind} cannot be written as {chosen}: {error}"
            raise ArtifactError(text if isinstance(error, ArtifactError) else f"{text}; {known.remedy}") from error
    noted(artifact, format=chosen, version=layout.version, kind=kind, **notes)


def read_artifact(artifact: Artifact, as_: str | None) -> Any:
    """What ``write_artifact`` was given, or the same as something else.

    Raises:
        ArtifactError: how it was written is not known or cannot be read as that, or its contents cannot be read.
    """
    record = record_of(artifact)
    format = _guess(artifact) if record is None else record.get("format")
    if format not in FORMATS:
        remedy = "load it with Model.load" if record else f"open its .path yourself: {artifact.path!r}"
        known = "" if record else " and is no Arrow, Parquet, .npy, JSON or .csv file by its looks"
        raise ArtifactError(f"artifact {artifact.name!r} was not written by {type(artifact).__name__}.write{known}; {remedy}")
    layout, record = FORMATS[format], record or {}
    if record.get("version", 1) > layout.version:
        text = f"artifact {artifact.name!r} was written by a later flowcore ({format} {record['version']})"
        raise ArtifactError(f"{text}; upgrade this one")
    kind = KINDS.get(record.get("kind", ""))
    view = as_ or (next(iter(layout.views)) if kind is None else kind.view)
    if view not in layout.views:
        ways = listed(tuple(layout.views)).replace(" and ", " or ")
        raise ArtifactError(f"artifact {artifact.name!r} holds {format}, which cannot be read as {view!r}; use {ways}")
    path = artifact.path
    try:
        return layout.views[view](layout.open(path), record)
    except Exception as error:
        if isinstance(error, FlowcoreError):
            raise type(error)(f"artifact {artifact.name!r}: {error}") from error
        text = f"artifact {artifact.name!r}: {path!r} cannot be read as {format}: {error}"
        raise ArtifactError(f"{text}; run the task that made it again") from error


def _kind_of(artifact: Artifact, data: Any) -> str:
    ancestry = [type_name(base) for base in type(data).__mro__]
    if ancestry[0] in KINDS:
        return ancestry[0]
    given = next((name for name in ancestry if name in KINDS), None)
    if given is not None and KINDS[given].subclasses:
        return given
    text = f"artifact {artifact.name!r}: write got a {ancestry[0]}"
    if given is not None:
        raise ArtifactError(f"{text}, which would come back as a {given}; convert it to one, or write it to .path yourself")
    instead = next((_INSTEAD[name] for name in ancestry if name in _INSTEAD), "convert it")
    raise ArtifactError(f"{text} and knows {listed(KINDS)}; {instead}, or write it to .path yourself")


def _guess(artifact: Artifact) -> str | None:
    """The format of a file that was not written here, by how it begins, else by its suffix."""
    path = artifact.path
    if os.path.isdir(path):
        return None
    try:
        with open(path, "rb") as file:
            start = file.read(_SNIFFED_BYTES)
            for name, layout in FORMATS.items():
                if layout.magic and start.startswith(layout.magic):
                    return name
            suffixes = {os.path.splitext(place)[1].lower() for place in (artifact.uri, path)}
            for name, layout in FORMATS.items():
                if suffixes & {*layout.suffixes}:
                    return name
            if artifact.schema_title in ("system.HTML", "system.Markdown"):
                return "text"
            if start.lstrip()[:1] in (b"{", b"["):
                json.loads(start + file.read())
                return "json"
    except (ValueError, RecursionError):
        return None
    except OSError as error:
        raise ArtifactError(f"artifact {artifact.name!r} cannot be read: {error}; check that it was written") from error
    return None


__all__ = ["FORMATS", "KINDS", "Record", "load_model", "read_artifact", "save_model", "write_artifact"]
