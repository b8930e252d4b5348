"""Pipeline ↔ canonical JSON: sorted keys, no spaces, one component table. Reading never imports or executes anything.

A table maps each dataclass to the tag that stands for it; fields at their defaults are left out, so that later fields keep old
texts and hashes valid.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any

from flowcore.errors import GraphError
from flowcore.graph import bindings as b
from flowcore.graph import model as m
from flowcore.graph.types import ArtifactType, ParameterType, port_type_from_json

FORMAT, VERSION = "flowcore.pipeline", 1

TAGS: dict[type[Any], str] = {
    b.Constant: "constant",
    b.ScopeInput: "input",
    b.TaskOutput: "output",
    b.OneOf: "oneof",
    b.Template: "template",
    b.ListOf: "list",
    b.DictOf: "dict",
    b.Compare: "compare",
    b.Truth: "truth",
    b.And: "and",
    b.Or: "or",
    b.Not: "not",
    m.Port: "port",
    m.PythonFunction: "python",
    m.Dag: "dag",
    m.Task: "task",
    m.Retry: "retry",
    m.Loop: "loop",
    m.Settings: "settings",
}
KINDS = {tag: kind for kind, tag in TAGS.items()}


@cache
def _fields(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((f.name, _default(f)) for f in fields(kind))


def _default(f: Field[Any]) -> Any:
    return f.default if f.default is not MISSING else (f.default_factory() if f.default_factory is not MISSING else MISSING)


def _write(value: Any, components: dict[m.Component, int], texts: list[Any]) -> Any:
    if isinstance(value, tuple):
        return [_write(item, components, texts) for item in value]
    if isinstance(value, ParameterType | ArtifactType):
        return value.to_json()
    if isinstance(value, m.Component):
        return _component(value, components, texts)
    tag = TAGS.get(type(value))
    if tag is None:
        return value
    if isinstance(value, b.Constant):
        return {"constant": value.value}
    body: dict[str, Any] = {}
    for name, default in _fields(type(value)):
        item = getattr(value, name)
        raw = name == "default"  # a port's default is data, whatever it looks like
        if item != default or type(item) is not type(default):
            body[name] = item if raw else _write(item, components, texts)
    return {tag: body}


def _component(component: m.Component, components: dict[m.Component, int], texts: list[Any]) -> int:
    if component not in components:
        body = {
            "name": component.name,
            "inputs": _write(component.inputs, components, texts),
            "outputs": _write(component.outputs, components, texts),
            "implementation": _write(component.implementation, components, texts),
            "description": component.description,
        }
        components[component] = len(texts)
        texts.append(body)
    return components[component]


def pipeline_to_json(pipeline: m.Pipeline) -> str:
    texts: list[Any] = []
    root = _component(pipeline.root, {}, texts)
    whole = {"format": FORMAT, "version": VERSION, "description": pipeline.description, "components": texts, "root": root}
    return json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def component_to_json(component: m.Component) -> dict[str, Any]:
    """One component as plain data: what a work order carries."""
    texts: list[Any] = []
    root = _component(component, {}, texts)
    return {"components": texts, "root": root}


def component_from_json(data: dict[str, Any]) -> m.Component:
    """The inverse of ``component_to_json``."""
    return _components(data["components"])[data["root"]]


def _components(texts: list[Any]) -> list[m.Component]:
    components: list[m.Component] = []
    for body in texts:
        components.append(
            m.Component(
                name=body["name"],
                inputs=_read(body["inputs"], components),
                outputs=_read(body["outputs"], components),
                implementation=_read(body["implementation"], components),
                description=body["description"],
            )
        )
    return components


def _read(value: Any, components: list[m.Component]) -> Any:
    if isinstance(value, list):
        return tuple(_read(item, components) for item in value)
    if not isinstance(value, dict) or len(value) != 1:
        return value
    (tag, body), = value.items()
    if tag == "constant":
        return b.Constant(body)
    kind = KINDS.get(tag)
    if kind is None:
        return value
    known = {name for name, _ in _fields(kind)}
    if unknown := set(body) - known:
        raise GraphError(f"pipeline text: {tag} has unknown fields {sorted(unknown)}; it was written by a later flowcore")
    arguments = {name: _field(kind, name, item, components) for name, item in body.items()}
    return kind(**arguments)


def _field(kind: type[Any], name: str, item: Any, components: list[m.Component]) -> Any:
    if name == "default":
        return item
    if kind is m.Port and name == "type":
        return port_type_from_json(item)
    if kind is m.Task and name == "component":
        return components[item]
    return _read(item, components)


def pipeline_from_json(text: str) -> m.Pipeline:
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise GraphError(f"not a pipeline: the text has no format {FORMAT!r}")
        if data["version"] > VERSION:
            raise GraphError(f"pipeline text of version {data['version']}; this flowcore reads up to {VERSION}: upgrade flowcore")
        pipeline = m.Pipeline(_components(data["components"])[data["root"]], data["description"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise GraphError(f"not a pipeline: {type(error).__name__}: {error}") from error
    from flowcore.graph.checks import check_pipeline

    check_pipeline(pipeline)
    return pipeline
