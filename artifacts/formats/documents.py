"""JSON, text, bytes and figures. What JSON does not have is refused by its place, never made into something else in silence."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from flowcore.artifacts.formats.registry import Format, Kind, Record, package, read_bytes, type_name
from flowcore.artifacts.hashed_file import HashedFile
from flowcore.errors import ArtifactError

#: Deeper than any JSON reader promises to go.
_MAX_DEPTH = 100


def _write(data: bytes, file: HashedFile) -> None:
    file.write(data)


def _text(path: str, record: Record) -> str:
    return read_bytes(path, record).decode()


def _json(path: str, record: Record) -> Any:
    return json.loads(read_bytes(path, record))


def _pixels(path: str, record: Record) -> Any:
    return package("matplotlib.image").imread(path, format="png")


def _of_json(data: Any, format: str) -> tuple[bytes, dict[str, Any]]:
    return json.dumps(_plain(data, "", _MAX_DEPTH)).encode(), {}


def _plain(value: Any, place: str, depth: int) -> Any:
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if depth == 0:
        raise ArtifactError(f"it contains itself or is over {_MAX_DEPTH} deep, at {place[:60]}…; flatten it")
    if kind is dict:
        for key in value:
            if type(key) is not str:
                found = f"the key {key!r:.60} at {place or 'the top'} is a {type_name(type(key))}"
                raise ArtifactError(f"{found}, and the keys of JSON are text; make it str")
        return {key: _plain(item, f"{place}[{key!r}]", depth - 1) for key, item in value.items()}
    if kind in (list, tuple):
        return [_plain(item, f"{place}[{index}]", depth - 1) for index, item in enumerate(value)]
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
        return _plain(value.item(), place, depth - 1)
    found = f"what is at {place} is a {type_name(kind)}, which JSON does not have"
    raise ArtifactError(f"{found}; {_AS_JSON.get(kind.__name__, 'convert it')}")


def _of_text(text: str, format: str) -> tuple[bytes, dict[str, Any]]:
    return text.encode(), {}


def _of_bytes(data: bytes, format: str) -> tuple[bytes, dict[str, Any]]:
    return data, {}


def _of_figure(figure: Any, format: str) -> tuple[bytes, dict[str, Any]]:
    image = io.BytesIO()
    # Without the time of day, the same figure is the same file.
    figure.savefig(image, format=format, metadata=_UNDATED.get(format))
    return image.getvalue(), {}


def _bytearray(path: str, record: Record) -> bytearray:
    return bytearray(read_bytes(path, record))


_UNDATED: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
_View = Callable[[str, Record], Any]
_FILE: dict[str, _View] = {"bytes": read_bytes, "bytearray": _bytearray}
_WORDS: dict[str, _View] = {"text": _text, **_FILE}
_AS_JSON = {"ndarray": "convert it with .tolist()", "set": "make it a list", "datetime": "convert it with .isoformat()"}
_AS_TEXT = "convert it, or write to .path yourself"

FORMATS = {
    "json": Format(_write, str, {"json": _json, **_WORDS}, (".json",)),
    "text": Format(_write, str, _WORDS, (".txt", ".md", ".html")),
    "bytes": Format(_write, str, {**_FILE, "text": _text}),
    "png": Format(_write, str, {**_FILE, "numpy": _pixels}, (".png",), b"\x89PNG\r\n\x1a\n"),
    "svg": Format(_write, str, {**_FILE, "text": _text}, (".svg",)),
    "pdf": Format(_write, str, _FILE, (".pdf",), b"%PDF-"),
}
KINDS = {
    "dict": Kind(("json",), _of_json, "json", _AS_TEXT),
    "list": Kind(("json",), _of_json, "json", _AS_TEXT),
    "str": Kind(("text",), _of_text, "text", _AS_TEXT),
    "bytes": Kind(("bytes",), _of_bytes, "bytes", _AS_TEXT),
    "bytearray": Kind(("bytes",), _of_bytes, "bytearray", _AS_TEXT),
    "matplotlib.Figure": Kind(("png", "svg", "pdf"), _of_figure, "bytes", _AS_TEXT, subclasses=True),
}
