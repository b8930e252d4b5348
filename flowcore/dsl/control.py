"""Branches and loops as context managers, and the values that come out of them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, TypeVar

from flowcore.dsl.arguments import Argument, Encoded, check_visible, read_argument
from flowcore.dsl.building import ITEM, export
from flowcore.dsl.channels import Channel, Combination, ConditionExpression, Source, as_condition, condition_sources, source_of
from flowcore.dsl.frames import Frame, Trace, as_predecessors, current_trace, plain_name
from flowcore.errors import AuthoringError, ValueEncodingError
from flowcore.graph import ArtifactType, ParameterType, PortType

T = TypeVar("T")


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
        self._trace.groups += 1
        self.frame_opened = Frame(self._trace, parent, kind, parent.unique(plain_name(name or f"{kind}-{self._trace.groups}")))

    def _enter(self) -> None:
        frame = self.frame_opened
        assert frame.parent is not None
        if self._trace.current is not frame.parent:
            raise AuthoringError(
                f"group {frame.name!r} is entered elsewhere than where it was made; make it in its with statement"
            )
        if frame in frame.parent.children:
            raise AuthoringError(f"group {frame.name!r} is entered twice; make one for each with block")
        frame.parent.children.append(frame)
        self._trace.current = frame

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        frame = self.frame_opened
        assert frame.parent is not None
        self._trace.current = frame.parent
        if error is None and not frame.children:
            raise AuthoringError(f"group {frame.name!r} has no tasks; call a component inside the with block")

    def after(self, *tasks: Any) -> Self:
        """Start the group only once these tasks or groups have ended well."""
        self.frame_opened.after.extend(as_predecessors(f"group {self.frame_opened.name!r}", tasks))
        return self


class _Branch(_Group):
    """``own`` is the condition as it was written; None for Else, which nothing may follow."""

    def __init__(self, name: str | None, before: list[ConditionExpression], own: ConditionExpression | None) -> None:
        super().__init__("condition", name)
        frame = self.frame_opened
        terms = [~term for term in before] + ([own] if own is not None else [])
        frame.condition = terms[0] if len(terms) == 1 else Combination("and", tuple(terms))
        frame.chain = None if own is None else [*before, own]
        for source in condition_sources(frame.condition):
            check_visible(source, self._trace.current, f"the condition of {frame.name!r}")

    def __enter__(self) -> Self:
        self._enter()
        return self


class If(_Branch):
    """The tasks inside run only where the condition holds: a comparison of outputs, or a bool output by itself."""

    def __init__(self, condition: Any, name: str | None = None) -> None:
        super().__init__(name, [], as_condition(condition))


class Condition(If):
    """Kubeflow's older name of ``If``."""


class Elif(_Branch):
    """Runs where this condition holds and none of the branches directly before did."""

    def __init__(self, condition: Any, name: str | None = None) -> None:
        super().__init__(name, _before("Elif"), as_condition(condition))


class Else(_Branch):
    """Runs where none of the branches directly before did."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name, _before("Else"), None)


def _before(what: str) -> list[ConditionExpression]:
    last = next(reversed(_trace(what).current.children), None)
    chain = last.chain if isinstance(last, Frame) else None
    if chain is None:
        raise AuthoringError(f"dsl.{what} must directly follow the with block of a dsl.If or dsl.Elif")
    return chain


class ParallelFor(_Group):
    """The tasks inside run once an item, at most ``parallelism`` items at a time (None or 0: no limit).

    ``items`` is a list, or an output or input that is one; ``with`` gives the item, ``item.key`` or ``item["key"]`` a value of a
    dict item.

    Raises:
        AuthoringError: an empty constant list, items that are no list, a negative parallelism.
    """

    def __init__(self, items: Any, name: str | None = None, parallelism: int | None = None) -> None:
        super().__init__("for-loop", name)
        frame = self.frame_opened
        if parallelism is not None and (isinstance(parallelism, bool) or not isinstance(parallelism, int) or parallelism < 0):
            raise AuthoringError(f"loop {frame.name!r}: parallelism={parallelism!r} wants a whole number from 0 on")
        frame.parallelism = parallelism or None
        frame.items, frame.item_type = _items(self._trace.current, frame.name, items)

    def __enter__(self) -> Any:
        self._enter()
        return Channel(Source(self.frame_opened, None, ITEM, self.frame_opened.item_type))


def _items(frame: Frame, loop: str, items: Any) -> tuple[Argument, PortType]:
    """The items as an argument, and the type of one."""
    where = f"loop {loop!r}, items"
    if isinstance(items, Channel):
        source = source_of(items)
        check_visible(source, frame, where)
        return source, _item_type(source, where)
    if not isinstance(items, list | tuple):
        raise AuthoringError(f"{where}: got {type(items).__name__}, wants a list or an output that is one")
    if not items:
        raise AuthoringError(f"{where}: the list is empty, so the loop would never run; give it items")
    if all(isinstance(item, Channel) for item in items):
        types = {source_of(item).type for item in items}
        if all(isinstance(type_, ArtifactType) for type_ in types):
            title = next(iter(types)) if len(types) == 1 else ArtifactType("system.Artifact")
            assert isinstance(title, ArtifactType)
            wanted: PortType = ArtifactType(title.schema_title, is_list=True)
            return _read_items(frame, items, wanted, where), title
        found = next(iter(types)) if len(types) == 1 else ParameterType("any")
        return _read_items(frame, items, ParameterType("list"), where), found
    argument = _read_items(frame, items, ParameterType("list"), where)
    return argument, _constant_type(argument.value) if isinstance(argument, Encoded) else ParameterType("any")


def _read_items(frame: Frame, items: list[Any] | tuple[Any, ...], type_: PortType, where: str) -> Argument:
    try:
        return read_argument(frame, list(items), type_, where)
    except ValueEncodingError as error:
        raise AuthoringError(str(error)) from None


def _item_type(items: Source, where: str) -> PortType:
    type_ = items.type
    if type_.optional:
        raise AuthoringError(f"{where}: {items.describe()} is {type_} and may be None; return a list, an empty one for no items")
    if isinstance(type_, ArtifactType) and type_.is_list:
        return ArtifactType(type_.schema_title)
    if isinstance(type_, ParameterType) and type_.name in ("list", "any"):
        return type_.items[0] if type_.items else ParameterType("any")
    raise AuthoringError(f"{where}: {items.describe()} is {type_}, wants a list; return a list from a component")


def _constant_type(items: list[Any]) -> ParameterType:
    kinds = {type(item).__name__ for item in items}
    if kinds == {"int", "float"}:
        return ParameterType("float")
    name = kinds.pop()
    return ParameterType("any" if kinds or name == "NoneType" else name)


def Collected(output: T) -> list[T]:  # noqa: N802  Kubeflow's name
    """The list of an output over the iterations of the loops around it, in order; nested loops give nested lists.

    Iterations that have no such output (its branch was skipped) are left out. While authoring both are Channels; a type checker
    sees one level of list.

    Raises:
        AuthoringError: the output is not inside a loop that ended before this line.
    """
    frame = _trace("Collected").current
    if not isinstance(output, Channel):
        raise AuthoringError(
            f"dsl.Collected takes a task's output, got {type(output).__name__}; write dsl.Collected(task.output)"
        )
    source = source_of(output)
    _check_trace(source, frame, "dsl.Collected")
    gathered, loops = export(source, frame)
    if loops == 0:
        raise AuthoringError(
            f"dsl.Collected({source.describe()}) is used where no loop lies between; use it after the loop's with block"
        )
    collected: Any = Channel(gathered)
    result: list[T] = collected
    return result


def OneOf(*channels: T) -> T:  # noqa: N802  Kubeflow's name
    """The output of whichever branch ran; of several, the first of ``channels``. While authoring all are Channels.

    Raises:
        AuthoringError: no channels, channels of different types, or ones that are not outputs of tasks.
    """
    frame = _trace("OneOf").current
    sources = [source_of(channel) for channel in channels if isinstance(channel, Channel)]
    if not channels or len(sources) < len(channels) or any(source.producer is None for source in sources):
        raise AuthoringError("dsl.OneOf takes the outputs of tasks in the branches, such as dsl.OneOf(a.output, b.output)")
    types = {str(source.type) for source in sources}
    if len(types) > 1:
        raise AuthoringError(f"dsl.OneOf: its outputs are of different types ({', '.join(sorted(types))}); make them the same")
    choices = []
    for source in sources:
        _check_trace(source, frame, "dsl.OneOf")
        choice, loops = export(source, frame)
        if loops:
            raise AuthoringError(f"dsl.OneOf: {source.describe()} is inside a loop; use dsl.Collected for it")
        choices.append(choice)
    # Choices that end up in different frames all came out to an ancestor of this one: the innermost sees them all.
    innermost = max((choice.frame for choice in choices), key=lambda frame: len(frame.ancestors()))
    chosen: Any = Channel(Source(innermost, choices[0].producer, "oneof", sources[0].type, choices=tuple(choices)))
    result: T = chosen
    return result


def _check_trace(source: Source, frame: Frame, where: str) -> None:
    # Out of a loop or branch of this pipeline is what these two are for.
    if source.frame.trace is not frame.trace:
        check_visible(source, frame, where)
