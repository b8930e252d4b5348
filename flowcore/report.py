"""What a person sees of a run that ended: a summary of what the record holds. It prints and decides nothing.

It prints to whatever sys.stdout is at that moment. Rich is loaded on first use.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from flowcore import looks
from flowcore.graph import Dag
from flowcore.graph.walk import task_at
from flowcore.looks import LoopCounts, TaskLook
from flowcore.records import RunRow

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from flowcore.artifacts.types import Artifact, ArtifactRef
    from flowcore.runs import Run

#: A loop with more iterations is told as one line with counts.
FOLDED_FROM = 10
LOG_LINES, TRACEBACK_LINES = 20, 12
#: The mark of each state, and its colour.
_MARKS = {
    "SUCCEEDED": ("✓", "green"),
    "REUSED": ("✓", "green"),
    "FAILED": ("✗", "red"),
    "CANCELED": ("✗", "yellow"),
    "SKIPPED": ("-", "dim"),
    "RUNNING": ("●", "cyan"),
}
#: What the marks become where a stream's encoding lacks them.
_PLAINER = str.maketrans({"✓": "+", "✗": "x", "●": "*", "·": ".", "…": "~"})


@dataclass(slots=True)
class Row:
    """One line of the tree or the summary."""

    path: str
    name: str
    depth: int
    state: str
    seconds: float | None
    note: str


def iterations(path: str) -> Iterator[tuple[str, int]]:
    """(loop, iteration) for each loop around a path, outermost first."""
    slash = path.find("/")
    while slash > 0:
        loop, dot, index = path[:slash].rpartition(".")
        if dot and index.isdigit():
            yield loop, int(index)
        slash = path.find("/", slash + 1)


def print_summary(run: Run, *, console: Console | None = None, full: bool = False) -> None:
    """Print what a run came to: its tasks, errors, outputs and where they lie. ``full``: whole tracebacks, all iterations.

    Args:
        console: where to; default a console on sys.stdout.
    """
    with _page(console) as page:
        _print_summary(run, page, full=full)


def _print_summary(run: Run, console: Console, *, full: bool) -> None:
    from rich.text import Text

    row = run.row()
    listed = list(_summary_rows(run, full=full))
    mark, style = mark_of(row.state)
    seconds = None if row.started_at is None or row.finished_at is None else row.finished_at - row.started_at
    took = "" if seconds is None else f" in {duration(seconds)}"
    console.print()
    _line(console, Text.assemble((f"{mark} {row.state}", style), "  ", (row.pipeline, "bold"), took))
    console.print()
    console.print(_task_table(listed, run.metrics()))
    for path, error in run.failures.items():
        _print_failure(run, console, path, error.type, error.message, error.traceback, full=full)
    _print_outputs(run, console, [row.path for row in listed])
    console.print()
    place = run._records.path
    record = "in memory, gone with the run's object" if place is None else _near(place)
    for name, value in (("run", row.run_id), ("named", row.name), ("record", record)):
        if value:
            _line(console, Text.assemble((f"{name:<8}", "dim"), value))


def print_runs(found: list[RunRow], *, console: Console | None = None) -> None:
    """Print recorded runs as a table, in the order given."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("run", "state", "began"):
        table.add_column(name, no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("pipeline", overflow="fold")
    for row in found:
        mark, style = mark_of(row.state)
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.created_at))
        took = "" if row.started_at is None or row.finished_at is None else duration(row.finished_at - row.started_at)
        named = f"{row.pipeline} ({row.name})" if row.name else row.pipeline
        table.add_row(row.run_id, Text(f"{mark} {row.state}", style=style), began, took, Text(named))
    with _page(console) as page:
        page.print(table)


@contextmanager
def _page(console: Console | None) -> Iterator[Console]:
    """A console of the same looks, whose text goes to the real one's stream at the end.

    Rich does not get to write there itself: where nobody reads any more it would end the process.
    """
    from rich.console import Console

    console = console or Console()
    text = io.StringIO()
    colors: Any = console.color_system
    looks = {"width": console.width, "force_terminal": console.is_terminal, "color_system": colors}
    yield Console(file=text, highlight=False, legacy_windows=False, **looks)
    with suppress(BrokenPipeError):
        write("".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines()), console.file)


def _line(console: Console, text: Any) -> None:
    """Print one line that the terminal may wrap, but which is copied as one."""
    console.print(text, soft_wrap=True)


def _read(run: Run, *, full: bool) -> tuple[dict[str, TaskLook], dict[str, LoopCounts]]:
    """(the tasks of which a summary may tell, the counts of loops): of a long loop only iterations that failed."""
    records, run_id = run._records, run.run_id
    paths: list[str] = []
    loops: dict[str, int] = {}

    def walk(dag: Dag, prefix: str) -> None:
        for task in dag.tasks:
            path = prefix + task.name
            paths.append(path)
            body = task.component.implementation
            if isinstance(body, Dag) and task.loop is not None:
                loops[path] = len(body.tasks)
            elif isinstance(body, Dag):
                walk(body, f"{path}/")

    walk(run.pipeline.dag, "")
    rows = {look.path: look for look in looks.states(records, run_id, paths)}
    counts = {path: looks.loop_counts(records, run_id, path, body) for path, body in loops.items() if path in rows}
    for path, found in counts.items():
        if full or found.begun <= FOLDED_FROM:
            prefixes = [f"{path}."]
        else:
            failed = looks.failed_in(records, run_id, path, 20 * FOLDED_FROM)
            chosen = sorted({index for look in failed for loop, index in iterations(look.path) if loop == path})
            prefixes = [f"{path}.{index}/" for index in chosen[:FOLDED_FROM]]
        for prefix in prefixes:
            rows.update((look.path, look) for look in looks.beneath(records, run_id, prefix))
    return rows, counts


def _summary_rows(run: Run, *, full: bool) -> Iterator[Row]:
    rows, counts = _read(run, full=full)
    begun: dict[str, set[int]] = {}
    failed: dict[str, set[int]] = {}
    for path, row in rows.items():
        for loop, index in iterations(path):
            begun.setdefault(loop, set()).add(index)
            if row.state == "FAILED":
                failed.setdefault(loop, set()).add(index)

    def walk(dag: Dag, prefix: str, depth: int, label: str) -> Iterator[Row]:
        for task in dag.tasks:
            path = prefix + task.name
            row = rows.get(path)
            if row is None:
                continue
            seconds = None if row.started_at is None or row.finished_at is None else row.finished_at - row.started_at
            note = f"{row.error.type}: {row.error.message}" if row.error is not None else row.reason or ""
            if row.attempt > 1:
                note = f"{row.attempt} attempts" + (f", {note}" if note else "")
            body = task.component.implementation
            indices = sorted(begun.get(path, ()))
            if task.loop is not None and (indices or path in counts):
                bad = failed.get(path, set())
                known = counts.get(path)
                many, worse = (known.begun, known.failed) if known is not None else (len(indices), len(bad))
                note = f"{many:,} iteration{'' if many == 1 else 's'}" + (f", {worse:,} failed" if worse else "")
                if len(indices) > FOLDED_FROM and not full:
                    indices = sorted(bad)[:FOLDED_FROM]
            yield Row(path, label + task.name, depth, row.state, seconds, note)
            if isinstance(body, Dag) and task.loop is None:
                yield from walk(body, f"{path}/", depth + 1, "")
            elif isinstance(body, Dag):
                for index in indices:
                    yield from walk(body, f"{path}.{index}/", depth + 1, f".{index} ")

    return walk(run.pipeline.dag, "", 0, "")


def _task_table(listed: list[Row], metrics: dict[str, dict[str, float | None]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("  task", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("metrics", overflow="fold")
    for row in listed:
        mark, style = mark_of(row.state)
        logged = ", ".join(f"{name} {number(value)}" for name, value in metrics.get(row.path, {}).items())
        note = logged or Text(_short(first_line(row.note), 120), style="red" if row.state == "FAILED" else "dim")
        time_taken = "" if row.seconds is None else duration(row.seconds)
        name = Text.assemble("  " * row.depth, (mark, style), " ", row.name)
        table.add_row(name, Text(row.state, style=style), time_taken, note)
    return table


def _print_failure(run: Run, console: Console, path: str, kind: str, message: str, traceback: str, *, full: bool) -> None:
    from rich.text import Text

    console.print()
    _line(console, Text.assemble((f"{path} failed: {kind}: {message}", "red")))
    lines = traceback.rstrip().splitlines()
    if len(lines) > TRACEBACK_LINES and not full:
        above = f"({len(lines) - TRACEBACK_LINES} lines above: flowcore runs show {run.run_id})"
        lines = [above, *lines[-TRACEBACK_LINES:]]
    for line in lines:
        _line(console, Text(f"  {line}"))
    written = "".join(line.text for line in run._records.logs(run.run_id, path)).rstrip().splitlines()
    if written:
        last = written[-LOG_LINES:]
        left_out = f" (the last {LOG_LINES} of {len(written)} lines)" if len(last) < len(written) else ""
        _line(console, Text(f"  what it wrote{left_out}:", style="dim"))
        for line in last:
            _line(console, Text(f"    {line}"))


def _print_outputs(run: Run, console: Console, listed: list[str]) -> None:
    outputs = looks.outputs(run._records, run.run_id, listed)
    returned = [
        (path if name == "Output" else f"{path}.{name}", _short(repr(value), 200))
        for path in listed
        if not isinstance(task_at(run.pipeline, path).component.implementation, Dag)
        for name, value in outputs.get(path, {}).items()
    ]
    _print_pairs(console, "returned", returned)
    order = {path: place for place, path in enumerate(listed)}
    # Those without contents hold metadata only: their metrics are in the table.
    kept = [(path, ref) for path, _, _, ref in run._records.artifacts(run.run_id) if ref.sha256 is not None or ref.external]
    shown = sorted((item for item in kept if item[0] in order), key=lambda item: order[item[0]])
    # What lies in the run's own folder is told from there.
    own = f"/{run.run_id}/"
    folder = next((f"{ref.uri.partition(own)[0]}/{run.run_id}/" for _, ref in kept if not ref.external), "")
    pairs = [(ref.uri.removeprefix(folder), _describe(ref)) for _, ref in shown]
    if len(shown) < len(kept):
        pairs.append((f"and {len(kept) - len(shown)} more of loops' iterations", ""))
    _print_pairs(console, f"artifacts in {_near(folder)}" if folder else "artifacts", pairs)
    _print_pairs(console, "the pipeline's outputs", [(name, _shown(value)) for name, value in run.outputs.items()])


def _print_pairs(console: Console, title: str, pairs: list[tuple[str, str]]) -> None:
    from rich.text import Text

    if not pairs:
        return
    console.print()
    _line(console, Text(title, style="dim"))
    width = max(min(len(name), 60) for name, _ in pairs)
    for name, value in pairs:
        _line(console, Text(f"  {name:<{width}}  {value}"))


def _describe(ref: ArtifactRef) -> str:
    kind = ref.schema_title.removeprefix("system.")
    return f"{kind}, external" if ref.external else f"{kind}, {size(ref.size_bytes or 0)}"


def _shown(value: Any) -> str:
    if _is_artifact(value):
        return f"{value.schema_title.removeprefix('system.')} {_near(value.uri)}"
    if isinstance(value, list) and value and _is_artifact(value[0]):
        return f"{len(value)} of {_shown(value[0]).partition(' ')[0]}"
    return _short(repr(value), 200)


def _is_artifact(value: Any) -> TypeGuard[Artifact]:
    return hasattr(value, "schema_title")


def mark_of(state: str) -> tuple[str, str]:
    """The mark of a state and its colour."""
    return _MARKS.get(state, ("·", "dim"))


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(0.0, seconds):.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{rest:02}s" if hours else f"{minutes}m{rest:02}s"


def exact(seconds: float) -> str:
    """A duration, of a short one in milliseconds or microseconds."""
    if seconds < 0.001:
        return f"{max(0.0, seconds) * 1e6:.0f}µs"
    return f"{seconds * 1000:.3g}ms" if seconds < 0.1 else duration(seconds)


def number(value: float | None) -> str:
    if value is None:
        return "nan"
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def first_line(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    return f"{first} ..." if rest else first


def _near(path: str) -> str:
    """A local path as the reader's working directory has it."""
    here = os.getcwd()
    return os.path.relpath(path, here) + os.sep * path.endswith(os.sep) if path.startswith(f"{here}{os.sep}") else path


def write(text: str, stream: Any = None) -> None:
    """Write to sys.stdout as it is now; characters that its encoding lacks are replaced."""
    stream = sys.stdout if stream is None else stream
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAINER).encode(encoding, "backslashreplace").decode(encoding)
    stream.write(text)
    stream.flush()
