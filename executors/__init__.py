"""Where tasks run. Importing this package loads no executor's technology: names resolve on first use."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcore.executors.local import LocalExecutor

__all__ = ["LocalExecutor"]

_WHERE = {"LocalExecutor": "flowcore.executors.local"}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
