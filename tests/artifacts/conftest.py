"""An execution on a local folder and on a store of copies, and what the next task gets of its outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from flowcore.artifacts.execution import Execution
from flowcore.artifacts.store import ArtifactStore
from flowcore.artifacts.types import Artifact


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Execution]:
    # Parquet readers make columns out of folders with such names, if they are let.
    with ArtifactStore(str(tmp_path / "a=b")) as store:
        yield store.begin(store.join("run"))


@pytest.fixture(params=["file", "memory"])
def anywhere(request: pytest.FixtureRequest) -> Iterator[Execution]:
    if request.param == "file":
        yield request.getfixturevalue("local")
        return
    root = f"memory://flowcore-{os.urandom(4).hex()}/runs"
    with ArtifactStore(root) as store:
        yield store.begin(store.join("run"))
    fs, path = fsspec.core.url_to_fs(root)
    for name in fs.find(path):
        fs.rm_file(name)


@pytest.fixture
def passed_on() -> Callable[[Execution, Artifact], Artifact]:
    """The output as the next task gets it."""

    def pass_on(execution: Execution, output: Artifact) -> Artifact:
        return execution._store.open_input(execution.seal_artifact(output))

    return pass_on


@pytest.fixture
def round_trip(passed_on: Any) -> Callable[..., Any]:
    """What the next task reads of ``data``."""

    def trip(execution: Execution, data: Any, format: str | None = None, as_: str | None = None) -> Any:
        output = execution.output(f"data-{os.urandom(4).hex()}", "system.Dataset")
        output.write(data, format=format)
        return passed_on(execution, output).read(as_)

    return trip
