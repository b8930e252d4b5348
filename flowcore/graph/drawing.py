"""A pipeline as Mermaid or DOT text. One walk, two syntaxes; labels are escaped, names never become syntax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flowcore.graph.bindings import describe, describe_condition
from flowcore.graph.checks import dependencies
from flowcore.graph.model import Dag, Pipeline, Task


@dataclass(frozen=True)
class _Mark:
    """One step of the walk: a node, an edge, the start of a nested DAG ("open") or its end ("close")."""

    kind: str
    first: str = ""
    second: str = ""


def _walk(dag: Dag, prefix: str) -> Iterator[_Mark]:
    ids = {task.name: f"{prefix}{number}" for number, task in enumerate(dag.tasks)}
    for task in dag.tasks:
        own = ids[task.name]
        if isinstance(task.component.implementation, Dag):
            yield _Mark("open", own, _label(task))
            yield from _walk(task.component.implementation, f"{own}_")
            yield _Mark("close")
        else:
            yield _Mark("node", own, _label(task))
    for task in dag.tasks:
        for needed, reads in dependencies(task).items():
            yield _Mark("edge" if reads else "after", ids[needed], ids[task.name])


def _label(task: Task) -> str:
    parts = [task.settings.display_name or task.name]
    if task.condition is not None:
        parts.append(f"if {describe_condition(task.condition)}")
    if task.loop is not None:
        parts.append(f"for each of {describe(task.loop.items)}")
    return "\n".join(parts)


#: Mermaid reads labels as HTML, ``#`` as the start of its own entities and a backtick as Markdown.
_MERMAID = {"&": "&amp;", '"': "&quot;", "<": "&lt;", ">": "&gt;", "#": "&#35;", "`": "&#96;", "\n": "<br/>"}


def _mermaid_text(text: str) -> str:
    return "".join(_MERMAID.get(character, character) for character in text)


def to_mermaid(pipeline: Pipeline) -> str:
    lines, depth = ["flowchart TD"], 1
    for mark in _walk(pipeline.dag, "t"):
        depth -= mark.kind == "close"
        text = {
            "open": f'subgraph {mark.first}["{_mermaid_text(mark.second)}"]',
            "close": "end",
            "node": f'{mark.first}["{_mermaid_text(mark.second)}"]',
            "edge": f"{mark.first} --> {mark.second}",
            "after": f"{mark.first} -.-> {mark.second}",
        }[mark.kind]
        lines.append("    " * depth + text)
        depth += mark.kind == "open"
    return "\n".join(lines) + "\n"


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def to_dot(pipeline: Pipeline) -> str:
    # DOT has no edges between clusters: each cluster gets an invisible point that stands for it.
    lines, depth = [f'digraph "{_dot_text(pipeline.name)}" {{', "  compound=true; node [shape=box];"], 1
    for mark in _walk(pipeline.dag, "t"):
        depth -= mark.kind == "close"
        point = f'{mark.first} [shape=point, style=invis, label=""];'
        text = {
            "open": f'subgraph cluster_{mark.first} {{ label="{_dot_text(mark.second)}"; {point}',
            "close": "}",
            "node": f'{mark.first} [label="{_dot_text(mark.second)}"];',
            "edge": f"{mark.first} -> {mark.second};",
            "after": f"{mark.first} -> {mark.second} [style=dashed];",
        }[mark.kind]
        lines.append("  " * depth + text)
        depth += mark.kind == "open"
    return "\n".join([*lines, "}"]) + "\n"
