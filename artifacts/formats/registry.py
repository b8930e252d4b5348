"""What a format and a kind of data are, and how a missing package is told. Holds no format itself; imports none."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flowcore.artifacts.hashed_file import HashedFile
from flowcore.errors import ArtifactError

#: What was noted about the data when it was written: "format", "version", "kind", and what reading it needs beyond its file.
Record = Mapping[str, Any]


class Format(NamedTuple):
    """How a file is laid out: written from one form, opened and read as several."""

    write: Callable[[Any, HashedFile], None] | None
    open: Callable[[str], Any]
    #: By the name that ``read(as_=...)`` takes; the first is what a file of unknown origin is read as.
    views: Mapping[str, Callable[[Any, Record], Any]]
    suffixes: tuple[str, ...] = ()
    magic: bytes = b""
    #: Raised when what is written can no longer be read by versions that know a smaller number.
    version: int = 1


class Kind(NamedTuple):
    """A Python type that can be written: into which formats, by way of what, and what it is read as."""

    formats: tuple[str, ...]
    #: (data, format) → the form that the format writes, and what is to be noted.
    encode: Callable[[Any, str], tuple[Any, dict[str, Any]]]
    view: str
    #: What an author can do about data that does not fit.
    remedy: str
    #: Whether subclasses are written too; elsewhere they would come back as another type.
    subclasses: bool = False


def package(name: str) -> Any:
    """An optional package's module, imported now.

    Raises:
        ArtifactError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        top = name.partition(".")[0]
        raise ArtifactError(f"{top} is not installed here and this artifact needs it; Install {top}") from error


def read_bytes(path: str, record: Record) -> bytes:
    """The view "bytes" of every file."""
    with open(path, "rb") as file:
        return file.read()


def type_name(kind: type) -> str:
    """The top-level package and the name of a type: "pandas.DataFrame", wherever pandas keeps it; "dict" alone."""
    top = kind.__module__.partition(".")[0]
    return kind.__qualname__ if top == "builtins" else f"{top}.{kind.__qualname__}"


def listed(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    """Names as one phrase."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
