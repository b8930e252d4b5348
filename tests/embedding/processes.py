"""Hosts in processes of their own: a program that finds the tests' modules wherever flowcore itself comes from."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def environment() -> dict[str, str]:
    """The environment of this process, with the tests' root on the import path."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def host(program: str, *arguments: str, **pipes: Any) -> subprocess.Popen[str]:
    """Start a program as a file ``host.py`` of the working directory."""
    Path("host.py").write_text(program)
    return subprocess.Popen([sys.executable, "host.py", *arguments], env=environment(), text=True, **pipes)
