"""Takes the facts of one run from its driver and writes them in groups, each in one transaction that holds the run's lease.

Facts are kept in memory until the writer takes the group; ``flush`` waits until they are durable.
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flowcore.errors import LeaseLost
from flowcore.executor import Outcome, TaskError
from flowcore.record_schema import TASK_COLUMNS

if TYPE_CHECKING:
    from flowcore.records import Records

#: How often the lease is renewed and requests of other processes are looked for.
LOOK_SECONDS = 1.0

#: ASCII only: SQLite refuses a lone surrogate, which a Python string may hold.
to_json = json.JSONEncoder(separators=(",", ":")).encode
#: What SQLite can read too: it refuses nan and the infinities.
_to_strict_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False).encode

_UPSERT = f"INSERT OR REPLACE INTO tasks ({', '.join(TASK_COLUMNS)})"
_EACH = [f"json_extract(value, '$[{place}]')" for place in range(6)]
# One step for many rows: with one a row the writer would wait for the interpreter's lock as often. What a group's tasks mostly
# share is bound once; times are whole microseconds of the run, which cost a quarter of a float's text; values stay JSON.
_UPSERT_ALIKE = (
    f"{_UPSERT} SELECT ?1, {_EACH[0]}, ?2, ?3, ?4, {_EACH[1]}, ?5 + {_EACH[2]} / 1e6, ?5 + {_EACH[3]} / 1e6,"
    f" {_EACH[4]}, {_EACH[5]}, NULL, NULL FROM json_each(?6)"
)
_UPSERT_TASK = f"{_UPSERT} VALUES ({', '.join('?' * len(TASK_COLUMNS))})"
#: Characters of a group's rows from which they are written one by one: SQLite's JSON is slow on large values.
_LARGE = 1 << 22
_INSERT_USE = "INSERT OR IGNORE INTO artifact_uses VALUES (?, ?, ?, ?, ?)"
_INSERT_ARTIFACT = "INSERT OR REPLACE INTO artifacts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


_INT64 = 1 << 63


def _column_real(value: float) -> float:
    """A metric as SQLite takes it: an int may be larger than its integers, even than every float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _readable(text: str | None) -> str | None:
    """Text as SQLite keeps it: a lone surrogate becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode()


class _Task:
    """A task's row while it is live; times are microseconds since the run was recorded."""

    state = "WAITING"
    attempt = 0
    place: str | None = None
    execution: str | None = None
    started: int | None = None
    finished: int | None = None
    inputs: dict[str, Any] | None = None
    outputs: dict[str, Any] | None = None
    error: TaskError | None = None
    reason: str | None = None


#: What of a row is not shared: path, execution, started, finished, inputs, outputs.
_Own = tuple[str, str | None, int | None, int | None, dict[str, Any] | None, dict[str, Any] | None]
_Shared = tuple[str, int, str | None]


class _Group:
    """The rows of one group: those that share state, attempt and place by these, and those with an error or a reason."""

    def __init__(self) -> None:
        self.alike: dict[_Shared, list[_Own]] = {}
        self.others: list[tuple[Any, ...]] = []

    def add(self, path: str, task: _Task) -> None:
        row = (path, task.execution, task.started, task.finished, task.inputs or None, task.outputs or None)
        shared = (task.state, task.attempt, task.place)
        if task.error is None and task.reason is None:
            self.alike.setdefault(shared, []).append(row)
        else:
            self.others.append((*shared, *row, task.error, task.reason))


class RunRecorder:
    """Takes the facts of one run. Called by its driver's thread only, but for ``write``, which the writer calls.

    Facts go into lists that the writer swaps out as a whole: a task that begins and ends within one group costs one row.
    """

    def __init__(self, records: Records, run: int, run_id: str, created_at: float, on_request: Callable[[str], None]) -> None:
        self._records = records
        self._run = run
        self._run_id = run_id
        self._created_at = created_at
        self._on_request = on_request
        self._epoch = 1
        #: The monotonic clock when the run was recorded: offsets are from then on.
        self._began = time.monotonic() - (time.time() - created_at)
        self._live: dict[str, _Task] = {}
        self._changed: dict[str, _Task] = {}
        #: The rows of committed tasks, by what they share.
        self._done: dict[_Shared, list[_Own]] = {}
        #: Of each event microseconds, task and state, or microseconds, task, kind and data: flat, as the record keeps them.
        self._events: list[int | str | dict[str, Any]] = []
        self._event_count = 0
        self._written_events = 0
        self._rows: list[tuple[str, tuple[Any, ...]]] = []
        self._texts: list[tuple[str, int, str, str]] = []
        self._next_look = 0.0
        #: Guards the swap of the lists above against the driver's appends that touch two of them. Reentrant: what a collected
        #: object's ``__del__`` prints is recorded too.
        self._swap = threading.RLock()
        #: Held by whoever writes: the writer thread, or the driver with its last group.
        self._writing = threading.Lock()
        self.failure: BaseException | None = None
        self.dirty = False
        #: A group was taken and is not durable yet. Set before ``dirty`` is cleared, so one of the two always shows.
        self.taken = False

    def _touch(self) -> None:
        if not self.dirty:
            self.dirty = True
            self._records.wake()

    def _event(self, kind: str, path: str, data: dict[str, Any]) -> None:
        self._events.extend((int((time.monotonic() - self._began) * 1e6), path, kind, data))
        self._event_count += 1

    def _moved_with(self, path: str, state: str, data: dict[str, Any]) -> None:
        self._event("task", path, {"state": state, **data})

    def _micros(self, at: float) -> int:
        return int((at - self._created_at) * 1e6)

    def _at(self, micros: int | None) -> float | None:
        return None if micros is None else self._created_at + micros / 1e6

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
            text = None if outputs is None else to_json(outputs)
            statement = f"UPDATE runs SET state = ?, outputs = ?, {column} = ? WHERE run = ?"
            self._rows.append((statement, (state, text, now, self._run)))
        self._touch()

    def submitted(
        self, path: str, number: int, inputs: dict[str, Any], uses: list[tuple[str, int, str]], *, leaves: bool = True
    ) -> None:
        """An attempt was handed to an executor; ``uses`` are (port, position, URI) of the artifacts that it reads.

        One that ``leaves`` nothing outside this process is not looked for by a later driver: its row is written once it runs.
        """
        task = _Task()  # an earlier attempt's row may be read by the writer at this moment
        task.state, task.attempt, task.inputs = "SUBMITTED", number, inputs
        if not leaves:
            self._live[path] = task
            return
        with self._swap:
            self._live[path] = self._changed[path] = task
            if number == 1:
                for port, position, uri in uses:
                    self._rows.append((_INSERT_USE, (self._run, path, port, position, uri)))
        self._touch()

    def running(self, path: str, place: str | None = None, execution: str | None = None) -> None:
        """A body, or a group of tasks, began."""
        now = int((time.monotonic() - self._began) * 1e6)
        with self._swap:
            task = self._task(path)
            task.state, task.place, task.started = "RUNNING", place, now
            if execution is not None:
                task.execution = execution
            self._events.extend((now, path, "RUNNING"))
            self._event_count += 1
            if not self.dirty:
                self._touch()

    def committed(self, path: str, outcome: Outcome) -> None:
        """A task succeeded with this outcome."""
        now = int((time.monotonic() - self._began) * 1e6)
        with self._swap:
            task = self._live.pop(path)
            self._changed.pop(path, None)
            started, finished = task.started, now
            if outcome.started_at is not None:
                started = int((outcome.started_at - self._created_at) * 1e6)
            if outcome.finished_at is not None:
                finished = int((outcome.finished_at - self._created_at) * 1e6)
            shared = ("SUCCEEDED", task.attempt, task.place)
            rows = self._done.get(shared)
            if rows is None:
                rows = self._done[shared] = []
            execution = outcome.execution or task.execution
            rows.append((path, execution, started, finished, task.inputs or None, outcome.parameters or None))
            if outcome.artifacts:
                self._commit_artifacts(path, outcome)
            self._events.extend((now, path, "SUCCEEDED"))
            self._event_count += 1
            if not self.dirty:
                self._touch()

    def _commit_artifacts(self, path: str, outcome: Outcome) -> None:
        now = time.time()
        for port, refs in outcome.artifacts.items():
            listed = list(enumerate(refs)) if isinstance(refs, list) else [(-1, refs)]
            for position, ref in listed:
                text = to_json(ref.to_json())
                row = (self._run, path, port, position, ref.schema_title, ref.uri, ref.sha256, ref.size_bytes, text)
                self._rows.append((_INSERT_ARTIFACT, row))
                if ref.schema_title == "system.Metrics":
                    for name, value in ref.metadata.items():
                        if isinstance(value, int | float):
                            self._metric(path, name, None, value, now)

    def _metric(self, path: str, name: str, step: int | None, value: float, now: float) -> None:
        value = _column_real(value)
        if step is not None:
            step = max(-_INT64, min(step, _INT64 - 1))
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

    def ended(
        self,
        path: str,
        state: str,
        error: TaskError | None = None,
        reason: str | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """A task came to a terminal state other than a committed success, or a group came to its end with its outputs."""
        with self._swap:
            task = self._task(path)
            task.state, task.finished, task.error = state, self._micros(time.time()), error
            task.reason = _readable(reason)
            task.outputs = outputs
            del self._live[path]
            data: dict[str, Any] = {}
            if error is not None:
                data["error"] = f"{error.type}: {error.message}"
            if reason is not None:
                data["reason"] = reason
            self._moved_with(path, state, data)
        self._touch()

    def abandon(self, state: str) -> None:
        """The run ends here, in ``state``, with whatever has not ended."""
        for path in list(self._live):
            self.ended(path, "CANCELED", reason="its run was interrupted" if state == "CANCELED" else "its run broke off")
        self.run_state(state)

    def again(self, path: str, error: TaskError | None, reason: str | None) -> None:
        """An attempt ended and the task waits for its next one."""
        with self._swap:
            task = self._task(path)
            text = None if error is None else to_json(error.to_json())
            row = (self._run, path, task.attempt, task.place, self._at(task.started), time.time(), text, _readable(reason))
            self._rows.append(("INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row))
            task.state = "WAITING"
            self._moved_with(path, "WAITING", {"reason": reason})
        self._touch()

    def wrote(self, path: str, number: int, stream: str, text: str) -> None:
        """A body wrote text."""
        with self._swap:
            if self._texts and self._texts[-1][:3] == (path, number, stream) and len(self._texts[-1][3]) < 65536:
                text = self._texts.pop()[3] + text
            self._texts.append((path, number, stream, text))
        self._touch()

    def fail(self, error: BaseException) -> None:
        """The writer cannot go on: nothing more is written, and the driver is told."""
        self.failure = error
        self._on_request("failed")

    def flush(self) -> None:
        """Wait until everything recorded so far is durable.

        Raises:
            RecordError: it cannot be written, or another driver has the run.
        """
        if self.dirty or self.taken or self.failure is not None:
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
                self.taken = True
                self.dirty = False
                changed, self._changed = self._changed, {}
                events, self._events = self._events, []
                written = self._event_count
                tasks = _Group()
                tasks.alike, self._done = self._done, {}
                rows, self._rows = self._rows, []
                texts, self._texts = self._texts, []
                # What still lives goes on changing; an ended task's row is made without holding up the driver.
                for path in changed.keys() & self._live.keys():
                    tasks.add(path, changed.pop(path))
            for path, task in changed.items():
                tasks.add(path, task)
            try:
                with self._records.transaction() as connection:
                    if look or not events:
                        self._renew_lease(connection)
                    if events:
                        self._write_events(connection, written, to_json(events))
                    self._write_tasks(connection, tasks)
                    for statement, values in rows:
                        connection.execute(statement, values)
                    if texts:
                        self._write_texts(connection, texts)
                    requests = self._take_requests(connection) if look else []
            except BaseException:
                self.dirty = True
                raise
            finally:
                self.taken = False
            self._written_events = written
            self._next_look = now + LOOK_SECONDS
        for kind in requests:
            self._on_request(kind)

    def _renew_lease(self, connection: sqlite3.Connection) -> None:
        cursor = connection.execute(
            "UPDATE leases SET heartbeat_at = ? WHERE run = ? AND epoch = ?", (time.time(), self._run, self._epoch)
        )
        self._check_lease(cursor)

    def _write_events(self, connection: sqlite3.Connection, last: int, body: str) -> None:
        # Holding the lease is a condition of the insert: a statement of its own would wait for the interpreter's lock once more.
        cursor = connection.execute(
            "INSERT INTO events SELECT ?1, ?2, ?3, ?4 FROM leases WHERE run = ?1 AND epoch = ?5",
            (self._run, self._written_events + 1, last, body, self._epoch),
        )
        self._check_lease(cursor)

    def _check_lease(self, cursor: sqlite3.Cursor) -> None:
        if cursor.rowcount != 1:
            raise LeaseLost(f"run {self._run_id!r} has another driver now; this one writes nothing more")

    def _write_tasks(self, connection: sqlite3.Connection, group: _Group) -> None:
        others = group.others
        for shared, rows in group.alike.items():
            try:
                text = _to_strict_json(rows)
            except ValueError:  # nan and the infinities
                text = None
            if text is not None and len(text) < _LARGE:
                connection.execute(_UPSERT_ALIKE, (self._run, *shared, self._created_at, text))
            else:
                others.extend((*shared, *row, None, None) for row in rows)
        if others:
            connection.executemany(_UPSERT_TASK, [self._full_row(*row) for row in others])

    def _full_row(
        self, state: str, attempt: int, place: str | None, path: str, execution: str | None, started: int | None,
        finished: int | None, inputs: Any, outputs: Any, error: TaskError | None, reason: str | None,
    ) -> tuple[Any, ...]:  # fmt: skip
        texts = [None if value is None else to_json(value) for value in (inputs, outputs, error and error.to_json())]
        times = self._at(started), self._at(finished)
        return (self._run, path, state, attempt, place, execution, *times, *texts, reason)

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
