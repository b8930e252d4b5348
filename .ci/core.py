"""Runs a pipeline with parameters and a table in each local mode, with nothing installed but flowcore's own dependencies."""

from __future__ import annotations

from flowcore import Client, dsl
from flowcore.dsl import Dataset, Input, Output
from flowcore.executors import LocalExecutor


@dsl.component
def write(rows: int, table: Output[Dataset]) -> int:
    import pyarrow as pa

    table.write(pa.table({"x": list(range(rows))}))
    return rows


@dsl.component
def total(table: Input[Dataset]) -> int:
    return sum(table.read()["x"].to_pylist())


@dsl.pipeline
def core(rows: int = 10) -> int:
    written = write(rows=rows)
    found: int = total(table=written.outputs["table"]).output
    return found


if __name__ == "__main__":
    for mode in ("inline", "threads", "processes"):
        run = Client(executor=LocalExecutor(mode=mode)).run(core)
        assert run.outputs == {"Output": 45}, (mode, run.outputs)
    print("the wheel works with its own dependencies in each local mode")  # noqa: T201
