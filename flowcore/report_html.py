"""A run as one HTML file that opens from disk: graph, states, timeline, logs, metrics, artifacts, errors. It only reads.

However large a run is, the page stays small: what is left out is said in numbers.
"""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, Any

from flowcore import looks
from flowcore.board import Board
from flowcore.graph import Dag
from flowcore.graph.svg import COLOURS, STATES, to_svg
from flowcore.page import badge, cut, document, folded, left_out, mark, pairs, section, table, text, value
from flowcore.picture import Picture
from flowcore.records import RunRow
from flowcore.report import duration, exact, first_line, number, size
from flowcore.task_list import TaskList, describe, metadata
from flowcore.timeline import Timeline

if TYPE_CHECKING:
    from flowcore.artifacts.types import ArtifactRef
    from flowcore.executor import TaskError
    from flowcore.graph import Pipeline
    from flowcore.runs import Run

FAILURES, ROWS, SINGLE_ROWS = 20, 200, 10


def run_to_html(run: Run) -> str:
    """The whole page of a run, finished or not."""
    picture = Picture(run)
    row = picture.row
    artifacts = run._records.artifacts(run.run_id)
    body = [
        _header(picture),
        section("What failed", _failures(picture)),
        section("Outputs", _outputs(row)),
        section("Graph", f'<div class="chart wide">{to_svg(run.pipeline, picture.marks(), style=False)}</div>'),
        section("Timeline", _timelines(run, picture)),
        section("Tasks", TaskList(picture).html()),
        section("Metrics", _metrics(picture)),
        section("Artifacts", _artifacts(artifacts)),
        section("Arguments", pairs((name, _stored(data)) for name, data in row.arguments.items())),
        section("Environment", _environment(picture)),
    ]
    return document(f"{row.pipeline} · {row.state} · {row.run_id}", "".join(body))


def run_to_snippet(run: Run) -> str:
    """A run in a notebook's cell: its state, its graph, its failures."""
    picture = Picture(run)
    failures = "".join(
        f'<p>{mark("FAILED")} <b>{text(path)}</b> {text(cut(first_line(f"{error.type}: {error.message}"), 300))}</p>'
        for path, error in _failed(picture)[:FAILURES]
    )
    more = left_out(len(_failed(picture)) - FAILURES, "failures")
    outputs = pairs((name, _stored(data)) for name, data in picture.row.outputs.items())
    return _snippet(f"{_head_line(picture)}{failures}{more}{outputs}{to_svg(run.pipeline, picture.marks())}")


def live_html(board: Board, began: float) -> str:
    """A run that goes on, in a notebook's cell."""
    now = time.time()
    run = board.run
    rows = [
        (
            f'<span style="padding-left:{row.depth * 1.4}em">{mark(row.state)} {text(row.name)}</span>',
            f'<span class="{row.state}">{row.state}</span>',
            "" if row.seconds is None else duration(row.seconds),
            f'<span class="soft">{text(first_line(row.note))}</span>',
        )
        for row in board.rows(now)
    ]
    more = left_out(len(rows) - ROWS, "tasks")
    head = f"<p><b>{text(run.pipeline.name)}</b> {duration(now - began)} <small>{text(run.run_id)}</small></p>"
    return _snippet(f"{head}{table((), rows[:ROWS])}{more}")


def runs_to_snippet(rows: list[RunRow]) -> str:
    """Recorded runs in a notebook's cell."""
    cells = [
        (
            f'<code style="white-space:nowrap">{text(row.run_id)}</code>',
            f'<span class="{row.state}" style="white-space:nowrap">{mark(row.state)} {row.state}</span>',
            _clock(row.created_at),
            _took(row),
            text(f"{row.pipeline} ({row.name})" if row.name else row.pipeline),
        )
        for row in rows
    ]
    return _snippet(table(("run", "state", "began", "time", "pipeline"), cells))


def _snippet(body: str) -> str:
    states = "".join(f".flowcore .{name}{{color:var(--fc-{name})}}" for name in STATES)
    looks_ = (
        f"<style>{COLOURS}{states}.flowcore.cell{{background:var(--fc-ground);color:var(--fc-ink);padding:8px;border-radius:6px}}"
        ".flowcore.cell td,.flowcore.cell th{text-align:left;color:var(--fc-ink);background:none;padding:2px 14px 2px 0}"
        ".flowcore.cell code{color:inherit;background:none;white-space:pre-wrap;overflow-wrap:anywhere}"
        ".flowcore.cell .soft{color:var(--fc-soft)}</style>"
    )
    return f'<div class="flowcore cell">{looks_}{body}</div>'


def _header(picture: Picture) -> str:
    row = picture.row
    counts = picture.state_counts()
    told = " ".join(f'<span class="{state}">{mark(state)} {count:,} {state.lower()}</span>' for state, count in counts.items())
    named = f' <span class="soft">({text(row.name)})</span>' if row.name else ""
    began = row.started_at or row.created_at
    took = _took(row)
    return (
        f"<header><h1>{text(row.pipeline)}{named}</h1>"
        f'<p>{badge(row.state)} &nbsp;{f"in <b>{took}</b>, " if took else ""}began {_clock(began)}'
        f' &nbsp;<span class="soft">run</span> <code>{text(row.run_id)}</code></p><p>{told}</p>'
        f'{f"<p>{text(cut(picture.run.pipeline.description))}</p>" if picture.run.pipeline.description else ""}</header>'
    )


def _head_line(picture: Picture) -> str:
    row = picture.row
    took = _took(row)
    return (
        f"<p>{mark(row.state)} <b class={row.state}>{row.state}</b> <b>{text(row.pipeline)}</b>{f' in {took}' if took else ''}"
        f" <small>{text(row.run_id)}</small></p>"
    )


def _failed(picture: Picture) -> list[tuple[str, TaskError]]:
    rows = [row for row in picture.tasks.values() if row.state == "FAILED" and row.error is not None]
    rows.sort(key=lambda row: row.finished_at or 0.0)
    return [(row.path, row.error) for row in rows if row.error is not None]


def _failures(picture: Picture) -> str:
    failed = _failed(picture)
    parts = []
    for path, error in failed[:FAILURES]:
        trace = f"<pre>{text(cut(error.traceback, 20_000))}</pre>" if error.traceback else ""
        told = text(cut(first_line(f"{error.type}: {error.message}")))
        parts.append(
            f'<div class="fail"><b class="FAILED">✗ {text(path)}</b> <code>{told}</code>'
            f"{folded('traceback', trace, opened=len(failed) <= 3) if trace else ''}</div>"
        )
    return "".join(parts) + left_out(len(failed) - FAILURES, "failures")


def _outputs(row: RunRow) -> str:
    return pairs((name, _stored(data)) for name, data in row.outputs.items())


def _stored(data: dict[str, Any]) -> str:
    """A value or an artifact as a run's row keeps it."""
    if "artifact" in data:
        from flowcore.artifacts.types import ArtifactRef

        return describe(ArtifactRef.from_json(data["artifact"]))
    if "list" in data:
        shown = "".join(f"<li>{_stored(item)}</li>" for item in data["list"][:SINGLE_ROWS])
        return f"<ol>{shown}</ol>{left_out(len(data['list']) - SINGLE_ROWS, 'items')}"
    return value(data.get("value"))


def _timelines(run: Run, picture: Picture) -> str:
    by_task, by_worker = Timeline(run, "task", picture=picture), Timeline(run, "worker", picture=picture)
    if not by_task.lanes:
        return '<p class="soft">No task has begun.</p>'
    workers = f'<div class="chart">{by_worker.svg(style=False)}</div>'
    return f'<div class="chart">{by_task.svg(style=False)}</div>{folded("by worker", workers)}'


def _metrics(picture: Picture) -> str:
    series: dict[tuple[str, str], dict[str, list[tuple[int | None, float | None]]]] = {}
    for path, name, step, number_ in picture.run._records.metrics(picture.run.run_id):
        series.setdefault((picture.place(path), name), {}).setdefault(path, []).append((step, number_))
    single: list[tuple[str, ...]] = []
    many: list[tuple[str, ...]] = []
    for (place, name), by_path in series.items():
        if len(by_path) > SINGLE_ROWS:
            many.append(_many(place, name, {path: points[-1][1] for path, points in by_path.items()}))
            continue
        for path, points in by_path.items():
            single.append((text(path), text(name), text(number(points[-1][1])), _curve([last for _, last in points])))
    parts = []
    if single:
        parts.append(table(("task", "metric", "value", "reported"), single[:ROWS], (2,)))
        parts.append(left_out(len(single) - ROWS, "metrics"))
    if many:
        head = ("task", "metric", "tasks", "least", "mean", "greatest", "of the least", "of the greatest")
        parts.append(table(head, many[:ROWS], (2, 3, 4, 5)))
        parts.append(left_out(len(many) - ROWS, "metrics"))
    return "".join(parts)


def _many(place: str, name: str, last: dict[str, float | None]) -> tuple[str, ...]:
    known = {path: found for path, found in last.items() if found is not None}
    head = (text(place), text(name), f"{len(last):,}")
    if not known:
        return (*head, "nan", "nan", "nan", "", "")
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    mean = sum(known.values()) / len(known)
    return (*head, number(known[least]), number(mean), number(known[most]), text(least), text(most))


def _curve(points: list[float | None]) -> str:
    """A small line of what was reported over time; empty for a single value."""
    known = [point for point in points if point is not None and abs(point) != float("inf")]
    if len(known) < 2:
        return ""
    known = known[:: max(1, len(known) // 120)]
    low, high = min(known), max(known)
    scale = 26 / (high - low) if high > low else 0.0
    step = 116 / (len(known) - 1)
    line = " ".join(f"{2 + place * step:.1f},{28 - (point - low) * scale:.1f}" for place, point in enumerate(known))
    told = f"{len(points):,} values from {number(points[0])} to {number(points[-1])}"
    return (
        f'<svg viewBox="0 0 120 30" width="120" height="30" role="img"><title>{text(told)}</title>'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5"/></svg>'
    )


def _artifacts(found: list[tuple[str, str, int, ArtifactRef]]) -> str:
    rows = []
    for path, port, position, ref in found[:ROWS]:
        kept = ref.sha256 is not None or ref.external
        lies = f"<code>{text(ref.uri)}</code>" if kept else '<span class="soft">metadata only</span>'
        digest = f"<br><span class='soft small'>sha256 <code>{text(ref.sha256)}</code></span>" if ref.sha256 is not None else ""
        data = f"<br>{metadata(ref.metadata)}" if ref.metadata else ""
        held = "external" if ref.external else "" if ref.size_bytes is None else size(ref.size_bytes)
        name = port if position < 0 else f"{port}[{position}]"
        rows.append((text(path), text(name), text(ref.schema_title.removeprefix("system.")), held, f"{lies}{digest}{data}"))
    head = ("task", "name", "type", "size", "where it lies")
    return (table(head, rows, (3,)) if rows else "") + left_out(len(found) - ROWS, "artifacts")


def _environment(picture: Picture) -> str:
    from flowcore import __version__

    run, row = picture.run, picture.row
    driver, _ = looks.driver(run._records, run.run_id)
    rows = [
        ("executor", f"<code>{text(row.executor or '')}</code>"),
        ("driver", text(driver)),
        ("pipeline hash", f"<code>{text(row.pipeline_hash)}</code>"),
        ("pipeline root", f"<code>{text(row.pipeline_root or '')}</code>"),
        ("record", f"<code>{text(run._records.path or 'in memory')}</code>"),
        ("created", _clock(row.created_at)),
        ("ended", "" if row.finished_at is None else _clock(row.finished_at)),
        ("this page", text(f"written {_clock(time.time())} by flowcore {__version__}, Python {platform.python_version()}")),
    ]
    return pairs(rows) + folded("components", _components(run.pipeline))


def _components(pipeline: Pipeline) -> str:
    from flowcore.graph.walk import leaf_components

    rows = []
    for component in leaf_components(pipeline.root):
        body = component.implementation
        if not isinstance(body, Dag):
            packages = ", ".join(body.packages)
            rows.append((text(component.name), f"<code>{text(body.module)}:{text(body.qualname)}</code>", text(packages)))
    return table(("component", "function", "packages"), rows[:ROWS]) + left_out(len(rows) - ROWS, "components")


def _took(row: RunRow) -> str:
    return "" if row.started_at is None or row.finished_at is None else exact(row.finished_at - row.started_at)


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))
