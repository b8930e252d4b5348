"""Typed data at a URI: the types that authors name, the store that seals them, the formats that write them."""

from flowcore.artifacts.types import Artifact, ArtifactRef, Dataset, Metrics, Model

__all__ = ["Artifact", "ArtifactRef", "Dataset", "Metrics", "Model"]
