"""Directories of thousands of files, on a local disk and on S3: whole, and with no more requests than files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowcore.artifacts.store import ArtifactStore, Execution
from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import ArtifactError
from tests.services.fault_proxy import FaultProxy
from tests.services.s3 import Bucket

FILES = 1_500


def sealed(execution: Execution) -> ArtifactRef:
    output = execution.output("tree", "system.Dataset")
    for number in range(FILES):
        place = Path(output.path, f"{number % 30}")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}").write_text(str(number))
    return execution.seal_artifact(output)


def check(path: str) -> None:
    found = {file.relative_to(path).as_posix(): file.read_text() for file in Path(path).rglob("*") if file.is_file()}
    assert found == {f"{number % 30}/{number}": str(number) for number in range(FILES)}


def test_a_local_directory_of_thousands_of_files(tmp_path: Path) -> None:
    with ArtifactStore(str(tmp_path / "root")) as store:
        ref = sealed(store.begin(store.join("run", "task", "1")))
        check(store.fetch(ref))
        os.chmod(f"{ref.uri}/7/7", 0o644)
        Path(ref.uri, "7", "7").write_text("8")
        with pytest.raises(ArtifactError, match="'tree' has changed"):
            store.fetch(ref)


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_s3_directory_of_thousands_of_files(faulty_bucket: Bucket, fault_proxy: FaultProxy, tmp_path: Path) -> None:
    with ArtifactStore(faulty_bucket.root, faulty_bucket.storage_options, cache_dir=str(tmp_path / "cache")) as store:
        execution = store.begin(store.join("run", "task", "1"))
        ref = sealed(execution)
        puts = [request for request in fault_proxy.requests if request.startswith("PUT ")]
        assert len(puts) == FILES
        # What arrived is looked at by listing it, a thousand files a request.
        assert len(fault_proxy.requests) - len(puts) <= FILES // 1_000 + 3
        del fault_proxy.requests[:]
        check(store.fetch(ref))
        gets = [request for request in fault_proxy.requests if "list-type" not in request]
        assert len(gets) == FILES
        assert len(fault_proxy.requests) - len(gets) <= FILES // 1_000 + 3
        del fault_proxy.requests[:]
        execution.discard()
        assert faulty_bucket.all_keys() == []
        # Removed by the thousand too, not one by one.
        assert len(fault_proxy.requests) <= 3 * (FILES // 1_000) + 10
