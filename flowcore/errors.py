"""Every error of flowcore. Classes take facts and compose one sentence: what is wrong, where, and what to do.

FlowcoreError
├── AuthoringError          the author's: a component or pipeline that cannot mean anything
│   ├── ComponentError      a function that cannot be a component
│   ├── TypeMismatch        a value or output of the wrong type for a port
│   ├── SettingError        a setting that a task cannot have (also a ValueError)
│   ├── ArgumentError       missing or unknown arguments (also a TypeError)
│   └── GraphError          an impossible graph
│       └── CycleError
├── UsageError              the caller's: bad arguments of run, a bad file, a bad option
│   └── RefusedError        the run cannot work with this executor or store; nothing has run
├── ValueEncodingError      the data's: a value that its port cannot hold
├── ArtifactError           the data's: an artifact that is missing, torn or unreadable
├── CodeError               a function that cannot reach its worker
├── StorageError            the infrastructure's: a pipeline_root that cannot be used
├── RecordError             the infrastructure's: a record that cannot be used
│   └── LeaseLost           another driver took over this run
├── RunFailed               the run ended with a failed task
├── RunCanceled             the run was canceled
├── TaskTimeout             the body ran longer than its timeout
├── InfrastructureLost      the attempt's worker died, and its budget of retries is spent
└── InternalError           ours: an illegal move of the state machine
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class FlowcoreError(Exception):
    """The root of every error that flowcore raises."""


class AuthoringError(FlowcoreError):
    """A component or pipeline that cannot mean anything."""


class ComponentError(AuthoringError):
    """A function that cannot be a component: says which one, what is wrong and what to write."""

    def __init__(self, component: str, problem: str, remedy: str) -> None:
        self.component, self.problem, self.remedy = component, problem, remedy
        super().__init__(f"component {component!r}: {problem}; {remedy}")


class TypeMismatch(AuthoringError, TypeError):
    """A value or output of the wrong type for the port that it is given to."""

    def __init__(self, component: str, port: str, found: str, wanted: str, remedy: str, *, side: str = "input") -> None:
        self.component, self.port, self.found, self.wanted = component, port, found, wanted
        super().__init__(f"component {component!r}, {side} {port!r}: got {found}, wants {wanted}; {remedy}")


class SettingError(AuthoringError, ValueError):
    """A setting that a task cannot have; ``call`` is what the author wrote."""

    def __init__(self, task: str, call: str, problem: str) -> None:
        self.task, self.call, self.problem = task, call, problem
        super().__init__(f"task {task!r}: {call} {problem}")


class ArgumentError(AuthoringError, TypeError):
    """Missing or unknown arguments of a component or pipeline."""

    def __init__(self, what: str, *, missing: Iterable[str] = (), unknown: Iterable[str] = (), known: Iterable[str] = ()) -> None:
        self.missing, self.unknown = sorted(missing), sorted(unknown)
        parts = []
        if self.missing:
            parts.append(f"missing {_names(self.missing)}")
        if self.unknown:
            parts.append(f"unknown {_names(self.unknown)}")
        super().__init__(f"{what}: {' and '.join(parts)}; its arguments are {_names(known) or 'none'}")


class GraphError(AuthoringError):
    """A graph that cannot run."""


class CycleError(GraphError):
    """Tasks that wait for each other; the message walks the cycle."""

    def __init__(self, dag: str, cycle: Sequence[str]) -> None:
        self.cycle = tuple(cycle)
        walk = " → ".join([*cycle, cycle[0]])
        super().__init__(f"pipeline {dag!r} has a cycle: {walk}; remove one of these dependencies")


class UsageError(FlowcoreError):
    """The caller asked for something that flowcore cannot do as asked."""


class RefusedError(UsageError):
    """This run cannot work on this executor or store; refused before anything ran."""


class ValueEncodingError(FlowcoreError, TypeError):
    """A value that its port's declared type cannot hold."""

    def __init__(self, where: str, found: str, wanted: str, remedy: str) -> None:
        self.where, self.found, self.wanted, self.remedy = where, found, wanted, remedy
        super().__init__(f"{where}: got {found}, wants {wanted}; {remedy}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.where, self.found, self.wanted, self.remedy)


class ArtifactError(FlowcoreError):
    """An artifact that is missing, torn, changed or of a kind that cannot be read or kept."""


class CodeError(FlowcoreError):
    """A function that cannot reach its worker, or is not there what it was here."""


class StorageError(FlowcoreError):
    """A pipeline_root that cannot be reached or written."""


class RecordError(FlowcoreError):
    """A record of runs that cannot be opened, read or written."""


class LeaseLost(RecordError):
    """Another driver took over this run; this one writes nothing more."""


class RunFailed(FlowcoreError):
    """A run ended with failed tasks.

    ``run`` is the finished run; ``failures`` maps task paths to their errors, each with type, message and traceback text. The
    message names the first. Where its body ran in this process the exception itself is ``__cause__``, else the text of its
    traceback is a note: printed, this error shows the author's traceback once.
    """

    def __init__(self, pipeline: str, run: Any, failures: dict[str, Any]) -> None:
        self.run, self.failures = run, failures
        if failures:
            path, first = next(iter(failures.items()))
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            text = f"pipeline {pipeline!r}: task {path!r} failed{more}: {first.type}: {first.message}"
            self.__cause__ = first.exception
            if first.exception is None and first.traceback:
                self.add_note(first.traceback.rstrip())
        else:
            text = f"pipeline {pipeline!r} failed"
        super().__init__(text)


class RunCanceled(FlowcoreError):
    """The run was canceled before it ended."""


class TaskTimeout(FlowcoreError):
    """A task's body ran longer than its timeout."""


class InfrastructureLost(FlowcoreError):
    """A task's worker died more often than the budget for such losses allows."""


class InternalError(FlowcoreError):
    """A defect of flowcore: an event sequence that its state machine does not allow."""


def _names(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
