"""Artifact types: what authors name in ``Input[Dataset]`` and ``Output[Model]``. Standard library only; files are touched lazily.

The names and schema titles are those of Kubeflow Pipelines (``system.Dataset`` …).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar


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

    def write(self, data: Any, *, format: str | None = None) -> None:
        """Write a pandas DataFrame or a pyarrow Table; ``format`` is "arrow" (Arrow IPC, the default) or "parquet".

        Raises:
            ArtifactError: the type or the format is not known; the message lists what is.
        """
        from flowcore.artifacts.formats import write_dataset

        write_dataset(self, data, format)

    def read(self) -> Any:
        """What ``write`` was given, of the same type; an Arrow table is memory-mapped where the file is local.

        Raises:
            ArtifactError: it was not written by ``write``; the message says what to use instead.
        """
        from flowcore.artifacts.formats import read_dataset

        return read_dataset(self)


class Model(Artifact):
    """A trained model."""

    schema_title = "system.Model"

    @property
    def framework(self) -> str:
        return str(self.metadata.get("framework", ""))

    @framework.setter
    def framework(self, framework: str) -> None:
        self.metadata["framework"] = framework

    def save(self, model: Any) -> None:
        """Save any picklable object, through joblib where it is installed, else pickle."""
        from flowcore.artifacts.formats import save_model

        save_model(self, model)

    def load(self) -> Any:
        """What ``save`` was given. Unpickles: load only what you trust.

        Raises:
            ArtifactError: it was not written by ``save``; the message says what to use instead.
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


ARTIFACT_TYPES: dict[str, type[Artifact]] = {kind.schema_title: kind for kind in (Artifact, Dataset, Model, Metrics)}
