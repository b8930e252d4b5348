"""A pipeline while it is authored: a tree of frames (the pipeline, its branches and loops), each with its tasks.

Everything here lives from the start of tracing to the build of the graph; ``building.py`` turns frames into nested Dags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from flowcore.dsl.channels import MARKER, Channel, ConditionExpression
from flowcore.errors import ArgumentError, AuthoringError, TypeMismatch, ValueEncodingError
from flowcore.graph import ArtifactType, Component, ParameterType, Port, PortType, Retry
from flowcore.graph.model import Dag
from flowcore.graph.types import accepts, as_list
from flowcore.values import encode

_TRACE: ContextVar[Trace | None] = ContextVar("flowcore_trace", default=None)


def current_trace() -> Trace | None:
    """The pipeline that is being authored in this context, if any."""
    return _TRACE.get()


def plain_name(name: str) -> str:
    """A name as tasks and paths use it: lower case, letters and digits of any script, single hyphens."""
    return re.sub(r"[\W_]+", "-", name.lower()).strip("-") or "task"


class Trace:
    """One run of a pipeline function: the open frames, and the live functions that its tasks use."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = Frame(self, None, "pipeline", name)
        self.current = self.root
        self.in_text: dict[int, Channel] = {}
        self.functions: dict[str, Any] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Calls of components in this context become tasks of this pipeline."""
        token = _TRACE.set(self)
        try:
            yield
        finally:
            _TRACE.reset(token)


class Frame:
    """A Dag to be: the pipeline itself, a branch ("condition") or a loop ("for-loop")."""

    def __init__(self, trace: Trace, parent: Frame | None, kind: str, name: str) -> None:
        self.trace = trace
        self.parent = parent
        self.kind = kind
        self.name = name
        self.children: list[PipelineTask | Frame] = []
        self.condition: ConditionExpression | None = None
        self.items: Any = None
        self.item_type: PortType = ParameterType("any")
        self.parallelism: int | None = None
        self.after: list[PipelineTask | Frame] = []
        #: Outer values that are read in here, and inner ones that are read outside, by channel key: (name, channel).
        self.holes: dict[tuple[Any, ...], tuple[str, Channel]] = {}
        self.exports: dict[tuple[Any, ...], tuple[str, Channel]] = {}
        self._used: dict[str, int] = {}

    @property
    def is_loop(self) -> bool:
        return self.kind == "for-loop"

    @property
    def input_kind(self) -> str:
        return "loop item" if self.is_loop else "pipeline input"

    def ancestors(self) -> list[Frame]:
        """This frame and those around it, outermost first."""
        around = self.parent.ancestors() if self.parent is not None else []
        return [*around, self]

    def unique(self, name: str) -> str:
        """``name``, or with -2, -3 … where it is taken in this frame (Kubeflow's rule)."""
        number = self._used.get(name, 0) + 1
        self._used[name] = number
        return name if number == 1 else self.unique(f"{name}-{number}")


class PipelineTask:
    """A use of a component in a pipeline that is being authored; setters return the task."""

    def __init__(self, frame: Frame, component: Component, inputs: dict[str, Any]) -> None:
        self.frame = frame
        self.component = component
        self.inputs = inputs
        self.name = frame.unique(plain_name(component.name))
        self.retry: Retry | None = None
        self.timeout_seconds: float | None = None
        self._after: list[PipelineTask | Frame] = []
        self.outputs: dict[str, Channel] = _Outputs(
            self.name, {port.name: Channel(frame, self, port.name, port.type) for port in component.outputs}
        )
        frame.children.append(self)

    def __repr__(self) -> str:
        return f"<task {self.name!r} of component {self.component.name!r}>"

    @property
    def output(self) -> Channel:
        """The return value, or the only output.

        Raises:
            AuthoringError: there is none, or several and none is returned.
        """
        if "Output" in self.outputs:
            return self.outputs["Output"]
        if len(self.outputs) == 1:
            return next(iter(self.outputs.values()))
        known = ", ".join(f".outputs[{name!r}]" for name in self.outputs) or "no outputs"
        raise AuthoringError(f"task {self.name!r} has no single output; it has {known}")

    def after(self, *tasks: Any) -> PipelineTask:
        """Start only once these tasks or groups have ended well; no data is passed."""
        for task in tasks:
            other = getattr(task, "frame_opened", task)
            if not isinstance(other, PipelineTask | Frame):
                raise AuthoringError(f"task {self.name!r}: after() takes tasks and groups, got {type(task).__name__}")
            self._after.append(other)
        return self

    @property
    def dependent_tasks(self) -> list[str]:
        """The names of the tasks given to ``after``."""
        return [other.name for other in self._after]

    def set_retry(
        self,
        num_retries: int,
        backoff_duration: str | None = None,
        backoff_factor: float | None = None,
        backoff_max_duration: str | None = None,
    ) -> PipelineTask:
        """Retry a failing body; before retry n (from 0) wait min(duration · factorⁿ, max). Defaults: 0s, 2.0, 3600s.

        Raises:
            AuthoringError: a negative number, or a duration that is not like "30s", "5m" or "1h".
        """
        if isinstance(self.component.implementation, Dag):
            raise AuthoringError(f"task {self.name!r} is a pipeline: set_retry on its tasks instead")
        if isinstance(num_retries, bool) or not isinstance(num_retries, int) or num_retries < 0:
            raise AuthoringError(f"task {self.name!r}: set_retry(num_retries={num_retries!r}) wants a whole number from 0 on")
        factor = 2.0 if backoff_factor is None else float(backoff_factor)
        if not factor >= 0:
            raise AuthoringError(f"task {self.name!r}: set_retry(backoff_factor={backoff_factor!r}) wants a number from 0 on")
        wait = self._seconds("backoff_duration", backoff_duration or "0s")
        self.retry = Retry(num_retries, wait, factor, self._seconds("backoff_max_duration", backoff_max_duration or "3600s"))
        return self

    def _seconds(self, name: str, duration: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(duration).strip())
        if match is None:
            raise AuthoringError(f"task {self.name!r}: set_retry({name}={duration!r}) wants a duration like '30s', '5m' or '1h'")
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]

    def set_timeout(self, seconds: float) -> PipelineTask:
        """End the attempt when its body has run this long; a retry may follow.

        Raises:
            AuthoringError: not a number above 0.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise AuthoringError(f"task {self.name!r}: set_timeout({seconds!r}) wants a number of seconds above 0")
        if isinstance(self.component.implementation, Dag):
            raise AuthoringError(f"task {self.name!r} is a pipeline: set_timeout on its tasks instead")
        self.timeout_seconds = float(seconds)
        return self


class _Outputs(dict[str, Channel]):
    def __init__(self, task: str, channels: dict[str, Channel]) -> None:
        super().__init__(channels)
        self._task = task

    def __missing__(self, name: str) -> Channel:
        known = ", ".join(map(repr, self)) or "none"
        raise AuthoringError(f"task {self._task!r} has no output {name!r}; its outputs are {known}")


def bind_arguments(component: Component, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by port name, positional ones included.

    Raises:
        ArgumentError: missing, unknown or too many.
    """
    names = [port.name for port in component.inputs]
    if len(args) > len(names):
        raise ArgumentError(f"component {component.name!r}", unknown=[f"positional argument {len(names) + 1}"], known=names)
    given = dict(zip(names, args, strict=False))
    unknown = [name for name in kwargs if name not in component.input_ports]
    twice = [f"{name} (given twice)" for name in kwargs if name in given]
    given.update(kwargs)
    missing = [port.name for port in component.inputs if port.name not in given and not (port.has_default or port.type.optional)]
    if unknown or missing or twice:
        raise ArgumentError(f"component {component.name!r}", missing=missing, unknown=[*unknown, *twice], known=names)
    return given


def add_task(trace: Trace, component: Component, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PipelineTask:
    """Make a task of the current frame, its arguments checked against the component's ports.

    Raises:
        ArgumentError, TypeMismatch: name the component, the port, both types and the remedy.
    """
    given = bind_arguments(component, args, kwargs)
    inputs = {name: checked_argument(trace, component, component.input_ports[name], value) for name, value in given.items()}
    return PipelineTask(trace.current, component, inputs)


def checked_argument(trace: Trace, component: Component, port: Port, value: Any) -> Any:
    """An argument as it will be bound: a channel, a structure with channels, or an encoded constant in ``Encoded``."""
    if isinstance(value, PipelineTask):
        raise TypeMismatch(component.name, port.name, f"the task {value.name!r}", str(port.type), "pass task.output or task.outputs[...]")
    value = with_channels(trace, value)
    if isinstance(value, Channel):
        if value.frame.trace is not trace:
            raise AuthoringError(f"{value.describe()} belongs to another pipeline; pass it as an input")
        if not accepts(port.type, value.type):
            raise TypeMismatch(
                component.name, port.name, f"{value.type} ({value.describe()})", str(port.type), _remedy(port.type, value.type)
            )
        return value
    if isinstance(value, Mixed):
        if not isinstance(port.type, ParameterType) or port.type.name not in (value.kind, "any"):
            raise TypeMismatch(component.name, port.name, f"a {value.kind} with outputs in it", str(port.type), "change the port's type")
        return value
    if isinstance(port.type, ArtifactType):
        if value is None and port.type.optional:
            return Encoded(None)
        remedy = "pass a task's artifact output, such as task.outputs['model'], or an input of the pipeline"
        raise TypeMismatch(component.name, port.name, f"{value!r} of type {type(value).__name__}", str(port.type), remedy)
    try:
        return Encoded(encode(value, port.type, f"component {component.name!r}, input {port.name!r}"))
    except ValueEncodingError as error:
        raise TypeMismatch(component.name, port.name, error.found, str(port.type), error.remedy) from None


class Encoded:
    """A constant argument in its encoded form."""

    def __init__(self, value: Any) -> None:
        self.value = value


class Mixed:
    """A str, list or dict with channels in it; ``parts`` are texts, values, or (key, value) pairs."""

    def __init__(self, kind: str, parts: list[Any]) -> None:
        self.kind = kind
        self.parts = parts


def with_channels(trace: Trace, value: Any) -> Any:
    """``value`` with every string, list and dict that holds a channel as ``Mixed``; anything else as it is."""
    if isinstance(value, str) and "{{channel:" in value:
        return _text(trace, value)
    if isinstance(value, list | tuple):
        items = [with_channels(trace, item) for item in value]
        return Mixed("list", items) if any(isinstance(item, Channel | Mixed) for item in items) else value
    if isinstance(value, dict):
        entries = [(with_channels(trace, key), with_channels(trace, item)) for key, item in value.items()]
        if any(isinstance(key, Channel | Mixed) for key, _ in entries):
            raise AuthoringError("a dict key holds an output that is not known yet; put it into the value")
        return Mixed("dict", entries) if any(isinstance(item, Channel | Mixed) for _, item in entries) else value
    return value


def _text(trace: Trace, text: str) -> Any:
    parts: list[Any] = []
    end = 0
    for found in MARKER.finditer(text):
        channel = trace.in_text.get(int(found[1]))
        if channel is None:
            raise AuthoringError(f"the text {text[:60]!r} holds an output of another pipeline; pass it as an input")
        if isinstance(channel.type, ArtifactType):
            raise AuthoringError(f"{channel.describe()} is an artifact and has no text; pass it to a component")
        parts.extend([text[end : found.start()], channel])
        end = found.end()
    parts.append(text[end:])
    kept = [part for part in parts if isinstance(part, Channel) or part]
    return Mixed("str", kept) if any(isinstance(part, Channel) for part in kept) else text


def _remedy(wanted: PortType, found: PortType) -> str:
    if isinstance(wanted, ArtifactType) != isinstance(found, ArtifactType):
        kind = "an artifact" if isinstance(wanted, ArtifactType) else "a parameter"
        return f"pass {kind}, or annotate the port {'as a parameter' if isinstance(wanted, ArtifactType) else 'Input[...]'}"
    if as_list(found) == wanted:
        return "put it into a list, or use dsl.Collected for the outputs of a loop"
    if found.optional and not wanted.optional:
        return f"it may be None: declare the port Optional[{wanted}]"
    return "change the port's type or pass another output"
