"""The tables of a record file, and what a file must be to be ours. Opening never executes anything that the file holds.

A task's row carries its last attempt; ``attempts`` keeps those that ended before it. Events are written a group a row: their
numbers ``first`` to ``last`` are gapless from 1 in each run, ``body`` is a flat JSON list: of each event the microseconds since
the run's ``created_at``, the task's path and its new state, or the microseconds, the path, a kind and an object with more.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from pathlib import Path

from flowcore.errors import RecordError

APPLICATION_ID = 0x666C6F77  # "flow"
VERSION = 2
#: How long a statement waits for other processes that write the same file.
BUSY_SECONDS = 30.0

SCHEMA = """
CREATE TABLE pipelines (hash TEXT PRIMARY KEY, name TEXT NOT NULL, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, name TEXT, pipeline TEXT NOT NULL, pipeline_hash TEXT NOT NULL,
    state TEXT NOT NULL, arguments TEXT NOT NULL, outputs TEXT, created_at REAL NOT NULL, started_at REAL, finished_at REAL,
    pipeline_root TEXT, executor TEXT, on_failure TEXT
);
CREATE TABLE leases (run INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, driver TEXT NOT NULL, heartbeat_at REAL NOT NULL);
CREATE TABLE tasks (
    run INTEGER NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL, place TEXT, execution TEXT,
    started_at REAL, finished_at REAL, inputs TEXT, outputs TEXT, error TEXT, reason TEXT, PRIMARY KEY (run, path)
) WITHOUT ROWID;
CREATE TABLE attempts (
    run INTEGER NOT NULL, path TEXT NOT NULL, number INTEGER NOT NULL, place TEXT, started_at REAL, finished_at REAL, error TEXT,
    reason TEXT, PRIMARY KEY (run, path, number)
) WITHOUT ROWID;
CREATE TABLE artifacts (
    run INTEGER NOT NULL, path TEXT NOT NULL, port TEXT NOT NULL, position INTEGER NOT NULL, schema_title TEXT NOT NULL,
    uri TEXT NOT NULL, sha256 TEXT, size_bytes INTEGER, ref TEXT NOT NULL, PRIMARY KEY (run, path, port, position)
) WITHOUT ROWID;
CREATE INDEX artifacts_by_uri ON artifacts (uri);
CREATE TABLE artifact_uses (
    run INTEGER NOT NULL, path TEXT NOT NULL, port TEXT NOT NULL, position INTEGER NOT NULL, uri TEXT NOT NULL,
    PRIMARY KEY (run, path, port, position)
) WITHOUT ROWID;
CREATE INDEX uses_by_uri ON artifact_uses (uri);
CREATE TABLE metrics (run INTEGER NOT NULL, path TEXT NOT NULL, name TEXT NOT NULL, step INTEGER, value REAL, at REAL NOT NULL);
CREATE INDEX metrics_by_task ON metrics (run, path);
CREATE TABLE events (
    run INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (run, first)
) WITHOUT ROWID;
CREATE TABLE logs (
    run INTEGER NOT NULL, path TEXT NOT NULL, attempt INTEGER NOT NULL, stream TEXT NOT NULL, offset INTEGER NOT NULL,
    length INTEGER NOT NULL
);
CREATE INDEX logs_by_task ON logs (run, path);
CREATE TABLE requests (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, kind TEXT NOT NULL, created_at REAL NOT NULL, handled_at REAL
);
"""

TASK_COLUMNS = (
    "run", "path", "state", "attempt", "place", "execution", "started_at", "finished_at", "inputs", "outputs", "error", "reason",
)  # fmt: skip

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "lustre", "ceph"}
)


def record_path(url: str) -> str | None:
    """The absolute path of a record: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or a plain path; None for memory.

    Raises:
        RecordError: another kind of URL.
    """
    if url == ":memory:":
        return None
    if url.startswith("sqlite:///"):
        return os.path.abspath(url.removeprefix("sqlite:///"))
    if "://" in url:
        raise RecordError(f"records={url!r}: only sqlite:///path.db or a path; for none pass records=None")
    return os.path.abspath(url)


def connect(path: str | None, *, synchronous: str = "normal", create: bool = True) -> sqlite3.Connection:
    """Open a record, making it where it is not there.

    Raises:
        RecordError: read-only, foreign, of a later version, on a network file system; the file is left as it was.
    """
    if path is None:
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        _create(memory)
        return memory
    exists = os.path.exists(path)
    if not exists and not create:
        raise RecordError(f"there is no record at {path}; run a pipeline first, or name another with --records")
    _refuse_unusable(path, exists=exists)
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        if not _check_ours(connection, path):
            _write_ahead(connection)
            connection.execute("BEGIN IMMEDIATE")
            if not connection.execute("PRAGMA user_version").fetchone()[0]:  # else another process was first
                _create(connection)
            connection.execute("COMMIT")
        connection.execute(f"PRAGMA synchronous={'FULL' if synchronous == 'full' else 'NORMAL'}")
        return connection
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        free = f"{shutil.disk_usage(os.path.dirname(path)).free:,} bytes are free on its disk"
        raise RecordError(f"the record {path} cannot be used: {error} ({free}); make room, or name another file") from error
    except RecordError:
        if connection is not None:
            connection.close()
        raise


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Unlike a transaction this never waits: two processes that make one record both try until one has done it."""
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")


def _check_ours(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file is a record already; False where it is empty, as it is while another process makes it."""
    try:
        # First: what another process commits in between then shows with its application id.
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            raise
        raise RecordError(f"{path} is not a record of flowcore ({error}); it was left as it is: name another file") from error
    if empty:
        return False
    if application != APPLICATION_ID:
        raise RecordError(f"{path} is a database of another program; it was left as it is: name another file")
    if version > VERSION:
        raise RecordError(f"the record {path} has version {version}, this flowcore reads up to {VERSION}: upgrade flowcore")
    if version < VERSION:
        raise RecordError(
            f"the record {path} has version {version}, written before the first release; this flowcore reads version {VERSION}: "
            "it was left as it is, name another file with records="
        )
    return True


def _refuse_unusable(path: str, *, exists: bool) -> None:
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise RecordError(f"records={path}: that is a folder; name a file in it")
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise RecordError(f"records={path}: its folder cannot be made: {error}; name another") from error
    kind = _file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise RecordError(f"records={path}: it is on a network file system ({kind}), where SQLite loses data; name a local path")
    for place in [folder, path] if exists else [folder]:
        if not os.access(place, os.W_OK):
            raise RecordError(f"records={path}: {place} is read-only; make it writable, or name another")


def _file_system(folder: str) -> str:
    """The type of the file system that holds a folder; empty where the system does not tell."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    found, kind = "", ""
    for line in lines:
        parts = line.split(" ")
        place = parts[1].replace("\\040", " ")
        inside = folder == place or folder.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(found):
            found, kind = place, parts[2]
    return kind
