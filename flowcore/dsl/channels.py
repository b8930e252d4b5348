"""Values that are known only when the pipeline runs, as authors hold them, and the conditions made of them."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from flowcore.errors import AuthoringError
from flowcore.graph import ArtifactType, ParameterType, PortType

if TYPE_CHECKING:
    from flowcore.dsl.frames import Frame, PipelineTask

_NUMBERS = itertools.count()
#: How a channel appears inside an f-string until the string is bound.
MARKER = re.compile(r"\{\{channel:task=[^;{}]*;name=[^;{}]*;type=[^;{}]*;id=(\d+);\}\}")


class Channel:
    """An output of a task, an input of a pipeline or an item of a loop.

    Compare it (``==``, ``<`` …), combine comparisons with ``&``, ``|``, ``~``, pass it to a component, put it into a list, a
    dict or an f-string. ``frame`` is the group of tasks that sees it directly; ``producer`` the task or group it comes out of,
    None for an input of the frame.
    """

    def __init__(
        self,
        frame: Frame,
        producer: PipelineTask | Frame | None,
        port: str,
        type_: PortType,
        path: tuple[str, ...] = (),
        choices: tuple[Channel, ...] = (),
    ) -> None:
        self.frame = frame
        self.producer = producer
        self.port = port
        self.type = type_
        self.path = path
        self.choices = choices
        self._number: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for channels of the same output, whatever sub-item they pick."""
        return (id(self.frame), id(self.producer), self.port, tuple(choice.key for choice in self.choices))

    def __repr__(self) -> str:
        return f"<channel {self.describe()}: {self.type}>"

    def describe(self) -> str:
        """Which value this is, for messages."""
        if self.choices:
            return f"OneOf({', '.join(choice.describe() for choice in self.choices)})"
        port = ".".join([self.port, *self.path])
        if self.producer is None:
            return f"{self.frame.input_kind} {port!r}"
        return f"output {port!r} of {self.producer.name!r}"

    def __str__(self) -> str:
        if self._number is None:
            self._number = next(_NUMBERS)
            self.frame.trace.in_text[self._number] = self
        task = self.producer.name if self.producer is not None else ""
        return f"{{{{channel:task={task};name={self.port};type={self.type};id={self._number};}}}}"

    def __format__(self, spec: str) -> str:
        if spec:
            raise AuthoringError(f"{self.describe()}: its value is not known yet, so it cannot be formatted with {spec!r}; write {{x}}")
        return str(self)

    def __getattr__(self, name: str) -> Channel:
        if name.startswith("__"):
            raise AttributeError(name)
        if isinstance(self.type, ParameterType) and self.type.name in ("dict", "any") and self.frame.is_loop and self.producer is None:
            inner = self.type.items[1] if self.type.items else ParameterType("any")
            return Channel(self.frame, None, self.port, inner, (*self.path, name))
        raise AttributeError(f"{self.describe()} has no attribute {name!r}: its value is known only when the pipeline runs")

    def __bool__(self) -> bool:
        raise AuthoringError(
            f"{self.describe()} is not known yet: `if`, `and`, `or` and `not` cannot use it; "
            "write `with dsl.If(x):`, and combine with `&`, `|`, `~`"
        )

    def __iter__(self) -> Any:
        raise AuthoringError(f"{self.describe()} is not known yet: write `with dsl.ParallelFor(x) as item:` to go over it")

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
        return Combination("and", (as_condition(self), as_condition(other)))

    def __rand__(self, other: Any) -> Combination:
        return Combination("and", (as_condition(other), as_condition(self)))

    def __or__(self, other: Any) -> Combination:
        return Combination("or", (as_condition(self), as_condition(other)))

    def __ror__(self, other: Any) -> Combination:
        return Combination("or", (as_condition(other), as_condition(self)))

    def __invert__(self) -> Combination:
        return Combination("not", (as_condition(self),))


class ConditionExpression:
    """A condition on channels; combine with ``&``, ``|``, ``~``."""

    def __and__(self, other: Any) -> Combination:
        return Combination("and", (self, as_condition(other)))

    def __rand__(self, other: Any) -> Combination:
        return Combination("and", (as_condition(other), self))

    def __or__(self, other: Any) -> Combination:
        return Combination("or", (self, as_condition(other)))

    def __ror__(self, other: Any) -> Combination:
        return Combination("or", (as_condition(other), self))

    def __invert__(self) -> Combination:
        return Combination("not", (self,))

    def __bool__(self) -> bool:
        raise AuthoringError(
            "a condition is not known yet: `if`, `and`, `or`, `not` and `a < b < c` cannot use it; "
            "write `with dsl.If(a & b):` with `&`, `|`, `~` and parentheses around each comparison"
        )


class Comparison(ConditionExpression):
    """``left op right``; ``right`` is a channel or a constant."""

    def __init__(self, op: str, left: Channel, right: Channel | str | float | bool | None) -> None:
        self.op, self.left, self.right = op, left, right


class Truth(ConditionExpression):
    """A bool channel by itself."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel


class Combination(ConditionExpression):
    """``kind`` is "and", "or" or "not"."""

    def __init__(self, kind: str, terms: tuple[ConditionExpression, ...]) -> None:
        self.kind, self.terms = kind, terms


def as_condition(value: Any) -> ConditionExpression:
    """A condition or a bool channel as a condition.

    Raises:
        AuthoringError: anything else.
    """
    if isinstance(value, ConditionExpression):
        return value
    if isinstance(value, Channel):
        if isinstance(value.type, ParameterType) and value.type.name in ("bool", "any"):
            return Truth(value)
        raise AuthoringError(f"{value.describe()} is {value.type}, a condition wants a bool; compare it, for example `x == 1`")
    raise AuthoringError(
        f"got {value!r} of type {type(value).__name__} as a condition; wants a comparison of a task's output, "
        "such as `task.output == 1`, and parentheses around each comparison next to `&` and `|`"
    )


_KINDS = {"int": "number", "float": "number", "str": "text", "bool": "bool"}


def _kind(value: Any) -> str | None:
    """What a value can be compared as; None where that is not known before the run."""
    if isinstance(value, Channel):
        if isinstance(value.type, ArtifactType):
            return "artifact"
        return None if value.type.name == "any" else _KINDS.get(value.type.name, value.type.name)
    if value is None:
        return "None"
    return _KINDS.get(type(value).__name__, type(value).__name__)


def _compare(op: str, left: Channel, right: Any) -> Comparison:
    if not isinstance(right, Channel) and hasattr(right, "item") and getattr(right, "ndim", None) == 0:
        right = right.item()
    mine, theirs = _kind(left), _kind(right)
    shown = right.describe() if isinstance(right, Channel) else repr(right)
    for kind, what in ((mine, left.describe()), (theirs, shown)):
        if kind not in (None, "number", "text", "bool", "None"):
            raise AuthoringError(f"{what} is {kind}: conditions compare str, int, float and bool; return one of these from a component")
    optional = isinstance(left.type, ParameterType) and left.type.optional
    if theirs == "None":
        if op not in ("==", "!=") or not (optional or mine is None):
            raise AuthoringError(f"{left.describe()} is {left.type} and never None; compare it with a value")
    elif mine is not None and theirs is not None and mine != theirs:
        raise AuthoringError(f"{left.describe()} is {left.type}, {shown} is {theirs}: they never compare; use a constant of the same type")
    return Comparison(op, left, right)
