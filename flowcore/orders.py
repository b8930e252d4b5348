"""Makes the work orders of one run: what an attempt is given, from the state machine's Submit. It sends none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowcore.artifacts.types import ArtifactRef
from flowcore.code import code_ref, resolve_function
from flowcore.executor import Executor, WorkOrder
from flowcore.graph import CodeRef, Component, Pipeline, PythonFunction, Task
from flowcore.graph.walk import task_kinds
from flowcore.run_state import Submit

if TYPE_CHECKING:
    from flowcore.artifacts.store import ArtifactStore
    from flowcore.recorder import RunRecorder

_NO_OPTIONS: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What every order of one kind of task has in common.

    ``leaves`` says that an attempt leaves something that a later driver has to find: files, or itself where it may outlive us.
    ``root`` and its options are for code that lies there.
    """

    leaves: bool
    root: str | None
    storage_options: dict[str, Any]
    function: Callable[..., Any] | None
    code: CodeRef | None


class Orders:
    """Makes orders; ``leaving`` says that one was made which leaves something outside this process."""

    def __init__(
        self, pipeline: Pipeline, run_id: str, executor: Executor, recorder: RunRecorder, store: ArtifactStore
    ) -> None:
        self._root = pipeline.root
        self._executor = executor
        self._recorder = recorder
        self._store = store
        #: By the identity of the component and the settings, which the pipeline holds.
        self._plans: dict[tuple[int, int], _Plan] = {}
        self._codes: dict[str, CodeRef] = {}
        self._functions: dict[str, Callable[..., Any]] = dict(pipeline.functions)
        self._base = store.join(path_name(pipeline.name), run_id)
        self.leaving = False

    def prepare(self) -> None:
        """Find every function, and for another process its code, before anything runs.

        Raises:
            CodeError: names the function and what is wrong with it.
        """
        for _, task in task_kinds(self._root):
            self._plan(task)

    def make(self, command: Submit) -> WorkOrder:
        """The order of an attempt, which is recorded here."""
        task = command.task
        component = task.component
        plan = self._plans.get((id(component), id(task.settings))) or self._plan(task)
        attempt_id, path = command.attempt_id, command.path
        if not plan.leaves:
            self._recorder.submitted(path, command.number, command.inputs, [], leaves=False)
            inputs, settings = command.inputs, command.settings or task.settings
            return WorkOrder(
                attempt_id, path, component, inputs, {}, plan.code, None, plan.root, plan.storage_options, settings, False,
                plan.function,
            )  # fmt: skip
        self.leaving = True
        if component.touches_files:
            arguments, artifacts, uses = _split(component, command.inputs)
        else:
            arguments, artifacts, uses = command.inputs, {}, []
        self._recorder.submitted(path, command.number, arguments, uses)
        output_uri = "/".join([self._base, path, str(command.number)])
        return WorkOrder(
            attempt_id, path, component, arguments, artifacts, plan.code, output_uri, self._store.root,
            self._store.storage_options, command.settings or task.settings, self._executor.outlives_driver, plan.function,
            self._store.cache_dir, self._store.cache_bytes,
        )  # fmt: skip

    def _plan(self, task: Task) -> _Plan:
        component = task.component
        implementation = component.implementation
        assert isinstance(implementation, PythonFunction)
        in_process = self._executor.keeps(task)
        seals = component.touches_files or self._executor.outlives_driver
        plan = self._plans[id(component), id(task.settings)] = _Plan(
            leaves=seals,
            root=None if in_process else self._store.root,
            storage_options=_NO_OPTIONS if in_process else self._store.storage_options,
            function=self._function(implementation) if in_process else None,
            code=None if in_process else self._code(implementation),
        )
        return plan

    def _function(self, implementation: PythonFunction) -> Callable[..., Any]:
        key = implementation.key
        function = self._functions.get(key)
        if function is None:
            function = self._functions[key] = resolve_function(implementation)
        return function

    def _code(self, implementation: PythonFunction) -> CodeRef:
        key = implementation.key
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = code_ref(self._function(implementation), implementation, self._store)
        return code


def _split(component: Component, inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], list[tuple[str, int, str]]]:
    """(encoded parameters, artifacts, what is read) of a task's inputs."""
    arguments: dict[str, Any] = {}
    artifacts: dict[str, Any] = {}
    uses: list[tuple[str, int, str]] = []
    for port in component.inputs:
        value = inputs[port.name]
        if not port.is_artifact:
            arguments[port.name] = value
            continue
        artifacts[port.name] = value
        if isinstance(value, ArtifactRef):
            uses.append((port.name, -1, value.uri))
        elif isinstance(value, list):
            uses.extend((port.name, position, ref.uri) for position, ref in enumerate(value))
    return arguments, artifacts, uses


def path_name(name: str) -> str:
    """A pipeline's name as a folder: letters, digits, hyphens; long ones are cut."""
    plain = "".join(character if character.isalnum() else "-" for character in name.lower())
    return "-".join(part for part in plain.split("-") if part)[:60] or "pipeline"
