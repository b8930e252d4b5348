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


def leaf_tasks(root: Component) -> Iterator[Task]:
    """Every task whose component is no Dag; a Dag that is used twice gives its tasks once."""
    seen: set[int] = set()
    todo = [root]
    while todo:
        component = todo.pop()
        if id(component) in seen or not isinstance(component.implementation, Dag):
            continue
        seen.add(id(component))
        for task in component.implementation.tasks:
            if isinstance(task.component.implementation, Dag):
                todo.append(task.component)
            else:
                yield task


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
