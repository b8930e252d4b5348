"""``@dsl.pipeline``: a function that calls components, traced once into a frozen Pipeline."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from flowcore.dsl.annotations import read_port, read_returns, signature
from flowcore.dsl.arguments import Argument, add_task, checked_argument
from flowcore.dsl.building import build_root
from flowcore.dsl.channels import Channel, Source
from flowcore.dsl.frames import PipelineTask, Trace, current_trace
from flowcore.errors import AuthoringError, ComponentError, UsageError
from flowcore.graph import Component, Dag, Pipeline, Port
from flowcore.graph.checks import check_pipeline

P = ParamSpec("P")
R = TypeVar("R")


class PipelineFunction(Generic[P, R]):
    """A pipeline made from a function. ``pipeline`` is the frozen value that executors run and records keep.

    In another pipeline a call gives a task; run it with ``flowcore.run(this, arguments)``.
    """

    __name__: str

    def __init__(self, function: Callable[P, R], *, name: str | None, description: str | None, pipeline_root: str | None) -> None:
        self.pipeline_func = function
        functools.update_wrapper(self, function)
        self.name = name or function.__name__.replace("_", "-")
        self.pipeline_root = pipeline_root
        self.description = description or inspect.getdoc(function) or ""
        self.pipeline = self._trace(function)

    @property
    def component(self) -> Component:
        """The pipeline as a component of another."""
        return self.pipeline.root

    def _trace(self, function: Callable[..., Any]) -> Pipeline:
        if not inspect.isfunction(function) or inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
            raise ComponentError(self.name, "it is not a plain function", "make the pipeline with def, and call components in it")
        shape = signature(function, self.name)
        ports = [read_port(self.name, parameter) for parameter in shape.parameters.values()]
        for direction, port in ports:
            if direction == "output" or port.style == "path":
                raise ComponentError(
                    self.name, f"parameter {port.name!r} is an output or a path", "return outputs from the pipeline"
                )
        inputs = tuple(port for _, port in ports)
        declared = read_returns(self.name, shape.return_annotation)
        trace = Trace(self.name)
        channels = {port.name: Channel(Source(trace.root, None, port.name, port.type)) for port in inputs}
        with trace.active():
            returned = function(**channels)
            bound = self._returned(trace, declared, returned, shape.return_annotation)
        if not trace.root.children:
            raise AuthoringError(f"pipeline {self.name!r} has no tasks; call a component in it")
        root = build_root(trace.root, inputs, bound, self.description)
        pipeline = Pipeline(root, self.description, dict(trace.functions))
        check_pipeline(pipeline)
        return pipeline

    def _returned(
        self, trace: Trace, declared: tuple[str, tuple[Port, ...]], returned: Any, annotation: Any
    ) -> list[tuple[Port, Argument]]:
        where = f"pipeline {self.name!r}"
        kind, ports = declared
        if kind == "none":
            if returned is not None:
                raise AuthoringError(f"{where} returns a value but has no return annotation; write -> and its type")
            return []
        if returned is None:
            names = ", ".join(repr(port.name) for port in ports)
            raise AuthoringError(f"{where} declares {names} but returns nothing; return a task's output")
        if kind == "single":
            values = {"Output": returned}
        elif isinstance(returned, tuple) and getattr(returned, "_fields", None) == annotation._fields:
            values = dict(zip(annotation._fields, returned, strict=True))
        else:
            found, wanted = type(returned).__name__, annotation.__name__
            raise AuthoringError(f"{where}: got {found}, wants the annotated NamedTuple {wanted}; return {wanted}(...)")
        receiver = Component(self.name, (), ports, Dag(()))
        return [(port, checked_argument(trace.root, receiver, port, values[port.name], side="output")) for port in ports]

    def __call__(self, *args: Any, **kwargs: Any) -> PipelineTask[R]:
        """A task of the pipeline that is being authored.

        Raises:
            UsageError: called outside a pipeline.
        """
        trace = current_trace()
        if trace is None:
            raise UsageError(
                f"pipeline {self.name!r} was called outside a pipeline; run it with flowcore.run({self.__name__}, {{...}})"
            )
        trace.functions.update(self.pipeline.functions)
        return add_task(trace, self.component, args, kwargs)

    def __repr__(self) -> str:
        return f"<pipeline {self.name!r}>"

    def _repr_html_(self) -> str:
        return self.pipeline.to_svg()


@overload
def pipeline(func: Callable[P, R]) -> PipelineFunction[P, R]: ...


@overload
def pipeline(
    func: None = None, *, name: str | None = None, description: str | None = None, pipeline_root: str | None = None
) -> Callable[[Callable[P, R]], PipelineFunction[P, R]]: ...


def pipeline(
    func: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    pipeline_root: str | None = None,
) -> Any:
    """Make a pipeline of a function that calls components; the function runs once, now, to see what it calls.

    Raises:
        AuthoringError: anything that could not run; the message says where and what to write.
    """
    make = functools.partial(PipelineFunction, name=name, description=description, pipeline_root=pipeline_root)
    return make if func is None else make(func)
