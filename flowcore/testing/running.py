"""``flowcore.testing.run``: a pipeline in a test, inline and without files left behind, some of its tasks replaced by fakes."""

from __future__ import annotations

import difflib
import inspect
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace as changed
from typing import TYPE_CHECKING, Any

from flowcore.client import Client, as_pipeline
from flowcore.dsl.component import ComponentFunction
from flowcore.errors import UsageError
from flowcore.executors.local import LocalExecutor
from flowcore.graph import NO_SETTINGS, Component, Dag, Pipeline, PythonFunction, Task

if TYPE_CHECKING:
    from flowcore.client import Runnable
    from flowcore.runs import Run


def run(
    pipeline: Runnable,
    arguments: Mapping[str, Any] | None = None,
    *,
    replace: Mapping[str, Any] | None = None,
    raise_on_failure: bool = True,
) -> Run:
    """Run a pipeline on this thread, with nothing recorded in a file; limits of a client do not apply.

    Artifacts lie in a temporary folder that is removed once the returned run is held no longer, at the latest with the
    interpreter.

    Args:
        replace: what stands for tasks: by a component's name for all of its tasks, or by the path of one task (``each/train``),
            which comes first. A function, or anything that can be called, gets the decoded arguments and the artifacts that
            the component would get, and returns what it would return; any other value is what the task returns. Settings and
            packages of a replaced task do not apply.

    Raises:
        UsageError: a name that the pipeline does not have, a function with other parameters than the component, a value for a
            component that writes artifacts.
        RunFailed: a task failed; see ``flowcore.run``.
    """
    graph = _replaced(as_pipeline(pipeline), dict(replace or {}))
    folder = tempfile.mkdtemp(prefix="flowcore-test-")
    try:
        client = Client(None, folder, executor=LocalExecutor("inline"))
        finished = client.run(graph, arguments, raise_on_failure=False)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(finished, shutil.rmtree, folder, ignore_errors=True)
    if raise_on_failure:
        finished.raise_for_state()
    return finished


def _replaced(pipeline: Pipeline, fakes: dict[str, Any]) -> Pipeline:
    tasks = dict(_leaves(pipeline.dag, ""))
    components = {task.component.name for task in tasks.values()}
    for name in fakes:
        if name not in tasks and name not in components:
            known = list(dict.fromkeys([*components, *tasks]))
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)[:5]
            raise UsageError(
                f"replace={{{name!r}: ...}}: pipeline {pipeline.name!r} has no such component or task; "
                f"the nearest are {', '.join(map(repr, near))}"
            )
    functions = dict(pipeline.functions)
    root = changed(pipeline.root, implementation=_dag(pipeline.dag, "", fakes, functions))
    return Pipeline(root, pipeline.description, functions)


def _leaves(dag: Dag, prefix: str) -> Iterator[tuple[str, Task]]:
    for task in dag.tasks:
        if isinstance(task.component.implementation, Dag):
            yield from _leaves(task.component.implementation, f"{prefix}{task.name}/")
        else:
            yield prefix + task.name, task


def _dag(dag: Dag, prefix: str, fakes: dict[str, Any], functions: dict[str, Callable[..., Any]]) -> Dag:
    tasks = []
    for task in dag.tasks:
        inner, path = task.component.implementation, prefix + task.name
        if isinstance(inner, Dag):
            component = changed(task.component, implementation=_dag(inner, f"{path}/", fakes, functions))
            tasks.append(changed(task, component=component))
            continue
        # A path that is also the name of a component means the component, unless another task of it is meant by its path.
        name = path if path in fakes else task.component.name
        if name in fakes:
            component = _component(path, task.component, fakes[name], functions)
            tasks.append(changed(task, component=component, settings=NO_SETTINGS))
        else:
            tasks.append(changed(task, settings=changed(task.settings, limit=None)))
    return changed(dag, tasks=tuple(tasks))


def _component(path: str, component: Component, fake: Any, functions: dict[str, Callable[..., Any]]) -> Component:
    """The component with a fake for its function; its ports stay, so that what goes in and out is checked as ever."""
    implementation = component.implementation
    assert isinstance(implementation, PythonFunction)
    function = fake.python_func if isinstance(fake, ComponentFunction) else fake
    if callable(function):
        _check_parameters(path, component, function)
        if not inspect.isfunction(function):
            function = _function(function)
    else:
        function = _returning(path, component, fake)
    python = changed(implementation, digest=f"replaced-{len(functions)}", packages=())
    functions[python.key] = function
    return changed(component, implementation=python)


def _function(called: Callable[..., Any]) -> Callable[..., Any]:
    """A Mock, a bound method, a partial as a function: errors tell where its code is."""

    def call(**given: Any) -> Any:
        return called(**given)

    return call


def _check_parameters(path: str, component: Component, function: Callable[..., Any]) -> None:
    names = [port.name for port in component.inputs]
    names += [port.name for port in component.outputs if port.style != "return"]
    signature = inspect.signature(function)
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        called = getattr(function, "__qualname__", repr(function))
        raise UsageError(
            f"replacement of task {path!r}: {called}{signature} cannot be called as component {component.name!r}, "
            f"with parameters ({', '.join(names)}): {error}"
        ) from None


def _returning(path: str, component: Component, value: Any) -> Callable[..., Any]:
    written = [port.name for port in component.outputs if port.style != "return"]
    if written:
        raise UsageError(
            f"replacement of task {path!r}: {value!r} is a value, but component {component.name!r} writes {', '.join(written)}; "
            "replace it by a function with the component's parameters that does"
        )
    return lambda **_: value
