"""For tests of executors, stores and pipelines: conformance suites to inherit, a scripted executor, and runs with fakes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcore.testing.executors import ExecutorConformance
    from flowcore.testing.running import run
    from flowcore.testing.scripted import ScriptedExecutor
    from flowcore.testing.stores import StoreConformance

__all__ = ["ExecutorConformance", "ScriptedExecutor", "StoreConformance", "run"]

_WHERE = {
    "ExecutorConformance": "executors",
    "ScriptedExecutor": "scripted",
    "StoreConformance": "stores",
    "run": "running",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"flowcore.testing.{_WHERE[name]}"), name)
