"""The record of runs: SQLite in WAL mode, one writer thread, group flush. What is read back is data, never executed.

A ``RunRecorder`` takes the facts of one run from its driver and keeps them in memory until the writer takes the group; ``flush``
waits until they are durable. The writer checks the run's lease in the transaction of each group.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import LeaseLost, RecordError
from flowcore.executor import Outcome, TaskError
from flowcore.record_schema import connect, record_path

GROUP_SECONDS = 0.05
REQUESTS_SECONDS = 1.0

_to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode

_TASK_COLUMNS = (
    "run", "path", "state", "attempt", "place", "execution", "started_at", "finished_at", "inputs", "outputs", "error", "reason",
)  # fmt: skip
_UPSERT_TASK = (
    f"INSERT OR REPLACE INTO tasks ({', '.join(_TASK_COLUMNS)}) VALUES ({', '.join('?' * len(_TASK_COLUMNS))})"
)


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that happened in a run.

    ``seq`` counts from 1 without gaps; ``at`` is UTC seconds since 1970, ``offset_seconds`` the monotonic time since the run began;
    ``kind`` is "run", "task", "waiting" or "reported"; ``data`` holds for runs and tasks the new ``state``.
    """

    seq: int
    at: float
    offset_seconds: float
    kind: str
    task: str
    data: dict[str, Any]


@dataclass(slots=True)
class RunRow:
    """A run as the record has it; times are UTC seconds since 1970."""

    run_id: str
    pipeline: str
    pipeline_hash: str
    state: str
    arguments: dict[str, Any]
    outputs: dict[str, Any]
    created_at: float
    started_at: float | None
    finished_at: float | None
    pipeline_root: str | None
    executor: str | None
    name: str | None = None


@dataclass(slots=True)
class TaskRow:
    """A task as the record has it. ``outputs`` are encoded parameters; artifacts and metrics are beside it."""

    path: str
    state: str
    attempt: int
    place: str | None
    execution: str | None
    started_at: float | None
    finished_at: float | None
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    error: TaskError | None
    reason: str | None


@dataclass(slots=True)
class LogLine:
    """Text that a task wrote; ``stream`` is stdout, stderr or log."""

    task: str
    attempt: int
    stream: str
    text: str


class Records:
    """A record file, or with ``None`` one in memory that is gone with this object.

    Raises:
        RecordError: the file cannot be used; it is left as it was.
    """

    def __init__(self, url: str | None, *, synchronous: str = "normal", create: bool = True) -> None:
        self.path = None if url is None else record_path(url)
        self._synchronous = synchronous
        #: None between uses by readers only: each read of a file then opens it for itself.
        self._connection: sqlite3.Connection | None = connect(self.path, synchronous=synchronous, create=create)
        #: Held for each transaction and each read: the connection is shared by the writer and the readers of this process.
        self._lock = threading.RLock()
        self._recorders: list[RunRecorder] = []
        self._writer: threading.Thread | None = None
        self._wake = threading.Event()
        self._urgent = threading.Event()
        self._written = threading.Condition()
        self._group = 0
        self._memory_logs: dict[str, bytearray] = {}
        self._closed = False

    def end_writing(self) -> None:
        """Write what is left, end the writer's thread and let go of the file; reading goes on. Twice is fine."""
        with self._lock:
            self._closed = True
            writer, self._writer = self._writer, None
        if writer is not None:
            self._urgent.set()
            self._wake.set()
            writer.join()
        if self.path is not None:
            self._disconnect()
        with self._written:
            self._written.notify_all()

    def _disconnect(self) -> None:
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def __del__(self) -> None:
        # A record in memory lives as long as its runs are held; sqlite3 warns of connections that nobody closed.
        if getattr(self, "_connection", None) is not None:
            self._disconnect()

    # Writing

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connected() as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise RecordError(f"the record {self.path or 'in memory'} cannot be written: {error}") from error

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._connection is not None:
            yield self._connection
            return
        connection = connect(self.path, synchronous=self._synchronous, create=False)
        try:
            yield connection
        finally:
            connection.close()

    def begin(self, row: RunRow, pipeline_json: str, on_failure: str, on_request: Callable[[str], None]) -> RunRecorder:
        """Record a new run and take its lease (epoch 1)."""
        driver = f"{os.uname().nodename}:{os.getpid()}"
        with self._transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO pipelines VALUES (?, ?, ?)", (row.pipeline_hash, row.pipeline, pipeline_json))
            cursor = connection.execute(
                "INSERT INTO runs (run_id, name, pipeline, pipeline_hash, state, arguments, created_at, pipeline_root, executor,"
                " on_failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (row.run_id, row.name, row.pipeline, row.pipeline_hash, row.state, _to_json(row.arguments), row.created_at,
                 row.pipeline_root, row.executor, on_failure),
            )  # fmt: skip
            run = cursor.lastrowid
            assert run is not None
            connection.execute("INSERT INTO leases VALUES (?, 1, ?, ?)", (run, driver, time.time()))
        recorder = RunRecorder(self, run, row.run_id, on_request)
        with self._lock:
            self._recorders.append(recorder)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_groups, name="flowcore-records", daemon=True)
                self._writer.start()
        return recorder

    def _write_groups(self) -> None:
        while True:
            woken = self._wake.wait(REQUESTS_SECONDS)
            self._wake.clear()
            if woken and not self._closed:
                self._urgent.wait(GROUP_SECONDS)
            self._urgent.clear()
            closing = self._closed
            with self._lock:
                recorders = list(self._recorders)
            for recorder in recorders:
                try:
                    recorder.write()
                except BaseException as error:  # noqa: BLE001  kept for the driver, which raises it
                    recorder.failure = error
            with self._written:
                self._group += 1
                self._written.notify_all()
            if closing:
                return

    def wake(self) -> None:
        """Let the writer take a group soon."""
        self._wake.set()

    def wait_group(self, recorder: RunRecorder) -> None:
        """Wait until everything that was recorded before this call is durable."""
        with self._written:
            # The group in progress may have begun before the last facts: the one after it has not.
            wanted = self._group + 2
            while self._group < wanted and recorder.failure is None and recorder.dirty:
                self._urgent.set()
                self._wake.set()
                self._written.wait(1.0)
        if recorder.failure is not None:
            raise recorder.failure

    def wait_for_change(self) -> None:
        """Wait until the writer has written a group, at most REQUESTS_SECONDS."""
        with self._written:
            self._written.wait(REQUESTS_SECONDS)

    def release(self, recorder: RunRecorder) -> None:
        """Write the last group of a run and let go of it."""
        recorder.write()
        with self._lock:
            if recorder in self._recorders:
                self._recorders.remove(recorder)

    def request(self, run_id: str, kind: str) -> None:
        """Ask the driver of a run, wherever it is, for something ("cancel")."""
        with self._transaction() as connection:
            run = self._key(run_id)
            connection.execute("INSERT INTO requests (run, kind, created_at) VALUES (?, ?, ?)", (run, kind, time.time()))

    # Logs

    def append_log(self, run_id: str, data: bytes) -> int:
        """Append to a run's log; gives the offset at which ``data`` begins."""
        if self.path is None:
            buffer = self._memory_logs.setdefault(run_id, bytearray())
            offset = len(buffer)
            buffer += data
            return offset
        folder = f"{self.path}.logs"
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"{run_id}.log"), "ab") as file:
            offset = file.tell()
            file.write(data)
            return offset

    def _read_log(self, run_id: str, places: list[tuple[int, int]]) -> Iterator[bytes]:
        if self.path is None:
            buffer = self._memory_logs.get(run_id, bytearray())
            yield from (bytes(buffer[offset : offset + length]) for offset, length in places)
            return
        if not places:
            return
        with open(os.path.join(f"{self.path}.logs", f"{run_id}.log"), "rb") as file:
            for offset, length in places:
                file.seek(offset)
                yield file.read(length)

    # Reading

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, self._connected() as connection:
            try:
                return connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise RecordError(f"the record {self.path or 'in memory'} cannot be read: {error}") from error

    def _key(self, run_id: str) -> int:
        found = self._rows("SELECT run FROM runs WHERE run_id = ?", run_id)
        if not found:
            raise RecordError(f"there is no run {run_id!r} in {self.path or 'this record'}; `flowcore runs list` shows those there are")
        return int(found[0][0])

    def run(self, run_id: str) -> RunRow:
        """One run.

        Raises:
            RecordError: there is none of that id.
        """
        self._key(run_id)
        return self._runs("WHERE run_id = ?", run_id)[0]

    def runs(self, limit: int = 100) -> list[RunRow]:
        """The newest runs first."""
        return self._runs("ORDER BY created_at DESC, run DESC LIMIT ?", limit)

    def _runs(self, clause: str, *values: Any) -> list[RunRow]:
        rows = self._rows(
            "SELECT run_id, pipeline, pipeline_hash, state, arguments, outputs, created_at, started_at, finished_at, pipeline_root,"
            f" executor, name FROM runs {clause}",
            *values,
        )
        return [RunRow(*row[:4], json.loads(row[4]), json.loads(row[5] or "{}"), *row[6:]) for row in rows]

    def pipeline_json(self, pipeline_hash: str) -> str:
        """The text of a recorded pipeline."""
        return str(self._rows("SELECT json FROM pipelines WHERE hash = ?", pipeline_hash)[0][0])

    def tasks(self, run_id: str, path: str | None = None) -> list[TaskRow]:
        """The tasks of a run in the order in which they started, or the one at ``path``."""
        clause, values = ("AND path = ?", (path,)) if path is not None else ("ORDER BY started_at IS NULL, started_at, path", ())
        columns = ", ".join(_TASK_COLUMNS[1:])
        rows = self._rows(f"SELECT {columns} FROM tasks WHERE run = ? {clause}", self._key(run_id), *values)
        return [_task_row(row) for row in rows]

    def attempts(self, run_id: str, path: str) -> list[dict[str, Any]]:
        """The attempts of a task that ended before its last one."""
        rows = self._rows(
            "SELECT number, place, started_at, finished_at, error, reason FROM attempts WHERE run = ? AND path = ? ORDER BY number",
            self._key(run_id),
            path,
        )
        names = ("number", "place", "started_at", "finished_at", "error", "reason")
        return [dict(zip(names, [*row[:4], _error(row[4]), row[5]], strict=True)) for row in rows]

    def artifacts(self, run_id: str, path: str | None = None) -> list[tuple[str, str, int, ArtifactRef]]:
        """(task path, port, position, artifact) of what tasks wrote; position is -1 where the port is no list."""
        clause, values = ("AND path = ?", (path,)) if path is not None else ("", ())
        query = f"SELECT path, port, position, ref FROM artifacts WHERE run = ? {clause} ORDER BY path, port, position"
        rows = self._rows(query, self._key(run_id), *values)
        return [(*row[:3], ArtifactRef.from_json(json.loads(row[3]))) for row in rows]

    def lineage(self, uri: str) -> dict[str, list[tuple[str, str, str]]]:
        """Who wrote and who read the artifact at a URI: (run_id, task path, port)."""
        query = "SELECT runs.run_id, path, port FROM {} JOIN runs USING (run) WHERE uri = ? ORDER BY runs.run, path, port"
        return {
            "written_by": [(str(a), str(b), str(c)) for a, b, c in self._rows(query.format("artifacts"), uri)],
            "read_by": [(str(a), str(b), str(c)) for a, b, c in self._rows(query.format("artifact_uses"), uri)],
        }

    def metrics(self, run_id: str, path: str | None = None) -> list[tuple[str, str, int | None, float | None]]:
        """(task path, name, step, value) of what tasks logged and reported, in order; a nan comes back as None."""
        clause, values = ("AND path = ?", (path,)) if path is not None else ("", ())
        query = f"SELECT path, name, step, value FROM metrics WHERE run = ? {clause} ORDER BY rowid"
        return [(row[0], row[1], row[2], row[3]) for row in self._rows(query, self._key(run_id), *values)]

    def events(self, run_id: str, since: int = 0) -> list[RunEvent]:
        """The events of a run with numbers above ``since``."""
        run = self._key(run_id)
        began = self._rows("SELECT created_at FROM runs WHERE run = ?", run)[0][0]
        bodies = self._rows("SELECT body FROM events WHERE run = ? AND last > ? ORDER BY first", run, since)
        events = [event for (body,) in bodies for event in json.loads(body) if event[0] > since]
        return [RunEvent(seq, began + offset, offset, kind, path, data) for seq, offset, kind, path, data in events]

    def logs(self, run_id: str, path: str | None = None) -> Iterator[LogLine]:
        """What tasks wrote, in order; of one task with ``path``."""
        clause, values = ("AND path = ?", (path,)) if path is not None else ("", ())
        query = f"SELECT path, attempt, stream, offset, length FROM logs WHERE run = ? {clause} ORDER BY rowid"
        rows = self._rows(query, self._key(run_id), *values)
        texts = self._read_log(run_id, [(row[3], row[4]) for row in rows])
        for row, data in zip(rows, texts, strict=True):
            yield LogLine(row[0], row[1], row[2], data.decode("utf-8", "replace"))


def _task_row(row: tuple[Any, ...]) -> TaskRow:
    path, state, attempt, place, execution, started, finished, inputs, outputs, error, reason = row
    return TaskRow(
        path, state, attempt, place, execution, started, finished,
        json.loads(inputs or "{}"), json.loads(outputs or "{}"), _error(error), reason,
    )  # fmt: skip


def _error(text: str | None) -> TaskError | None:
    return None if text is None else TaskError.from_json(json.loads(text))


class _Task:
    """A task's row while it is live."""

    __slots__ = ("attempt", "error", "execution", "finished", "inputs", "outputs", "place", "reason", "started", "state")

    def __init__(self) -> None:
        self.state = "WAITING"
        self.attempt = 0
        self.place: str | None = None
        self.execution: str | None = None
        self.started: float | None = None
        self.finished: float | None = None
        self.inputs: dict[str, Any] | None = None
        self.outputs: dict[str, Any] | None = None
        self.error: TaskError | None = None
        self.reason: str | None = None


class RunRecorder:
    """Takes the facts of one run. Called by its driver's thread only, but for ``write``, which the writer calls.

    Facts go into lists that the writer swaps out as a whole: a task that begins and ends within one group costs one row.
    """

    def __init__(self, records: Records, run: int, run_id: str, on_request: Callable[[str], None]) -> None:
        self._records = records
        self._run = run
        self._run_id = run_id
        self._on_request = on_request
        self._epoch = 1
        self._began = time.monotonic()
        self._live: dict[str, _Task] = {}
        self._changed: dict[str, _Task] = {}
        self._events: list[tuple[int, float, str, str, dict[str, Any]]] = []
        self._seq = 0
        self._rows: list[tuple[str, tuple[Any, ...]]] = []
        self._texts: list[tuple[str, int, str, str]] = []
        self._next_look = 0.0
        #: Guards the swap of the lists above against the driver's appends that touch two of them.
        self._swap = threading.Lock()
        #: Held by whoever writes: the writer thread, or the driver with its last group.
        self._writing = threading.Lock()
        self.failure: BaseException | None = None
        self.dirty = False

    def _touch(self) -> None:
        if not self.dirty:
            self.dirty = True
            self._records.wake()

    def _event(self, kind: str, path: str, data: dict[str, Any]) -> None:
        self._seq += 1
        self._events.append((self._seq, time.monotonic() - self._began, kind, path, data))

    def _task(self, path: str) -> _Task:
        task = self._live.get(path)
        if task is None:
            task = self._live[path] = _Task()
        self._changed[path] = task
        return task

    def run_state(self, state: str, outputs: dict[str, Any] | None = None) -> None:
        """The run came to a state."""
        now = time.time()
        column = "started_at" if state == "RUNNING" else "finished_at"
        with self._swap:
            self._event("run", "", {"state": state})
            text = None if outputs is None else _to_json(outputs)
            self._rows.append((f"UPDATE runs SET state = ?, outputs = ?, {column} = ? WHERE run = ?", (state, text, now, self._run)))
        self._touch()

    def submitted(self, path: str, number: int, inputs: dict[str, Any], uses: list[tuple[str, int, str]]) -> None:
        """An attempt was handed to an executor; ``uses`` are (port, position, URI) of the artifacts that it reads."""
        with self._swap:
            task = self._task(path)
            task.state, task.attempt, task.inputs = "SUBMITTED", number, inputs
            task.started = task.finished = task.place = None
            if number == 1:
                for port, position, uri in uses:
                    self._rows.append(("INSERT OR IGNORE INTO artifact_uses VALUES (?, ?, ?, ?, ?)", (self._run, path, port, position, uri)))
        self._touch()

    def running(self, path: str, place: str | None = None, execution: str | None = None) -> None:
        """A body, or a group of tasks, began."""
        with self._swap:
            task = self._task(path)
            task.state, task.place, task.execution, task.started = "RUNNING", place, execution, time.time()
            self._event("task", path, {"state": "RUNNING"})
        self._touch()

    def committed(self, path: str, outcome: Outcome) -> None:
        """A task succeeded with this outcome."""
        with self._swap:
            task = self._task(path)
            task.state, task.finished = "SUCCEEDED", outcome.finished_at
            task.started = outcome.started_at or task.started
            task.execution, task.outputs = outcome.execution, outcome.parameters
            del self._live[path]
            if outcome.artifacts:
                self._commit_artifacts(path, outcome)
            self._event("task", path, {"state": "SUCCEEDED"})
        self._touch()

    def _commit_artifacts(self, path: str, outcome: Outcome) -> None:
        now = time.time()
        for port, refs in outcome.artifacts.items():
            listed = list(enumerate(refs)) if isinstance(refs, list) else [(-1, refs)]
            for position, ref in listed:
                row = (self._run, path, port, position, ref.schema_title, ref.uri, ref.sha256, ref.size_bytes, _to_json(ref.to_json()))
                self._rows.append(("INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row))
                if ref.schema_title == "system.Metrics":
                    for name, value in ref.metadata.items():
                        if isinstance(value, int | float):
                            self._metric(path, name, None, value, now)

    def _metric(self, path: str, name: str, step: int | None, value: float, now: float) -> None:
        self._rows.append(("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", (self._run, path, name, step, value, now)))

    def reported(self, path: str, name: str, step: int, value: float) -> None:
        """A running body reported a value."""
        with self._swap:
            self._metric(path, name, step, value, time.time())
            self._event("reported", path, {"name": name, "step": step, "value": value})
        self._touch()

    def waits(self, path: str, reason: str) -> None:
        """An attempt waits for something outside."""
        with self._swap:
            self._event("waiting", path, {"reason": reason})
        self._touch()

    def ended(self, path: str, state: str, error: TaskError | None = None, reason: str | None = None) -> None:
        """A task came to a terminal state other than a committed success, or a group came to its end."""
        with self._swap:
            task = self._task(path)
            task.state, task.finished, task.error, task.reason = state, time.time(), error, reason
            del self._live[path]
            data: dict[str, Any] = {"state": state}
            if error is not None:
                data["error"] = f"{error.type}: {error.message}"
            if reason is not None:
                data["reason"] = reason
            self._event("task", path, data)
        self._touch()

    def again(self, path: str, error: TaskError | None, reason: str | None) -> None:
        """An attempt ended and the task waits for its next one."""
        with self._swap:
            task = self._task(path)
            text = None if error is None else _to_json(error.to_json())
            row = (self._run, path, task.attempt, task.place, task.started, time.time(), text, reason)
            self._rows.append(("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row))
            task.state = "WAITING"
            self._event("task", path, {"state": "WAITING", "reason": reason})
        self._touch()

    def wrote(self, path: str, number: int, stream: str, text: str) -> None:
        """A body wrote text."""
        with self._swap:
            if self._texts and self._texts[-1][:3] == (path, number, stream) and len(self._texts[-1][3]) < 65536:
                text = self._texts.pop()[3] + text
            self._texts.append((path, number, stream, text))
        self._touch()

    def flush(self) -> None:
        """Wait until everything recorded so far is durable.

        Raises:
            RecordError: it cannot be written, or another driver has the run.
        """
        if self.dirty or self.failure is not None:
            self._records.wait_group(self)

    def close(self) -> None:
        """Write the last group.

        Raises:
            RecordError: see ``flush``.
        """
        self._records.release(self)
        if self.failure is not None:
            raise self.failure

    def write(self) -> None:
        """Write one group: everything since the last, in one transaction that holds the lease."""
        with self._writing:
            now = time.monotonic()
            look = now >= self._next_look
            if self.failure is not None or not (self.dirty or look):
                return
            with self._swap:
                self.dirty = False
                changed, self._changed = self._changed, {}
                events, self._events = self._events, []
                rows, self._rows = self._rows, []
                texts, self._texts = self._texts, []
                tasks = [self._row(path, task) for path, task in changed.items()]
            try:
                with self._records._transaction() as connection:
                    self._hold_lease(connection)
                    connection.executemany(_UPSERT_TASK, tasks)
                    for statement, values in rows:
                        connection.execute(statement, values)
                    if events:
                        body = _to_json(events)
                        connection.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (self._run, events[0][0], events[-1][0], body))
                    if texts:
                        self._write_texts(connection, texts)
                    requests = self._take_requests(connection) if look else []
            except BaseException:
                self.dirty = True
                raise
            self._next_look = now + REQUESTS_SECONDS
        for kind in requests:
            self._on_request(kind)

    def _row(self, path: str, task: _Task) -> tuple[Any, ...]:
        return (
            self._run, path, task.state, task.attempt, task.place, task.execution, task.started, task.finished,
            _to_json(task.inputs) if task.inputs else None, _to_json(task.outputs) if task.outputs else None,
            None if task.error is None else _to_json(task.error.to_json()), task.reason,
        )  # fmt: skip

    def _hold_lease(self, connection: sqlite3.Connection) -> None:
        cursor = connection.execute(
            "UPDATE leases SET heartbeat_at = ? WHERE run = ? AND epoch = ?", (time.time(), self._run, self._epoch)
        )
        if cursor.rowcount != 1:
            raise LeaseLost(f"run {self._run_id!r} has another driver now; this one writes nothing more")

    def _write_texts(self, connection: sqlite3.Connection, texts: list[tuple[str, int, str, str]]) -> None:
        encoded = [text.encode("utf-8", "replace") for *_, text in texts]
        offset = self._records.append_log(self._run_id, b"".join(encoded))
        for (path, number, stream, _), data in zip(texts, encoded, strict=True):
            connection.execute("INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?)", (self._run, path, number, stream, offset, len(data)))
            offset += len(data)

    def _take_requests(self, connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute("SELECT id, kind FROM requests WHERE run = ? AND handled_at IS NULL", (self._run,)).fetchall()
        for number, _ in rows:
            connection.execute("UPDATE requests SET handled_at = ? WHERE id = ?", (time.time(), number))
        return [kind for _, kind in rows]
