"""A Dag made ready for the state machine: places instead of names, who waits for whom. Derived once a Dag, never changed."""

from __future__ import annotations

from flowcore.graph import ArtifactType, Dag, Task
from flowcore.graph.bindings import Binding, TaskOutput, sources
from flowcore.graph.checks import dependencies, task_bindings


class TaskPlan:
    """A task with its needs (places of siblings), its dependents and how each input is had."""

    __slots__ = ("bound", "certain", "children", "dependents", "needs", "outputs", "required", "task", "unbound")

    def __init__(self, task: Task, places: dict[str, int]) -> None:
        self.task = task
        #: The siblings that it waits for; of those the ones without whose data it cannot run: a OneOf has other choices.
        found = dependencies(task)
        self.needs = tuple(places[name] for name in found)
        read = [source for binding in task_bindings(task) for source in sources(binding, certain=True)]
        self.certain = frozenset(places[source.task] for source in read if isinstance(source, TaskOutput))
        self.dependents: tuple[int, ...] = ()
        component = task.component
        bound: dict[str, Binding] = dict(task.inputs)
        self.bound = tuple((name, binding) for name, binding in bound.items() if name in component.input_ports)
        skip = {task.loop.item_input} if task.loop is not None else set()
        free = [port for port in component.inputs if port.name not in bound and port.name not in skip]
        #: Inputs without a binding take their default; an optional one without a default is None.
        self.unbound = tuple((port.name, port.default) for port in free)
        self.required = frozenset(port.name for port in component.outputs if not port.type.optional)
        self.outputs = tuple((port.name, isinstance(port.type, ArtifactType)) for port in component.outputs)
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
