"""Virtual environments for tasks whose packages this one lacks: made once with venv and pip, kept by what is in them.

An environment is ready once its marker is there; whoever makes one holds its lock, also against other processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flowcore.errors import FlowcoreError


def cache_folder() -> Path:
    """Where environments are kept: ``flowcore/venvs`` in the user's cache folder (XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flowcore" / "venvs"


def key(requirements: Sequence[str], pip_args: Sequence[str]) -> str:
    """The name of the environment: a digest of the requirements, pip's options and Python's version."""
    parts = [*sorted(requirements), "", *pip_args, "", sys.version]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def packages_folder(folder: Path) -> str:
    """Where the modules of an environment lie."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(folder / "lib" / version / "site-packages")


def python_of(folder: Path) -> str:
    """The interpreter of an environment."""
    return str(folder / "bin" / "python")


def made(requirements: Sequence[str], pip_args: Sequence[str], run: Callable[[list[str]], tuple[int, str]]) -> Path:
    """The folder of an environment that has these requirements, made if there is none.

    ``run`` runs a command and gives (exit code, what it printed).

    Raises:
        FlowcoreError: it cannot be made; the message holds what pip said.
    """
    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    folder = cache / key(requirements, pip_args)
    marker = folder / ".flowcore-ready"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if marker.exists():
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _run(run, [sys.executable, "-m", "venv", str(folder)], requirements)
            if requirements:
                options = ["--disable-pip-version-check", "--no-input", "--quiet", *pip_args]
                _run(run, [python_of(folder), "-m", "pip", "install", *options, *requirements], requirements)
            marker.touch()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return folder


def _run(run: Callable[[list[str]], tuple[int, str]], command: list[str], requirements: Sequence[str]) -> None:
    code, text = run(command)
    if code:
        names = ", ".join(requirements) or "no packages"
        raise FlowcoreError(f"an environment with {names} cannot be made (exit code {code}): {text.strip()[-4000:]}")


class Commands:
    """Runs commands that ``stop`` ends."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, command: list[str]) -> tuple[int, str]:
        """(exit code, what it printed)."""
        # PYTHONPATH would show pip what is installed here as if it were there.
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=environment, start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        if self._stopped:
            self.stop()
        with process:
            text, _ = process.communicate()
        self._running.discard(process)
        return process.returncode, text

    def stop(self) -> None:
        """End what runs and whatever is run from now on."""
        self._stopped = True
        for process in list(self._running):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, 9)
