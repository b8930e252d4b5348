"""Arguments of components: bound to ports, checked against their types, constants encoded, channels found wherever they hide."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flowcore.dsl.channels import MARKER, Channel, ConditionExpression, Source, source_of
from flowcore.dsl.frames import Frame, PipelineTask, Trace
from flowcore.errors import ArgumentError, AuthoringError, TypeMismatch, ValueEncodingError
from flowcore.graph import ArtifactType, Component, ParameterType, Port, PortType
from flowcore.graph.types import accepts, as_list
from flowcore.values import encode

_REPR = re.compile(r"<channel [^<>]*; id=\d+>")
_ANY = ParameterType("any")


@dataclass(frozen=True)
class Encoded:
    """A constant in its encoded form."""

    value: Any


@dataclass(frozen=True)
class Mixed:
    """A str, list or dict with sources in it; ``parts`` are texts and sources, arguments, or (key, argument) pairs."""

    kind: str
    parts: tuple[Any, ...]


#: An argument as it will be bound.
Argument = Source | Encoded | Mixed


def bind_arguments(component: Component, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by port name, positional ones included.

    Raises:
        ArgumentError: missing, unknown or too many.
    """
    names = [port.name for port in component.inputs]
    what = f"component {component.name!r}"
    if len(args) > len(names):
        raise ArgumentError(what, unknown=[f"positional argument {len(names) + 1}"], known=names)
    given = dict(zip(names, args, strict=False))
    unknown = [name for name in kwargs if name not in component.input_ports]
    twice = [f"{name} (given twice)" for name in kwargs if name in given]
    given.update(kwargs)
    missing = [port.name for port in component.inputs if port.name not in given and not (port.has_default or port.type.optional)]
    if unknown or missing or twice:
        raise ArgumentError(what, missing=missing, unknown=[*unknown, *twice], known=names)
    return given


def add_task(trace: Trace, component: Component, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PipelineTask[Any]:
    """Make a task of the current frame, its arguments checked against the component's ports.

    Raises:
        ArgumentError, TypeMismatch: name the component, the port, both types and the remedy.
    """
    given = bind_arguments(component, args, kwargs)
    inputs = {
        name: checked_argument(trace.current, component, component.input_ports[name], value) for name, value in given.items()
    }
    return PipelineTask(trace.current, component, inputs)


def checked_argument(frame: Frame, component: Component, port: Port, value: Any, side: str = "input") -> Argument:
    """The argument of a port, for a reader in ``frame``; ``side`` is "output" for what a pipeline returns.

    Raises:
        TypeMismatch, AuthoringError: name the component, the port, both types and the remedy.
    """
    where = f"component {component.name!r}, {side} {port.name!r}"
    try:
        return read_argument(frame, value, port.type, where)
    except ValueEncodingError as error:
        raise _mismatch(component, port, error, where, side) from None


def encoded_argument(component: Component, port: Port, value: Any) -> Any:
    """The encoded constant for a parameter of a component that runs at once.

    Raises:
        TypeMismatch: as in a pipeline.
    """
    assert isinstance(port.type, ParameterType)
    try:
        return encode(value, port.type, "")
    except ValueEncodingError as error:
        raise _mismatch(component, port, error, "", "input") from None


def _mismatch(component: Component, port: Port, error: ValueEncodingError, where: str, side: str) -> TypeMismatch:
    at = error.where.removeprefix(where)  # the place within the value, such as [3]
    return TypeMismatch(component.name, f"{port.name}{at}", error.found, error.wanted, error.remedy, side=side)


def read_argument(frame: Frame, value: Any, type_: PortType, where: str) -> Argument:
    """``value`` as an argument of type ``type_``.

    Raises:
        ValueEncodingError: it does not fit; ``where`` names its place.
        AuthoringError: a channel that ``frame`` cannot read.
    """
    if isinstance(value, Channel):
        return _read_source(frame, source_of(value), type_, where)
    if isinstance(value, str) and (found := _read_text(frame, value, where)) is not None:
        if not accepts(type_, ParameterType("str")):
            raise ValueEncodingError(
                where, "a str with outputs in it", str(type_), "pass the output itself, or declare the port str"
            )
        return found
    if isinstance(value, list | tuple) and _holds_outputs(value):
        element = _element(type_, "list")
        if element is None:
            raise ValueEncodingError(where, "a list with outputs in it", str(type_), "change the port's type or pass one output")
        return Mixed("list", tuple(read_argument(frame, item, element, f"{where}[{place}]") for place, item in enumerate(value)))
    if isinstance(value, dict) and _holds_outputs(value):
        element = _element(type_, "dict")
        if element is None:
            raise ValueEncodingError(where, "a dict with outputs in it", str(type_), "change the port's type or pass one output")
        return Mixed(
            "dict",
            tuple(
                (_key(key, type_, where), read_argument(frame, item, element, f"{where}[{key!r}]")) for key, item in value.items()
            ),
        )
    if isinstance(value, PipelineTask):
        raise ValueEncodingError(where, f"the task {value.name!r}", str(type_), "pass task.output or task.outputs[...]")
    if isinstance(value, ConditionExpression):
        raise ValueEncodingError(where, "a condition", str(type_), "conditions belong into dsl.If; compute a bool in a component")
    if not isinstance(type_, ArtifactType):
        return Encoded(encode(value, type_, where))
    if value is None and type_.optional:
        return Encoded(None)
    remedy = "pass a task's artifact output, such as task.outputs['model'], or an input of the pipeline"
    raise ValueEncodingError(where, f"{value!r} of type {type(value).__name__}", str(type_), remedy)


def check_visible(source: Source, reader: Frame, where: str) -> None:
    """Refuse a source that a task of ``reader`` cannot read.

    Raises:
        AuthoringError: it belongs to another pipeline, or lies inside a loop or branch that ``reader`` is not in.
    """
    if source.frame.trace is not reader.trace:
        raise AuthoringError(f"{where}: {source.describe()} belongs to another pipeline; pass it in as an input of this one")
    around = reader.ancestors()
    inside = [frame for frame in source.frame.ancestors() if frame not in around]
    if not inside:
        return
    if loop := next((frame for frame in inside if frame.is_loop), None):
        remedy = "dsl.Collected(...) after the loop gives the list over its iterations"
        raise AuthoringError(f"{where}: {source.describe()} is inside the loop {loop.name!r} and is read outside; {remedy}")
    remedy = "dsl.OneOf(...) with an output of each branch gives that of the branch that ran, or read it inside the branch"
    raise AuthoringError(f"{where}: {source.describe()} is inside the branch {inside[0].name!r} and is read outside; {remedy}")


def _read_source(frame: Frame, source: Source, type_: PortType, where: str) -> Source:
    check_visible(source, frame, where)
    if not accepts(type_, source.type):
        raise ValueEncodingError(where, f"{source.type} ({source.describe()})", str(type_), _remedy(type_, source.type))
    return source


def _holds_outputs(value: Any) -> bool:
    """Whether a value is or holds something that is no constant."""
    if isinstance(value, list | tuple):
        return any(map(_holds_outputs, value))
    if isinstance(value, dict):
        return any(map(_holds_outputs, value)) or any(map(_holds_outputs, value.values()))
    if isinstance(value, str):
        return MARKER.search(value) is not None
    return isinstance(value, Channel | PipelineTask | ConditionExpression)


def _element(type_: PortType, kind: str) -> PortType | None:
    """The type of what a list or dict for a port of ``type_`` holds; None where it takes no such thing."""
    if isinstance(type_, ArtifactType):
        return ArtifactType(type_.schema_title) if type_.is_list and kind == "list" else None
    if type_.name not in (kind, "any"):
        return None
    return type_.items[-1] if type_.items else _ANY


def _key(key: Any, type_: PortType, where: str) -> str:
    if _holds_outputs(key):
        raise AuthoringError(f"{where}: a dict key holds an output that is not known yet; put it into the value")
    keys = type_.items[0] if isinstance(type_, ParameterType) and type_.items else ParameterType("str")
    (encoded,) = encode({key: None}, ParameterType("dict", (keys, _ANY)), where)
    return str(encoded)


def _read_text(frame: Frame, text: str, where: str) -> Mixed | None:
    """The parts of a text with outputs in it; None where it holds none."""
    if _REPR.search(text):
        raise AuthoringError(f"{where}: the text {text[:60]!r} holds the repr of an output; write {{x}} instead of {{x!r}}")
    parts: list[str | Source] = []
    end = 0
    for found in MARKER.finditer(text):
        source = frame.trace.in_text.get(int(found[1]))
        if source is None:
            raise AuthoringError(f"{where}: its text holds an output of another pipeline; pass it in as an input of this one")
        if isinstance(source.type, ArtifactType):
            raise AuthoringError(f"{where}: {source.describe()} is an artifact and has no text; pass it to a component")
        check_visible(source, frame, where)
        parts.extend([text[end : found.start()], source])
        end = found.end()
    if end == 0:
        return None
    return Mixed("str", tuple(part for part in (*parts, text[end:]) if part != ""))


def _remedy(wanted: PortType, found: PortType) -> str:
    if isinstance(wanted, ArtifactType) and isinstance(found, ParameterType):
        return "pass an artifact output, or annotate the port as a parameter"
    if isinstance(found, ArtifactType) and isinstance(wanted, ParameterType):
        return f"pass a parameter, or annotate the port Input[{found}]"
    if as_list(found) == wanted:
        return "put it into a list, or use dsl.Collected for the outputs of a loop"
    if found.optional and not wanted.optional:
        return f"it may be None: declare the port Optional[{wanted}]"
    return "change the port's type or pass another output"
