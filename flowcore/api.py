"""``flowcore.run``, ``submit`` and ``arun``: a client made for the one call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowcore.client import DEFAULT, Client

if TYPE_CHECKING:
    from flowcore.client import Runnable
    from flowcore.runs import Run


def run(
    pipeline: Runnable,
    arguments: Mapping[str, Any] | None = None,
    *,
    records: str | os.PathLike[str] | None = DEFAULT,
    pipeline_root: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Run a pipeline here and wait: ``Client(records, pipeline_root, storage_options).run(pipeline, arguments, **options)``."""
    return Client(records, pipeline_root, storage_options).run(pipeline, arguments, **options)


def submit(
    pipeline: Runnable,
    arguments: Mapping[str, Any] | None = None,
    *,
    records: str | os.PathLike[str] | None = DEFAULT,
    pipeline_root: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Start a pipeline and return at once: ``Client(...).submit(pipeline, arguments, **options)``."""
    return Client(records, pipeline_root, storage_options).submit(pipeline, arguments, **options)


async def arun(
    pipeline: Runnable,
    arguments: Mapping[str, Any] | None = None,
    *,
    records: str | os.PathLike[str] | None = DEFAULT,
    pipeline_root: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """Run a pipeline in a running event loop: ``await Client(...).arun(pipeline, arguments, **options)``."""
    return await Client(records, pipeline_root, storage_options).arun(pipeline, arguments, **options)
