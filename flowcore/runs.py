"""A run as its caller holds it, running or long finished: a view of the record, and the thread that drives it, if any."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowcore.errors import FlowcoreError, RunCanceled, RunFailed
from flowcore.executor import TaskError
from flowcore.graph import ArtifactType, Dag, Pipeline, Port
from flowcore.graph.checks import output_type
from flowcore.graph.walk import task_at
from flowcore.looks import logs_since
from flowcore.records import LogLine, Records, RunEvent, RunRow, TaskRow
from flowcore.run_state import TERMINAL, RunStatus, TaskState
from flowcore.runner import output_from_json
from flowcore.values import decode

if TYPE_CHECKING:
    from flowcore.artifacts.store import ArtifactStore
    from flowcore.artifacts.types import Artifact
    from flowcore.driving import Aside
    from flowcore.recorder import RunRecorder
    from flowcore.timeline import By, Timeline

ENDED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELED})


class Run:
    """One run of a pipeline. Every attribute is read from the record when it is asked for."""

    def __init__(self, run_id: str, pipeline: Pipeline, records: Records, store: ArtifactStore) -> None:
        self.run_id = run_id
        self.pipeline = pipeline
        self._records = records
        self._store = store
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._failures: dict[str, TaskError] | None = None
        self._cancel: Callable[..., None] | None = None
        self._aside: Aside | None = None
        self._recorder: RunRecorder | None = None

    def __repr__(self) -> str:
        return f"<run {self.run_id} of {self.pipeline.name!r}: {self.state.value}>"

    def row(self) -> RunRow:
        """The run as the record has it."""
        return self._records.run(self.run_id)

    @property
    def state(self) -> RunStatus:
        return RunStatus(self.row().state)

    @property
    def created_at(self) -> float:
        """UTC seconds since 1970."""
        return self.row().created_at

    @property
    def finished_at(self) -> float | None:
        """UTC seconds since 1970; None while it runs."""
        return self.row().finished_at

    @property
    def duration_seconds(self) -> float | None:
        """From its start to its end; None while it runs."""
        row = self.row()
        return None if row.finished_at is None or row.started_at is None else row.finished_at - row.started_at

    @property
    def arguments(self) -> dict[str, Any]:
        """The values of the pipeline's inputs, defaults included."""
        return {name: self._value(value, self._root_port(name)) for name, value in self._stored(self.row().arguments).items()}

    @property
    def outputs(self) -> dict[str, Any]:
        """The pipeline's outputs by name: values and artifacts. One whose branch was skipped is absent."""
        ports = self.pipeline.root.output_ports
        return {name: self._value(value, ports[name]) for name, value in self._stored(self.row().outputs).items()}

    @property
    def output(self) -> Any:
        """The pipeline's returned value.

        Raises:
            FlowcoreError: it returns none, or several.
        """
        outputs = self.outputs
        if len(outputs) != 1:
            known = ", ".join(outputs) or "none"
            name = self.pipeline.name
            raise FlowcoreError(f"pipeline {name!r} has not one output: the run is {self.state}, its outputs are {known}")
        return next(iter(outputs.values()))

    @property
    def tasks(self) -> Tasks:
        """Its tasks by path, or by name where only one task has it."""
        return Tasks(self)

    def _root_port(self, name: str) -> Port:
        return self.pipeline.root.input_ports[name]

    def _stored(self, data: dict[str, Any]) -> dict[str, Any]:
        return {name: output_from_json(value) for name, value in data.items()}

    def _value(self, value: Any, port: Port) -> Any:
        if isinstance(port.type, ArtifactType):
            return self._artifacts(value)
        return decode(value, port.type, f"output {port.name!r}")

    def _artifacts(self, value: Any) -> Any:
        if value is None:
            return None
        return [self._artifacts(item) for item in value] if isinstance(value, list) else self._store.open_input(value)

    def events(self, since: int = 0) -> Iterator[RunEvent]:
        """What happened, from event number ``since`` + 1 on, each once it is durable; while the run goes on it waits for more."""
        while True:
            ended = self._ended.is_set() or self._cancel is None
            for event in self._records.events(self.run_id, since):
                since = event.seq
                yield event
            if ended:
                return
            self._records.wait_for_change()

    def logs(self, task: str | None = None) -> Iterator[LogLine]:
        """What its tasks printed and logged, in order; of one task with ``task``."""
        return self._records.logs(self.run_id, None if task is None else self.tasks[task].path)

    def _logs_since(self, since: int, path: str | None) -> tuple[int, list[LogLine]]:
        return logs_since(self._records, self.run_id, since, path)

    def metrics(self) -> dict[str, dict[str, float | None]]:
        """The last value of each metric by task path and name."""
        found: dict[str, dict[str, float | None]] = {}
        for path, name, _, value in self._records.metrics(self.run_id):
            found.setdefault(path, {})[name] = value
        return found

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The run as one page of HTML that needs no network and no script; with ``path`` it is written there too.

        Raises:
            OSError: the file cannot be written.
        """
        from flowcore.report_html import run_to_html

        html = run_to_html(self)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(html)
        return html

    def timeline(self, by: By = "task") -> Timeline:
        """Its attempts as bars over time, a lane for each task or each "worker"; a notebook shows it, ``.svg()`` is its text.

        Raises:
            UsageError: another ``by``.
        """
        from flowcore.timeline import Timeline

        return Timeline(self, by)

    def _repr_html_(self) -> str:
        from flowcore.report_html import run_to_snippet

        return run_to_snippet(self)

    def cancel(self) -> None:
        """Ask for its end and return at once; a run that has ended is left as it is."""
        if self._ended.is_set():
            return
        if self._cancel is not None:
            self._cancel()
        elif self.state not in ENDED:
            self._records.request(self.run_id, "cancel")

    def _abandon(self, reason: str) -> None:
        """Record the run as canceled in the place of a driver that cannot do it any more; its process is about to end."""
        if self._recorder is None or self._ended.is_set():
            return
        for row in self._records.tasks(self.run_id):
            if row.state not in TERMINAL:
                with suppress(KeyError):  # it ended meanwhile
                    self._recorder.ended(row.path, TaskState.CANCELED, reason=reason)
        self._recorder.run_state(RunStatus.CANCELED)
        self._recorder.close()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set() or (self._cancel is None and self.state in ENDED)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for its end; False where ``timeout`` seconds were not enough."""
        if self._cancel is None:
            return self.done
        ended = self._ended.wait(timeout)
        if ended and self._aside is not None:
            self._aside.wait()
        return ended

    def result(self, timeout: float | None = None) -> Run:
        """Wait for its end and give the run.

        Raises:
            TimeoutError: it has not ended after ``timeout`` seconds; it goes on.
            RunFailed, RunCanceled: it did not succeed.
            FlowcoreError: the record or the executor failed.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"run {self.run_id} has not ended after {timeout:g} s; it goes on" if timeout else "it goes on")
        self.raise_for_state()
        return self

    def raise_for_state(self) -> None:
        """Raise what kept an ended run from succeeding.

        Raises:
            RunFailed, RunCanceled, FlowcoreError: see ``result``.
        """
        if self._error is not None:
            raise self._error
        state = self.state
        if state is RunStatus.CANCELED:
            raise RunCanceled(f"run {self.run_id} of pipeline {self.pipeline.name!r} was canceled")
        if state is RunStatus.FAILED:
            raise RunFailed(self.pipeline.name, self, self.failures)

    @property
    def failures(self) -> dict[str, TaskError]:
        """The errors of its failed tasks by path, in the order in which they failed."""
        if self._failures is not None:
            return self._failures
        failed = [row for row in self._records.tasks(self.run_id) if row.error is not None and row.state == TaskState.FAILED]
        failed.sort(key=lambda row: row.finished_at or 0.0)
        return {row.path: row.error for row in failed if row.error is not None}


class TaskRun:
    """One task of a run."""

    def __init__(self, run: Run, row: TaskRow) -> None:
        self._run = run
        self._row = row
        self.path = row.path
        self.name = row.path.rpartition("/")[2]
        self.state = TaskState(row.state)
        #: How many times it was submitted; 0 for groups and for what was skipped.
        self.attempts = row.attempt
        self.where = row.place
        self.started_at, self.finished_at = row.started_at, row.finished_at
        self.error = row.error
        #: Why it was skipped, canceled or waits.
        self.reason = row.reason

    def __repr__(self) -> str:
        return f"<task {self.path!r}: {self.state.value}>"

    @property
    def duration_seconds(self) -> float | None:
        """From the body's start to its end; None where it has not both."""
        return None if self.started_at is None or self.finished_at is None else self.finished_at - self.started_at

    @property
    def inputs(self) -> dict[str, Any]:
        """The parameters that it got."""
        ports = task_at(self._run.pipeline, self.path).component.input_ports
        return {name: self._run._value(value, ports[name]) for name, value in self._row.inputs.items()}

    @property
    def outputs(self) -> dict[str, Any]:
        """Its outputs by name: values and artifacts; a loop's are the lists over its iterations."""
        task = task_at(self._run.pipeline, self.path)
        ports = task.component.output_ports
        if isinstance(task.component.implementation, Dag):
            types = {name: output_type(task, port) for name, port in ports.items()}
            stored = self._run._stored(self._row.outputs)
            return {name: self._run._value(value, replace(ports[name], type=types[name])) for name, value in stored.items()}
        found = {name: self._run._value(value, ports[name]) for name, value in self._row.outputs.items()}
        lists: dict[str, list[Artifact]] = {}
        for _, port, position, ref in self._run._records.artifacts(self._run.run_id, self.path):
            if position < 0:
                found[port] = self._run._artifacts(ref)
            else:
                lists.setdefault(port, []).append(self._run._artifacts(ref))
        return {**found, **lists}

    @property
    def output(self) -> Any:
        """The return value, or the only output.

        Raises:
            FlowcoreError: there is none, or several and none is returned.
        """
        outputs = self.outputs
        if "Output" in outputs:
            return outputs["Output"]
        if len(outputs) == 1:
            return next(iter(outputs.values()))
        raise FlowcoreError(f"task {self.path!r} has no single output; its outputs are {', '.join(outputs) or 'none'}")

    @property
    def metrics(self) -> dict[str, float | None]:
        """The last value of each metric that it logged or reported."""
        return {name: value for _, name, _, value in self._run._records.metrics(self._run.run_id, self.path)}

    def logs(self) -> Iterator[LogLine]:
        """What it printed and logged, in order."""
        return self._run._records.logs(self._run.run_id, self.path)


class Tasks(Mapping[str, TaskRun]):
    """The tasks of a run by path, in the order in which they started; a bare name finds the only task that has it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows = {row.path: row for row in run._records.tasks(run.run_id)}

    def __getitem__(self, key: str) -> TaskRun:
        row = self._rows.get(key)
        if row is None:
            named = [path for path in self._rows if path.rpartition("/")[2] == key]
            if len(named) != 1:
                paths = named or [*self._rows]
                known = ", ".join(paths[:10]) or "none"
                known += f" and {len(paths) - 10} more" if len(paths) > 10 else ""
                several = "several tasks have that name" if named else "its tasks are"
                raise KeyError(f"run {self._run.run_id} has no single task {key!r}; {several}: {known}")
            row = self._rows[named[0]]
        return TaskRun(self._run, row)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"<tasks {', '.join(f'{path}: {row.state}' for path, row in self._rows.items())}>"


class RunList(list[RunRow]):
    """Recorded runs; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        from flowcore.report_html import runs_to_snippet

        return runs_to_snippet(self)
