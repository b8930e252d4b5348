"""Where a task of this machine may run and what it asks for; what cannot be had here is refused before the run.

What a body sees (variables, secrets, volumes) is ``flowcore.surroundings``'; this module decides who may stay in this process.
"""

from __future__ import annotations

from flowcore.errors import RefusedError
from flowcore.executor import WorkOrder
from flowcore.executors.budget import NOTHING, Budget, Request
from flowcore.graph import Component, Pipeline, PythonFunction, Settings, Task
from flowcore.graph.walk import task_kinds
from flowcore.packages import unmet
from flowcore.surroundings import Sources, check_tasks

_NOT_ASKED = (None,) * 5


class Placement:
    """The rules of one ``LocalExecutor``; see there for the arguments."""

    def __init__(self, mode: str, budget: Budget, sources: Sources, *, install_packages: bool) -> None:
        self._mode = mode
        self._budget = budget
        self.sources = sources
        self._installs = install_packages and mode != "inline"
        self._needed: dict[int, tuple[Component, tuple[str, ...] | None]] = {}

    def keeps(self, task: Task) -> bool:
        """Whether a task's body may run in this process."""
        if self._mode != "threads":
            return self._mode == "inline"
        settings = task.settings
        leaves = settings.needs_process or settings.accelerator_limit is not None
        return not leaves and self.requirements(task.component) is None

    def requirements(self, component: Component) -> tuple[str, ...] | None:
        """What a component has in an environment of its own; None where this one serves."""
        known = self._needed.get(id(component))
        if known is None:
            python = component.implementation
            isolated = isinstance(python, PythonFunction) and (python.use_venv or bool(unmet(python.packages)))
            packages = tuple(sorted(python.packages)) if isolated and isinstance(python, PythonFunction) else None
            # Held, since its identity is its key.
            known = self._needed[id(component)] = (component, packages)
        return known[1]

    def check(self, pipeline: Pipeline) -> None:
        """Refuse what cannot be had here.

        Raises:
            RefusedError: names the task, what it wants, and the remedy.
        """
        for path, task in task_kinds(pipeline.root):
            self._check_packages(path, task.component)
            self._check_fits(path, task.settings)
        check_tasks(pipeline, self.sources, "LocalExecutor")

    def _check_packages(self, path: str, component: Component) -> None:
        python = component.implementation
        if self._installs or not isinstance(python, PythonFunction):
            return
        missing = unmet(python.packages)
        where = "LocalExecutor(mode='inline')" if self._mode == "inline" else "LocalExecutor(install_packages=False)"
        if missing:
            names, command = ", ".join(missing), f"pip install {' '.join(map(repr, missing))}"
            raise RefusedError(
                f"task {path!r} needs {names}, which this environment does not have; {where} installs nothing: {command}"
            )
        if python.use_venv:
            raise RefusedError(f"task {path!r} wants an environment of its own (use_venv=True), which {where} does not make")

    def _check_fits(self, path: str, settings: Settings) -> None:
        never = self._budget.never(self._request(settings))
        if never is not None:
            raise RefusedError(f"task {path!r} {never}: ask for less, or give LocalExecutor(cpus=, memory=, gpus=) more")

    def _request(self, settings: Settings) -> Request:
        asked = (
            settings.cpu_request, settings.cpu_limit, settings.memory_request, settings.memory_limit, settings.accelerator_limit
        )  # fmt: skip
        return (
            NOTHING if asked == _NOT_ASKED else Request(settings.cpu_cores, settings.memory_bytes, settings.accelerator_count)
        )

    def request(self, order: WorkOrder) -> Request:
        """What an order asks for.

        Raises:
            RefusedError: it can never fit, which became known only with a value that the run made.
        """
        self._check_fits(order.task, order.settings)
        return self._request(order.settings)
