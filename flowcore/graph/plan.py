"""A Dag made ready for the state machine: places instead of names, who waits for whom. Derived once a Dag, never changed."""

from __future__ import annotations

from typing import Any

from flowcore.graph import ArtifactType, Dag, Task
from flowcore.graph.bindings import Binding, Constant, ScopeInput, TaskOutput, sources
from flowcore.graph.checks import dependencies, task_bindings


class TaskPlan:
    """A task with its needs (places of siblings), its dependents and how each input is had."""

    __slots__ = (
        "bound", "certain", "children", "constants", "dependents", "limit", "linked", "loop", "name", "needs", "outputs",
        "passed", "required", "settings", "task", "timeout_seconds",
    )  # fmt: skip

    def __init__(self, task: Task, places: dict[str, int]) -> None:
        self.task = task
        self.name = task.name
        self.loop = task.loop
        self.timeout_seconds = task.settings.timeout_seconds
        self.limit = task.settings.limit
        #: The siblings that it waits for; of those the ones without whose data it cannot run: a OneOf has other choices.
        found = dependencies(task)
        self.needs = tuple(places[name] for name in found)
        read = [source for binding in task_bindings(task) for source in sources(binding, certain=True)]
        self.certain = frozenset(places[source.task] for source in read if isinstance(source, TaskOutput))
        self.dependents: tuple[int, ...] = ()
        component = task.component
        bound: dict[str, Binding] = dict(task.inputs)
        skip = {task.loop.item_input} if task.loop is not None else set()
        #: Inputs that are the same in each scope: constants, else the port's default; an optional one without is None.
        self.constants: dict[str, Any] = {}
        #: (input, input of the scope) and (input, place of a sibling, its output) where one is handed on whole; then the others.
        passed: list[tuple[str, str]] = []
        linked: list[tuple[str, int, str]] = []
        others: list[tuple[str, Binding]] = []
        for port in component.inputs:
            binding = bound.get(port.name)
            if binding is None:
                if port.name not in skip:
                    self.constants[port.name] = port.default
            elif isinstance(binding, Constant):
                self.constants[port.name] = binding.value
            elif isinstance(binding, ScopeInput) and not binding.path:
                passed.append((port.name, binding.name))
            elif isinstance(binding, TaskOutput) and not binding.path:
                linked.append((port.name, places[binding.task], binding.port))
            else:
                others.append((port.name, binding))
        self.passed, self.linked, self.bound = tuple(passed), tuple(linked), tuple(others)
        self.required = frozenset(port.name for port in component.outputs if not port.type.optional)
        self.outputs = tuple((port.name, isinstance(port.type, ArtifactType)) for port in component.outputs)
        #: The task's settings where they hold bindings, to be resolved when it is submitted; None in the usual case.
        self.settings = task.settings if next(task.settings.bindings(), None) is not None else None
        implementation = component.implementation
        self.children = plan_of(implementation) if isinstance(implementation, Dag) else None


class DagPlan:
    """The tasks of a Dag in order, where each name lies, and which tasks wait for nothing."""

    __slots__ = ("dag", "outputs", "places", "roots", "tasks")

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.outputs = dag.outputs
        self.places = {task.name: place for place, task in enumerate(dag.tasks)}
        self.tasks = tuple(TaskPlan(task, self.places) for task in dag.tasks)
        dependents: list[list[int]] = [[] for _ in self.tasks]
        for place, plan in enumerate(self.tasks):
            for need in plan.needs:
                dependents[need].append(place)
        for plan, waiting in zip(self.tasks, dependents, strict=True):
            plan.dependents = tuple(waiting)
        self.roots = tuple(place for place, plan in enumerate(self.tasks) if not plan.needs)


def plan_of(dag: Dag) -> DagPlan:
    """The plan of a Dag; kept on the Dag itself, so it lives as long."""
    plan: DagPlan | None = dag.__dict__.get("_plan")
    if plan is None:
        plan = dag.__dict__["_plan"] = DagPlan(dag)
    return plan
