"""Components that tell what they see; importable, so that worker processes find them by name."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Dict, List  # noqa: UP035  Kubeflow's authors write it so

from flowcore import dsl


@dsl.component
def look(name: str) -> str:
    return os.environ.get(name, "<not set>")


@dsl.component
def where() -> Dict[str, int]:  # noqa: UP006
    return {"pid": os.getpid(), "thread": threading.get_ident()}


@dsl.component(packages_to_install=["flowcore-test-tool>=2"])
def use_tool() -> str:
    import flowcore_test_tool

    answer: str = flowcore_test_tool.answer()
    return f"{answer} {sys.prefix != sys.base_prefix}"


@dsl.component(use_venv=True)
def prefix() -> str:
    return sys.prefix


@dsl.component(packages_to_install=["flowcore-test-absent"])
def use_absent() -> int:
    return 1


@dsl.component
async def later(value: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return value + 1


@dsl.component
def stop() -> int:
    breakpoint()
    return 1


@dsl.component
def interval(seconds: float) -> List[float]:  # noqa: UP006
    """When this body began and ended, by a clock that all processes share."""
    begin = time.monotonic()
    time.sleep(seconds)
    return [begin, time.monotonic()]
