"""Pipelines as Mermaid and DOT: every task once, every dependency, and no name or constant that becomes syntax."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from hypothesis import given, settings

from flowcore.graph import Compare, Component, Constant, Dag, Pipeline, Port, ScopeInput, Settings, Task

from .graphs import INT, STR, every_feature, pipelines, step

HOSTILE = 'say "hi" <b>&amp; `x` #35; \\ {y} end; ] -->\n}'


def hostile() -> Pipeline:
    inner = Component("g", (), (), Dag((Task('quo"te', step(), (("a", Constant(1)),)),)))
    condition = Compare("==", ScopeInput("s"), Constant(HOSTILE))
    return Pipeline(Component('a "name"', (Port("s", STR),), (), Dag((Task("<b>", inner, condition=condition),))))


def test_mermaid_shows_tasks_groups_and_both_kinds_of_edges() -> None:
    text = every_feature().to_mermaid()
    assert text.splitlines() == [
        "flowchart TD",
        '    t0["make"]',
        '    subgraph t1["sweep<br/>if (n &gt;= 3) and ((make.big) or (not (False)))<br/>for each of [1, n]"]',
        '        t1_0["step"]',
        "    end",
        '    t2["use"]',
        "    t0 --> t1",
        "    t0 -.-> t2",
        "    t1 --> t2",
    ]


def test_dot_shows_tasks_groups_and_both_kinds_of_edges() -> None:
    text = every_feature().to_dot()
    assert text.startswith('digraph "every" {')
    assert 'subgraph cluster_t1 { label="sweep\\nif (n >= 3)' in text
    assert "  t0 -> t1;" in text
    assert "  t0 -> t2 [style=dashed];" in text


def test_hostile_text_stays_inside_its_label() -> None:
    mermaid, dot = hostile().to_mermaid(), hostile().to_dot()
    labels = re.findall(r'\["(.*)"\]', mermaid)
    assert len(labels) == 2
    assert not any(character in label.replace("<br/>", "") for label in labels for character in '"<>`')
    assert "#35;" not in mermaid.replace("&#35;", "")
    assert strip_strings(dot).count('"') == 0
    assert strip_strings(dot).count("{") == strip_strings(dot).count("}") == 2


def strip_strings(dot: str) -> str:
    return re.sub(r'"(?:[^"\\]|\\.)*"', "", dot)


def test_long_constants_are_cut() -> None:
    long = Component("g", (), (), Dag((Task("x", step(), (("a", Constant(1)),)),)))
    condition = Compare("==", Constant("y" * 100_000), Constant(1))
    pipeline = Pipeline(Component("p", (Port("n", INT),), (), Dag((Task("g", long, condition=condition),))))
    assert len(pipeline.to_mermaid()) < 500
    assert len(pipeline.to_dot()) < 700


@settings(max_examples=20)
@given(pipelines())
def test_any_graph_is_drawn_with_balanced_groups(pipeline: Pipeline) -> None:
    mermaid = pipeline.to_mermaid().splitlines()
    assert sum(line.strip().startswith("subgraph") for line in mermaid) == sum(line.strip() == "end" for line in mermaid)
    plain = strip_strings(pipeline.to_dot())
    assert plain.count("{") == plain.count("}")
    ids = re.findall(r"^ *(t[\d_]+) \[", plain, re.MULTILINE)
    assert len(ids) == len(set(ids))


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_reads_the_dot_text() -> None:
    for pipeline in (every_feature(), hostile()):
        subprocess.run(["dot", "-Tsvg"], input=pipeline.to_dot(), text=True, check=True, capture_output=True)


def test_display_name_is_shown_instead_of_the_name() -> None:
    task = Task("t", step(), (("a", Constant(1)),), settings=Settings(display_name="Train it"))
    pipeline = Pipeline(Component("p", (), (), Dag((task,))))
    assert "Train it" in pipeline.to_mermaid()
    assert "Train it" in pipeline.to_dot()
