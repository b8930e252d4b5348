"""Typed data at a URI: the types that authors name, the store that seals them, the formats that write them."""

from flowcore.artifacts.types import HTML, Artifact, ArtifactRef, Dataset, Markdown, Metrics, Model

__all__ = ["HTML", "Artifact", "ArtifactRef", "Dataset", "Markdown", "Metrics", "Model"]
