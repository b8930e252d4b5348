"""Tasks in this process or on this machine: inline on the caller's thread, in threads, or in worker processes.

Inline is for ``breakpoint()``; threads is the default; processes survive a body that crashes its interpreter. Worker processes
are started when first needed, serve one order after another, and end when their driver does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Literal

from flowcore.errors import UsageError
from flowcore.executor import Executor, Report, WorkOrder
from flowcore.executors.budget import Budget, usable_cores, visible_gpus
from flowcore.executors.local_inline import Inline
from flowcore.executors.local_workers import Workers
from flowcore.executors.placement import Placement
from flowcore.graph import Pipeline, Task
from flowcore.graph.settings import MEMORY
from flowcore.surroundings import Sources, Value, sweep

Mode = Literal["inline", "threads", "processes"]
MODES = ("inline", "threads", "processes")


class LocalExecutor(Executor):
    """Runs tasks here.

    Args:
        mode: "inline" runs bodies one by one on the thread that called ``run``; "threads" (the default) and "processes" run up
            to ``workers`` at once. In threads mode a task that sees an environment of its own, an accelerator, or packages
            that are not installed here runs in a worker process.
        workers: how many bodies may run at once; by default the number of usable cores (affinity and cgroup quotas are
            honoured). Inline has one.
        cpus: how many cores the requests of the tasks that run at once may add up to; by default there is no bound.
        memory: the same for memory: bytes, or a text such as "8Gi".
        gpus: how many GPUs there are, or their indices; handed out to tasks through CUDA_VISIBLE_DEVICES. By default those of
            this process's own CUDA_VISIBLE_DEVICES, else those that nvidia-smi lists, else none.
        secrets, config_maps: what tasks use, as ``{"name": {"key": value}}``, where a value is a text, ``{"env": NAME}`` or
            ``{"file": path}``; the last two are looked up where the body runs.
        volumes: the folder of this machine that stands for each persistent volume claim.
        install_packages: whether tasks whose packages are not installed get a virtual environment, kept in the user's cache.
        pip_args: options of ``pip install`` for these, such as ``("--no-index", "--find-links", folder)``.

    Tasks ask with ``set_cpu_request``, ``set_memory_request`` and ``set_accelerator_limit``; one that asks for nothing takes
    nothing of the budget. Requests are met in the order in which they came: one that does not fit holds back later requests,
    so that no stream of small ones keeps a large one waiting; tasks that ask for nothing pass. Each run has the whole budget.

    Raises:
        UsageError: an unknown mode, fewer than one worker, a budget that is no number, or no such mappings.
    """

    name = "local"

    def __init__(
        self,
        mode: Mode = "threads",
        workers: int | None = None,
        *,
        cpus: float | None = None,
        memory: int | str | None = None,
        gpus: int | Sequence[int] | None = None,
        secrets: Mapping[str, Mapping[str, Value]] | None = None,
        config_maps: Mapping[str, Mapping[str, Value]] | None = None,
        volumes: Mapping[str, str | os.PathLike[str]] | None = None,
        install_packages: bool = True,
        pip_args: Sequence[str] = (),
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"LocalExecutor(mode={mode!r}): the modes are {', '.join(MODES)}")
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise UsageError(f"LocalExecutor(workers={workers!r}): wants a whole number from 1 on")
        if cpus is not None and not (isinstance(cpus, int | float) and cpus > 0):
            raise UsageError(f"LocalExecutor(cpus={cpus!r}): wants a number above 0")
        self.mode = mode
        self.workers = 1 if mode == "inline" else workers or usable_cores()
        self.in_process = mode != "processes"
        self.kills_running_tasks = mode == "processes"
        self.uses_callers_thread = mode == "inline"
        self.open_iterations = max(1_000, 4 * self.workers)
        self._budget = (cpus, _memory_bytes(memory), _gpu_names(gpus))
        self._pip_args = tuple(pip_args)
        self.sources = Sources(secrets or {}, config_maps or {}, volumes or {})
        self._placement = Placement(mode, Budget(*self._budget), self.sources, install_packages=install_packages)
        self._strategy: Inline | Workers | None = None

    def __repr__(self) -> str:
        return f"LocalExecutor(mode={self.mode!r}, workers={self.workers})"

    def check(self, pipeline: Pipeline) -> None:
        self._placement.check(pipeline)

    def keeps(self, task: Task) -> bool:
        return self._placement.keeps(task)

    def open(self, report: Report) -> None:
        budget = Budget(*self._budget)
        if self.mode == "inline":
            self._strategy = Inline(report, self._placement, budget)
        else:
            self._strategy = Workers(
                report, self.workers, self._placement, budget, self._pip_args, in_processes=self.mode == "processes"
            )

    def submit(self, order: WorkOrder) -> None:
        (self._strategy or self._opened()).submit(order)

    def cancel(self, attempt_id: str) -> None:
        self._opened().cancel(attempt_id)

    def work(self) -> bool:
        return (self._strategy or self._opened()).work()

    def close(self, *, detach: bool = False) -> None:
        # Local bodies never outlive their driver: detaching stops them all the same.
        if self._strategy is not None:
            self._strategy.close()
            self._strategy = None
            sweep()

    def _opened(self) -> Inline | Workers:
        if self._strategy is None:
            raise UsageError("this LocalExecutor is not open: call open(report) first")
        return self._strategy


def _memory_bytes(memory: int | str | None) -> float | None:
    if memory is None:
        return None
    if isinstance(memory, str):
        if MEMORY.fits(memory):
            return MEMORY.parse(memory)
    elif isinstance(memory, int) and memory > 0:
        return memory
    raise UsageError(f"LocalExecutor(memory={memory!r}): wants {MEMORY.wanted}")


def _gpu_names(gpus: int | Sequence[int] | None) -> tuple[str, ...]:
    if gpus is None:
        return visible_gpus()
    if isinstance(gpus, int):
        return tuple(map(str, range(gpus)))
    return tuple(map(str, gpus))
