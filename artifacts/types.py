"""Artifact types: what authors name in ``Input[Dataset]`` and ``Output[Model]``. Standard library only; files are touched lazily.

The names and schema titles are those of Kubeflow Pipelines (``system.Dataset`` …).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from flowcore.artifacts.digests import Contents

#: The key of the metadata under which ``write`` and ``save`` keep what reading needs.
NOTE = "flowcore"


@dataclass(slots=True)
class ArtifactRef:
    """An artifact as plain data: what crosses between rooms, processes and records.

    ``sha256`` and ``size_bytes`` are None for external artifacts and for those that hold metadata only.
    """

    name: str
    schema_title: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)
    size_bytes: int | None = None
    sha256: str | None = None
    external: bool = False
    is_directory: bool = False
    mtime_ns: int | None = None
    inode: int | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; fields at their defaults are left out."""
        full = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in full.items() if value is not None and value is not False and value != {}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ArtifactRef:
        return cls(**data)


class Artifact:
    """A named piece of data at a URI, with metadata.

    ``uri`` is where it lies; ``path`` is a local path to the same contents on every executor.
    Setting either on an output makes it external: recorded as it is, without digest or clean-up.
    """

    schema_title: ClassVar[str] = "system.Artifact"
    schema_version: ClassVar[str] = "0.0.1"

    def __init__(self, name: str | None = None, uri: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        self.name = name or ""
        self._uri = uri or ""
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.custom_path: str | None = None
        self._path: str | None = None
        self._fetch: Callable[[], str] | None = None
        self._external = False
        self._ref: ArtifactRef | None = None
        #: What ``write`` and ``save`` noted, and what they know of the file that they wrote.
        self._note: dict[str, Any] | None = None
        self._written: Contents | None = None

    @property
    def uri(self) -> str:
        return self._uri

    @uri.setter
    def uri(self, uri: str) -> None:
        self._uri, self._path, self._fetch, self._external = uri, None, None, True

    @property
    def path(self) -> str:
        """A local path to the contents; for a remote artifact the first use fetches it.

        Raises:
            ArtifactError: the contents are gone or are not what was recorded.
        """
        if self.custom_path is not None:
            return self.custom_path
        if self._path is None:
            if self._fetch is None:
                from flowcore.artifacts.store import fetch_uri

                self._path = fetch_uri(self._uri)
            else:
                self._path = self._fetch()
        return self._path

    @path.setter
    def path(self, path: str) -> None:
        self._uri, self._path, self._fetch, self._external = path, path, None, True

    def set_path(self, path: str) -> None:
        """Read and write the contents at ``path`` without changing the URI."""
        self.custom_path = path

    def write(self, data: Any, *, format: str | None = None) -> None:
        """Write tables, arrays, JSON, text, bytes or a figure to ``path``, and note in the metadata what ``read`` needs.

        Known are ``pandas.DataFrame`` and ``Series``, ``polars.DataFrame`` and ``LazyFrame`` (collected), ``pyarrow.Table``,
        ``RecordBatch`` and ``RecordBatchReader`` (batch by batch), ``numpy.ndarray``, ``dict`` and ``list`` (as JSON), ``str``,
        ``bytes``, ``bytearray`` and matplotlib's ``Figure``. ``format`` is "arrow" (Arrow IPC, the default) or "parquet" for
        tables, and "png" (the default), "svg" or "pdf" for figures; everything else has one format.

        Raises:
            ArtifactError: the type or the format is not known, and the message lists what is; or the data does not fit.
            StorageError: the disk is full, or cannot be written.
        """
        from flowcore.artifacts.formats import write_artifact

        write_artifact(self, data, format)

    def read(self, as_: str | None = None) -> Any:
        """What ``write`` was given, of the same type; of a figure the bytes of its image.

        Local Arrow files and arrays are memory-mapped. Tables can be read ``as_`` "arrow", "batches" (a RecordBatchReader),
        "pandas", "polars" or "numpy", a PNG image as "numpy", and every file as "bytes". A file that ``write`` did not write is
        read where it is Arrow, Parquet, .npy or JSON by its first bytes or has such a suffix, or ends in .csv.

        Raises:
            ArtifactError: how it was written is not known, or it cannot be read as that; the message says what to use instead.
        """
        from flowcore.artifacts.formats import read_artifact

        return read_artifact(self, as_)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Artifact):
            return NotImplemented
        return (self.schema_title, self.uri, self.metadata) == (other.schema_title, other.uri, other.metadata)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, uri={self.uri!r}, metadata={self.metadata!r})"


class Dataset(Artifact):
    """Data: a table, a file or a directory."""

    schema_title = "system.Dataset"


class Model(Artifact):
    """A trained model."""

    schema_title = "system.Model"

    @property
    def framework(self) -> str:
        return str(self.metadata.get("framework", ""))

    @framework.setter
    def framework(self, framework: str) -> None:
        self.metadata["framework"] = framework

    def save(self, model: Any, *, format: str | None = None) -> None:
        """Save a dict of numpy arrays or torch tensors with safetensors, anything else pickled, through joblib where installed.

        ``format`` chooses among "safetensors", "joblib" and "pickle".

        Raises:
            ArtifactError: it cannot be saved so.
            StorageError: the disk is full, or cannot be written.
        """
        from flowcore.artifacts.formats import save_model

        save_model(self, model, format)

    def load(self) -> Any:
        """What ``save`` was given. Unless it was saved with safetensors this unpickles: load only what you trust.

        Raises:
            ArtifactError: it was not written by ``save``, or what it needs is not installed; the message says what to do.
        """
        from flowcore.artifacts.formats import load_model

        return load_model(self)


class Metrics(Artifact):
    """Named numbers, kept in the metadata and recorded with the run."""

    schema_title = "system.Metrics"

    def log_metric(self, metric: str, value: float) -> None:
        """Record ``metric``; numpy scalars become plain numbers.

        Raises:
            TypeError: the value is not a number.
        """
        plain = value.item() if hasattr(value, "item") else value
        if not isinstance(plain, (int, float)):
            raise TypeError(f"metric {metric!r} of {self.name!r}: got {type(value).__name__}, wants a number")
        self.metadata[metric] = plain


class HTML(Artifact):
    """A page to look at; ``write`` takes its text."""

    schema_title = "system.HTML"


class Markdown(Artifact):
    """A text to look at; ``write`` takes it."""

    schema_title = "system.Markdown"


ARTIFACT_TYPES: dict[str, type[Artifact]] = {
    kind.schema_title: kind for kind in (Artifact, Dataset, Model, Metrics, HTML, Markdown)
}
