"""Frames to nested Dags: each frame becomes a component, outer values enter it as inputs, inner values leave it as outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowcore.dsl import channels as c
from flowcore.dsl.arguments import Argument, Encoded, Mixed, check_visible
from flowcore.dsl.frames import Frame, PipelineTask
from flowcore.errors import AuthoringError
from flowcore.graph import bindings as b
from flowcore.graph.model import Component, Dag, Loop, Port, Task
from flowcore.graph.types import PortType, as_list

ITEM = "item"


def build_root(frame: Frame, inputs: tuple[Port, ...], returned: Sequence[tuple[Port, Argument]], description: str) -> Component:
    """The component of a traced pipeline; ``returned`` are its output ports with what they come from."""
    outputs = tuple((port.name, bind(value, frame)) for port, value in returned)
    return Component(frame.name, inputs, tuple(port for port, _ in returned), Dag(_tasks(frame), outputs), description)


def export(source: c.Source, reader: Frame) -> tuple[c.Source, int]:
    """``source`` as a frame that also holds ``reader`` sees it, and how many loops it came out of on the way."""
    around_reader = reader.ancestors()
    loops = 0
    while source.frame not in around_reader:
        frame = source.frame
        assert frame.parent is not None
        name, _ = frame.exports.setdefault((*source.key, source.path), (_port_name(source, frame.exports), source))
        type_: PortType = source.type
        if frame.is_loop:
            type_, loops = as_list(type_), loops + 1
        source = c.Source(frame.parent, frame, name, type_, inner=source)
    return source, loops


def _port_name(source: c.Source, taken: Mapping[Any, tuple[str, c.Source]], prefix: str = "") -> str:
    producer = [source.producer.name] if source.producer is not None else []
    name = chosen = prefix + "-".join([*producer, source.port, *source.path])
    names, number = {known for known, _ in taken.values()}, 1
    while chosen in names:
        number += 1
        chosen = f"{name}-{number}"
    return chosen


def bind(value: Argument | str, frame: Frame) -> Any:
    """How ``frame``'s Dag reads an argument: a Binding, or the text between two of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, Encoded):
        return b.Constant(value.value)
    if isinstance(value, Mixed):
        if value.kind == "dict":
            return b.DictOf(tuple((key, bind(part, frame)) for key, part in value.parts))
        parts = tuple(bind(part, frame) for part in value.parts)
        return b.Template(parts) if value.kind == "str" else b.ListOf(parts)
    if value.frame is frame:
        return _direct(value, frame)
    check_visible(value, frame, f"group {frame.name!r}")
    whole = value.whole
    name, _ = frame.holes.setdefault(value.key, (_port_name(whole, frame.holes, "outer-"), whole))
    return b.ScopeInput(name, value.path)


def _direct(source: c.Source, frame: Frame) -> b.Binding:
    if source.choices:
        return b.OneOf(tuple(bind(choice, frame) for choice in source.choices))
    if source.producer is None:
        return b.ScopeInput(source.port, source.path)
    return b.TaskOutput(source.producer.name, source.port, source.path)


def _condition(expression: c.ConditionExpression, frame: Frame) -> b.Condition:
    if isinstance(expression, c.Comparison):
        right = expression.right if isinstance(expression.right, c.Source) else Encoded(expression.right)
        return b.Compare(expression.op, bind(expression.left, frame), bind(right, frame))
    if isinstance(expression, c.Truth):
        return b.Truth(bind(expression.source, frame))
    assert isinstance(expression, c.Combination)
    terms = tuple(_condition(term, frame) for term in expression.terms)
    if expression.kind == "not":
        return b.Not(terms[0])
    return b.And(terms) if expression.kind == "and" else b.Or(terms)


def _tasks(frame: Frame) -> tuple[Task, ...]:
    after = _orders(frame)
    return tuple(
        _group(child, frame, after[child.name]) if isinstance(child, Frame) else _task(child, frame, after[child.name])
        for child in frame.children
    )


def _task(task: PipelineTask[Any], frame: Frame, after: tuple[str, ...]) -> Task:
    inputs = tuple((name, bind(value, frame)) for name, value in task.inputs.items())
    return Task(task.name, task.component, inputs, after, retry=task.retry, settings=task.settings)


def _group(group: Frame, frame: Frame, after: tuple[str, ...]) -> Task:
    tasks = _tasks(group)  # first: it finds the holes
    outputs = tuple((name, bind(source, group)) for name, source in group.exports.values())
    ports = [Port(name, source.type) for name, source in group.holes.values()]
    if group.is_loop:
        ports.append(Port(ITEM, group.item_type))
    exported = tuple(Port(name, source.type, "return") for name, source in group.exports.values())
    component = Component(group.name, tuple(ports), exported, Dag(tasks, outputs))
    inputs = tuple((name, bind(source, frame)) for name, source in group.holes.values())
    condition = None if group.condition is None else _condition(group.condition, frame)
    loop = None
    if group.is_loop:
        loop = Loop(bind(group.items, frame), ITEM, group.parallelism)
    return Task(group.name, component, inputs, after, condition, loop)


def _orders(frame: Frame) -> dict[str, tuple[str, ...]]:
    """For each child of a frame, the siblings that it or a task inside it was told to come after."""
    found: dict[str, list[str]] = {child.name: [] for child in frame.children}
    for child in frame.children:
        for name, other in _ordered(child):
            sibling = _representative(other, frame)
            if sibling is None and frame.parent is None:
                raise AuthoringError(f"{name!r} is after {other.name!r}, which belongs to another pipeline")
            # An order between two tasks of one group is that group's own affair.
            if sibling is not None and (sibling is not child or other is child):
                found[child.name].append(sibling.name)
    return {name: tuple(dict.fromkeys(names)) for name, names in found.items()}


def _ordered(child: PipelineTask[Any] | Frame) -> list[tuple[str, PipelineTask[Any] | Frame]]:
    """(name, what it comes after) of a task, or of a group and everything inside it."""
    if isinstance(child, PipelineTask):
        return [(child.name, other) for other in child.ordered_after]
    return [(child.name, other) for other in child.after] + [pair for inner in child.children for pair in _ordered(inner)]


def _representative(other: PipelineTask[Any] | Frame, frame: Frame) -> PipelineTask[Any] | Frame | None:
    """The child of ``frame`` that is, or holds, ``other``."""
    current: PipelineTask[Any] | Frame = other
    while True:
        parent = current.frame if isinstance(current, PipelineTask) else current.parent
        if parent is frame:
            return current
        if parent is None:
            return None
        current = parent
