"""flowcore: typed pipelines that run in this process, on Ray or as Kubernetes pods. Names load on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcore import dsl, errors, executors, kubernetes
    from flowcore.api import arun, run, submit
    from flowcore.client import Client
    from flowcore.graph import Pipeline
    from flowcore.run_state import RunStatus, TaskState
    from flowcore.runs import Run

__version__ = "0.1.0"

__all__ = [
    "Client", "Pipeline", "Run", "RunStatus", "TaskState", "arun", "dsl", "errors", "executors", "kubernetes", "run", "submit",
]  # fmt: skip

_WHERE = {
    "Client": "flowcore.client",
    "Pipeline": "flowcore.graph",
    "Run": "flowcore.runs",
    "RunStatus": "flowcore.run_state",
    "TaskState": "flowcore.run_state",
    "arun": "flowcore.api",
    "run": "flowcore.api",
    "submit": "flowcore.api",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _WHERE:
        value = getattr(import_module(_WHERE[name]), name)
    elif name in __all__:
        value = import_module(f"flowcore.{name}")
    else:
        raise AttributeError(f"module 'flowcore' has no attribute {name!r}")
    # Set over the submodule that the import may have put there: flowcore.run is the function.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
