"""Rows whose measuring lies in modules of other rooms of the house; where one is missing, or what it needs, the row says so."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure

if TYPE_CHECKING:
    from benchmarks.engine import Sizes

Measure = Callable[[Any, "Sizes"], Iterable[Figure]]


def row(what: str, module: str, measure: Measure) -> Callable[[Sizes], Iterator[Figure]]:
    """The row that calls ``measure`` with the module, or says why it cannot."""

    def measured(sizes: Sizes) -> Iterator[Figure]:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            missing = "not built yet" if error.name == module else f"needs {error.name}, which is not installed"
            yield Figure(what, note=missing)
            return
        yield from measure(found, sizes)

    return measured


def _import_cost(module: Any, sizes: Sizes) -> Iterator[Figure]:
    ours, floor = module.import_cost()
    yield Figure("import flowcore", "ms CPU", ours * 1e3, floor * 1e3, "import asyncio", must=1.5)
    statement = "from flowcore import Client, dsl, run"
    ours, floor = module.import_cost(statement)
    yield Figure(statement, "ms CPU", ours * 1e3, floor * 1e3, "import asyncio", note="what the first use loads")


def _arrow_table(module: Any, sizes: Sizes) -> Iterator[Figure]:
    size = f"{sizes.arrow_bytes / 1e6:,.0f} MB Arrow table"
    found = {name: seconds * 1e3 for name, seconds in module.arrow_table(sizes.arrow_bytes).items()}
    hashed, raw = found["write_floor_raw_sha"], found["write_floor_raw"]
    yield Figure(f"{size}, write", "ms", found["write"], hashed, "raw IPC write and sha256", must=1.15)
    yield Figure(f"{size}, write", "ms", found["write"], raw, "raw IPC write", aim=1.8)
    yield Figure(f"{size}, read", "ms", found["read"], found["read_floor"], "pyarrow.memory_map and open", must=2)


def _s3_file(module: Any, sizes: Sizes) -> Iterator[Figure]:
    ours, floor = module.s3_file(sizes.s3_bytes)
    yield Figure(f"{sizes.s3_bytes / 1e6:,.0f} MB file through s3", "s", ours, floor, "bare s3fs put and get", must=1.2)


def _executors(module: Any, sizes: Sizes) -> Iterator[Figure]:
    repeats = min(sizes.repeats, 3)
    loky = module.loky_microseconds(sizes.fan, repeats)
    for mode in module.MODES:
        floor = {"floor": loky, "floor_is": "joblib loky, n_jobs=2"} if mode == "processes" else {}
        fan = module.microseconds(mode, sizes.fan, module.fan_seconds, repeats)
        yield Figure(f"executor alone, fan of {sizes.fan:,}, {mode}", "µs/order", fan, **floor)
        chain = module.microseconds(mode, sizes.chain, module.chain_seconds, repeats)
        yield Figure(f"executor alone, chain of {sizes.chain:,}, {mode}", "µs/order", chain)


import_cost = row("import flowcore", "benchmarks.embedding", _import_cost)
arrow_table = row("Arrow table, write and read", "benchmarks.arrow", _arrow_table)
s3_file = row("a file through s3", "benchmarks.storage", _s3_file)
executors = row("executors alone", "benchmarks.executors", _executors)
