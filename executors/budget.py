"""What this machine gives to tasks: usable cores, memory and GPUs, and what tasks ask of it. Plain numbers; it starts nothing."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Room for rounding: ten requests of 0.1 cores fit into one core.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Request:
    """What one task asks for: ``cpus`` in cores, ``memory_bytes``, ``gpus`` (below 1: a share of one GPU)."""

    cpus: float = 0.0
    memory_bytes: float = 0.0
    gpus: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.cpus or self.memory_bytes or self.gpus)


NOTHING = Request()


class Budget:
    """What is left of the machine. None for ``cpus`` or ``memory_bytes`` is no bound; ``gpus`` are the indices to hand out."""

    def __init__(
        self, cpus: float | None = None, memory_bytes: float | None = None, gpus: Sequence[int | str] | None = None
    ) -> None:
        self.cpus = math.inf if cpus is None else cpus
        self.memory_bytes = math.inf if memory_bytes is None else memory_bytes
        self.gpus = tuple(map(str, gpus or ()))
        self._cpus = self.cpus
        self._memory = self.memory_bytes
        self._gpus = dict.fromkeys(self.gpus, 1.0)

    def never(self, request: Request) -> str | None:
        """Why a request can never fit, in words; None where it can."""
        for asked, whole, unit in (
            (request.cpus, self.cpus, "cores"),
            (request.memory_bytes, self.memory_bytes, "bytes of memory"),
            (request.gpus, len(self.gpus), "GPUs"),
        ):
            if asked > whole + _SLACK:
                return f"asks for {asked:g} {unit}, and the budget is {whole:g}"
        if request.gpus > 1 and request.gpus != int(request.gpus):
            return f"asks for {request.gpus:g} GPUs: a share of a GPU is below 1, more than one is a whole number"
        return None

    def take(self, request: Request) -> tuple[str, ...] | None:
        """Take a request out of what is left and give the GPUs handed out; None where it does not fit now."""
        if request.cpus > self._cpus + _SLACK or request.memory_bytes > self._memory + _SLACK:
            return None
        each = min(request.gpus, 1.0)
        count = math.ceil(request.gpus)
        # The fullest GPU that has room, so that whole ones stay whole.
        free = sorted((left, index) for index, left in self._gpus.items() if left + _SLACK >= each) if count else []
        if len(free) < count:
            return None
        given = tuple(index for _, index in free[:count])
        for index in given:
            self._gpus[index] -= each
        self._cpus -= request.cpus
        self._memory -= request.memory_bytes
        return given

    def give(self, request: Request, gpus: tuple[str, ...]) -> None:
        """Put back what ``take`` took."""
        self._cpus += request.cpus
        self._memory += request.memory_bytes
        for index in gpus:
            self._gpus[index] += min(request.gpus, 1.0)


def usable_cores(root: str | Path = "/") -> int:
    """The number of cores that this process may use: its affinity and the CPU quotas of its cgroups (v1 and v2), rounded up.

    ``root`` is where /proc and /sys are looked for.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    quotas = [quota for folder in _cgroups(Path(root), "cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([cores, *map(math.ceil, quotas)]))


def _quota(folder: Path) -> float | None:
    text = _read(folder / "cpu.max")
    if text is not None:
        quota, _, period = text.partition(" ")
        return None if quota == "max" else int(quota) / int(period or 100_000)
    number, each = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return None if number is None or each is None or int(number) <= 0 else int(number) / int(each)


def _cgroups(root: Path, controller: str) -> list[Path]:
    """The folders of this process's cgroups and of those above them: each of them bounds it."""
    text = _read(root / "proc/self/cgroup") or ""
    mount = root / "sys/fs/cgroup"
    found = []
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = mount / names if names and (mount / names).is_dir() else mount / controller if names else mount
        # In a container the path may be the host's, and what counts here lies at the top.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        found += [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that this process may use: those of CUDA_VISIBLE_DEVICES, else those that ``nvidia-smi -L`` lists, else none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip() not in ("", "-1", "NoDevFiles"))
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        text = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    count = sum(line.startswith("GPU ") for line in text.splitlines())
    return tuple(map(str, range(count)))
