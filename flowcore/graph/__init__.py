"""The frozen model of a pipeline, its checks, its JSON and its drawings. Knows nothing of running."""

from flowcore.graph.bindings import (
    And,
    Binding,
    Compare,
    Condition,
    Constant,
    DictOf,
    ListOf,
    Not,
    OneOf,
    Or,
    ScopeInput,
    TaskOutput,
    Template,
    Truth,
)
from flowcore.graph.model import CodeRef, Component, Dag, Loop, Pipeline, Port, PythonFunction, Retry, Task
from flowcore.graph.settings import NO_SETTINGS, Settings
from flowcore.graph.types import ArtifactType, ParameterType, PortType

__all__ = [
    "NO_SETTINGS",
    "And",
    "ArtifactType",
    "Binding",
    "CodeRef",
    "Compare",
    "Component",
    "Condition",
    "Constant",
    "Dag",
    "DictOf",
    "ListOf",
    "Loop",
    "Not",
    "OneOf",
    "Or",
    "ParameterType",
    "Pipeline",
    "Port",
    "PortType",
    "PythonFunction",
    "Retry",
    "ScopeInput",
    "Settings",
    "Task",
    "TaskOutput",
    "Template",
    "Truth",
]
