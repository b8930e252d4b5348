"""A pipeline while it is authored: a tree of frames (the pipeline, its branches and loops), each with its tasks.

Everything here lives from the start of tracing to the build of the graph; ``building.py`` turns frames into nested Dags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from flowcore.dsl.channels import Channel, ConditionExpression, Source
from flowcore.dsl.task_settings import TaskSettings
from flowcore.errors import AuthoringError
from flowcore.graph import Component, Dag, ParameterType, PortType, Retry

R = TypeVar("R")

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
        #: What was put into strings, by the number in its marker.
        self.in_text: dict[int, Source] = {}
        self.functions: dict[str, Any] = {}
        #: Kubeflow numbers branches and loops across the pipeline.
        self.groups = 0

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
        self.children: list[PipelineTask[Any] | Frame] = []
        self.condition: ConditionExpression | None = None
        #: Of a branch that Elif or Else may follow: its own condition and those of the branches before it.
        self.chain: list[ConditionExpression] | None = None
        self.items: Any = None
        self.item_type: PortType = ParameterType("any")
        self.parallelism: int | None = None
        self.after: list[PipelineTask[Any] | Frame] = []
        #: Outer values that are read in here, and inner ones that are read outside, by their keys: (port name, source).
        self.holes: dict[tuple[Any, ...], tuple[str, Source]] = {}
        self.exports: dict[tuple[Any, ...], tuple[str, Source]] = {}
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


def as_predecessors(what: str, tasks: tuple[Any, ...]) -> list[PipelineTask[Any] | Frame]:
    """The arguments of an ``after``.

    Raises:
        AuthoringError: one is neither a task nor a group; the message says what to pass.
    """
    found = []
    for task in tasks:
        other = task if isinstance(task, PipelineTask) else getattr(task, "frame_opened", None)
        if not isinstance(other, PipelineTask | Frame):
            remedy = (
                "pass the task itself, not its output" if isinstance(task, Channel) else "pass what a component's call returned"
            )
            raise AuthoringError(f"{what}: after() takes tasks and groups, got {type(task).__name__}; {remedy}")
        found.append(other)
    return found


class PipelineTask(TaskSettings, Generic[R]):
    """A use of a component in a pipeline that is being authored; setters return the task.

    To a type checker ``output`` is the value that it stands for; while authoring it is a Channel.
    """

    def __init__(self, frame: Frame, component: Component, inputs: dict[str, Any]) -> None:
        self.frame = frame
        self.component = component
        self.inputs = inputs
        self.name = frame.unique(plain_name(component.name))
        self.retry: Retry | None = None
        self.ordered_after: list[PipelineTask[Any] | Frame] = []
        self.outputs: dict[str, Any] = _Outputs(
            self.name, {port.name: Channel(Source(frame, self, port.name, port.type)) for port in component.outputs}
        )
        frame.children.append(self)

    def __repr__(self) -> str:
        return f"<task {self.name!r} of component {self.component.name!r}>"

    def __format__(self, spec: str) -> str:
        raise AuthoringError(f"task {self.name!r} has no text; write {{task.output}} or {{task.outputs[...]}}")

    @property
    def output(self) -> R:
        """The return value, or the only output.

        Raises:
            AuthoringError: there is none, or several and none is returned.
        """
        found: Any = self.outputs.get("Output")
        if found is None and len(self.outputs) == 1:
            found = next(iter(self.outputs.values()))
        if found is None:
            known = ", ".join(f".outputs[{name!r}]" for name in self.outputs) or "no outputs"
            raise AuthoringError(f"task {self.name!r} has no single output; it has {known}")
        output: R = found
        return output

    def after(self, *tasks: Any) -> PipelineTask[R]:
        """Start only once these tasks or groups have ended well; no data is passed.

        Raises:
            AuthoringError: something that is neither.
        """
        self.ordered_after.extend(as_predecessors(f"task {self.name!r}", tasks))
        return self

    @property
    def dependent_tasks(self) -> list[str]:
        """The names of the tasks given to ``after``."""
        return [other.name for other in self.ordered_after]

    def set_retry(
        self,
        num_retries: int,
        backoff_duration: str | None = None,
        backoff_factor: float | None = None,
        backoff_max_duration: str | None = None,
    ) -> PipelineTask[R]:
        """Retry a failing body; before retry n (from 0) wait min(duration · factorⁿ, max). Defaults: 0s, 2.0, 3600s.

        Raises:
            AuthoringError: a negative number, or a duration that is not like "30s", "5m" or "1h".
        """
        if isinstance(self.component.implementation, Dag):
            raise AuthoringError(f"task {self.name!r} is a pipeline: set_retry on its tasks instead")
        if isinstance(num_retries, bool) or not isinstance(num_retries, int) or num_retries < 0:
            raise AuthoringError(f"task {self.name!r}: set_retry(num_retries={num_retries!r}) wants a whole number from 0 on")
        factor = 2.0 if backoff_factor is None else backoff_factor
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < float("inf"):
            raise AuthoringError(f"task {self.name!r}: set_retry(backoff_factor={backoff_factor!r}) wants a number from 0 on")
        wait = self._seconds("backoff_duration", "0s" if backoff_duration is None else backoff_duration)
        longest = self._seconds("backoff_max_duration", "3600s" if backoff_max_duration is None else backoff_max_duration)
        self.retry = Retry(num_retries, wait, float(factor), longest)
        return self

    def _seconds(self, name: str, duration: str) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(duration).strip())
        if match is None:
            raise AuthoringError(f"task {self.name!r}: set_retry({name}={duration!r}) wants a duration like '30s', '5m' or '1h'")
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


class _Outputs(dict[str, Channel]):
    def __init__(self, task: str, channels: dict[str, Channel]) -> None:
        super().__init__(channels)
        self._task = task

    def __missing__(self, name: str) -> Channel:
        known = ", ".join(map(repr, self)) or "none"
        raise AuthoringError(f"task {self._task!r} has no output {name!r}; its outputs are {known}")
