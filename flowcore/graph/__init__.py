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
from flowcore.graph.model import Component, Dag, Loop, Pipeline, Port, PythonFunction, Retry, Settings, Task
from flowcore.graph.types import ArtifactType, ParameterType, PortType

__all__ = [
    "And",
    "ArtifactType",
    "Binding",
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
