"""Pipeline ↔ canonical JSON: sorted keys, no spaces, one component table. Reading never imports or executes anything.

A table maps each dataclass to the tag that stands for it; its fields are written and read by their declared types. Fields at
their defaults are left out, so that later fields keep old texts and hashes valid.
"""

from __future__ import annotations

import json
import types
from dataclasses import MISSING, fields
from functools import cache, lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from flowcore.errors import GraphError
from flowcore.graph import bindings as b
from flowcore.graph import model as m
from flowcore.graph import settings as s
from flowcore.graph.types import ArtifactType, ParameterType, PortType, port_type_from_json

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
    s.Settings: "settings",
    s.SecretEnv: "secret_env",
    s.SecretVolume: "secret_volume",
    s.ConfigMapEnv: "config_map_env",
    s.ConfigMapVolume: "config_map_volume",
    s.VolumeMount: "volume",
    s.EmptyDir: "empty_dir",
    s.EphemeralVolume: "ephemeral_volume",
}
KINDS = {tag: kind for kind, tag in TAGS.items()}


@cache
def _schema(kind: Any) -> dict[str, tuple[Any, Any]]:
    """(declared type, default) of each field of a dataclass in TAGS."""
    hints = get_type_hints(kind)
    return {field.name: (hints[field.name], field.default) for field in fields(kind)}


def _dumps(data: Any) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


class _Writer:
    """Collects the component table: each component once, after those that it uses; equal texts are one component."""

    def __init__(self) -> None:
        self.table: list[Any] = []
        self._places: dict[int, int] = {}
        self._texts: dict[str, int] = {}

    def component(self, component: m.Component) -> int:
        place = self._places.get(id(component))
        if place is None:
            body = {
                "name": component.name,
                "inputs": self.write(component.inputs),
                "outputs": self.write(component.outputs),
                "implementation": self.write(component.implementation),
                "description": component.description,
            }
            place = self._texts.setdefault(_dumps(body), len(self.table))
            if place == len(self.table):
                self.table.append(body)
            self._places[id(component)] = place
        return place

    def write(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return [self.write(item) for item in value]
        if isinstance(value, ParameterType | ArtifactType):
            return value.to_json()
        if isinstance(value, m.Component):
            return self.component(value)
        kind: Any = type(value)
        if kind not in TAGS:
            return value
        body = {}
        for name, (type_, default) in _schema(kind).items():
            item = getattr(value, name)
            if item is default or (type_ is not Any and item == default):
                continue
            # What is declared Any is data, whatever it looks like.
            body[name] = item if type_ is Any else self.write(item)
        return {TAGS[kind]: body}


def pipeline_to_json(pipeline: m.Pipeline) -> str:
    return _dumps({"format": FORMAT, "version": VERSION, "description": pipeline.description, **component_to_json(pipeline.root)})


def component_to_json(component: m.Component) -> dict[str, Any]:
    """One component as plain data: what a work order carries."""
    writer = _Writer()
    root = writer.component(component)
    return {"components": writer.table, "root": root}


def component_to_text(component: m.Component) -> str:
    """One component as text, made once: orders of the same task carry the same text."""
    text: str | None = component.__dict__.get("_text")
    if text is None:
        text = component.__dict__["_text"] = _dumps(component_to_json(component))
    return text


@lru_cache(maxsize=1024)
def settings_to_text(settings: s.Settings) -> str:
    """Settings as text; what a work order carries."""
    return _dumps(_Writer().write(settings))


@lru_cache(maxsize=1024)
def settings_from_text(text: str) -> s.Settings:
    """The inverse of ``settings_to_text``.

    Raises:
        GraphError: not such a text.
    """
    found: s.Settings = _read(s.Settings, json.loads(text), [])
    return found


@lru_cache(maxsize=1024)
def component_from_text(text: str) -> m.Component:
    """The inverse of ``component_to_text``; equal texts give one component.

    Raises:
        GraphError: not such a text.
    """
    return component_from_json(json.loads(text))


def component_from_json(data: dict[str, Any]) -> m.Component:
    """The inverse of ``component_to_json``.

    Raises:
        GraphError: not such data.
    """
    known: list[m.Component] = []
    for body in _wants(data["components"], list):
        _check_fields("component", body, {"name", "inputs", "outputs", "implementation", "description"})
        known.append(
            m.Component(
                name=_read(str, body["name"], known),
                inputs=_read(tuple[m.Port, ...], body["inputs"], known),
                outputs=_read(tuple[m.Port, ...], body["outputs"], known),
                implementation=_read(m.Implementation, body["implementation"], known),
                description=_read(str, body["description"], known),
            )
        )
    return _component(data["root"], known)


def _component(place: Any, known: list[m.Component]) -> m.Component:
    # Only earlier ones: no component can contain itself.
    number: int = _wants(place, int)
    if number not in range(len(known)):
        raise GraphError(f"not a pipeline: there is no component {number} before its use")
    return known[number]


def _wants(data: Any, kind: type[Any]) -> Any:
    if type(data) is not kind:
        raise GraphError(f"not a pipeline: got {repr(data)[:60]}, wants {kind.__name__}")
    return data


def _check_fields(what: str, body: Any, known: set[str]) -> None:
    if unknown := set(_wants(body, dict)) - known:
        names = ", ".join(sorted(map(repr, unknown)))
        raise GraphError(f"not a pipeline that this flowcore reads: {what} has unknown fields {names}; upgrade flowcore")


def _read(type_: Any, data: Any, known: list[m.Component]) -> Any:
    """``data`` as a value of a declared type."""
    if type_ is Any:
        return data
    if type_ is m.Component:
        return _component(data, known)
    if type_ == PortType:
        return port_type_from_json(data)
    if type_ is float:
        return data if type(data) is float else float(_wants(data, int))
    arguments = get_args(type_)
    if get_origin(type_) is tuple:
        items = _wants(data, list)
        each = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_read(kind, item, known) for kind, item in zip(each, items, strict=True))
    if get_origin(type_) in (Union, types.UnionType):
        return _read(_member(arguments, data), data, known)
    if type_ not in TAGS:
        return _wants(data, type_) if data is not None or type_ is not types.NoneType else None
    body = _wants(data, dict)[TAGS[type_]]
    schema = _schema(type_)
    _check_fields(TAGS[type_], body, set(schema))
    missing = [name for name, (_, default) in schema.items() if name not in body and default is MISSING]
    if missing or len(data) > 1:
        raise GraphError(f"not a pipeline: {TAGS[type_]} has no {', '.join(missing) or 'single tag'}")
    return type_(**{name: _read(schema[name][0], item, known) for name, item in body.items()})


def _member(members: tuple[Any, ...], data: Any) -> Any:
    """Which member of a union ``data`` is: by its tag, else by its own type."""
    if isinstance(data, dict) and len(data) == 1:
        kind: Any = KINDS.get(next(iter(data)))
    else:
        kind = float if float in members and type(data) is int else type(data)
    if kind not in members:
        raise GraphError(f"not a pipeline: got {repr(data)[:60]} where it cannot be")
    return kind


def pipeline_from_json(text: str) -> m.Pipeline:
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise GraphError(f"not a pipeline: the text has no format {FORMAT!r}")
        version = _wants(data["version"], int)
        if not 1 <= version <= VERSION:
            raise GraphError(f"pipeline text of version {version}; this flowcore reads 1 to {VERSION}: upgrade flowcore")
        _check_fields("the text", data, {"format", "version", "description", "components", "root"})
        pipeline = m.Pipeline(component_from_json(data), _wants(data["description"], str))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise GraphError(f"not a pipeline: {type(error).__name__}: {error}") from error
    from flowcore.graph.checks import check_pipeline

    check_pipeline(pipeline)
    return pipeline
