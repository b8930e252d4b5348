"""A pipeline that hands on data of every kind; importable, so that worker processes find its functions by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from flowcore import dsl
from flowcore.dsl import HTML, Artifact, Dataset, Input, Markdown, Model, Output


@dsl.component
def make(
    frame: Output[Dataset],
    polar: Output[Dataset],
    stream: Output[Dataset],
    array: Output[Artifact],
    settings: Output[Artifact],
    plot: Output[Artifact],
    page: Output[HTML],
    notes: Output[Markdown],
    model: Output[Model],
) -> None:
    from matplotlib.figure import Figure

    frame.write(pd.DataFrame({"x": [1, 2]}, index=["a", "b"]), format="parquet")
    polar.write(pl.DataFrame({"x": [1, 2]}))
    batch = pa.record_batch({"x": np.arange(1_000_000)})
    stream.write(pa.RecordBatchReader.from_batches(batch.schema, iter([batch] * 3)))
    array.write(np.arange(3))
    settings.write({"rate": 0.5})
    plot.write(Figure(figsize=(1, 1)), format="svg")
    page.write("<p>hello</p>")
    notes.write("# hello")
    model.save({"w": np.arange(3)})


@dsl.component
def use(
    frame: Input[Dataset],
    polar: Input[Dataset],
    stream: Input[Dataset],
    array: Input[Artifact],
    settings: Input[Artifact],
    plot: Input[Artifact],
    page: Input[HTML],
    notes: Input[Markdown],
    model: Input[Model],
) -> str:
    assert list(frame.read().loc["b"]) == [2]
    assert polar.read().equals(pl.DataFrame({"x": [1, 2]}))
    assert sum(batch.num_rows for batch in stream.read()) == 3_000_000
    assert array.read().sum() == 3
    assert settings.read() == {"rate": 0.5}
    assert b"</svg>" in plot.read()
    assert page.read() + notes.read() == "<p>hello</p># hello"
    assert model.load()["w"].sum() == 3
    return "all read"


@dsl.pipeline
def exchange() -> str:
    made = make().outputs
    return use(**made).output
