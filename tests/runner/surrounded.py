"""Components that look at their surroundings; importable, so that worker processes find them by name."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Dict, List  # noqa: UP035  Kubeflow's authors write it so

import flowcore
from flowcore import dsl
from flowcore.executors import LocalExecutor


@dsl.component
def variables(prefix: str) -> Dict[str, str]:  # noqa: UP006
    return {name: value for name, value in os.environ.items() if name.startswith(prefix)}


@dsl.component
def lengths(names: List[str]) -> List[int]:  # noqa: UP006
    return [len(os.environ.get(name, "")) for name in names]


@dsl.component
def files(folder: str) -> Dict[str, int]:  # noqa: UP006
    return {file.name: file.stat().st_size for file in Path(folder).iterdir()}


@dsl.component
def leave(folder: str, name: str) -> List[str]:  # noqa: UP006
    found = sorted(os.listdir(folder))
    Path(folder, name).touch()
    return found


@dsl.component
def tell(name: str) -> None:
    """Show a secret in each way that there is."""
    secret = os.environ[name]
    print("whole", secret)  # noqa: T201
    print("pieces ", end="")  # noqa: T201
    for letter in secret:
        sys.stdout.write(letter)
        sys.stdout.flush()
    print()  # noqa: T201
    sys.stdout.flush()
    print(secret, file=sys.stderr)  # noqa: T201
    logging.getLogger("tell").warning("logged %s", secret)
    os.system("echo raw $" + name)
    print("half", secret[:3], end="")  # noqa: T201


@dsl.component
def fail(name: str) -> int:
    secret = os.environ[name]
    try:
        raise LookupError(f"cause {secret}")
    except LookupError as error:
        raise ValueError(f"{secret!r} is wrong") from error


@dsl.component
def meddle(name: str) -> str:
    os.environ[name] = "meddled"
    os.chdir(tempfile.gettempdir())
    return str(os.getpid())


@dsl.component
def look(name: str) -> List[str]:  # noqa: UP006
    return [os.environ.get(name, "unset"), os.getcwd(), str(os.getpid())]


@dsl.component
def die_once(folder: str, mark: str) -> Dict[str, int]:  # noqa: UP006
    if not os.path.exists(mark):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {file.name: file.stat().st_size for file in Path(folder).iterdir()}


@dsl.component
def wait_forever(folder: str) -> None:
    assert os.listdir(folder)
    threading.Event().wait()


@dsl.component
def nest(name: str) -> Dict[str, str]:  # noqa: UP006
    """Run a pipeline in a task's body, with a setting of the same name."""

    @dsl.pipeline
    def inner() -> Dict[str, str]:  # noqa: UP006
        return variables(name).set_env_variable(name, "inner").output

    seen: Dict[str, str] = flowcore.run(inner, executor=LocalExecutor("inline"), records=None).output  # noqa: UP006
    return {"outer": os.environ[name], **seen}


@dsl.component
def word(text: str) -> str:
    return text
