"""CONTRACT. What an executor is given (a WorkOrder), what it reports (events), and what it promises.

No technology here: a backend implements ``Executor`` and passes ``flowcore.testing.ExecutorConformance``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Protocol

from flowcore.artifacts.types import ArtifactRef
from flowcore.graph import NO_SETTINGS, CodeRef, Component, Pipeline, Settings, Task
from flowcore.graph.serialization import component_from_text, component_to_text, settings_from_text, settings_to_text

ORDER_FORMAT = 1


@dataclass(slots=True)
class WorkOrder:
    """One attempt, as plain data. ``function`` is set only where the order stays in this process.

    ``arguments`` are encoded parameter values, ``artifacts`` input artifacts (a list for list ports); ``output_uri`` is the
    attempt's own place under pipeline_root, below which each execution writes; None where the task touches no file.
    """

    attempt_id: str
    task: str
    component: Component
    arguments: dict[str, Any]
    artifacts: dict[str, ArtifactRef | list[ArtifactRef] | None]
    code: CodeRef | None = None
    output_uri: str | None = None
    pipeline_root: str | None = None
    #: As the caller gave them: references to secrets stay references until a file system is opened.
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False)
    settings: Settings = NO_SETTINGS
    seal_always: bool = False
    function: Callable[..., Any] | None = None
    #: A folder that keeps fetched artifacts for other runs, and its bound in bytes.
    fetch_cache: str | None = None
    fetch_cache_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The order without the function, for another process."""
        return {
            "format": ORDER_FORMAT,
            "attempt_id": self.attempt_id,
            "task": self.task,
            "component": component_to_text(self.component),
            "arguments": self.arguments,
            "artifacts": {name: _refs_to_json(refs) for name, refs in self.artifacts.items()},
            "code": None if self.code is None else {name: getattr(self.code, name) for name in CodeRef.__slots__},
            "output_uri": self.output_uri,
            "pipeline_root": self.pipeline_root,
            "storage_options": self.storage_options,
            "fetch_cache": self.fetch_cache,
            "fetch_cache_bytes": self.fetch_cache_bytes,
            "settings": None if self.settings is NO_SETTINGS else settings_to_text(self.settings),
            "seal_always": self.seal_always,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> WorkOrder:
        """The inverse of ``to_json``.

        Raises:
            UsageError: the order was written by another version; the message names both.
        """
        if data["format"] != ORDER_FORMAT:
            from flowcore.errors import UsageError

            found = data["format"]
            raise UsageError(f"work order of format {found}, this worker reads {ORDER_FORMAT}: install the same flowcore")
        return cls(
            attempt_id=data["attempt_id"],
            task=data["task"],
            component=component_from_text(data["component"]),
            arguments=data["arguments"],
            artifacts={name: _refs_from_json(refs) for name, refs in data["artifacts"].items()},
            code=None if data["code"] is None else CodeRef(**data["code"]),
            output_uri=data["output_uri"],
            pipeline_root=data["pipeline_root"],
            storage_options=data["storage_options"],
            fetch_cache=data["fetch_cache"],
            fetch_cache_bytes=data["fetch_cache_bytes"],
            settings=NO_SETTINGS if data["settings"] is None else settings_from_text(data["settings"]),
            seal_always=data["seal_always"],
        )


def _refs_to_json(refs: ArtifactRef | list[ArtifactRef] | None) -> Any:
    if refs is None:
        return None
    return [ref.to_json() for ref in refs] if isinstance(refs, list) else refs.to_json()


def _refs_from_json(data: Any) -> Any:
    if data is None:
        return None
    return [ArtifactRef.from_json(item) for item in data] if isinstance(data, list) else ArtifactRef.from_json(data)


@dataclass(slots=True)
class TaskError:
    """A task's exception as text, and the exception itself where it was raised in this process."""

    type: str
    message: str
    traceback: str = ""
    exception: BaseException | None = None

    def to_json(self) -> dict[str, Any]:
        return {"type": self.type, "message": self.message, "traceback": self.traceback}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TaskError:
        return cls(data["type"], data["message"], data["traceback"])


class Status(StrEnum):
    """How a worker ended."""

    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


@dataclass(slots=True)
class Outcome:
    """What an attempt came to. ``execution`` names the sealed place; None where nothing was sealed."""

    status: Status
    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, ArtifactRef | list[ArtifactRef]] = field(default_factory=dict)
    error: TaskError | None = None
    execution: str | None = None
    started_at: float | None = None
    finished_at: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status.value,
            "parameters": self.parameters,
            "artifacts": {name: _refs_to_json(refs) for name, refs in self.artifacts.items()},
            "error": None if self.error is None else self.error.to_json(),
            "execution": self.execution,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        return cls(
            status=Status(data["status"]),
            parameters=data["parameters"],
            artifacts={name: _refs_from_json(refs) for name, refs in data["artifacts"].items()},
            error=None if data["error"] is None else TaskError.from_json(data["error"]),
            execution=data["execution"],
            started_at=data["started_at"],
            finished_at=data["finished_at"],
        )


@dataclass(slots=True)
class Waiting:
    """The attempt waits for something outside; ``reason`` in the infrastructure's own words."""

    attempt_id: str
    reason: str


@dataclass(slots=True)
class Started:
    """The body is about to run, ``where`` (a pid, a node, a pod)."""

    attempt_id: str
    where: str
    execution: str | None = None


@dataclass(slots=True)
class Output:
    """Text that the body wrote; ``stream`` is stdout, stderr or log."""

    attempt_id: str
    stream: str
    text: str


@dataclass(slots=True)
class Reported:
    """A value that the body reported while it runs."""

    attempt_id: str
    name: str
    step: int
    value: float


@dataclass(slots=True)
class Finished:
    """The worker ended; a task's exception is a result. ``outlived`` says that a canceled body still runs in this process."""

    attempt_id: str
    outcome: Outcome
    outlived: bool = False


@dataclass(slots=True)
class Lost:
    """The infrastructure's fault. Its retry budget is spent only where ``started``."""

    attempt_id: str
    reason: str
    started: bool


Event = Waiting | Started | Output | Reported | Finished | Lost

EVENTS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Waiting, Started, Output, Reported, Finished, Lost)}


def event_to_json(event: Event) -> dict[str, Any]:
    """An event as plain data, for the way between processes."""
    body = {field.name: getattr(event, field.name) for field in fields(event)}
    if isinstance(event, Finished):
        body["outcome"] = event.outcome.to_json()
    return {"event": type(event).__name__, **body}


def event_from_json(data: dict[str, Any]) -> Event:
    """The inverse of ``event_to_json``."""
    body = dict(data)
    kind = EVENTS[body.pop("event")]
    if kind is Finished:
        body["outcome"] = Outcome.from_json(body["outcome"])
    event: Event = kind(**body)
    return event


class Report(Protocol):
    """Takes what happened, in order, from any thread; several events at once where they became known at once.

    It may submit and cancel on the thread that calls it: call it without holding what these two wait for.
    """

    def __call__(self, event: Event, /, *more: Event) -> None: ...


class Executor(ABC):
    """Runs work orders somewhere and reports each attempt's end (Finished or Lost) exactly once.

    Before ``open`` an executor is only its configuration: the runner opens a shallow copy for each run, so one object may be
    passed to many runs at once. Capabilities are attributes; a backend sets those that differ.
    """

    name: str = "executor"
    #: ``cancel`` ends a running body (else the body runs on and is named in the result).
    kills_running_tasks: bool = False
    #: Orders stay in this process, but for those of tasks that it does not keep: they carry the function, and share ``memory://``.
    in_process: bool = False
    #: Attempts may outlive a driver that was killed, so every outcome is sealed.
    outlives_driver: bool = False
    #: Bodies run on the caller's thread, inside ``work``.
    uses_callers_thread: bool = False
    #: How many iterations of one loop may be open at once. More than it can run keeps it busy; each costs memory.
    open_iterations: int = 10_000

    def check(self, pipeline: Pipeline) -> None:  # noqa: B027  most executors have what tasks want
        """Refuse, before a run, what its tasks want and this executor does not have.

        Raises:
            RefusedError: names each task and what is missing, with what to do.
        """

    def keeps(self, task: Task) -> bool:
        """Whether a task's orders stay in this process."""
        return self.in_process

    @abstractmethod
    def open(self, report: Report) -> None:
        """Get ready; ``report`` may be called from any thread until ``close`` returns."""

    @abstractmethod
    def submit(self, order: WorkOrder) -> None:
        """Take an order and return at once. An attempt that is known is adopted, not started again."""

    @abstractmethod
    def cancel(self, attempt_id: str) -> None:
        """Ask for an attempt's early end; its end is still reported. Unknown ids are ignored."""

    @abstractmethod
    def close(self, *, detach: bool = False) -> None:
        """Stop what still runs and report it Lost; with ``detach`` what can outlive the driver runs on."""

    def work(self) -> bool:
        """Do one piece of work on the caller's thread; False where there is none. Called when no event waits."""
        return False

