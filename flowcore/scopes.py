"""What a run has open: scopes, each one Dag with its inputs, and a node for each task; how a value is found in them. No rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flowcore.graph import Binding, Constant, DictOf, ListOf, OneOf, ScopeInput, Settings, TaskOutput, Template
from flowcore.graph.bindings import describe
from flowcore.graph.plan import DagPlan, TaskPlan
from flowcore.graph.settings import resolved
from flowcore.states import TaskState
from flowcore.values import to_text

EMPTY: dict[str, Any] = {}


@dataclass(slots=True)
class Group:
    """What a task whose component is a Dag has open: one scope, or those of a loop's iterations."""

    open: dict[int, Scope] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    items: list[Any] | None = None
    next_item: int = 0
    results: list[dict[str, Any] | None] = field(default_factory=list)
    worst: TaskState = TaskState.SUCCEEDED


class Node:
    """One task in one scope.

    What most tasks never change stands as a class attribute: a run has a node a task, and making one costs what it sets.
    """

    state = TaskState.WAITING
    #: Siblings that have to settle first.
    waiting = 0
    attempt = failures = losses = unstarted = 0
    attempt_id: str | None = None
    canceling = timed_out = False
    #: Skipped because of a failure upstream, and not because of a condition.
    blamed = False
    inputs: dict[str, Any] = EMPTY
    outputs: dict[str, Any] = EMPTY
    group: Group | None = None

    def __init__(self, scope: Scope, plan: TaskPlan) -> None:
        self.scope = scope
        self.plan = plan
        self.path = scope.prefix + plan.name
        if plan.needs:
            self.waiting = len(plan.needs)


class Scope:
    """One Dag with its inputs; ``index`` is the iteration of a loop, else 0."""

    worst = TaskState.SUCCEEDED

    def __init__(self, owner: Node | None, plan: DagPlan, prefix: str, inputs: dict[str, Any], index: int = 0) -> None:
        self.owner = owner
        self.plan = plan
        self.prefix = prefix
        self.inputs = inputs
        self.index = index
        self.unsettled = len(plan.tasks)
        self.nodes: list[Node] = []
        for task in plan.tasks:
            self.nodes.append(Node(self, task))


class Absent(Exception):
    """A value whose producer was skipped."""


def output_of(node: Node, port: str) -> Any:
    """The value of a task's output.

    Raises:
        Absent: there is none.
    """
    try:
        return node.outputs[port]
    except KeyError:
        raise Absent(f"{node.plan.name}.{port} does not exist: its task was skipped") from None


def missing_input(name: str) -> Absent:
    """What tells that the scope has no input of this name, since what it was bound to does not exist."""
    return Absent(f"{name} does not exist: its task was skipped")


class Unusable(Exception):
    """A value that cannot be used as authored; the task fails with this message."""


def resolve(binding: Binding, scope: Scope) -> Any:
    """The value of a binding as the tasks of ``scope`` see it.

    Raises:
        Absent, Unusable: there is none.
    """
    if type(binding) is TaskOutput:
        node = scope.nodes[scope.plan.places[binding.task]]
        return _pick(output_of(node, binding.port), binding)
    if type(binding) is ScopeInput:
        if binding.name not in scope.inputs:
            raise missing_input(binding.name)
        return _pick(scope.inputs[binding.name], binding)
    if type(binding) is Constant:
        return binding.value
    if type(binding) is OneOf:
        for choice in binding.choices:
            try:
                return resolve(choice, scope)
            except Absent:
                continue
        raise Absent(f"no choice of {describe(binding)} exists")
    if type(binding) is ListOf:
        return [resolve(item, scope) for item in binding.items]
    if type(binding) is DictOf:
        return {key: resolve(item, scope) for key, item in binding.items}
    assert type(binding) is Template
    return "".join(part if isinstance(part, str) else to_text(resolve(part, scope)) for part in binding.parts)


def resolve_settings(node: Node) -> Settings:
    """The settings of a node whose plan has some to resolve; the same at each attempt.

    Raises:
        Absent, Unusable: there is no value, or one that its setting cannot have.
    """
    assert node.plan.settings is not None
    try:
        return resolved(node.plan.settings, lambda binding: resolve(binding, node.scope))
    except ValueError as error:
        raise Unusable(f"task {node.path!r}: {error}") from error


def _pick(value: Any, binding: TaskOutput | ScopeInput) -> Any:
    for place, key in enumerate(binding.path):
        if not isinstance(value, dict) or key not in value:
            where = describe(binding)
            found = f"keys {sorted(map(str, value))}" if isinstance(value, dict) else type(value).__name__
            raise Unusable(f"{where}: there is no {'.'.join(binding.path[: place + 1])!r}; the value has {found}")
        value = value[key]
    return value
