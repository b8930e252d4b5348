"""Where each task of a pipeline stands in a drawing: layers from top to bottom, nested DAGs as boxes in boxes. Geometry only.

Each DAG is laid out by itself, since edges join siblings: longest-path layers, barycentre order, places near to neighbours.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from flowcore.graph.checks import dependencies
from flowcore.graph.model import Dag, Task

#: Tasks beyond so many in one drawing are counted, not drawn.
LIMIT = 400
#: A layer that is wider goes on in the next row; in pixels, as every length here.
WIDEST = 960.0
GAP, LAYER_GAP, PADDING, LINE = 18.0, 36.0, 14.0, 16.0
LABEL_WIDTH, DUMMY_WIDTH = 230.0, 4.0
#: So many edges that end, or begin, at one task run as one where they pass layers.
BUNDLE = 4
#: How wide a character of 12 px is; generous, since the reader's font is not known.
PLAIN, BOLD = 7.0, 7.9


@dataclass(slots=True)
class Box:
    """A task: its texts, where it lies within its DAG's block, and what is in it where it is a group."""

    task: Task
    path: str
    lines: list[str]
    width: float
    height: float
    inner: Block | None = None
    x: float = 0.0
    y: float = 0.0

    @property
    def header(self) -> float:
        return LINE * len(self.lines) + 12.0


@dataclass(slots=True)
class Edge:
    """The points that an edge goes through; ``data`` is False where the later task only comes after the earlier one."""

    points: list[tuple[float, float]]
    data: bool


@dataclass(slots=True)
class Block:
    """A laid out DAG; ``left_out`` counts tasks that are not drawn."""

    width: float = 0.0
    height: float = 0.0
    boxes: list[Box] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    left_out: int = 0


def text_width(text: str, character: float = PLAIN) -> float:
    """About how wide a text of 12 px is; East Asian characters take twice the room."""
    return sum(character * (2 if unicodedata.east_asian_width(each) in "WF" else 1) for each in text)


def fitted(text: str, width: float, character: float = PLAIN, *, end: bool = False) -> str:
    """The text, cut with an ellipsis where it is wider than ``width``; with ``end`` its end is what is kept."""
    if text_width(text, character) <= width:
        return text
    kept, room = 0, width - text_width("…", character)
    for each in reversed(text) if end else text:
        room -= text_width(each, character)
        if room < 0:
            break
        kept += 1
    return f"…{text[len(text) - kept :]}" if end else f"{text[:kept]}…"


def lay_out(dag: Dag, label: Callable[[str, Task], list[str]]) -> Block:
    """Lay out a DAG and what is nested in it; ``label`` gives the texts of the task at a path without iterations."""
    room = [LIMIT]
    return _block(dag, "", label, room)


def _block(dag: Dag, prefix: str, label: Callable[[str, Task], list[str]], room: list[int]) -> Block:
    drawn = _in_order(dag)[: max(room[0], 1)]
    room[0] -= len(drawn)
    boxes = {task.name: _box(task, prefix + task.name, label, room) for task in drawn}
    needs = {task.name: {name: data for name, data in dependencies(task).items() if name in boxes} for task in drawn}
    layers = _wrapped(_layers(drawn, needs), boxes)
    rows, chains = _with_dummies(layers, needs)
    widths = {name: boxes[name].width if name in boxes else DUMMY_WIDTH for row in rows for name in row}
    neighbours = _neighbours(chains)
    _order(rows, neighbours)
    centres = _centres(rows, widths, neighbours)
    block = _placed(rows, boxes, widths, centres, chains, needs)
    block.left_out = len(dag.tasks) - len(drawn)
    return block


def _box(task: Task, path: str, label: Callable[[str, Task], list[str]], room: list[int]) -> Box:
    lines = label(path, task)
    widest = max(text_width(line, BOLD if place == 0 else PLAIN) for place, line in enumerate(lines))
    body = task.component.implementation
    if not isinstance(body, Dag):
        return Box(task, path, lines, max(96.0, min(widest, LABEL_WIDTH) + 30), LINE * len(lines) + 14)
    inner = _block(body, f"{path}/", label, room)
    width = max(inner.width, min(widest, max(LABEL_WIDTH * 1.5, inner.width)) + 12, 120.0) + 2 * PADDING
    more = LINE if inner.left_out else 0.0
    return Box(task, path, lines, width, LINE * len(lines) + 12 + inner.height + PADDING + 6 + more, inner)


def _in_order(dag: Dag) -> list[Task]:
    """The tasks, each after those that it waits for, else as they were authored."""
    tasks = {task.name: task for task in dag.tasks}
    found: dict[str, Task] = {}
    for first in dag.tasks:
        todo = [first]
        while todo:
            task = todo[-1]
            open_ = [tasks[name] for name in dependencies(task) if name in tasks and name not in found]
            if open_ and task.name not in found:
                todo.extend(reversed(open_))
            else:
                found.setdefault(todo.pop().name, task)
    return list(found.values())


def _layers(tasks: list[Task], needs: dict[str, dict[str, bool]]) -> list[list[str]]:
    level: dict[str, int] = {}
    for task in tasks:
        level[task.name] = 1 + max((level[name] for name in needs[task.name]), default=-1)
    layers: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
    for name, place in level.items():
        layers[place].append(name)
    return layers


def _wrapped(layers: list[list[str]], boxes: dict[str, Box]) -> list[list[str]]:
    rows: list[list[str]] = []
    for layer in layers:
        width = 0.0
        rows.append([])
        for name in layer:
            width += boxes[name].width + GAP
            if width > WIDEST and rows[-1]:
                rows.append([])
                width = boxes[name].width + GAP
            rows[-1].append(name)
    return rows


def _with_dummies(
    layers: list[list[str]], needs: dict[str, dict[str, bool]]
) -> tuple[list[list[str]], dict[tuple[str, str], list[str]]]:
    """The layers with a place kept for each edge or bundle that passes one, and the names that each edge goes through."""
    leaving: dict[str, int] = {}
    for needed in needs.values():
        for other in needed:
            leaving[other] = leaving.get(other, 0) + 1
    level = {name: place for place, layer in enumerate(layers) for name in layer}
    rows = [list(layer) for layer in layers]
    chains: dict[tuple[str, str], list[str]] = {}
    kept: set[str] = set()
    for name, needed in needs.items():
        for other in needed:
            passed = range(level[other] + 1, level[name])
            # A slash is in no task's name. Edges over many layers would fill the drawing with places kept for them.
            way = f"/{name}" if len(needed) >= BUNDLE else f"{other}/" if leaving[other] >= BUNDLE else f"{other}/{name}"
            dummies = [f"{way}/{place}" for place in passed] if len(passed) <= 12 else []
            for place, dummy in zip(passed, dummies, strict=False):
                if dummy not in kept:
                    kept.add(dummy)
                    rows[place].append(dummy)
            chains[other, name] = [other, *dummies, name]
    return rows, chains


def _neighbours(chains: dict[tuple[str, str], list[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """(those above, those below) by name."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    for chain in chains.values():
        for upper, lower in pairwise(chain):
            found.setdefault(upper, ([], []))[1].append(lower)
            found.setdefault(lower, ([], []))[0].append(upper)
    return found


def _order(rows: list[list[str]], neighbours: dict[str, tuple[list[str], list[str]]]) -> None:
    """Sort each row by the mean place of its neighbours, downwards and upwards in turn: few edges cross."""
    places = {name: float(place) for row in rows for place, name in enumerate(row)}
    for sweep in range(6):
        side = sweep % 2
        for row in rows if side == 0 else reversed(rows):
            means = {name: _mean([places[other] for other in neighbours.get(name, ([], []))[side]], places[name]) for name in row}
            row.sort(key=means.__getitem__)
            places.update({name: float(place) for place, name in enumerate(row)})


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _centres(
    rows: list[list[str]], widths: dict[str, float], neighbours: dict[str, tuple[list[str], list[str]]]
) -> dict[str, float]:
    centres: dict[str, float] = {}
    for row in rows:
        x = -sum(widths[name] + GAP for name in row) / 2
        for name in row:
            centres[name] = x + widths[name] / 2
            x += widths[name] + GAP
    for sweep in range(8):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            wanted = [_mean([centres[other] for side in neighbours.get(n, ([], [])) for other in side], centres[n]) for n in row]
            centres.update(zip(row, _apart(wanted, [widths[name] for name in row]), strict=True))
    return centres


def _apart(wanted: list[float], widths: list[float]) -> list[float]:
    """The wanted centres, moved so that nothing overlaps: the mean of pushing all to the right and all to the left."""
    right, left = list(wanted), list(wanted)
    for place in range(1, len(wanted)):
        right[place] = max(right[place], right[place - 1] + (widths[place - 1] + widths[place]) / 2 + GAP)
    for place in range(len(wanted) - 2, -1, -1):
        left[place] = min(left[place], left[place + 1] - (widths[place + 1] + widths[place]) / 2 - GAP)
    return [(a + b) / 2 for a, b in zip(right, left, strict=True)]


def _placed(
    rows: list[list[str]],
    boxes: dict[str, Box],
    widths: dict[str, float],
    centres: dict[str, float],
    chains: dict[tuple[str, str], list[str]],
    needs: dict[str, dict[str, bool]],
) -> Block:
    leftmost = min((centres[name] - widths[name] / 2 for row in rows for name in row), default=0.0)
    rightmost = max((centres[name] + widths[name] / 2 for row in rows for name in row), default=0.0)
    tops: dict[str, float] = {}
    ends: dict[str, float] = {}
    y = 0.0
    for row in rows:
        height = max((boxes[name].height for name in row if name in boxes), default=0.0)
        for name in row:
            own = boxes[name].height if name in boxes else height
            tops[name] = y + (height - own) / 2
            ends[name] = tops[name] + own
        y += height + LAYER_GAP
    for name, box in boxes.items():
        box.x, box.y = centres[name] - leftmost - box.width / 2, tops[name]
    edges = []
    for (other, name), chain in chains.items():
        points = [(centres[other] - leftmost, ends[other])]
        for dummy in chain[1:-1]:
            points += [(centres[dummy] - leftmost, tops[dummy]), (centres[dummy] - leftmost, ends[dummy])]
        edges.append(Edge([*points, (centres[name] - leftmost, tops[name])], needs[name][other]))
    return Block(rightmost - leftmost, max(0.0, y - LAYER_GAP), list(boxes.values()), edges)
