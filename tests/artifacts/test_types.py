"""Artifact types: what authors see, and refs as plain data."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from flowcore.artifacts import Artifact, ArtifactRef, Dataset, Metrics, Model
from flowcore.artifacts.types import ARTIFACT_TYPES


def test_titles_are_those_of_kubeflow_pipelines() -> None:
    assert {title: kind.__name__ for title, kind in ARTIFACT_TYPES.items()} == {
        "system.Artifact": "Artifact",
        "system.Dataset": "Dataset",
        "system.Model": "Model",
        "system.Metrics": "Metrics",
        "system.HTML": "HTML",
        "system.Markdown": "Markdown",
    }


def test_refs_leave_defaults_out_of_json_and_keep_zeros() -> None:
    ref = ArtifactRef("a", "system.Artifact", "/x", size_bytes=0, sha256="0" * 64)
    data = ref.to_json()
    assert data == {"name": "a", "schema_title": "system.Artifact", "uri": "/x", "size_bytes": 0, "sha256": "0" * 64}
    assert ArtifactRef.from_json(json.loads(json.dumps(data))) == ref


def test_setting_uri_or_path_makes_an_artifact_external() -> None:
    for name in ("uri", "path"):
        artifact = Artifact("a", "/old")
        assert not artifact._external
        setattr(artifact, name, "/new")
        assert (artifact._external, artifact.uri, artifact.path) == (True, "/new", "/new")


def test_set_path_changes_the_path_and_keeps_the_uri() -> None:
    artifact = Artifact("a", "/old")
    artifact.set_path("/new")
    assert (artifact.uri, artifact.path, artifact._external) == ("/old", "/new", False)


def test_artifacts_are_equal_by_title_uri_and_metadata() -> None:
    assert Dataset("a", "/x", {"k": 1}) == Dataset("b", "/x", {"k": 1})
    assert Dataset("a", "/x") != Model("a", "/x")
    assert Artifact() != 1
    with pytest.raises(TypeError):
        hash(Artifact())


def test_metadata_is_the_artifact_s_own() -> None:
    given = {"a": 1}
    artifact = Artifact(metadata=given)
    artifact.metadata["b"] = 2
    assert given == {"a": 1}


def test_metrics_are_numbers() -> None:
    metrics = Metrics("m")
    metrics.log_metric("loss", np.float32(0.5))
    metrics.log_metric("rows", 3)
    assert metrics.metadata == {"loss": 0.5, "rows": 3}
    assert type(metrics.metadata["loss"]) is float
    with pytest.raises(TypeError, match="'best' of 'm': got str, wants a number"):
        metrics.log_metric("best", "yes")


def test_a_model_s_framework_is_metadata() -> None:
    model = Model()
    model.framework = "sklearn"
    assert (model.framework, model.metadata, Model().framework) == ("sklearn", {"framework": "sklearn"}, "")


def test_artifact_types_import_the_standard_library_only() -> None:
    code = "import sys; import flowcore.artifacts; print(sorted({'fsspec', 'pyarrow', 'pandas', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
