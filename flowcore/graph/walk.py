"""Finding things in a nested pipeline: its leaf components, the task at a path of a run."""

from __future__ import annotations

from collections.abc import Iterator

from flowcore.graph.model import Component, Dag, Pipeline, Task


def leaf_components(root: Component) -> Iterator[Component]:
    """Every component that is no Dag, each once."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        component = todo.pop()
        if id(component) in seen:
            continue
        seen.add(id(component))
        if isinstance(component.implementation, Dag):
            todo.extend(task.component for task in reversed(component.implementation.tasks))
        else:
            yield component


def leaf_tasks(root: Component) -> tuple[tuple[str, Task], ...]:
    """(path, task) of every task that is no Dag; those of a Dag that is used more than once come once."""
    found: tuple[tuple[str, Task], ...] | None = root.__dict__.get("_leaf_tasks")
    if found is None:
        found = root.__dict__["_leaf_tasks"] = tuple(_leaf_tasks(root))
    return found


def task_kinds(root: Component) -> tuple[tuple[str, Task], ...]:
    """Of the leaf tasks the first of each kind: a component with settings. What holds for it holds for all of its kind."""
    found: tuple[tuple[str, Task], ...] | None = root.__dict__.get("_task_kinds")
    if found is None:
        kinds: dict[tuple[int, int], tuple[str, Task]] = {}
        for path, task in leaf_tasks(root):
            kinds.setdefault((id(task.component), id(task.settings)), (path, task))
        found = root.__dict__["_task_kinds"] = tuple(kinds.values())
    return found


def _leaf_tasks(root: Component) -> Iterator[tuple[str, Task]]:
    seen: set[int] = set()
    todo: list[tuple[str, Component]] = [("", root)]
    while todo:
        prefix, component = todo.pop()
        if id(component) in seen or not isinstance(component.implementation, Dag):
            continue
        seen.add(id(component))
        for task in component.implementation.tasks:
            if not isinstance(task.component.implementation, Dag):
                yield prefix + task.name, task
        todo.extend((f"{prefix}{task.name}/", task.component) for task in reversed(component.implementation.tasks))


def task_at(pipeline: Pipeline, path: str) -> Task:
    """The task that a run's path names: ``sweep.3/train`` is ``train`` in iteration 3 of ``sweep``.

    Raises:
        KeyError: the pipeline has no such task.
    """
    dag, task = pipeline.dag, None
    for segment in path.split("/"):
        name, dot, index = segment.rpartition(".")
        names = {segment, name} if dot and index.isdigit() else {segment}
        task = next((candidate for candidate in dag.tasks if candidate.name in names), None)
        if task is None:
            raise KeyError(path)
        dag = task.component.implementation if isinstance(task.component.implementation, Dag) else Dag(())
    assert task is not None
    return task
