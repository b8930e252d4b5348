"""What those who look on ask a record: sums that SQLite makes, without the interpreter's lock meanwhile. It only reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from flowcore.executor import TaskError
from flowcore.recorder import to_json
from flowcore.records import LogLine, Records

#: A range of the primary key, since '/' is the character after '.': what lies in the iterations of a loop.
_IN_LOOP = "run = ? AND path > ? AND path < ? AND substr(path, ?, 1) BETWEEN '0' AND '9'"
_COLUMNS = "path, state, attempt, started_at, finished_at, error, reason"


@dataclass(slots=True)
class TaskLook:
    """Where a task stands, without its data; times are UTC seconds since 1970."""

    path: str
    state: str
    attempt: int
    started_at: float | None
    finished_at: float | None
    error: TaskError | None
    reason: str | None


@dataclass(slots=True)
class LoopCounts:
    """What the iterations of a loop have come to; ``mean_seconds`` is over those that are done, None without any."""

    begun: int = 0
    done: int = 0
    failed: int = 0
    running: int = 0
    mean_seconds: float | None = None


@dataclass(slots=True)
class Attempt:
    """An attempt that ended before its task's last one."""

    number: int
    place: str | None
    started_at: float | None
    finished_at: float | None
    error: TaskError | None
    reason: str | None


def _inside(records: Records, run_id: str, loop: str) -> tuple[Any, ...]:
    return records._key(run_id), f"{loop}.", f"{loop}/", len(loop) + 2


def states(records: Records, run_id: str, paths: list[str]) -> list[TaskLook]:
    """Where the tasks at ``paths`` stand; those that have not begun are absent."""
    query = f"SELECT {_COLUMNS} FROM tasks WHERE run = ? AND path IN (SELECT value FROM json_each(?))"
    return [_look(row) for row in records._rows(query, records._key(run_id), to_json(paths))]


def beneath(records: Records, run_id: str, prefix: str) -> list[TaskLook]:
    """Where the tasks stand whose paths begin with ``prefix``, which ends with a dot (a loop's) or a slash (an iteration's)."""
    query = f"SELECT {_COLUMNS} FROM tasks WHERE run = ? AND path > ? AND path < ? ORDER BY path"
    after = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return [_look(row) for row in records._rows(query, records._key(run_id), prefix, after)]


def outputs(records: Records, run_id: str, paths: list[str]) -> dict[str, dict[str, Any]]:
    """The encoded output parameters of the tasks at ``paths``."""
    query = "SELECT path, outputs FROM tasks WHERE run = ? AND path IN (SELECT value FROM json_each(?)) AND outputs IS NOT NULL"
    return {path: json.loads(text) for path, text in records._rows(query, records._key(run_id), to_json(paths))}


def run_state(records: Records, run_id: str) -> str:
    """The state of a run."""
    return str(records._rows("SELECT state FROM runs WHERE run = ?", records._key(run_id))[0][0])


def loop_counts(records: Records, run_id: str, loop: str, body: int) -> LoopCounts:
    """What the iterations of the loop at path ``loop`` have come to; ``body`` is how many tasks its body has.

    Only bodies run somewhere: a group, which has no place, does not make its iteration a running one.
    """
    query = (
        "SELECT count(*), sum(ended >= ?), sum(failed), sum(running AND ended < ?),"
        " avg(CASE WHEN ended >= ? THEN finished - started END) FROM ("
        "SELECT sum(state IN ('SUCCEEDED', 'FAILED', 'SKIPPED', 'REUSED', 'CANCELED')"
        " AND length(path) - length(replace(path, '/', '')) = ?) AS ended, max(state = 'FAILED') AS failed,"
        " max(state = 'RUNNING' AND place IS NOT NULL) AS running, min(started_at) AS started, max(finished_at) AS finished"
        f" FROM tasks WHERE {_IN_LOOP} GROUP BY CAST(substr(path, ?) AS INTEGER))"
    )
    values = (body, body, body, loop.count("/") + 1, *_inside(records, run_id, loop), len(loop) + 2)
    row = records._rows(query, *values)[0]
    return LoopCounts(row[0], row[1] or 0, row[2] or 0, row[3] or 0, row[4])


def loop_states(records: Records, run_id: str, loop: str) -> list[tuple[str, str, int]]:
    """(path below the iteration, state, how many) of the tasks in the iterations of a loop; a running group is "OPEN"."""
    query = (
        "SELECT substr(tail, instr(tail, '/') + 1) AS inside, state, count(*) FROM ("
        "SELECT substr(path, ?) AS tail, CASE WHEN state = 'RUNNING' AND place IS NULL THEN 'OPEN' ELSE state END AS state"
        f" FROM tasks WHERE {_IN_LOOP}) GROUP BY inside, state"
    )
    rows = records._rows(query, len(loop) + 2, *_inside(records, run_id, loop))
    return [(row[0], row[1], row[2]) for row in rows]


def failed_in(records: Records, run_id: str, loop: str, limit: int) -> list[TaskLook]:
    """The first ``limit`` failed tasks in the iterations of a loop, in the order in which they failed."""
    query = f"SELECT {_COLUMNS} FROM tasks WHERE {_IN_LOOP} AND state = 'FAILED' ORDER BY finished_at, path LIMIT ?"
    return [_look(row) for row in records._rows(query, *_inside(records, run_id, loop), limit)]


def last_event(records: Records, run_id: str) -> int:
    """The number of the newest event; 0 where there is none."""
    return int(records._rows("SELECT max(last) FROM events WHERE run = ?", records._key(run_id))[0][0] or 0)


def logs_since(records: Records, run_id: str, since: int = 0, path: str | None = None) -> tuple[int, list[LogLine]]:
    """(where to go on, what tasks wrote after ``since``); 0 is the beginning."""
    clause, values = ("AND path = ?", (path,)) if path is not None else ("", ())
    query = f"SELECT rowid, path, attempt, stream, offset, length FROM logs WHERE run = ? AND rowid > ? {clause} ORDER BY rowid"
    rows = records._rows(query, records._key(run_id), since, *values)
    texts = records._read_log(run_id, [(row[4], row[5]) for row in rows])
    lines = [LogLine(row[1], row[2], row[3], data.decode("utf-8", "replace")) for row, data in zip(rows, texts, strict=True)]
    return rows[-1][0] if rows else since, lines


def last_logs(records: Records, run_id: str, paths: list[str], limit_bytes: int) -> dict[str, tuple[list[LogLine], int]]:
    """(the end of what a task wrote, how many bytes before it are left out) by path, at most ``limit_bytes`` for each."""
    query = (
        "SELECT path, attempt, stream, offset, length FROM logs"
        " WHERE run = ? AND path IN (SELECT value FROM json_each(?)) ORDER BY rowid DESC"
    )
    taken: dict[str, int] = {}
    left: dict[str, int] = {}
    kept: list[tuple[Any, ...]] = []
    for path, attempt, stream, offset, length in records._rows(query, records._key(run_id), to_json(paths)):
        room = max(0, limit_bytes - taken.get(path, 0))
        here = min(length, room)
        taken[path] = taken.get(path, 0) + here
        left[path] = left.get(path, 0) + length - here
        if here:
            kept.append((path, attempt, stream, offset + length - here, here))
    kept.reverse()
    found: dict[str, tuple[list[LogLine], int]] = {path: ([], count) for path, count in left.items()}
    texts = records._read_log(run_id, [(row[3], row[4]) for row in kept])
    for row, data in zip(kept, texts, strict=True):
        found[row[0]][0].append(LogLine(row[0], row[1], row[2], data.decode("utf-8", "replace")))
    return found


def attempts(records: Records, run_id: str) -> dict[str, list[Attempt]]:
    """The attempts of a run that ended before their task's last one, by path."""
    query = "SELECT path, number, place, started_at, finished_at, error, reason FROM attempts WHERE run = ? ORDER BY path, number"
    found: dict[str, list[Attempt]] = {}
    for path, number, place, started, finished, error, reason in records._rows(query, records._key(run_id)):
        found.setdefault(path, []).append(Attempt(number, place, started, finished, _error(error), reason))
    return found


def driver(records: Records, run_id: str) -> tuple[str, float]:
    """("host:pid" of the driver that holds a run, when it was last heard of in UTC seconds since 1970)."""
    row = records._rows("SELECT driver, heartbeat_at FROM leases WHERE run = ?", records._key(run_id))[0]
    return str(row[0]), float(row[1])


def _look(row: tuple[Any, ...]) -> TaskLook:
    path, state, attempt, started, finished, error, reason = row
    return TaskLook(path, state, attempt, started, finished, _error(error), reason)


def _error(text: str | None) -> TaskError | None:
    return None if text is None else TaskError.from_json(json.loads(text))
