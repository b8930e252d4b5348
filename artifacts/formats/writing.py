"""Where a format writes: a new file at the artifact's path, hashed on the way; and what is noted about it in the metadata."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flowcore.artifacts.formats.registry import Record
from flowcore.artifacts.hashed_file import HashedFile
from flowcore.artifacts.places import local_path
from flowcore.artifacts.types import NOTE, Artifact
from flowcore.errors import ArtifactError


def new_path(artifact: Artifact) -> str:
    """The artifact's path with nothing there: an older version may be memory-mapped, so it is never written over.

    Raises:
        ArtifactError: the artifact is an input, or lies where nothing can be written.
    """
    if artifact._ref is not None:
        raise ArtifactError(f"artifact {artifact.name!r} is an input and stays as it is; write to an output")
    by_hand = artifact._path is None and artifact._fetch is None and artifact.custom_path is None
    if by_hand and local_path(artifact.uri) is None:
        text = f"artifact {artifact.name!r}: nothing can be written to {artifact.uri!r} from here"
        raise ArtifactError(f"{text}; write to an Output[...] of a component")
    artifact._written = artifact._note = None
    artifact.metadata.pop(NOTE, None)
    with suppress(FileNotFoundError, IsADirectoryError, PermissionError):
        os.unlink(artifact.path)
    return artifact.path


@contextmanager
def new_file(artifact: Artifact) -> Iterator[HashedFile]:
    """A file at ``new_path`` that is gone again where the block fails; the seal need not read what was written to it.

    Raises:
        ArtifactError: see ``new_path``.
        StorageError: the disk is full, or cannot be written.
    """
    file = HashedFile(new_path(artifact))
    try:
        yield file
        file.close()
    except BaseException:
        file.abandon()
        with suppress(OSError):
            os.unlink(file.path)
        raise
    artifact._written = file.contents


def noted(artifact: Artifact, **note: Any) -> None:
    """Keep what reading needs, also where an author gives the artifact new metadata before it is sealed."""
    artifact._note = artifact.metadata[NOTE] = note


def record_of(artifact: Artifact) -> Record | None:
    """What was noted when the artifact was written; None where nothing was."""
    record = artifact.metadata.get(NOTE, artifact._note)
    return record if isinstance(record, dict) else None
