"""Frames to nested Dags: each frame becomes a component, outer values enter it as inputs, inner values leave it as outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowcore.dsl import channels as c
from flowcore.dsl.frames import Encoded, Frame, Mixed, PipelineTask
from flowcore.errors import AuthoringError
from flowcore.graph import bindings as b
from flowcore.graph.model import Component, Dag, Loop, Port, Settings, Task
from flowcore.graph.types import ArtifactType, PortType, as_list

ITEM = "item"


def build_root(frame: Frame, inputs: tuple[Port, ...], returned: Sequence[tuple[Port, Any]], description: str) -> Component:
    """The component of a traced pipeline; ``returned`` are its output ports with the channels or constants they come from."""
    outputs = [(port.name, _bind(value, frame)) for port, value in returned]
    tasks = _tasks(frame)
    return Component(frame.name, inputs, tuple(port for port, _ in returned), Dag(tasks, tuple(outputs)), description)


def export(channel: c.Channel, reader: Frame) -> tuple[c.Channel, int]:
    """``channel`` as a frame that also holds ``reader`` sees it, and how many loops it came out of on the way."""
    around_reader = reader.ancestors()
    loops = 0
    while channel.frame not in around_reader:
        frame = channel.frame
        assert frame.parent is not None
        known = frame.exports.get((*channel.key, channel.path))
        if known is None:
            name = _port_name(channel, len(frame.exports))
            frame.exports[(*channel.key, channel.path)] = (name, channel)
        else:
            name = known[0]
        type_: PortType = channel.type
        if frame.is_loop:
            type_, loops = as_list(type_), loops + 1
        channel = c.Channel(frame.parent, frame, name, type_)
    return channel, loops


def _port_name(channel: c.Channel, number: int) -> str:
    producer = f"{channel.producer.name}-" if channel.producer is not None else ""
    name = "-".join([f"{producer}{channel.port}", *channel.path])
    return name if number == 0 else f"{name}-{number + 1}"


def _bind(value: Any, frame: Frame) -> b.Binding:
    """How ``frame``'s Dag reads an argument."""
    if isinstance(value, Encoded):
        return b.Constant(value.value)
    if isinstance(value, Mixed):
        if value.kind == "str":
            return b.Template(tuple(part if isinstance(part, str) else _bind(part, frame) for part in value.parts))
        if value.kind == "list":
            return b.ListOf(tuple(_bind_inner(part, frame) for part in value.parts))
        return b.DictOf(tuple((key, _bind_inner(part, frame)) for key, part in value.parts))
    assert isinstance(value, c.Channel)
    if value.frame is frame:
        return _direct(value, frame)
    if value.frame not in frame.ancestors():
        inside = "a loop" if any(part.is_loop for part in value.frame.ancestors() if part not in frame.ancestors()) else "a branch"
        remedy = "dsl.Collected(...) gives the list over its iterations" if inside == "a loop" else "dsl.OneOf(...) gives that of the branch that ran"
        raise AuthoringError(f"{value.describe()} is inside {inside} ({value.frame.name!r}) and is read outside; {remedy}")
    known = frame.holes.get(value.key)
    if known is None:
        name = _port_name(c.Channel(value.frame, value.producer, value.port, value.type), len(frame.holes))
        frame.holes[value.key] = known = (f"outer-{name}", _whole(value))
    return b.ScopeInput(known[0], value.path)


def _bind_inner(value: Any, frame: Frame) -> b.Binding:
    return _bind(value, frame) if isinstance(value, c.Channel | Mixed) else b.Constant(c_encode(value))


def c_encode(value: Any) -> Any:
    """A constant beside channels in a list or dict, encoded as untyped data."""
    from flowcore.values import encode_any

    return encode_any(value, "a list or dict argument")


def _whole(channel: c.Channel) -> c.Channel:
    return c.Channel(channel.frame, channel.producer, channel.port, _whole_type(channel), choices=channel.choices)


def _whole_type(channel: c.Channel) -> PortType:
    if not channel.path:
        return channel.type
    return channel.frame.item_type


def _direct(channel: c.Channel, frame: Frame) -> b.Binding:
    if channel.choices:
        return b.OneOf(tuple(_bind(choice, frame) for choice in channel.choices))
    if channel.producer is None:
        return b.ScopeInput(channel.port, channel.path)
    return b.TaskOutput(channel.producer.name, channel.port, channel.path)


def _condition(expression: c.ConditionExpression, frame: Frame) -> b.Condition:
    if isinstance(expression, c.Comparison):
        right = expression.right if isinstance(expression.right, c.Channel) else Encoded(expression.right)
        return b.Compare(expression.op, _bind(expression.left, frame), _bind(right, frame))
    if isinstance(expression, c.Truth):
        return b.Truth(_bind(expression.channel, frame))
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


def _task(task: PipelineTask, frame: Frame, after: tuple[str, ...]) -> Task:
    inputs = tuple((name, _bind(value, frame)) for name, value in task.inputs.items())
    return Task(task.name, task.component, inputs, after, retry=task.retry, settings=Settings(task.timeout_seconds))


def _group(group: Frame, frame: Frame, after: tuple[str, ...]) -> Task:
    tasks = _tasks(group)  # first: it finds the holes
    outputs = tuple((name, _bind(channel, group)) for name, channel in group.exports.values())
    ports = [Port(name, channel.type) for name, channel in group.holes.values()]
    if group.is_loop:
        ports.append(Port(ITEM, group.item_type))
    exported = tuple(Port(name, channel.type, "return") for name, channel in group.exports.values())
    component = Component(group.name, tuple(ports), exported, Dag(tasks, outputs))
    inputs = tuple((name, _bind(channel, frame)) for name, channel in group.holes.values())
    condition = None if group.condition is None else _condition(group.condition, frame)
    loop = None
    if group.is_loop:
        items = group.items if isinstance(group.items, c.Channel | Mixed) else Encoded(group.items)
        loop = Loop(_bind(items, frame), ITEM, group.parallelism)
    return Task(group.name, component, inputs, after, condition, loop)


def _orders(frame: Frame) -> dict[str, tuple[str, ...]]:
    """For each child of a frame, the siblings that it or a task inside it was told to come after."""
    found: dict[str, list[str]] = {child.name: [] for child in frame.children}
    for child in frame.children:
        for task, others in _ordered(child):
            for other in others:
                sibling = _representative(other, frame)
                if sibling is None:
                    if frame.parent is None:
                        raise AuthoringError(f"{task!r} is after {other.name!r}, which belongs to another pipeline")
                elif sibling is child and other is child:
                    found[child.name].append(sibling.name)
                elif sibling is not child and sibling.name not in found[child.name]:
                    found[child.name].append(sibling.name)
    return {name: tuple(dict.fromkeys(names)) for name, names in found.items()}


def _ordered(child: PipelineTask | Frame) -> list[tuple[str, list[PipelineTask | Frame]]]:
    if isinstance(child, PipelineTask):
        return [(child.name, child._after)]
    inner = [pair for task in child.children for pair in _ordered(task)]
    return [(child.name, child.after), *inner]


def _representative(other: PipelineTask | Frame, frame: Frame) -> PipelineTask | Frame | None:
    """The child of ``frame`` that is, or holds, ``other``."""
    current: PipelineTask | Frame = other
    while True:
        parent = current.frame if isinstance(current, PipelineTask) else current.parent
        if parent is frame:
            return current
        if parent is None:
            return None
        current = parent


def is_artifact(type_: PortType) -> bool:
    """Whether a port of this type holds artifacts."""
    return isinstance(type_, ArtifactType)
