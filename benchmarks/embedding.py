"""What it costs a host to import flowcore, beside ``import asyncio``: the CPU of fresh interpreters. Asserts nothing."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

REPEATS = 9


def cpu_seconds(statement: str) -> float:
    """User and system CPU of a fresh interpreter that executes ``statement``, its start included."""
    process = subprocess.Popen([sys.executable, "-c", statement])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"python -c {statement!r} ended with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def import_cost(statement: str = "import flowcore") -> tuple[float, float]:
    """(seconds of CPU of ``statement``, those of ``import asyncio``), medians of interleaved repeats in one run."""
    for warm in (statement, "import asyncio"):  # the first import may compile what it loads
        cpu_seconds(warm)
    pairs = [(cpu_seconds(statement), cpu_seconds("import asyncio")) for _ in range(REPEATS)]
    ours, floors = zip(*pairs, strict=True)
    return statistics.median(ours), statistics.median(floors)


def main() -> None:
    for statement in ("import flowcore", "from flowcore import Client, dsl, run"):
        ours, floor = import_cost(statement)
        print(f"{statement}: {ours * 1e3:.0f} ms, import asyncio {floor * 1e3:.0f} ms, {ours / floor:.2f}×")


if __name__ == "__main__":
    main()
