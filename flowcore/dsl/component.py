"""``@dsl.component``: a Python function as a typed step; called in a pipeline it becomes a task, elsewhere it runs at once."""

from __future__ import annotations

import functools
import inspect
import os
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, Generic, ParamSpec, TypeVar, overload

from flowcore.artifacts.types import Artifact, ArtifactRef
from flowcore.dsl.annotations import read_port, read_returns, signature
from flowcore.dsl.arguments import add_task, bind_arguments, encoded_argument
from flowcore.dsl.frames import PipelineTask, current_trace, plain_name
from flowcore.errors import ComponentError, FlowcoreError, TypeMismatch, UsageError
from flowcore.executor import Event, WorkOrder
from flowcore.graph import ArtifactType, Component, Dag, Pipeline, Port, PythonFunction, ScopeInput, Task, TaskOutput
from flowcore.values import decode

P = ParamSpec("P")
R = TypeVar("R")
V = TypeVar("V")


class ComponentFunction(Generic[P, R]):
    """A component made from a function. ``python_func`` is the bare function.

    In a pipeline a call gives a task. Elsewhere it runs at once in this process and gives a finished task; artifacts that it
    writes lie under ``.flowcore/calls`` of the working directory.
    """

    __name__: str

    def __init__(
        self, function: Callable[P, R], *, base_image: str | None, packages: tuple[str, ...], use_venv: bool = False
    ) -> None:
        self.python_func = function
        functools.update_wrapper(self, function)
        self.name = plain_name(getattr(function, "__name__", "component"))
        self._base_image, self._packages, self._use_venv = base_image, packages, use_venv
        _check_function(self.name, function)
        shape = signature(function, self.name)
        ports = [read_port(self.name, parameter) for parameter in shape.parameters.values()]
        self._inputs = tuple(port for direction, port in ports if direction == "input")
        self._returns, returned = read_returns(self.name, shape.return_annotation)
        for port in returned:
            if isinstance(port.type, ArtifactType):
                remedy = f"take it as a parameter, {port.name.lower()}: Output[{port.type}], and write to its path"
                raise ComponentError(self.name, f"it returns an artifact ({port.type})", remedy)
        self._outputs = (*(port for direction, port in ports if direction == "output"), *returned)
        names = [port.name for port in self._outputs]
        for name in names:
            if names.count(name) > 1:
                raise ComponentError(self.name, f"two outputs are named {name!r}", "rename one")

    @functools.cached_property
    def component(self) -> Component:
        """The component as the graph knows it. Made on first use: it reads the function's source."""
        from flowcore.code import source_digest

        function = self.python_func
        digest = source_digest(function)
        python = PythonFunction(
            function.__module__, function.__qualname__, digest, self._returns, self._base_image, self._packages, self._use_venv
        )
        return Component(self.name, self._inputs, self._outputs, python, inspect.getdoc(function) or "")

    @functools.cached_property
    def pipeline(self) -> Pipeline:
        """A pipeline of this one task, with the same inputs and outputs."""
        component = self.component
        task = Task(self.name, component, tuple((port.name, ScopeInput(port.name)) for port in component.inputs))
        outputs = tuple((port.name, TaskOutput(task.name, port.name)) for port in component.outputs)
        root = Component(self.name, component.inputs, component.outputs, Dag((task,), outputs), component.description)
        return Pipeline(root, component.description, self.functions)

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """The live function by the name that the graph knows it by."""
        implementation = self.component.implementation
        assert isinstance(implementation, PythonFunction)
        return {implementation.key: self.python_func}

    @overload
    def __call__(self: ComponentFunction[P, None], *args: Any, **kwargs: Any) -> PipelineTask[Any]: ...

    @overload
    def __call__(self: ComponentFunction[P, Coroutine[Any, Any, V]], *args: Any, **kwargs: Any) -> PipelineTask[V]: ...

    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> PipelineTask[R]: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """A task where a pipeline is being authored, else a ``FinishedTask``.

        Raises:
            ArgumentError, TypeMismatch: an argument is missing, unknown or of the wrong type.
        """
        trace = current_trace()
        if trace is None:
            return run_now(self.component, self.python_func, args, kwargs)
        trace.functions.update(self.functions)
        return add_task(trace, self.component, args, kwargs)

    def __repr__(self) -> str:
        return f"<component {self.name!r}>"


def _check_function(name: str, function: Any) -> None:
    if not inspect.isfunction(function):
        raise ComponentError(name, f"it is a {type(function).__name__}, not a function", "decorate a function made with def")
    if function.__name__ == "<lambda>":
        raise ComponentError(name, "a lambda has no annotations and no name", "write it with def and annotate its parameters")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ComponentError(name, "a generator never returns one value", "return a list, or write to an Output[Dataset]")


class FinishedTask:
    """The result of a component that was called outside a pipeline."""

    def __init__(self, name: str, outputs: dict[str, Any]) -> None:
        self.name = name
        self.outputs = outputs

    @property
    def output(self) -> Any:
        """The return value, or the only output.

        Raises:
            FlowcoreError: there is none, or several and none is returned.
        """
        if "Output" in self.outputs:
            return self.outputs["Output"]
        if len(self.outputs) == 1:
            return next(iter(self.outputs.values()))
        raise FlowcoreError(f"component {self.name!r} has no single output; its outputs are {', '.join(self.outputs) or 'none'}")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(PipelineTask, name):
            remedy = "call the component in a @dsl.pipeline function to configure its task"
            raise UsageError(f"task {self.name!r} has already run, outside a pipeline, so .{name} means nothing; {remedy}")
        raise AttributeError(f"finished task {self.name!r} has no attribute {name!r}; it has .output and .outputs")

    def __repr__(self) -> str:
        return f"<finished task {self.name!r}: {self.outputs!r}>"


def run_now(component: Component, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> FinishedTask:
    """Run one component in this process; an exception of the body is raised as it is.

    Raises:
        ArgumentError, TypeMismatch: as in a pipeline.
    """
    from flowcore.artifacts.store import ArtifactStore
    from flowcore.worker import Stores, run_order

    given = bind_arguments(component, args, kwargs)
    arguments: dict[str, Any] = {}
    artifacts: dict[str, Any] = {}
    for port in component.inputs:
        value = given.get(port.name, port.default)
        if isinstance(value, FinishedTask):
            raise TypeMismatch(component.name, port.name, repr(value), str(port.type), "pass its .output or .outputs[...]")
        if isinstance(port.type, ArtifactType):
            artifacts[port.name] = _artifact_argument(component, port, value)
        else:
            arguments[port.name] = encoded_argument(component, port, value) if port.name in given else value
    root = os.path.abspath(os.path.join(".flowcore", "calls"))
    call = f"{component.name}-{secrets.token_hex(4)}"
    order = WorkOrder(call, component.name, component, arguments, artifacts, function=function)
    if component.touches_files:
        order.pipeline_root, order.output_uri = root, os.path.join(root, call)
    stores = Stores()
    outcome = run_order(order, _ignore, stores, where="call", passthrough=True)
    if outcome.error is not None:
        assert outcome.error.exception is not None
        raise outcome.error.exception
    outputs: dict[str, Any] = {}
    for port in component.outputs:
        if isinstance(port.type, ArtifactType):
            ref = outcome.artifacts[port.name]
            assert isinstance(ref, ArtifactRef)
            outputs[port.name] = ArtifactStore(root).open_input(ref)
        else:
            outputs[port.name] = decode(outcome.parameters[port.name], port.type, port.name)
    return FinishedTask(component.name, outputs)


def _ignore(event: Event) -> None:
    """A call outside a pipeline has nobody to report to."""


def _artifact_argument(component: Component, port: Port, value: Any) -> ArtifactRef | list[ArtifactRef] | None:
    assert isinstance(port.type, ArtifactType)
    if value is None and port.type.optional:
        return None
    if port.type.is_list and isinstance(value, list):
        return [artifact_ref(component.name, port, item) for item in value]
    return artifact_ref(component.name, port, value)


def artifact_ref(component: str, port: Port, value: Any) -> ArtifactRef:
    """An artifact given as an argument, as plain data: what a store sealed keeps its digest, anything else is external.

    Raises:
        TypeMismatch: it is no artifact, or one of another type.
    """
    assert isinstance(port.type, ArtifactType)
    wanted = ArtifactType(port.type.schema_title)
    if not isinstance(value, Artifact):
        remedy = "pass an artifact, for example dsl.Dataset(uri='/data/table.csv')"
        raise TypeMismatch(component, port.name, f"{value!r} of type {type(value).__name__}", str(wanted), remedy)
    if not wanted.accepts(ArtifactType(value.schema_title)):
        raise TypeMismatch(component, port.name, type(value).__name__, str(wanted), "pass an artifact of that type")
    if value._ref is not None and not value._external:
        return value._ref
    if not value.uri:
        raise TypeMismatch(component, port.name, "an artifact without a URI", str(wanted), "set its uri")
    return ArtifactRef(value.name or port.name, value.schema_title, value.uri, dict(value.metadata), external=True)


@overload
def component(func: Callable[P, R]) -> ComponentFunction[P, R]: ...


@overload
def component(
    func: None = None,
    *,
    base_image: str | None = None,
    packages_to_install: list[str] | None = None,
    use_venv: bool = False,
) -> Callable[[Callable[P, R]], ComponentFunction[P, R]]: ...


def component(
    func: Callable[..., Any] | None = None,
    *,
    base_image: str | None = None,
    packages_to_install: list[str] | None = None,
    use_venv: bool = False,
) -> Any:
    """Make a component of a function with annotated parameters.

    ``base_image`` is the image that runs it on Kubernetes. ``packages_to_install`` names what the body imports (PEP 508).
    With ``use_venv`` it runs in a virtual environment of its own, whatever is installed.

    Raises:
        ComponentError: a parameter or return type is missing or unknown; a lambda, a generator, no function.
    """
    packages = tuple(packages_to_install or ())
    make = functools.partial(ComponentFunction, base_image=base_image, packages=packages, use_venv=use_venv)
    return make if func is None else make(func)
