"""The frozen model of a pipeline: components, ports, tasks and nested DAGs. Values only: it runs nothing and opens nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from flowcore.graph.bindings import Binding, Condition
from flowcore.graph.settings import NO_SETTINGS, Settings
from flowcore.graph.types import ArtifactType, PortType

# How a Python function meets a port: as a decoded value, an Artifact, a path, or what it returns.
PORT_STYLES = ("value", "artifact", "path", "return")
RETURNS = ("none", "single", "namedtuple")
TRIGGERS = ("all_succeeded", "all_done")


@dataclass(frozen=True, slots=True)
class Port:
    """A typed input or output; ``style`` is one of PORT_STYLES. ``default`` (encoded) counts only where ``has_default``."""

    name: str
    type: PortType
    style: str = "value"
    has_default: bool = False
    default: Any = None
    description: str = ""

    def __hash__(self) -> int:
        return hash((self.name, self.type, self.style))

    @property
    def is_artifact(self) -> bool:
        return isinstance(self.type, ArtifactType)


@dataclass(frozen=True, slots=True)
class PythonFunction:
    """A Python function by name; ``digest`` is that of its source, without comments and layout.

    ``returns``, one of RETURNS, says how its return value maps to outputs. ``use_venv`` wants an environment of its own.
    """

    module: str
    qualname: str
    digest: str
    returns: str = "none"
    base_image: str | None = None
    packages: tuple[str, ...] = ()
    use_venv: bool = False

    @property
    def key(self) -> str:
        """The name of this function among a pipeline's functions."""
        return f"{self.module}:{self.qualname}@{self.digest[:16]}"


@dataclass(frozen=True, slots=True)
class CodeRef:
    """How a worker finds a function: by import (``module``, ``qualname``, checked by ``digest``), else from blob ``blob``.

    ``blob`` is the sha256 of a cloudpickle under ``<pipeline_root>/.code/``; ``python`` the minor version that wrote it.
    """

    module: str
    qualname: str
    digest: str
    blob: str | None = None
    python: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """At most ``limit`` retries; before retry n (from 0) the wait is min(backoff · factorⁿ, maximum) seconds."""

    limit: int
    backoff_seconds: float = 0.0
    factor: float = 2.0
    maximum_seconds: float = 3600.0

    def delay_seconds(self, retry: int) -> float:
        try:
            return min(self.backoff_seconds * self.factor**retry, self.maximum_seconds)
        except OverflowError:
            return self.maximum_seconds


@dataclass(frozen=True, slots=True)
class Loop:
    """Runs the task once an item; ``items`` is a list, each item enters the DAG as input ``item_input``."""

    items: Binding
    item_input: str
    parallelism: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A use of a component in a DAG.

    ``after`` names siblings to wait for; ``trigger`` is one of TRIGGERS. A ``condition`` or ``loop`` belongs to
    tasks whose component is a Dag; of ``settings`` such a task has a display name only.
    """

    name: str
    component: Component
    inputs: tuple[tuple[str, Binding], ...] = ()
    after: tuple[str, ...] = ()
    condition: Condition | None = None
    loop: Loop | None = None
    trigger: str = "all_succeeded"
    retry: Retry | None = None
    settings: Settings = NO_SETTINGS


@dataclass(frozen=True)
class Dag:
    """Tasks in the order of authoring, and where each output of the component comes from.

    An output whose source was skipped is absent: a loop leaves it out of its list.
    """

    tasks: tuple[Task, ...]
    outputs: tuple[tuple[str, Binding], ...] = ()


Implementation = PythonFunction | Dag


@dataclass(frozen=True)
class Component:
    """Typed ports and one implementation."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    implementation: Implementation
    description: str = ""

    @cached_property
    def input_ports(self) -> dict[str, Port]:
        return {port.name: port for port in self.inputs}

    @cached_property
    def output_ports(self) -> dict[str, Port]:
        return {port.name: port for port in self.outputs}

    @cached_property
    def touches_files(self) -> bool:
        """Whether a port is an artifact or a path: such a task needs an output place and a store."""
        return any(port.is_artifact or port.style == "path" for port in (*self.inputs, *self.outputs))


@dataclass(frozen=True, eq=False)
class Pipeline:
    """A frozen pipeline: its root component is a Dag, its inputs are the pipeline's parameters. Equal where its text is.

    ``functions`` holds the live functions by ``PythonFunction.key``, where it was authored in this process; it is no part of
    the value, and a pipeline from ``from_json`` has none: its functions are imported by name when they are needed.
    """

    root: Component
    description: str = ""
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict, repr=False)

    def __eq__(self, other: object) -> bool:
        return self.to_json() == other.to_json() if isinstance(other, Pipeline) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hash)

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def dag(self) -> Dag:
        assert isinstance(self.root.implementation, Dag)
        return self.root.implementation

    def to_json(self) -> str:
        """The canonical, versioned JSON text: equal pipelines give equal texts."""
        return self._text

    @cached_property
    def _text(self) -> str:
        from flowcore.graph.serialization import pipeline_to_json

        return pipeline_to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Pipeline:
        """The inverse of ``to_json``.

        Raises:
            GraphError: not such a text, or of a later version.
        """
        from flowcore.graph.serialization import pipeline_from_json

        return pipeline_from_json(text)

    @cached_property
    def hash(self) -> str:
        """The sha256 of ``to_json()``: the pipeline's identity, the same in every process."""
        import hashlib

        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flowchart, nested DAGs as subgraphs."""
        from flowcore.graph.drawing import to_mermaid

        return to_mermaid(self)

    def to_dot(self) -> str:
        """The graph in Graphviz' DOT, nested DAGs as clusters."""
        from flowcore.graph.drawing import to_dot

        return to_dot(self)

    def to_svg(self) -> str:
        """The graph as an SVG that needs nothing else, nested DAGs as boxes."""
        from flowcore.graph.svg import to_svg

        return to_svg(self)

    def _repr_html_(self) -> str:
        return self.to_svg()
