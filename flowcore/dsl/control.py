"""Branches and loops as context managers, and the values that come out of them."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from flowcore.dsl.building import export
from flowcore.dsl.channels import Channel, Combination, ConditionExpression, as_condition
from flowcore.dsl.frames import Frame, Mixed, Trace, current_trace, plain_name, with_channels
from flowcore.errors import AuthoringError
from flowcore.graph import ArtifactType, ParameterType
from flowcore.values import encode_any


def _trace(what: str) -> Trace:
    trace = current_trace()
    if trace is None:
        raise AuthoringError(f"dsl.{what} is only of use inside a @dsl.pipeline function")
    return trace


class _Group:
    """Opens a frame of the pipeline that is being authored for the length of a with block."""

    def __init__(self, kind: str, name: str | None) -> None:
        self._trace = _trace(type(self).__name__)
        parent = self._trace.current
        # Kubeflow numbers its groups across the pipeline; a name of the author's own is kept.
        chosen = plain_name(name) if name else f"{kind}-{self._trace.root._used.get('', 0) + 1}"
        self._trace.root._used[""] = self._trace.root._used.get("", 0) + 1
        self.frame_opened = Frame(self._trace, parent, kind, parent.unique(chosen))

    def _enter(self) -> None:
        frame = self.frame_opened
        if self._trace.current is not frame.parent:
            raise AuthoringError(f"group {frame.name!r} is entered elsewhere than where it was made")
        assert frame.parent is not None
        frame.parent.children.append(frame)
        self._trace.current = frame

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        frame = self.frame_opened
        assert frame.parent is not None
        self._trace.current = frame.parent
        if error is None and not frame.children:
            raise AuthoringError(f"group {frame.name!r} has no tasks; call a component inside the with block")

    def after(self, *tasks: Any) -> Any:
        """Start the group only once these tasks or groups have ended well."""
        self.frame_opened.after.extend(getattr(task, "frame_opened", task) for task in tasks)
        return self


class _Branch(_Group):
    def __init__(self, condition: ConditionExpression, name: str | None, own: ConditionExpression | None) -> None:
        super().__init__("condition", name)
        self.frame_opened.condition = condition
        self._own = own

    def __enter__(self) -> _Branch:
        self._enter()
        return self


class If(_Branch):
    """The tasks inside run only where the condition holds: a comparison of outputs, or a bool output by itself."""

    def __init__(self, condition: Any, name: str | None = None) -> None:
        checked = as_condition(condition)
        super().__init__(checked, name, checked)
        _chains(self._trace)[self.frame_opened] = [checked]


class Condition(If):
    """Kubeflow's older name of ``If``."""


class Elif(_Branch):
    """Runs where this condition holds and none of the branches directly before did."""

    def __init__(self, condition: Any, name: str | None = None) -> None:
        checked = as_condition(condition)
        before = _before("Elif")
        super().__init__(Combination("and", (*(~term for term in before), checked)), name, checked)
        _chains(self._trace)[self.frame_opened] = [*before, checked]


class Else(_Branch):
    """Runs where none of the branches directly before did."""

    def __init__(self, name: str | None = None) -> None:
        before = _before("Else")
        super().__init__(Combination("and", tuple(~term for term in before)), name, None)


def _chains(trace: Trace) -> dict[Frame, list[ConditionExpression]]:
    chains: dict[Frame, list[ConditionExpression]] = trace.__dict__.setdefault("chains", {})
    return chains


def _before(what: str) -> list[ConditionExpression]:
    trace = _trace(what)
    siblings = trace.current.children
    chain = _chains(trace).get(siblings[-1]) if siblings and isinstance(siblings[-1], Frame) else None
    if chain is None:
        raise AuthoringError(f"dsl.{what} must directly follow the with block of a dsl.If or dsl.Elif")
    return chain


class ParallelFor(_Group):
    """The tasks inside run once an item, at most ``parallelism`` items at a time (None or 0: no limit).

    ``items`` is a list, or an output or input that is one; ``with`` gives the item, ``item.key`` a value of a dict item.

    Raises:
        AuthoringError: an empty constant list, items that are no list, a negative parallelism.
    """

    def __init__(self, items: Any, name: str | None = None, parallelism: int | None = None) -> None:
        super().__init__("for-loop", name)
        frame = self.frame_opened
        if parallelism is not None and (isinstance(parallelism, bool) or not isinstance(parallelism, int) or parallelism < 0):
            raise AuthoringError(f"loop {frame.name!r}: parallelism={parallelism!r} wants a whole number from 0 on")
        frame.parallelism = parallelism or None
        frame.items, frame.item_type = _items(self._trace, frame.name, items)

    def __enter__(self) -> Any:
        self._enter()
        return Channel(self.frame_opened, None, "item", self.frame_opened.item_type)


def _items(trace: Trace, loop: str, items: Any) -> tuple[Any, ParameterType | ArtifactType]:
    mixed = with_channels(trace, items)
    if isinstance(mixed, Channel):
        type_ = mixed.type
        if isinstance(type_, ArtifactType) and type_.is_list:
            return mixed, ArtifactType(type_.schema_title)
        if isinstance(type_, ParameterType) and type_.name in ("list", "any"):
            return mixed, type_.items[0] if type_.items else ParameterType("any")
        raise AuthoringError(f"loop {loop!r}: {mixed.describe()} is {type_}; wants a list")
    if isinstance(mixed, Mixed) and mixed.kind == "list":
        return mixed, ParameterType("any")
    if not isinstance(items, list | tuple):
        raise AuthoringError(f"loop {loop!r}: got {type(items).__name__} for its items; wants a list, or an output that is one")
    if not items:
        raise AuthoringError(f"loop {loop!r}: its list of items is empty, so it would never run; give it items")
    encoded = encode_any(list(items), f"loop {loop!r}, items")
    kinds = {type(item).__name__ for item in encoded}
    kinds = {"float"} if kinds == {"int", "float"} else kinds
    name = kinds.pop() if len(kinds) == 1 else "any"
    return encoded, ParameterType(name if name != "NoneType" else "any")


def Collected(output: Channel) -> Channel:  # noqa: N802  Kubeflow's name
    """The list of an output over the iterations of the loops around it, in order; nested loops give nested lists.

    Raises:
        AuthoringError: the output is not inside a loop that ended before this line.
    """
    trace = _trace("Collected")
    if not isinstance(output, Channel):
        raise AuthoringError(f"dsl.Collected takes a task's output, got {type(output).__name__}; write dsl.Collected(task.output)")
    gathered, loops = export(output, trace.current)
    if loops == 0:
        raise AuthoringError(
            f"dsl.Collected({output.describe()}) is used where no loop lies between: use it after the `with dsl.ParallelFor` block"
        )
    return gathered


def OneOf(*channels: Channel) -> Channel:  # noqa: N802  Kubeflow's name
    """The output of whichever branch ran.

    Raises:
        AuthoringError: no channels, channels of different types, or ones that are not outputs of tasks.
    """
    trace = _trace("OneOf")
    if not channels or not all(isinstance(channel, Channel) and channel.producer is not None for channel in channels):
        raise AuthoringError("dsl.OneOf takes the outputs of tasks in the branches, such as dsl.OneOf(a.output, b.output)")
    types = {str(channel.type) for channel in channels}
    if len(types) > 1:
        raise AuthoringError(f"dsl.OneOf: its outputs are of different types ({', '.join(sorted(types))}); make them the same")
    choices = []
    for channel in channels:
        choice, loops = export(channel, trace.current)
        if loops:
            raise AuthoringError(f"dsl.OneOf: {channel.describe()} is inside a loop; use dsl.Collected for it")
        choices.append(choice)
    # Choices that end up in different frames all came out to an ancestor of this one: the innermost sees them all.
    frame = max((choice.frame for choice in choices), key=lambda frame: len(frame.ancestors()))
    return Channel(frame, choices[0].producer, "oneof", channels[0].type, choices=tuple(choices))
