"""What authors write in signatures, read into ports. Annotations only: no function is called, nothing is traced."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, get_args, get_origin

from flowcore.artifacts.types import ARTIFACT_TYPES, Artifact
from flowcore.errors import ComponentError, ValueEncodingError
from flowcore.graph import ArtifactType, ParameterType, Port
from flowcore.graph.types import SCALARS
from flowcore.values import encode

T = TypeVar("T")


class _Direction:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"flowcore.dsl.{self.name}"


_INPUT, _OUTPUT = _Direction("Input"), _Direction("Output")

Input = Annotated[T, _INPUT]
Output = Annotated[T, _OUTPUT]


class PathAnnotation:
    """What ``InputPath(...)`` and ``OutputPath(...)`` leave in a signature."""

    def __init__(self, direction: str, type_: Any) -> None:
        self.direction = direction
        self.type = type_

    def __repr__(self) -> str:
        return f"{self.direction}Path({getattr(self.type, '__name__', self.type)!s})"


if TYPE_CHECKING:

    class InputPath(str, Generic[T]):
        """The body gets a local path to the input's contents."""

    class OutputPath(str, Generic[T]):
        """The body gets a local path to write the output to."""

else:

    class InputPath:
        """The body gets a local path: of an artifact (``InputPath("Dataset")``), or of a value's text (``InputPath(str)``)."""

        def __new__(cls, type_: Any = None) -> PathAnnotation:
            return PathAnnotation("Input", type_)

        def __class_getitem__(cls, type_: Any) -> PathAnnotation:
            return PathAnnotation("Input", type_)

    class OutputPath:
        """The body gets a path to write to: an artifact's file, or for ``OutputPath(str)`` the value's text."""

        def __new__(cls, type_: Any = None) -> PathAnnotation:
            return PathAnnotation("Output", type_)

        def __class_getitem__(cls, type_: Any) -> PathAnnotation:
            return PathAnnotation("Output", type_)


_PLAIN: dict[Any, str] = {str: "str", int: "int", float: "float", bool: "bool", list: "list", dict: "dict"}
_PLAIN |= {typing.List: "list", typing.Dict: "dict"}  # noqa: UP006  authors still write them
ALLOWED = "str, int, float, bool, List[...], Dict[...], Optional of these, or an artifact as Input[Dataset] / Output[Model]"


def parameter_type(annotation: Any) -> ParameterType | None:
    """The parameter type that an annotation names; None where it names none."""
    for plain, name in _PLAIN.items():
        if annotation is plain:
            return ParameterType(name)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        inner = parameter_type(rest[0]) if len(rest) == 1 and len(rest) < len(arguments) else None
        return None if inner is None else ParameterType(inner.name, inner.items, optional=True)
    if origin in (list, dict):
        items = tuple(ParameterType("any") if argument is Any else parameter_type(argument) for argument in arguments)
        known = tuple(item for item in items if item is not None)
        if len(known) < len(items) or (origin is dict and (known[0].name not in SCALARS or known[0].optional)):
            return None
        plain = known[-1].name == "any" and known[:-1] in ((), (ParameterType("str"),))
        return ParameterType(_PLAIN[origin], () if plain else known)
    return None


def artifact_type(annotation: Any) -> ArtifactType | None:
    """The artifact type that an annotation names (a class, its name, or a list of it); None where it names none."""
    if isinstance(annotation, type) and issubclass(annotation, Artifact):
        return ArtifactType(annotation.schema_title)
    if isinstance(annotation, str):
        title = annotation if annotation.startswith("system.") else f"system.{annotation}"
        return ArtifactType(title) if title in ARTIFACT_TYPES else None
    arguments = get_args(annotation)
    if get_origin(annotation) is list and len(arguments) == 1:
        inner = artifact_type(arguments[0])
        return None if inner is None or inner.is_list else ArtifactType(inner.schema_title, is_list=True)
    return None


def signature(function: Callable[..., Any], name: str) -> inspect.Signature:
    """The signature with its annotations evaluated.

    Raises:
        ComponentError: an annotation that cannot be evaluated.
    """
    try:
        return inspect.signature(function, eval_str=True)
    except Exception as error:
        raise _unreadable(name, error) from error


def _unreadable(component: str, error: Exception) -> ComponentError:
    problem = f"its annotations cannot be read: {type(error).__name__}: {error}"
    return ComponentError(component, problem, "define or import the names that they use at the top of the module")


def read_port(component: str, parameter: inspect.Parameter) -> tuple[str, Port]:
    """("input" | "output", port) of one parameter of a function.

    Raises:
        ComponentError: no annotation, an unknown type, or a default that does not fit.
    """
    name = parameter.name
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise ComponentError(component, f"parameter {parameter} has no name to bind", "name each parameter")
    if name == "Output":
        raise ComponentError(component, "'Output' is the name of the returned value", "rename the parameter")
    if parameter.annotation is parameter.empty:
        raise ComponentError(component, f"parameter {name!r} has no type annotation", f"annotate it, for example {name}: str")
    direction, style, annotation, optional = _unwrap(parameter.annotation)
    artifact = artifact_type(annotation)
    if artifact is not None:
        return direction, _artifact_port(component, parameter, artifact, direction, style, optional=optional)
    type_ = ParameterType("str") if style == "path" and annotation is None else parameter_type(annotation)
    if type_ is None:
        raise _unknown(component, f"parameter {name!r}", parameter.annotation)
    if direction == "output" and style != "path":
        remedy = f"return the value, write to a path with OutputPath({type_}), or use an artifact such as Output[Dataset]"
        raise ComponentError(component, f"output {name!r} is a parameter ({type_}), and Output[...] holds artifacts", remedy)
    if optional:
        type_ = ParameterType(type_.name, type_.items, optional=True)
    if parameter.default is parameter.empty:
        return direction, Port(name, type_, style)
    if direction == "output":
        raise ComponentError(component, f"output {name!r} has a default", "remove it: outputs are written by the body")
    if type(parameter.default) is PathAnnotation:
        raise ComponentError(
            component, f"the default of {name!r} is {parameter.default!r}", f"annotate it: {name}: {parameter.default!r}"
        )
    if parameter.default is None:
        return direction, Port(name, ParameterType(type_.name, type_.items, optional=True), style, has_default=True)
    try:
        default = encode(parameter.default, type_, "")
    except ValueEncodingError as error:
        problem = f"the default of {name!r}{error.where} is {error.found}, the parameter wants {error.wanted}"
        raise ComponentError(component, problem, "change the default or the type") from None
    return direction, Port(name, type_, style, has_default=True, default=default)


def _unwrap(annotation: Any) -> tuple[str, str, Any, bool]:
    """(direction, style, inner annotation, optional) of a parameter's annotation."""
    if isinstance(annotation, PathAnnotation):
        return annotation.direction.lower(), "path", annotation.type, False
    arguments = get_args(annotation)
    if get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [argument for argument in arguments if argument is not type(None)]
        if len(rest) == 1 and len(arguments) == 2:
            direction, style, inner, _ = _unwrap(rest[0])
            return direction, style, inner, True
    for marker in getattr(annotation, "__metadata__", ()):
        if marker is _INPUT or marker is _OUTPUT:
            return marker.name.lower(), "value", annotation.__origin__, False
    return "input", "value", annotation, False


def _artifact_port(
    component: str, parameter: inspect.Parameter, type_: ArtifactType, direction: str, style: str, *, optional: bool
) -> Port:
    name, default = parameter.name, parameter.default
    if default is not parameter.empty and (default is not None or direction == "output"):
        raise ComponentError(component, f"artifact {name!r} has a default", "only None is allowed, and only for inputs")
    if direction == "output" and type_.is_list:
        remedy = "write one artifact; dsl.Collected gathers those of a loop"
        raise ComponentError(component, f"output {name!r} is a list of artifacts", remedy)
    has_default = default is None
    type_ = ArtifactType(type_.schema_title, type_.is_list, optional=optional or has_default)
    return Port(name, type_, "path" if style == "path" else "artifact", has_default=has_default)


def read_returns(component: str, annotation: Any) -> tuple[str, tuple[Port, ...]]:
    """("none" | "single" | "namedtuple", output ports) of a return annotation.

    Raises:
        ComponentError: a type that cannot be returned.
    """
    if annotation is inspect.Signature.empty or annotation is None or annotation is type(None):
        return "none", ()
    if isinstance(annotation, type) and issubclass(annotation, tuple) and hasattr(annotation, "_fields"):
        try:
            hints = typing.get_type_hints(annotation, include_extras=True)
        except Exception as error:
            raise _unreadable(component, error) from error
        ports = tuple(_returned(component, name, hints.get(name)) for name in annotation._fields)
        return "namedtuple", ports
    return "single", (_returned(component, "Output", annotation),)


def _returned(component: str, name: str, annotation: Any) -> Port:
    type_ = artifact_type(annotation) or parameter_type(annotation)
    if type_ is None:
        raise _unknown(component, f"output {name!r}", annotation)
    return Port(name, type_, "return")


def _unknown(component: str, what: str, annotation: Any) -> ComponentError:
    shown = inspect.formatannotation(annotation)
    return ComponentError(component, f"{what} has type {shown}, which flowcore does not know", f"use {ALLOWED}")
