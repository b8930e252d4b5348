"""One execution of an attempt: the outputs that a task body writes, sealed one by one, and the outcome written last.

It never makes an output visible before its outcome, and never touches another execution.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flowcore.artifacts.digests import Contents
from flowcore.artifacts.local_files import LocalFiles
from flowcore.artifacts.places import check_segment, local_path, writing
from flowcore.artifacts.types import ARTIFACT_TYPES, NOTE, Artifact, ArtifactRef
from flowcore.errors import ArtifactError, InternalError

if TYPE_CHECKING:
    from flowcore.artifacts.remote_files import RemoteFiles
    from flowcore.artifacts.store import ArtifactStore

OUTCOME = "outcome.json"
OUTCOME_FORMAT = 1


class Execution:
    """One execution of an attempt: its outputs, and at the end its seal. Made by ``ArtifactStore.begin``."""

    def __init__(self, store: ArtifactStore, files: LocalFiles | RemoteFiles, attempt_uri: str, name: str) -> None:
        self.name, self.uri = name, f"{attempt_uri.rstrip('/')}/{name}"
        self._store, self._files = store, files
        self._scratch: str | None = None
        self._outputs: dict[int, tuple[Artifact, str, str]] = {}
        self._sealed = False

    def output(self, port: str, schema_title: str) -> Artifact:
        """A new output whose ``path`` can be written now.

        Raises:
            ArtifactError: the port's name cannot be a file name.
            StorageError: its place cannot be made.
        """
        if check_segment(port).lower() == OUTCOME or port.startswith(".part-"):
            raise ArtifactError(f"{port!r} is a name that flowcore keeps for itself; rename the output")
        uri = f"{self.uri}/{port}"
        artifact = new_artifact(schema_title)
        artifact.name, artifact._uri = port, uri
        artifact._path = self._files.place(uri, None if self._store.is_local else self._scratch_dir())
        self._outputs[id(artifact)] = (artifact, port, artifact._path)
        return artifact

    def scratch_path(self, port: str) -> str:
        """A local file path, ending in the port's name, that is no part of the seal.

        Raises:
            ArtifactError: the port's name cannot be a file name.
        """
        folder = os.path.join(self._scratch_dir(), "parameters")
        with writing(folder):
            os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, check_segment(port))

    def seal_artifact(self, artifact: Artifact) -> ArtifactRef:
        """Digest the output, make it read-only or upload it, and return what is to be recorded.

        An output whose ``uri`` or ``path`` was set is recorded as external; one that was not written holds metadata only.

        Raises:
            ArtifactError: contents or metadata that cannot be kept.
            StorageError: the storage cannot be written.
        """
        _, name, place = self._outputs.get(id(artifact), (artifact, artifact.name, None))
        metadata = _plain_metadata(name, artifact.metadata)
        if artifact._note is not None:
            metadata.setdefault(NOTE, artifact._note)
        if place is None or (artifact._external and artifact.uri not in (place, f"{self.uri}/{name}")):
            return self._external(artifact, name, metadata)
        uri = f"{self.uri}/{name}"
        source = place if artifact.custom_path is None else os.path.abspath(artifact.custom_path)
        found: Contents | None = self._files.keep(source, uri, name, artifact._written)
        ref = ArtifactRef(name, artifact.schema_title, uri, metadata)
        if found is not None:
            ref.size_bytes, ref.sha256, ref.is_directory, ref.mtime_ns, ref.inode = found
        return ref

    def seal(self, outcome: dict[str, Any]) -> None:
        """Write the outcome, the last thing of an execution: from now on it counts.

        Raises:
            StorageError: it cannot be written.
        """
        if self._sealed:
            raise InternalError(f"execution {self.uri!r} was sealed twice")
        self._files.write(f"{self.uri}/{OUTCOME}", _outcome_bytes(outcome))
        self._sealed = True
        self._remove_scratch()

    def discard(self) -> None:
        """Remove everything that this execution wrote, as far as that is possible; never raises."""
        with suppress(Exception):
            # First the outcome: a half-removed execution must not look sealed.
            self._files.remove(f"{self.uri}/{OUTCOME}")
        with suppress(Exception):
            self._files.remove(self.uri)
        with suppress(Exception):
            self._remove_scratch()

    def _external(self, artifact: Artifact, name: str, metadata: dict[str, Any]) -> ArtifactRef:
        path = local_path(artifact.uri)
        if self._scratch is not None and path is not None and os.path.abspath(path).startswith(self._scratch + os.sep):
            text = f"artifact {name!r}: {path!r} lies in the worker's scratch directory, which goes away"
            raise ArtifactError(f"{text}; write to .path, or use set_path")
        return ArtifactRef(name, artifact.schema_title, artifact.uri, metadata, external=True)

    def _scratch_dir(self) -> str:
        if self._scratch is None:
            self._scratch = self._store.make_private("flowcore-scratch-")
        return self._scratch

    def _remove_scratch(self) -> None:
        if self._scratch is not None:
            self._store.drop_private(self._scratch)
            self._scratch = None


def _outcome_bytes(outcome: dict[str, Any]) -> bytes:
    text = json.dumps(outcome)
    return json.dumps({"format": OUTCOME_FORMAT, "sha256": _outcome_digest(json.loads(text)), "outcome": outcome}).encode()


def _outcome_digest(outcome: Any) -> str:
    return hashlib.sha256(json.dumps(outcome, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_outcome(data: bytes, uri: str) -> dict[str, Any] | None:
    """A sealed outcome; None where ``data`` is only a part of one, which is no seal.

    Raises:
        ArtifactError: it is whole and not what was sealed, or a later flowcore wrote it.
    """
    try:
        sealed = json.loads(data)
        format_, recorded, outcome = sealed["format"], sealed["sha256"], sealed["outcome"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if format_ != OUTCOME_FORMAT:
        text = f"outcome {uri!r} has format {format_}, this flowcore reads {OUTCOME_FORMAT}"
        raise ArtifactError(f"{text}; install the flowcore that wrote it")
    found = _outcome_digest(outcome)
    if found != recorded or not isinstance(outcome, dict):
        text = f"outcome {uri!r} is damaged: found sha256 {found}, recorded {recorded}"
        raise ArtifactError(f"{text}; restore it, or remove it so that its task runs again")
    return outcome


def new_artifact(schema_title: str) -> Artifact:
    """An empty artifact of the type that authors know under this title."""
    artifact = ARTIFACT_TYPES.get(schema_title, Artifact)()
    if artifact.schema_title != schema_title:
        # A type of someone else's, such as google.VertexModel: it keeps its own title.
        vars(artifact)["schema_title"] = schema_title
    return artifact


def _plain_metadata(name: str, metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict):
        raise ArtifactError(f"artifact {name!r}: its metadata is a {type(metadata).__name__}; make it a dict")
    plain = {}
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise ArtifactError(f"artifact {name!r}: the metadata key {key!r} is a {type(key).__name__}; make it a str")
        try:
            plain[key] = json.loads(json.dumps(value, default=_plain_scalar))
        except (TypeError, ValueError, RecursionError) as error:
            problem = f"artifact {name!r}: metadata {key!r} is not JSON ({error})"
            raise ArtifactError(f"{problem}; keep numbers, text, lists and dicts there") from error
    return plain


def _plain_scalar(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")
