"""How much the memory of a process grows at its peak for each task of a large fan-out, measured in a fresh interpreter.

``python -m benchmarks.memory MODE FEW MANY`` prints bytes a task; no tracing of allocations slows or skews the run.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from benchmarks.figures import Figure

if TYPE_CHECKING:
    from benchmarks.engine import Sizes


def peak_bytes() -> int:
    """The largest resident size of this process so far."""
    try:
        # Not getrusage: on Linux a new process's figure begins at what its parent had.
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def bytes_a_task(mode: str, few: int, many: int) -> float:
    """Run a small fan-out, then a large one, in this process; the growth of the peak for each task of the large one."""
    import flowcore
    from benchmarks.pipelines import fan
    from flowcore.executors import LocalExecutor

    executor = LocalExecutor(mode=mode, workers=None if mode == "inline" else 2)  # type: ignore[arg-type]
    flowcore.run(fan, {"items": list(range(few))}, executor=executor)
    items = list(range(many))
    before = peak_bytes()
    flowcore.run(fan, {"items": items}, executor=executor)
    return (peak_bytes() - before) / many


def peak_memory(sizes: Sizes) -> Iterator[Figure]:
    """Peak memory per fanned-out task."""
    for mode in ("inline", "threads"):
        command = [sys.executable, "-m", "benchmarks.memory", mode, str(sizes.few), str(sizes.many)]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        what = f"peak memory of a task of {sizes.many:,}, {mode}"
        yield Figure(what, "KB/task", float(result.stdout) / 1024, must=2, absolute=True)


if __name__ == "__main__":
    print(bytes_a_task(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
