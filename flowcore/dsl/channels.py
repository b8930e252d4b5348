"""Values that are known only when the pipeline runs, as authors hold them, and the conditions made of them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from flowcore.errors import AuthoringError
from flowcore.graph import ArtifactType, ParameterType, PortType
from flowcore.values import plain_scalar

if TYPE_CHECKING:
    from flowcore.dsl.frames import Frame, PipelineTask

_NUMBERS = itertools.count()
#: How a channel appears inside an f-string until the string is bound.
MARKER = re.compile(r"\{\{channel:task=[^;{}]*;name=[^;{}]*;type=[^;{}]*;id=(\d+);\}\}")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where a value comes from: what a Channel stands for.

    ``frame`` is the group of tasks that sees it directly; ``producer`` the task or group it comes out of, None for an input of
    the frame; ``path`` picks sub-items of a loop's item; ``choices`` are those of a OneOf; ``inner`` is what leaves a group.
    """

    frame: Frame
    producer: PipelineTask[Any] | Frame | None
    port: str
    type: PortType
    path: tuple[str, ...] = ()
    choices: tuple[Source, ...] = ()
    inner: Source | None = None
    number: int = field(default_factory=lambda: next(_NUMBERS))

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for the same output, whatever sub-item is picked."""
        return (id(self.frame), id(self.producer), self.port, tuple((*choice.key, choice.path) for choice in self.choices))

    @property
    def whole(self) -> Source:
        """The item that this is a sub-item of, or itself."""
        return Source(self.frame, None, self.port, self.frame.item_type) if self.path else self

    def describe(self) -> str:
        """Which value this is, for messages."""
        if self.choices:
            return f"OneOf({', '.join(choice.describe() for choice in self.choices)})"
        if self.inner is not None:
            return f"Collected({self.inner.describe()})" if self.type != self.inner.type else self.inner.describe()
        port = ".".join([self.port, *self.path])
        if self.producer is None:
            return f"{self.frame.input_kind} {port!r}"
        return f"output {port!r} of {self.producer.name!r}"

    def item(self, key: str) -> Source | None:
        """The value at ``key`` of a loop's dict item; None where this is no such item."""
        if not (self.frame.is_loop and self.producer is None and isinstance(self.type, ParameterType)):
            return None
        if self.type.name not in ("dict", "any"):
            return None
        inner = self.type.items[1] if self.type.items else ParameterType("any")
        return Source(self.frame, None, self.port, inner, (*self.path, key))


class Channel:
    """An output of a task, an input of a pipeline or an item of a loop.

    Compare it (``==``, ``<`` …), combine comparisons with ``&``, ``|``, ``~``, pass it to a component, put it into a list, a
    dict or an f-string. It has no public attributes, so that every ``item.key`` of a loop is a key of its item;
    ``item["key"]`` takes keys that are no Python names.
    """

    __slots__ = ("_source",)
    #: numpy leaves operators between its scalars and a channel to the channel.
    __array_ufunc__ = None

    def __init__(self, source: Source) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"<channel {self._source.describe()}: {self._source.type}; id={self._source.number}>"

    def __str__(self) -> str:
        source = self._source
        source.frame.trace.in_text[source.number] = source
        task = source.producer.name if source.producer is not None else ""
        return f"{{{{channel:task={task};name={source.port};type={source.type};id={source.number};}}}}"

    def __format__(self, spec: str) -> str:
        if spec:
            raise AuthoringError(
                f"{self._source.describe()} is not known yet, so it cannot be formatted with {spec!r}; "
                "write {x} alone, or format it in a component"
            )
        return str(self)

    def __getattr__(self, name: str) -> Channel:
        if name.startswith("_"):
            raise AttributeError(name)  # copy, pickle, inspect and others look up protocols: these are no keys
        found = self._source.item(name)
        if found is None:
            raise AttributeError(
                f"{self._source.describe()} is {self._source.type} and has no attribute {name!r}: "
                "its value is known only when the pipeline runs; use it inside a component"
            )
        return Channel(found)

    def __getitem__(self, key: str) -> Channel:
        found = self._source.item(key) if isinstance(key, str) else None
        if found is None:
            raise AuthoringError(
                f"{self._source.describe()} is {self._source.type} and not known yet, so [{key!r}] cannot be taken from it; "
                "only a loop's dict item has keys: pass the whole value and pick inside a component"
            )
        return Channel(found)

    def __bool__(self) -> bool:
        raise AuthoringError(
            f"{self._source.describe()} is not known yet: `if`, `and`, `or` and `not` cannot use it; "
            "write `with dsl.If(x):`, and combine with `&`, `|`, `~`"
        )

    def __iter__(self) -> NoReturn:
        raise AuthoringError(
            f"{self._source.describe()} is not known yet: write `with dsl.ParallelFor(x) as item:` to go over it"
        )

    def _compute(self, *_: Any) -> NoReturn:
        raise AuthoringError(
            f"{self._source.describe()} is not known yet, so nothing can be computed from it here; do it in a component, "
            "and write text as an f-string"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _compute
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __abs__ = __round__ = _compute
    __int__ = __float__ = __index__ = __len__ = _compute

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Comparison:  # type: ignore[override]
        return _compare("==", self, other)

    def __ne__(self, other: object) -> Comparison:  # type: ignore[override]
        return _compare("!=", self, other)

    def __lt__(self, other: object) -> Comparison:
        return _compare("<", self, other)

    def __le__(self, other: object) -> Comparison:
        return _compare("<=", self, other)

    def __gt__(self, other: object) -> Comparison:
        return _compare(">", self, other)

    def __ge__(self, other: object) -> Comparison:
        return _compare(">=", self, other)

    def __and__(self, other: Any) -> Combination:
        return _combined("and", as_condition(self), as_condition(other))

    def __rand__(self, other: Any) -> Combination:
        return _combined("and", as_condition(other), as_condition(self))

    def __or__(self, other: Any) -> Combination:
        return _combined("or", as_condition(self), as_condition(other))

    def __ror__(self, other: Any) -> Combination:
        return _combined("or", as_condition(other), as_condition(self))

    def __invert__(self) -> Combination:
        return Combination("not", (as_condition(self),))


class ConditionExpression:
    """A condition on channels; combine with ``&``, ``|``, ``~``."""

    def __and__(self, other: Any) -> Combination:
        return _combined("and", self, as_condition(other))

    def __rand__(self, other: Any) -> Combination:
        return _combined("and", as_condition(other), self)

    def __or__(self, other: Any) -> Combination:
        return _combined("or", self, as_condition(other))

    def __ror__(self, other: Any) -> Combination:
        return _combined("or", as_condition(other), self)

    def __invert__(self) -> Combination:
        return Combination("not", (self,))

    def __bool__(self) -> bool:
        raise AuthoringError(
            "a condition is not known yet: `if`, `and`, `or`, `not` and `a < b < c` cannot use it; "
            "write `with dsl.If(a & b):` with `&`, `|`, `~` and parentheses around each comparison"
        )


class Comparison(ConditionExpression):
    """``left op right``; ``right`` is a source or a constant."""

    def __init__(self, op: str, left: Source, right: Source | str | float | bool | None) -> None:
        self.op, self.left, self.right = op, left, right


class Truth(ConditionExpression):
    """A bool by itself."""

    def __init__(self, source: Source) -> None:
        self.source = source


class Combination(ConditionExpression):
    """``kind`` is "and", "or" or "not"."""

    def __init__(self, kind: str, terms: tuple[ConditionExpression, ...]) -> None:
        self.kind, self.terms = kind, terms


def _combined(kind: str, left: ConditionExpression, right: ConditionExpression) -> Combination:
    # Flat, so that a long chain of `&` nests no deeper than a short one.
    sides = [side.terms if isinstance(side, Combination) and side.kind == kind else (side,) for side in (left, right)]
    return Combination(kind, (*sides[0], *sides[1]))


def source_of(channel: Channel) -> Source:
    """What a channel stands for."""
    return channel._source


def as_condition(value: Any) -> ConditionExpression:
    """A condition or a bool channel as a condition.

    Raises:
        AuthoringError: anything else.
    """
    if isinstance(value, ConditionExpression):
        return value
    if isinstance(value, Channel):
        source = value._source
        if isinstance(source.type, ParameterType) and source.type.name in ("bool", "any") and not source.type.optional:
            return Truth(source)
        raise AuthoringError(f"{source.describe()} is {source.type}, a condition wants a bool; compare it, for example `x == 1`")
    raise AuthoringError(
        f"got {value!r} of type {type(value).__name__} as a condition; wants a comparison of a task's output, "
        "such as `task.output == 1`, and parentheses around each comparison next to `&` and `|`"
    )


def condition_sources(expression: ConditionExpression) -> list[Source]:
    """Every source that a condition reads."""
    if isinstance(expression, Comparison):
        return [side for side in (expression.left, expression.right) if isinstance(side, Source)]
    if isinstance(expression, Truth):
        return [expression.source]
    assert isinstance(expression, Combination)
    return [source for term in expression.terms for source in condition_sources(term)]


_KINDS = {"int": "number", "float": "number", "str": "text", "bool": "bool", "NoneType": "None"}


def _kind(value: Any) -> str | None:
    """What a value can be compared as; None where that is not known before the run."""
    if not isinstance(value, Source):
        return _KINDS.get(type(value).__name__, type(value).__name__)
    if isinstance(value.type, ArtifactType):
        return "artifact"
    return None if value.type.name == "any" else _KINDS.get(value.type.name, value.type.name)


def _compare(op: str, channel: Channel, other: Any) -> Comparison:
    left = channel._source
    right = other._source if isinstance(other, Channel) else plain_scalar(other)
    if isinstance(right, str) and MARKER.search(right):
        raise AuthoringError(f"{left.describe()} is compared with a text that holds outputs; make that text in a component")
    mine, theirs = _kind(left), _kind(right)
    shown = right.describe() if isinstance(right, Source) else repr(right)
    for kind, side in ((mine, left), (theirs, right)):
        if kind not in (None, "number", "text", "bool", "None"):
            what = f"{side.describe()} is {side.type}" if isinstance(side, Source) else f"{side!r} is a {kind}"
            raise AuthoringError(f"{what}: conditions compare str, int, float and bool; return one of these from a component")
    optional = isinstance(left.type, ParameterType) and left.type.optional
    if theirs == "None":
        if op not in ("==", "!=") or not (optional or mine is None):
            raise AuthoringError(f"{left.describe()} is {left.type} and never {op} None; compare it with a value")
    elif mine is not None and theirs is not None and mine != theirs:
        found = right.type if isinstance(right, Source) else type(right).__name__
        raise AuthoringError(
            f"{left.describe()} is {left.type}, {shown} is {found}: they never compare; use a constant or output of the same type"
        )
    return Comparison(op, left, right)
