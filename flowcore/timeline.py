"""A run's attempts as bars over time, one lane a task or a worker; too many lanes or bars are folded. It only draws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

from flowcore.errors import UsageError
from flowcore.graph.layout import fitted
from flowcore.graph.svg import STATES, STYLE, svg_head
from flowcore.picture import Picture
from flowcore.report import duration, exact
from flowcore.run_state import TERMINAL

if TYPE_CHECKING:
    from flowcore.runs import Run

By = Literal["task", "worker"]
#: With more lanes than this, loops are folded into one lane for each place of the pipeline.
LANES = 200
#: With more bars than this in one lane, the lane shows how many ran at each moment.
BARS = 200
WIDTH, LABELS, ROW, TOP = 1120, 280, 20, 26


@dataclass(slots=True)
class Bar:
    """One attempt; times are UTC seconds since 1970."""

    path: str
    attempt: int
    state: str
    begin: float
    end: float
    note: str = ""


@dataclass(slots=True)
class Lane:
    name: str
    bars: list[Bar] = field(default_factory=list)
    folded: bool = False


class Timeline:
    """The chart of a run: ``svg()`` gives it as text, a notebook shows it by itself.

    Args:
        by: "task", a lane for each task in the order of their starts; or "worker", a lane for each place where tasks ran.

    Raises:
        UsageError: another ``by``.
    """

    def __init__(self, run: Run, by: By = "task", *, picture: Picture | None = None) -> None:
        if by not in ("task", "worker"):
            raise UsageError(f"timeline(by={by!r}): 'task' or 'worker'")
        self._picture = picture or Picture(run)
        row = self._picture.row
        self._begin = row.started_at or row.created_at
        bars = sorted(self._bars(row.finished_at), key=lambda item: (item[1].begin, item[1].path, item[1].attempt))
        self._end = max([row.finished_at or self._begin, *(bar.end for _, bar in bars)])
        self.lanes, self.left_out = self._lanes(bars, by)

    def _bars(self, ended: float | None) -> Iterator[tuple[str | None, Bar]]:
        """(where it ran, bar) of every attempt of tasks that are no groups."""
        groups: dict[str, bool] = {}
        now = max([row.finished_at or row.started_at or 0.0 for row in self._picture.tasks.values()], default=0.0)
        for path, row in self._picture.tasks.items():
            for old in self._picture.attempts.get(path, ()):
                if old.started_at is not None and old.finished_at is not None:
                    why = f"{old.error.type}: {old.error.message}" if old.error is not None else old.reason or ""
                    yield old.place, Bar(path, old.number, "FAILED", old.started_at, old.finished_at, why)
            place = self._picture.place(path)
            if place not in groups:
                groups[place] = self._picture.is_group(place)
            if row.started_at is None or groups[place] or row.state in ("WAITING", "SUBMITTED"):
                continue
            end = row.finished_at if row.state in TERMINAL else ended or now
            note = f"{row.error.type}: {row.error.message}" if row.error is not None else row.reason or ""
            yield row.place, Bar(path, row.attempt, row.state, row.started_at, end or row.started_at, note)

    def _lanes(self, bars: list[tuple[str | None, Bar]], by: By) -> tuple[list[Lane], int]:
        lanes: dict[str, Lane] = {}
        if by == "worker":
            for where, bar in bars:
                lanes.setdefault(where or "elsewhere", Lane(where or "elsewhere")).bars.append(bar)
        else:
            fold = len({bar.path for _, bar in bars}) > LANES
            for _, bar in bars:
                place = self._picture.place(bar.path) if fold else bar.path
                lanes.setdefault(place, Lane(place)).bars.append(bar)
        shown = list(lanes.values())
        for lane in shown:
            lane.folded = len(lane.bars) > BARS
        return shown[:LANES], max(0, len(shown) - LANES)

    @property
    def seconds(self) -> float:
        """The length of the time that it shows."""
        return max(self._end - self._begin, 1e-6)

    def svg(self, *, style: bool = True) -> str:
        """The chart as an SVG that needs nothing else."""
        height = TOP + ROW * len(self.lanes) + 12 + ROW * bool(self.left_out)
        title = f"The timeline of run {self._picture.run.run_id}"
        parts = [
            svg_head(title, WIDTH, height),
            f"<style>{STYLE}</style>" if style else "",
            *self._axis(height),
        ]
        for number, lane in enumerate(self.lanes):
            parts += self._lane(lane, TOP + ROW * number)
        if self.left_out:
            parts.append(f'<text class="s" x="8" y="{height - 12}">and {self.left_out:,} more lanes</text>')
        return "".join([*parts, "</svg>"])

    __str__ = svg
    _repr_svg_ = svg

    def _repr_html_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        bars = sum(len(lane.bars) for lane in self.lanes)
        return f"<timeline of run {self._picture.run.run_id}: {bars} attempts in {len(self.lanes)} lanes>"

    def _x(self, at: float) -> float:
        share = (at - self._begin) / self.seconds
        return LABELS + max(0.0, min(1.0, share)) * (WIDTH - LABELS - 16)

    def _axis(self, height: int) -> Iterator[str]:
        step = _step(self.seconds)
        for number in range(int(self.seconds / step + 1e-9) + 1):
            x = self._x(self._begin + number * step)
            yield f'<path class="e" style="opacity:.35" d="M{x:.1f} {TOP - 6}V{height - 8}"/>'
            yield f'<text class="s" x="{x:.1f}" y="14" text-anchor="middle">{_tick(number * step, step)}</text>'

    def _lane(self, lane: Lane, y: int) -> Iterator[str]:
        label = escape(fitted(lane.name, LABELS - 24, end=True))
        yield f'<g><title>{escape(lane.name)}</title><text x="8" y="{y + 14}">{label}</text></g>'
        if lane.folded:
            yield from self._density(lane, y)
            return
        for bar in lane.bars:
            x = self._x(bar.begin)
            width = max(self._x(bar.end) - x, 2.0)
            tried = f", attempt {bar.attempt}" if bar.attempt > 1 or bar.state == "FAILED" else ""
            told = f"{bar.path}: {bar.state}{tried}, {exact(bar.end - bar.begin)}" + (f"\n{bar.note}" if bar.note else "")
            yield f'<g><title>{escape(told)}</title><rect class="b {bar.state}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" '
            yield f'height="{ROW - 6}" rx="2"/>'
            if bar.state not in ("SUCCEEDED", "RUNNING"):
                # The mark in the bar, or beside a narrow one, tells what the colour tells.
                mark = STATES[bar.state][0]
                inside = width > 16
                place = x + 3 if inside else min(x + width + 2, WIDTH - 12)
                look = 'style="fill:var(--fc-ground)"' if inside else f'class="{bar.state}"'
                yield f'<text {look} x="{place:.1f}" y="{y + 14}">{mark}</text>'
            yield "</g>"

    def _density(self, lane: Lane, y: int) -> Iterator[str]:
        """Steps that are as high as many attempts ran at once, and a tick above for each moment with a failure."""
        bins = 240
        size = self.seconds / bins
        busy, failed = [0.0] * bins, set()
        for bar in lane.bars:
            first, last = self._bin(bar.begin, size, bins), self._bin(bar.end, size, bins)
            for place in range(first, last + 1):
                begin = self._begin + place * size
                busy[place] += max(0.0, min(bar.end, begin + size) - max(bar.begin, begin)) / size
            if bar.state == "FAILED":
                failed.add(last)
        most = max(*busy, 1e-9)
        wide = (WIDTH - LABELS - 16) / bins
        points = [f"M{LABELS} {y + ROW - 3}"]
        for place, value in enumerate(busy):
            points.append(f"V{y + ROW - 3 - value / most * (ROW - 8):.1f}H{LABELS + (place + 1) * wide:.1f}")
        failures = sum(bar.state == "FAILED" for bar in lane.bars)
        told = f"{lane.name}: {len(lane.bars):,} attempts, up to {max(1, round(most))} at once, {failures:,} failed"
        fill = 'style="fill:var(--fc-SUCCEEDED);opacity:.8"'
        yield f'<g><title>{escape(told)}</title><path {fill} d="{"".join(points)}V{y + ROW - 3}Z"/>'
        for place in sorted(failed):
            yield f'<rect class="b FAILED" x="{LABELS + place * wide:.1f}" y="{y + 1}" width="{max(wide, 2):.1f}" height="4"/>'
        yield "</g>"

    def _bin(self, at: float, size: float, bins: int) -> int:
        return max(0, min(bins - 1, int((at - self._begin) / size)))


def _step(seconds: float) -> float:
    """A round step that gives at most eight ticks."""
    for unit in (0.001, 0.01, 0.1, 1.0, 10.0):
        for factor in (1, 2, 5):
            if seconds / (unit * factor) <= 8:
                return unit * factor
    for step in (60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400):
        if seconds / step <= 8:
            return float(step)
    return float(math.ceil(seconds / 8 / 86400) * 86400)


def _tick(seconds: float, step: float) -> str:
    if step < 0.1:
        return f"{seconds * 1000:.0f}ms"
    if step < 1:
        return f"{seconds:.1f}s"
    return duration(seconds) if seconds >= 60 else f"{seconds:.0f}s"
