"""Checks of a whole pipeline, on networkx: cycles, dangling references, types of every edge. Called once when it is built."""

from __future__ import annotations

from collections.abc import Iterator

from flowcore.errors import CycleError, GraphError, TypeMismatch
from flowcore.graph.bindings import Binding, ScopeInput, TaskOutput, condition_bindings, sources
from flowcore.graph.model import Component, Dag, Pipeline, Port, Task
from flowcore.graph.types import PortType, accepts, as_list


#: File systems allow 255; the rest is for suffixes of our own.
NAME_BYTES = 200


def check_pipeline(pipeline: Pipeline) -> None:
    """Raise the first thing that is wrong.

    Raises:
        CycleError, GraphError, TypeMismatch: name the DAG, the task and the port.
    """
    _check_component(pipeline.root, set())


def dependencies(task: Task) -> dict[str, bool]:
    """The siblings that a task waits for; True where it reads data of theirs, False where it only comes after."""
    found = dict.fromkeys(task.after, False)
    for binding in task_bindings(task):
        for source in sources(binding):
            if isinstance(source, TaskOutput):
                found[source.task] = True
    return found


def task_bindings(task: Task) -> Iterator[Binding]:
    """Every binding of a task: inputs, condition and loop items."""
    for _, binding in task.inputs:
        yield binding
    if task.condition is not None:
        yield from condition_bindings(task.condition)
    if task.loop is not None:
        yield task.loop.items


def output_type(task: Task, port: Port) -> PortType:
    """The type of a task's output as its siblings see it."""
    return as_list(port.type) if task.loop is not None else port.type


def _check_component(component: Component, checked: set[int]) -> None:
    dag = component.implementation
    if not isinstance(dag, Dag) or id(component) in checked:
        return
    checked.add(id(component))
    _check_names(component, dag)
    _check_cycles(component, dag)
    tasks = {task.name: task for task in dag.tasks}
    for task in dag.tasks:
        _check_task(component, task, tasks)
        _check_component(task.component, checked)
    for name, binding in dag.outputs:
        if name not in component.output_ports:
            raise GraphError(f"pipeline {component.name!r} binds an output {name!r} that it does not declare")
        for source in sources(binding):
            _source_type(component, source, tasks, f"output {name!r}")


def check_name(kind: str, name: str) -> None:
    """Names become path segments of every store: refuse what one of them could not hold.

    Raises:
        GraphError: says which name and why.
    """
    shown = name if len(name) <= 40 else f"{name[:37]}..."
    problem = None
    if not name or name in (".", ".."):
        problem = "is no name"
    elif len(name.encode("utf-8", "replace")) > NAME_BYTES:
        problem = f"has {len(name.encode('utf-8', 'replace'))} bytes, may have {NAME_BYTES}"
    elif any(character in "/\\" or not character.isprintable() for character in name):
        problem = "has a slash or a control character"
    if problem is not None:
        raise GraphError(f"{kind} name {shown!r} {problem}; choose a short, plain name")


def _check_names(component: Component, dag: Dag) -> None:
    seen: set[str] = set()
    for port in (*component.inputs, *component.outputs):
        check_name(f"pipeline {component.name!r}: port", port.name)
    for task in dag.tasks:
        check_name(f"pipeline {component.name!r}: task", task.name)
        for port in (*task.component.inputs, *task.component.outputs):
            check_name(f"task {task.name!r}: port", port.name)
        if task.name in seen:
            raise GraphError(f"pipeline {component.name!r} has two tasks named {task.name!r}; name them apart")
        seen.add(task.name)
        if (task.condition is not None or task.loop is not None) and not isinstance(task.component.implementation, Dag):
            raise GraphError(f"pipeline {component.name!r}, task {task.name!r}: only a sub-DAG may have a condition or a loop")


def _check_cycles(component: Component, dag: Dag) -> None:
    edges = [(needed, task.name) for task in dag.tasks for needed in dependencies(task)]
    order = {task.name: place for place, task in enumerate(dag.tasks)}
    for needed, name in edges:
        if needed not in order:
            raise GraphError(f"pipeline {component.name!r}, task {name!r} needs {needed!r}, which is not a task beside it")
    if all(order[needed] < order[name] for needed, name in edges):
        return  # authored in order: no cycle is possible, and networkx (180 ms to import) is not needed
    import networkx

    graph = networkx.DiGraph(edges)
    try:
        cycle = networkx.find_cycle(graph)
    except networkx.NetworkXNoCycle:
        return
    raise CycleError(component.name, [edge[0] for edge in cycle])


def _check_task(component: Component, task: Task, tasks: dict[str, Task]) -> None:
    bound = dict(task.inputs)
    ports = task.component.input_ports
    if task.loop is not None:
        bound[task.loop.item_input] = task.loop.items
    for name in bound:
        if name not in ports:
            raise GraphError(f"task {task.name!r} binds an input {name!r} that component {task.component.name!r} does not have")
    for name, port in ports.items():
        if name not in bound:
            if not (port.has_default or port.type.optional):
                raise GraphError(f"task {task.name!r}: input {name!r} of component {task.component.name!r} is not bound")
            continue
        binding = bound[name]
        if isinstance(binding, TaskOutput | ScopeInput) and not binding.path:
            found = _source_type(component, binding, tasks, f"task {task.name!r}, input {name!r}")
            is_item = task.loop is not None and name == task.loop.item_input
            wanted = as_list(port.type) if is_item else port.type
            if not accepts(wanted, found):
                raise TypeMismatch(task.component.name, name, str(found), str(wanted), f"see task {task.name!r}")
    for binding in task_bindings(task):
        for source in sources(binding):
            _source_type(component, source, tasks, f"task {task.name!r}")


def _source_type(component: Component, source: Binding, tasks: dict[str, Task], where: str) -> PortType:
    if isinstance(source, TaskOutput):
        port = tasks[source.task].component.output_ports.get(source.port) if source.task in tasks else None
        if port is None:
            raise GraphError(f"pipeline {component.name!r}, {where} reads {source.task}.{source.port}, which does not exist")
        return output_type(tasks[source.task], port)
    assert isinstance(source, ScopeInput)
    found = component.input_ports.get(source.name)
    if found is None:
        raise GraphError(f"pipeline {component.name!r}, {where} reads an input {source.name!r} that the pipeline does not have")
    return found.type
