"""Checks of a whole pipeline, on networkx: cycles, dangling references, types of every edge. Called once when it is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flowcore.errors import CycleError, GraphError, TypeMismatch
from flowcore.graph.bindings import (
    COMPARISONS,
    Binding,
    Compare,
    Condition,
    Not,
    ScopeInput,
    TaskOutput,
    Truth,
    condition_bindings,
    describe,
    sources,
)
from flowcore.graph.model import PORT_STYLES, RETURNS, TRIGGERS, Component, Dag, Pipeline, Port, PythonFunction, Task
from flowcore.graph.settings import NO_SETTINGS, Settings, binding_types, problems
from flowcore.graph.types import ParameterType, PortType, accepts, as_list

#: File systems allow 255; the rest is for suffixes of our own.
NAME_BYTES = 200


def check_pipeline(pipeline: Pipeline) -> None:
    """Raise the first thing that is wrong. A pipeline is frozen, so one that passed is not looked at again.

    Raises:
        CycleError, GraphError, TypeMismatch: name the DAG, the task and the port.
    """
    if "_checked" in pipeline.__dict__:
        return
    if not isinstance(pipeline.root.implementation, Dag):
        raise GraphError(f"pipeline {pipeline.name!r} has no tasks: its root is a function")
    _check_component(pipeline.root, set())
    pipeline.__dict__["_checked"] = True


def dependencies(task: Task) -> dict[str, bool]:
    """The siblings that a task waits for; True where it reads data of theirs, False where it only comes after."""
    found = dict.fromkeys(task.after, False)
    for binding in task_bindings(task):
        for source in sources(binding):
            if isinstance(source, TaskOutput):
                found[source.task] = True
    return found


def task_bindings(task: Task) -> Iterator[Binding]:
    """Every binding of a task: inputs, condition, loop items and settings."""
    for _, binding in task.inputs:
        yield binding
    if task.condition is not None:
        yield from condition_bindings(task.condition)
    if task.loop is not None:
        yield task.loop.items
    for _, binding in task.settings.bindings():
        yield binding


def output_type(task: Task, port: Port) -> PortType:
    """The type of a task's output as its siblings see it."""
    return as_list(port.type) if task.loop is not None else port.type


def _check_component(component: Component, checked: set[int]) -> None:
    if id(component) in checked:
        return
    checked.add(id(component))
    check_name("pipeline" if isinstance(component.implementation, Dag) else "component", component.name)
    _check_ports(component)
    dag = component.implementation
    if not isinstance(dag, Dag):
        return
    _check_tasks(component, dag)
    _check_cycles(component, dag)
    tasks = {task.name: task for task in dag.tasks}
    for task in dag.tasks:
        _check_task(component, task, tasks)
        _check_component(task.component, checked)
    _check_outputs(component, dag, tasks)


def _check_ports(component: Component) -> None:
    for side, ports in (("input", component.inputs), ("output", component.outputs)):
        for port in ports:
            check_name(f"component {component.name!r}: {side}", port.name)
            _check_word(f"component {component.name!r}, {side} {port.name!r}", "style", port.style, PORT_STYLES)
        _check_distinct(f"component {component.name!r}", f"{side}s", [port.name for port in ports])
    if isinstance(component.implementation, PythonFunction):
        _check_word(f"component {component.name!r}", "returns", component.implementation.returns, RETURNS)


def _check_word(where: str, field: str, word: str, known: Iterable[str]) -> None:
    if word not in known:
        raise GraphError(f"{where}: {field} is {word!r}, wants one of {', '.join(known)}")


def _check_distinct(where: str, what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise GraphError(f"{where} has two {what} named {twice!r}; name them apart")


def _check_outputs(component: Component, dag: Dag, tasks: dict[str, Task]) -> None:
    bound = dict(dag.outputs)
    for name, binding in dag.outputs:
        port = component.output_ports.get(name)
        if port is None:
            raise GraphError(f"pipeline {component.name!r} binds an output {name!r} that it does not declare")
        _check_binding(component, component.name, f"output {name!r}", binding, port.type, tasks, side="output")
    for name in component.output_ports:
        if name not in bound:
            raise GraphError(f"pipeline {component.name!r} declares an output {name!r} that nothing is bound to")


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


def _check_tasks(component: Component, dag: Dag) -> None:
    _check_distinct(f"pipeline {component.name!r}", "tasks", [task.name for task in dag.tasks])
    for task in dag.tasks:
        check_name(f"pipeline {component.name!r}: task", task.name)
        where = f"pipeline {component.name!r}, task {task.name!r}"
        if (task.condition is not None or task.loop is not None) and not isinstance(task.component.implementation, Dag):
            raise GraphError(f"{where}: only a sub-DAG may have a condition or a loop")
        _check_word(where, "trigger", task.trigger, TRIGGERS)
        if task.condition is not None:
            _check_comparisons(where, task.condition)
        if task.loop is not None and task.loop.parallelism is not None and task.loop.parallelism < 1:
            raise GraphError(f"{where}: parallelism is {task.loop.parallelism}, wants 1 or more, or none")
        if task.retry is not None and task.retry.limit < 0:
            raise GraphError(f"{where}: its retry limit is {task.retry.limit}, wants 0 or more")
        if task.settings is not NO_SETTINGS:
            _check_settings(where, task)


def _check_settings(where: str, task: Task) -> None:
    for problem in problems(task.settings):
        raise GraphError(f"{where}: {problem}")
    if isinstance(task.component.implementation, Dag) and task.settings != Settings(display_name=task.settings.display_name):
        raise GraphError(f"{where} is a pipeline, which runs nowhere itself: put settings on its tasks")


def _check_comparisons(where: str, condition: Condition) -> None:
    match condition:
        case Compare(op, _, _):
            _check_word(where, "a comparison", op, COMPARISONS)
        case Truth():
            pass
        case Not(term):
            _check_comparisons(where, term)
        case _:
            for term in condition.terms:
                _check_comparisons(where, term)


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
    loop = [] if task.loop is None else [(task.loop.item_input, task.loop.items)]
    _check_distinct(f"task {task.name!r}", "bindings", [name for name, _ in (*task.inputs, *loop)])
    bound = dict([*task.inputs, *loop])
    ports = task.component.input_ports
    for name in bound:
        if name not in ports:
            raise GraphError(f"task {task.name!r} binds an input {name!r} that component {task.component.name!r} does not have")
    for name, port in ports.items():
        if name in bound:
            is_item = task.loop is not None and name == task.loop.item_input
            wanted = as_list(port.type) if is_item else port.type
            where = f"task {task.name!r}, input {name!r}"
            _check_binding(component, task.component.name, where, bound[name], wanted, tasks)
        elif not (port.has_default or port.type.optional):
            raise GraphError(f"task {task.name!r}: input {name!r} of component {task.component.name!r} is not bound")
    for binding in condition_bindings(task.condition) if task.condition is not None else ():
        for source in sources(binding):
            _source_type(component, source, tasks, f"the condition of task {task.name!r}")
    for setting, binding in task.settings.bindings():
        _check_setting(component, task, setting, binding, tasks)


def _check_setting(component: Component, task: Task, setting: str, binding: Binding, tasks: dict[str, Task]) -> None:
    wanted = binding_types(setting)
    for source in sources(binding):
        found = _source_type(component, source, tasks, f"setting {setting!r} of task {task.name!r}")
        fits = isinstance(found, ParameterType) and found.name in (*wanted, "any") and not found.optional
        if source is binding and not source.path and not fits:
            remedy = f"task {task.name!r} reads {describe(binding)}: read another output, or change its type"
            raise TypeMismatch(task.component.name, setting, str(found), " or ".join(wanted), remedy, side="setting")


def _check_binding(
    component: Component, owner: str, where: str, binding: Binding, wanted: PortType, tasks: dict[str, Task], side: str = "input"
) -> None:
    """Every source of a binding exists; one that is read whole is of the wanted type."""
    for source in sources(binding):
        found = _source_type(component, source, tasks, where)
        if source is binding and not source.path and not accepts(wanted, found):
            port = where.rpartition(" ")[2].strip("'")
            remedy = f"{where} reads {describe(binding)}: change one of the two types, or read another output"
            raise TypeMismatch(owner, port, str(found), str(wanted), remedy, side=side)


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
