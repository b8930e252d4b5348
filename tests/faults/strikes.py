"""Components that kill the worker process that runs them, each at another step of the order."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from flowcore import dsl


def _die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(at: str) -> None:
    """Let this worker die at a step to come."""
    from flowcore import serving

    if at == "body":
        _die()
    elif at == "before it is collected":  # sealed, its end not yet in the memory that is shared with the driver
        serving.Raw.take = _die  # type: ignore[assignment]
    elif at == "before it is told":  # its end is in that memory
        serving.Told._send = _die  # type: ignore[assignment, method-assign]


@dsl.component
def strike(at: str) -> str:
    _arm(at)
    return at


@dsl.component
def strike_sealed(at: str, table: dsl.Output[dsl.Dataset]) -> str:
    Path(table.path).write_text(at)
    _arm(at)
    return at
