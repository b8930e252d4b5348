"""Prints one table: each figure beside its floor, measured in turns in the same run. ``python -m benchmarks --help``.

Nothing is asserted: machines are shared, so read the ratios, and compare two of them only when they come from one run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import elsewhere, engine
from benchmarks.engine import QUICK, Sizes
from benchmarks.figures import Figure
from benchmarks.memory import peak_memory

Row = Callable[[Sizes], Iterable[Figure]]


ROWS: dict[str, Row] = {
    "fan-out": engine.fan_out,
    "chain": engine.chained,
    "growth": engine.growth,
    "memory": peak_memory,
    "state-machine": engine.state_machine,
    "authoring": engine.authoring,
    "repeated": engine.repeated,
    "executors": elsewhere.executors,
    "arrow": elsewhere.arrow_table,
    "s3": elsewhere.s3_file,
    "import": elsewhere.import_cost,
}


def measured(names: Iterable[str], sizes: Sizes, tell: Callable[[str], None]) -> Iterator[tuple[str, Figure]]:
    """Run rows, each in a fresh folder that is gone afterwards; a row that fails says so and the others go on."""
    back = os.getcwd()
    for name in names:
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="flowcore-bench-") as folder:
            os.chdir(folder)
            try:
                for figure in ROWS[name](sizes):
                    yield name, figure
            except Exception as error:  # noqa: BLE001  one broken row must not hide the other figures
                yield name, Figure(name, note=f"failed: {type(error).__name__}: {error}")
            finally:
                os.chdir(back)
        tell(f"{name}: {time.perf_counter() - begin:.0f} s")


def number(value: float | None, suffix: str = "") -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ""
    places = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:,.{places}f}{suffix}"


def table_of(figures: Iterable[Figure]) -> Table:
    table = Table(title="flowcore beside its floors")
    for column in ("what", "ours", "floor", "floor is", "ratio", "must", "aim", "", "note"):
        numbers = column in ("ours", "floor", "ratio", "must", "aim")
        table.add_column(column, justify="right" if numbers else "left", no_wrap=numbers)
    for figure in figures:
        limit = f" {figure.unit.split('/')[0]}" if figure.absolute else "×"
        table.add_row(
            figure.what, number(figure.ours, f" {figure.unit}"), number(figure.floor), figure.floor_is, number(figure.ratio, "×"),
            *("" if bound is None else f"≤ {bound:g}{limit}" for bound in (figure.must, figure.aim)), figure.verdict, figure.note,
        )  # fmt: skip
    return table


def environment(sizes: Sizes) -> dict[str, Any]:
    load = os.getloadavg()[0]
    return {"python": platform.python_version(), "cores": os.cpu_count(), "load": round(load, 2), "sizes": asdict(sizes)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"which to measure (default: all): {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, whose ratios mean little")
    parser.add_argument("--repeats", type=int, help="how often each figure and its floor are measured")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}; the rows are {', '.join(ROWS)}")
    sizes = QUICK if options.quick else Sizes()
    if options.repeats:
        sizes = replace(sizes, repeats=options.repeats)
    progress = Console(stderr=True)
    before = environment(sizes)
    found = list(measured(options.rows or ROWS, sizes, lambda text: progress.print(text, style="dim", highlight=False)))
    if options.json:
        figures = [{"row": name, **asdict(figure), "ratio": figure.ratio, "verdict": figure.verdict} for name, figure in found]
        print(json.dumps({"environment": before, "figures": figures}, indent=2, ensure_ascii=False))
        return
    console = Console()
    console = Console(width=max(console.width, 150)) if not console.is_terminal else console
    console.print(table_of(figure for _, figure in found))
    console.print(
        f"Python {before['python']}, {before['cores']} cores, load {before['load']} at the start; medians of {sizes.repeats}, "
        "ours and floor in turns",
        style="dim",
        highlight=False,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
