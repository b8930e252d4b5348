"""An Arrow table written by one task and read by the next, on a local disk, beside the same by pyarrow alone.

Everything goes through the store as in a run: an execution's output, ``write``, the seal with its digest and outcome; then the
artifact as the next task gets it, and ``read``. The contenders take turns, in an order that is reversed every round, each on a
new file; figures are medians. Each file's pages are written back before the next begins, outside of what is timed.
"""

from __future__ import annotations

import gc
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from flowcore.artifacts.store import ArtifactStore
from flowcore.artifacts.types import ArtifactRef, Dataset

COLUMNS = 10
READS = 50


def make_table(size_bytes: int) -> Any:
    """A table of random numbers of about this size."""
    rows = size_bytes // 8 // COLUMNS
    generator = np.random.default_rng(0)
    return pa.table({f"column_{number}": generator.random(rows) for number in range(COLUMNS)})


def arrow_table(size_bytes: int, repeats: int = 5) -> dict[str, float]:
    """Median seconds of "write" and "read", and of their floors.

    "write_floor_raw" is pyarrow's IPC writer into a file; "write_floor_raw_sha" the same and the sha256 of that file;
    "read_floor" is ``pyarrow.memory_map`` and the table on it.
    """
    table = make_table(size_bytes)
    writers = {"write": _write, "write_floor_raw": _write_raw, "write_floor_raw_sha": _write_raw_and_hash}
    readers = {"read": _read, "read_floor": _read_raw}
    seconds: dict[str, list[float]] = {name: [] for name in (*writers, *readers)}
    with tempfile.TemporaryDirectory(prefix="flowcore-bench-") as folder, ArtifactStore(f"{folder}/root") as store:
        for turn in range(repeats):
            order = list(writers.items())
            for name, writer in order if turn % 2 else reversed(order):
                place = f"{folder}/raw" if name != "write" else store.join("pipeline", f"run-{turn}")
                begin = time.perf_counter()
                path, ref = writer(store, place, table)
                seconds[name].append(time.perf_counter() - begin)
                _write_back(path)
                if ref is not None:
                    pairs = list(readers.items())
                    for again in range(READS):
                        for reading, reader in pairs if again % 2 else reversed(pairs):
                            seconds[reading].append(_timed(reader, store, ref))
                os.unlink(path)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _write_back(path: str) -> None:
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _timed(reader: Callable[[ArtifactStore, ArtifactRef], Any], store: ArtifactStore, ref: ArtifactRef) -> float:
    begin = time.perf_counter()
    table = reader(store, ref)
    taken = time.perf_counter() - begin
    del table
    gc.collect(0)
    return taken


def _write(store: ArtifactStore, place: str, table: Any) -> tuple[str, ArtifactRef | None]:
    execution = store.begin(place)
    output = execution.output("table", Dataset.schema_title)
    output.write(table)
    ref = execution.seal_artifact(output)
    execution.seal({"artifacts": {"table": ref.to_json()}})
    return output.path, ref


def _write_raw(store: ArtifactStore, place: str, table: Any) -> tuple[str, ArtifactRef | None]:
    with pa.OSFile(place, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return place, None


def _write_raw_and_hash(store: ArtifactStore, place: str, table: Any) -> tuple[str, ArtifactRef | None]:
    _write_raw(store, place, table)
    with open(place, "rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()
    return place, None


def _read(store: ArtifactStore, ref: ArtifactRef) -> Any:
    return store.open_input(ref).read()


def _read_raw(store: ArtifactStore, ref: ArtifactRef) -> Any:
    return pa.ipc.open_file(pa.memory_map(ref.uri)).read_all()
