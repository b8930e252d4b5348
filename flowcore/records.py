"""The record of runs: SQLite in WAL mode, one writer thread, group flush. What is read back is data, never executed."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowcore.artifacts.types import ArtifactRef
from flowcore.errors import RecordError
from flowcore.executor import TaskError
from flowcore.record_schema import TASK_COLUMNS, connect, record_path
from flowcore.recorder import LOOK_SECONDS, RunRecorder, to_json

GROUP_SECONDS = 0.02

@dataclass(frozen=True, slots=True)
class RunEvent:
    """One thing that happened in a run.

    ``seq`` counts from 1 without gaps; ``at`` is UTC seconds since 1970, ``offset_seconds`` the monotonic time since the run
    began; ``kind`` is "run", "task", "waiting" or "reported"; ``data`` holds for runs and tasks the new ``state``.
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


#: All records of this process, for its forked children, and those whose lock a fork holds.
_ALL: weakref.WeakSet[Records] = weakref.WeakSet()
_HELD: list[Records] = []


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
        _ALL.add(self)

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

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()
        self._recorders, self._writer, self._closed = [], None, True
        self._wake, self._urgent, self._written = threading.Event(), threading.Event(), threading.Condition()
        if self.path is not None:
            # Before the child opens its own: SQLite would take the parent's locks for this process's, which has none.
            self._disconnect()

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, rolled back where the block raises.

        Raises:
            RecordError: it cannot be written.
        """
        with self._lock, self._connected() as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:  # a full disk has rolled it back already
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.Error, OSError) as error:
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
        with self.transaction() as connection:
            values = (row.pipeline_hash, row.pipeline, pipeline_json)
            connection.execute("INSERT OR IGNORE INTO pipelines VALUES (?, ?, ?)", values)
            cursor = connection.execute(
                "INSERT INTO runs (run_id, name, pipeline, pipeline_hash, state, arguments, created_at, pipeline_root, executor,"
                " on_failure) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (row.run_id, row.name, row.pipeline, row.pipeline_hash, row.state, to_json(row.arguments), row.created_at,
                 row.pipeline_root, row.executor, on_failure),
            )  # fmt: skip
            run = cursor.lastrowid
            assert run is not None
            connection.execute("INSERT INTO leases VALUES (?, 1, ?, ?)", (run, driver, time.time()))
        recorder = RunRecorder(self, run, row.run_id, row.created_at, on_request)
        with self._lock:
            self._recorders.append(recorder)
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_groups, name="flowcore-records", daemon=True)
                self._writer.start()
        return recorder

    def _write_groups(self) -> None:
        while True:
            woken = self._wake.wait(LOOK_SECONDS)
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
                    recorder.fail(error)
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
            while self._group < wanted and recorder.failure is None and (recorder.dirty or recorder.taken):
                self._urgent.set()
                self._wake.set()
                self._written.wait(1.0)
        if recorder.failure is not None:
            raise recorder.failure

    def wait_for_change(self) -> None:
        """Wait until the writer has written a group, at most LOOK_SECONDS."""
        with self._written:
            self._written.wait(LOOK_SECONDS)

    def release(self, recorder: RunRecorder) -> None:
        """Write the last group of a run and let go of it."""
        recorder.write()
        with self._lock:
            if recorder in self._recorders:
                self._recorders.remove(recorder)

    def give_up(self, run_id: str, state: str) -> None:
        """Record the end of a run that was refused or interrupted before it began; nobody writes it any more."""
        with self.transaction() as connection:
            values = (state, time.time(), run_id)
            connection.execute("UPDATE runs SET state = ?, finished_at = ? WHERE run_id = ?", values)

    def request(self, run_id: str, kind: str) -> None:
        """Ask the driver of a run, wherever it is, for something ("cancel")."""
        with self.transaction() as connection:
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
            where = self.path or "this record"
            raise RecordError(f"there is no run {run_id!r} in {where}; `flowcore runs list` shows those there are")
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
            "SELECT run_id, pipeline, pipeline_hash, state, arguments, outputs, created_at, started_at, finished_at,"
            f" pipeline_root, executor, name FROM runs {clause}",
            *values,
        )
        return [
            RunRow(
                run_id=row[0], pipeline=row[1], pipeline_hash=row[2], state=row[3], arguments=json.loads(row[4]),
                outputs=json.loads(row[5] or "{}"), created_at=row[6], started_at=row[7], finished_at=row[8],
                pipeline_root=row[9], executor=row[10], name=row[11],
            )
            for row in rows
        ]  # fmt: skip

    def pipeline_json(self, pipeline_hash: str) -> str:
        """The text of a recorded pipeline."""
        return str(self._rows("SELECT json FROM pipelines WHERE hash = ?", pipeline_hash)[0][0])

    def tasks(self, run_id: str, path: str | None = None) -> list[TaskRow]:
        """The tasks of a run in the order in which they started, or the one at ``path``."""
        clause, values = ("AND path = ?", (path,)) if path is not None else ("ORDER BY started_at IS NULL, started_at, path", ())
        columns = ", ".join(TASK_COLUMNS[1:])
        rows = self._rows(f"SELECT {columns} FROM tasks WHERE run = ? {clause}", self._key(run_id), *values)
        return [_task_row(row) for row in rows]

    def attempts(self, run_id: str, path: str) -> list[dict[str, Any]]:
        """The attempts of a task that ended before its last one."""
        names = ("number", "place", "started_at", "finished_at", "error", "reason")
        query = f"SELECT {', '.join(names)} FROM attempts WHERE run = ? AND path = ? ORDER BY number"
        rows = self._rows(query, self._key(run_id), path)
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
        groups = self._rows("SELECT first, body FROM events WHERE run = ? AND last > ? ORDER BY first", run, since)
        return [event for first, body in groups for event in _events(first, began, json.loads(body)) if event.seq > since]

    def logs(self, run_id: str, path: str | None = None) -> Iterator[LogLine]:
        """What tasks wrote, in order; of one task with ``path``."""
        clause, values = ("AND path = ?", (path,)) if path is not None else ("", ())
        query = f"SELECT path, attempt, stream, offset, length FROM logs WHERE run = ? {clause} ORDER BY rowid"
        rows = self._rows(query, self._key(run_id), *values)
        texts = self._read_log(run_id, [(row[3], row[4]) for row in rows])
        for row, data in zip(rows, texts, strict=True):
            yield LogLine(row[0], row[1], row[2], data.decode("utf-8", "replace"))


def _hold_all() -> None:
    """Before a fork: let no transaction be in progress, since the child has its connection too."""
    for records in list(_ALL):
        records._lock.acquire()
        _HELD.append(records)


def _let_go() -> None:
    while _HELD:
        _HELD.pop()._lock.release()


def _begin_anew() -> None:
    """In a forked child: the writers of these records are not here, nor who waits for them."""
    _HELD.clear()
    for records in list(_ALL):
        records._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_all, after_in_parent=_let_go, after_in_child=_begin_anew)


def _events(seq: int, began: float, body: list[Any]) -> Iterator[RunEvent]:
    """The events of one group, whose first has the number ``seq``."""
    place = 0
    while place < len(body):
        micros, path, kind = body[place : place + 3]
        place += 3
        if place < len(body) and isinstance(body[place], dict):
            data = body[place]
            place += 1
        else:  # the usual case is written short: the kind is a task's new state
            kind, data = "task", {"state": kind}
        yield RunEvent(seq, began + micros / 1e6, micros / 1e6, kind, path, data)
        seq += 1


def _task_row(row: tuple[Any, ...]) -> TaskRow:
    path, state, attempt, place, execution, started, finished, inputs, outputs, error, reason = row
    return TaskRow(
        path, state, attempt, place, execution, started, finished,
        json.loads(inputs or "{}"), json.loads(outputs or "{}"), _error(error), reason,
    )  # fmt: skip


def _error(text: str | None) -> TaskError | None:
    return None if text is None else TaskError.from_json(json.loads(text))
