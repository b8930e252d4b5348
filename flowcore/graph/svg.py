"""A pipeline as one SVG that needs nothing else: no font, no script, no network. Every text is escaped.

A state shows by its colour, its mark, its word and the box's outline; the colours follow the reader's light or dark scheme.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

from flowcore.graph.bindings import describe, describe_condition
from flowcore.graph.layout import BOLD, LINE, PADDING, PLAIN, Block, Box, fitted, lay_out
from flowcore.graph.model import Pipeline, Task

#: (mark, colour on light ground, colour on dark ground, dashes of the outline) by state.
STATES = {
    "SUCCEEDED": ("✓", "#1a7f37", "#4ac26b", ""),
    "REUSED": ("↺", "#0f766e", "#5eead4", ""),
    "FAILED": ("✗", "#c81e1e", "#ff7b72", ""),
    "CANCELED": ("⊘", "#9a5b00", "#e3b341", "6 3"),
    "SKIPPED": ("–", "#6b7280", "#8b949e", "3 3"),
    "RUNNING": ("●", "#0a5fc4", "#6cb6ff", ""),
    "SUBMITTED": ("○", "#4b5563", "#a3acb8", "1 3"),
    "READY": ("○", "#4b5563", "#a3acb8", "1 3"),
    "WAITING": ("○", "#4b5563", "#a3acb8", "1 3"),
    "PENDING": ("○", "#4b5563", "#a3acb8", "1 3"),
}
_LIGHT = {"ink": "#1f2328", "soft": "#59636e", "line": "#9aa4af", "ground": "#ffffff", "card": "#f6f8fa"}
_DARK = {"ink": "#e6edf3", "soft": "#9ea7b3", "line": "#57606a", "ground": "#0d1117", "card": "#161b22"}


def _variables(dark: bool) -> str:
    plain = _DARK if dark else _LIGHT
    states = {name: look[2 if dark else 1] for name, look in STATES.items()}
    return "".join(f"--fc-{name}:{value};" for name, value in {**plain, **states}.items())


#: The colours as CSS variables, for whatever has the class ``flowcore``; paper is always light.
COLOURS = (
    f".flowcore{{{_variables(dark=False)}color-scheme:light dark}}"
    f"@media screen and (prefers-color-scheme:dark){{.flowcore{{{_variables(dark=True)}}}}}"
)
STYLE = COLOURS + (
    ".fc-svg{background:var(--fc-ground);font:12px system-ui,sans-serif;max-width:100%;height:auto}"
    ".fc-svg text{fill:var(--fc-ink)}.fc-svg text.s{fill:var(--fc-soft)}.fc-svg text.n{font-weight:600}"
    ".fc-svg rect.t{fill:var(--fc-ground);stroke:var(--fc-line);stroke-width:1.5}"
    ".fc-svg rect.g{fill:var(--fc-card);stroke:var(--fc-line)}"
    ".fc-svg path.e{fill:none;stroke:var(--fc-line);stroke-width:1.4}.fc-svg path.h{fill:var(--fc-line);stroke:none}"
    ".fc-svg path.a{stroke-dasharray:5 4}"
) + "".join(
    f".fc-svg .{name} rect.o{{stroke:var(--fc-{name});stroke-dasharray:{look[3] or 'none'}}}"
    f".fc-svg text.{name}{{fill:var(--fc-{name})}}.fc-svg rect.b.{name}{{fill:var(--fc-{name})}}"
    for name, look in STATES.items()
)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a drawing tells of a task: its state and a line of text."""

    state: str
    text: str = ""


def to_svg(pipeline: Pipeline, marks: Mapping[str, Mark] | None = None, *, style: bool = True) -> str:
    """Draw a pipeline, with ``marks`` by path (without iterations) the states of a run of it."""

    def label(path: str, task: Task) -> list[str]:
        lines = [task.name]
        if task.condition is not None:
            lines.append(f"if {describe_condition(task.condition)}")
        if task.loop is not None:
            lines.append(f"for each of {describe(task.loop.items)}")
        if marks is not None:
            lines.append(_state_line(marks.get(path, Mark("WAITING"))))
        return lines

    block = lay_out(pipeline.dag, label)
    note = LINE if block.left_out else 0.0
    width, height = block.width + 2 * PADDING, block.height + 2 * PADDING + note
    title = f"The graph of {pipeline.name}"
    parts = [
        svg_head(title, width, height),
        f"<style>{STYLE}</style>" if style else "",
    ]
    _draw(block, PADDING, PADDING, marks, parts)
    parts.append("</svg>")
    return "".join(parts)


def svg_head(title: str, width: float, height: float) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="flowcore fc-svg" role="img" aria-label="{escape(title)}" {size}>'


def _state_line(mark: Mark) -> str:
    return f"{STATES[mark.state][0]} {mark.state}{'  ' if mark.text else ''}{mark.text}"


def _draw(block: Block, x: float, y: float, marks: Mapping[str, Mark] | None, parts: list[str]) -> None:
    for edge in block.edges:
        points = [(x + a, y + b) for a, b in edge.points]
        parts.append(f'<path class="e{"" if edge.data else " a"}" d="{_curve(points)}"/>')
        a, b = points[-1]
        parts.append(f'<path class="h" d="M{a:.1f} {b:.1f}l-4 -8h8z"/>')
    for box in block.boxes:
        mark = None if marks is None else marks.get(box.path, Mark("WAITING"))
        _draw_box(box, x + box.x, y + box.y, mark, parts)
        if box.inner is not None:
            inside = x + box.x + (box.width - box.inner.width) / 2
            _draw(box.inner, inside, y + box.y + box.header, marks, parts)
    if block.left_out:
        text = f"and {block.left_out:,} more tasks"
        parts.append(f'<text class="s" x="{x:.1f}" y="{y + block.height + LINE:.1f}">{text}</text>')


def _curve(points: list[tuple[float, float]]) -> str:
    x, y = points[0]
    parts = [f"M{x:.1f} {y:.1f}"]
    for place, (a, b) in enumerate(points[1:], 1):
        if place == len(points) - 1:
            b -= 6  # where the head begins
        middle = (y + b) / 2
        parts.append(f"C{x:.1f} {middle:.1f} {a:.1f} {middle:.1f} {a:.1f} {b:.1f}")
        x, y = a, b
    return "".join(parts)


def _draw_box(box: Box, x: float, y: float, mark: Mark | None, parts: list[str]) -> None:
    group = box.inner is not None
    state = "" if mark is None else f' class="{mark.state}"'
    parts.append(f"<g{state}><title>{escape(chr(10).join([box.path, *box.lines[1:]]))}</title>")
    look = f'class="{"g" if group else "t"} o" rx="{8 if group else 5}"'
    parts.append(f'<rect {look} x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"/>')
    if mark is not None and mark.state == "FAILED":
        # A second outline: a failure shows without colour too.
        parts.append(
            f'<rect class="o" fill="none" rx="3" x="{x + 3:.1f}" y="{y + 3:.1f}" width="{box.width - 6:.1f}"'
            f' height="{box.height - 6:.1f}"/>'
        )
    centre = x + box.width / 2
    for number, line in enumerate(box.lines):
        last = mark is not None and number == len(box.lines) - 1
        kind = "n" if number == 0 else mark.state if last and mark is not None else "s"
        at = f'x="{x + 12:.1f}"' if group else f'x="{centre:.1f}" text-anchor="middle"'
        shown = escape(fitted(line, box.width - 20, BOLD if number == 0 else PLAIN))
        parts.append(f'<text class="{kind}" {at} y="{y + 18 + number * LINE:.1f}">{shown}</text>')
    parts.append("</g>")
