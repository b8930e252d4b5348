"""Pipelines are run on this thread, without a record."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import pytest

import flowcore
from flowcore.executors import LocalExecutor
from flowcore.runs import Run


class RunInline(Protocol):
    def __call__(self, pipeline: Any, arguments: dict[str, Any] | None = None, **options: Any) -> Run: ...


@pytest.fixture
def run_inline(tmp_path: Path) -> RunInline:
    def run(pipeline: Any, arguments: dict[str, Any] | None = None, **options: Any) -> Run:
        executor = LocalExecutor(mode="inline")
        return flowcore.run(pipeline, arguments, records=None, pipeline_root=tmp_path / "root", executor=executor, **options)

    return run
