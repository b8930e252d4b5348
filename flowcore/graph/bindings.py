"""Where a task's input comes from, and conditions on such values. Plain data; evaluated on values, never as text."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Constant:
    """A value known while authoring, in its encoded (JSON) form."""

    value: Any

    def __hash__(self) -> int:
        return hash(repr(self.value))


@dataclass(frozen=True, slots=True)
class ScopeInput:
    """An input of the enclosing DAG; ``path`` picks sub-items (``item.learning_rate``)."""

    name: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """An output of a sibling task; of a loop it is the list of its iterations' outputs, in order."""

    task: str
    port: str
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OneOf:
    """The first of ``choices`` whose producer was not skipped."""

    choices: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A string with values in it: ``parts`` are texts and bindings, joined as text."""

    parts: tuple[str | Binding, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list with values in it; each keeps its type."""

    items: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    """A dict with values in it; each keeps its type."""

    items: tuple[tuple[str, Binding], ...]


Binding = Constant | ScopeInput | TaskOutput | OneOf | Template | ListOf | DictOf


@dataclass(frozen=True, slots=True)
class Compare:
    """``left op right``; ``op`` is one of COMPARISONS."""

    op: str
    left: Binding
    right: Binding


@dataclass(frozen=True, slots=True)
class Truth:
    """A bool value by itself."""

    value: Binding


@dataclass(frozen=True, slots=True)
class And:
    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    term: Condition


Condition = Compare | Truth | And | Or | Not

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(condition: Condition, resolve: Callable[[Binding], Any]) -> bool:
    """The truth of ``condition``; ``resolve`` gives the value of a binding.

    Raises:
        TypeError: values that cannot be compared, such as ``"a" < 1``; a Truth of something else than a bool.
    """
    match condition:
        case Compare(op, left, right):
            return bool(COMPARISONS[op](resolve(left), resolve(right)))
        case Truth(value):
            found = resolve(value)
            if type(found) is not bool:
                raise TypeError(f"{describe(value)} is {_short(found)} of type {type(found).__name__}, a condition wants a bool")
            return found
        case And(terms):
            return all(evaluate(term, resolve) for term in terms)
        case Or(terms):
            return any(evaluate(term, resolve) for term in terms)
        case Not(term):
            return not evaluate(term, resolve)


def sources(binding: Binding, *, certain: bool = False) -> list[TaskOutput | ScopeInput]:
    """The task outputs and scope inputs that a binding reads; with ``certain`` only those that it cannot do without."""
    match binding:
        case TaskOutput() | ScopeInput():
            return [binding]
        case OneOf(choices):
            return [] if certain else [source for choice in choices for source in sources(choice)]
        case Template(parts):
            return [source for part in parts if not isinstance(part, str) for source in sources(part, certain=certain)]
        case ListOf(items):
            return [source for item in items for source in sources(item, certain=certain)]
        case DictOf(items):
            return [source for _, item in items for source in sources(item, certain=certain)]
        case Constant():
            return []


def condition_bindings(condition: Condition) -> list[Binding]:
    """Every binding that a condition reads."""
    match condition:
        case Compare(_, left, right):
            return [left, right]
        case Truth(value):
            return [value]
        case And(terms) | Or(terms):
            return [binding for term in terms for binding in condition_bindings(term)]
        case Not(term):
            return condition_bindings(term)


def describe(binding: Binding) -> str:
    """A binding as a reader would write it; long constants are cut."""
    match binding:
        case Constant(value):
            return _short(value)
        case ScopeInput(name, path):
            return ".".join([name, *path])
        case TaskOutput(task, port, path):
            return ".".join([task, port, *path])
        case OneOf(choices):
            return f"OneOf({', '.join(map(describe, choices))})"
        case Template(parts):
            return "".join(_cut(part) if isinstance(part, str) else "{" + describe(part) + "}" for part in parts)
        case ListOf(items):
            return f"[{', '.join(map(describe, items))}]"
        case DictOf(items):
            return "{" + ", ".join(f"{key!r}: {describe(item)}" for key, item in items) + "}"


def _short(value: Any) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def describe_condition(condition: Condition) -> str:
    """A condition as a reader would write it."""
    match condition:
        case Compare(op, left, right):
            return f"{describe(left)} {op} {describe(right)}"
        case Truth(value):
            return describe(value)
        case And(terms):
            return " and ".join(f"({describe_condition(term)})" for term in terms)
        case Or(terms):
            return " or ".join(f"({describe_condition(term)})" for term in terms)
        case Not(term):
            return f"not ({describe_condition(term)})"
