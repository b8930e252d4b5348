"""The methods of a task that say what its body sees and where it runs. They check at once: errors show the author's line."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from flowcore.dsl.channels import Channel, Source
from flowcore.errors import SettingError, ValueEncodingError
from flowcore.graph import NO_SETTINGS, Binding, Component, Constant, Dag, ParameterType, Settings
from flowcore.graph.settings import QUANTITIES, Text, binding_types, canonical_json, problems

if TYPE_CHECKING:
    from flowcore.dsl.frames import Frame

#: What a group of tasks that runs nowhere itself may have.
_OF_GROUPS = ("display_name",)


class TaskSettings:
    """The settings of a task; setters return the task.

    Names, resources, images and values of variables may be outputs of other tasks. All setters raise SettingError, which is a
    ValueError: for what the setting cannot be, and on a task that is a pipeline, whose tasks have settings instead.
    """

    name: str
    component: Component
    frame: Frame
    settings: Settings = NO_SETTINGS

    def set_cpu_request(self, cpu: str | float) -> Self:
        """The cores that are kept for the body, such as ``"2"``, ``"0.5"`` or ``"500m"``."""
        return self._set_quantity("set_cpu_request", "cpu_request", cpu)

    def set_cpu_limit(self, cpu: str | float) -> Self:
        """The most cores that the body may use; it is kept them where it has no request."""
        return self._set_quantity("set_cpu_limit", "cpu_limit", cpu)

    def set_memory_request(self, memory: str | int) -> Self:
        """The memory that is kept for the body, in bytes or such as ``"512Mi"`` or ``"4G"``."""
        return self._set_quantity("set_memory_request", "memory_request", memory)

    def set_memory_limit(self, memory: str | int) -> Self:
        """The most memory that the body may use; it is kept that much where it has no request."""
        return self._set_quantity("set_memory_limit", "memory_limit", memory)

    def set_accelerator_type(self, accelerator: str) -> Self:
        """The kind of accelerator, such as ``"nvidia.com/gpu"``; one, where no number is set."""
        call = "set_accelerator_type"
        count = "1" if self.settings.accelerator_limit is None else self.settings.accelerator_limit
        return change(self, call, accelerator_type=text(self, call, "accelerator_type", accelerator), accelerator_limit=count)

    def set_accelerator_limit(self, limit: int | str) -> Self:
        """How many accelerators the body has to itself."""
        return self._set_quantity("set_accelerator_limit", "accelerator_limit", limit)

    def set_gpu_limit(self, gpu: int | str) -> Self:
        """Kubeflow's former name of ``set_accelerator_limit``."""
        return self._set_quantity("set_gpu_limit", "accelerator_limit", gpu)

    def add_node_selector_constraint(self, accelerator: str) -> Self:
        """Kubeflow's former name of ``set_accelerator_type``."""
        return self.set_accelerator_type(accelerator)

    def set_env_variable(self, name: str, value: str) -> Self:
        """Set an environment variable of the body; the last value of a name counts."""
        call = f"set_env_variable({name!r})"
        kept = dict(self.settings.env)
        kept[plain_text(self, call, "name", name)] = text(self, call, "env", value)
        return change(self, call, env=tuple(kept.items()))

    def set_container_image(self, name: str) -> Self:
        """The image of the container that runs the body, where it runs in one."""
        call = "set_container_image"
        return change(self, call, container_image=text(self, call, "container_image", name))

    def set_display_name(self, name: str) -> Self:
        """What views show instead of the task's name."""
        call = "set_display_name"
        return change(self, call, display_name=plain_text(self, call, "name", name))

    def set_timeout(self, seconds: float) -> Self:
        """End the attempt when its body has run this long; a retry may follow."""
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 1e15:
            raise SettingError(self.name, f"set_timeout({seconds!r})", "wants a number of seconds above 0")
        return change(self, "set_timeout", timeout_seconds=float(seconds))

    def set_limit(self, name: str) -> Self:
        """Count the body against the limit of this name: ``Client(limits={"db": 4})`` lets four such bodies run at once."""
        return change(self, "set_limit", limit=plain_text(self, "set_limit", "name", name))

    def set_debug_pause(self, before: bool = False, after: bool = True, on_error: bool = False) -> Self:
        """Hold the body's pod before it starts, after it ended or where it failed; recorded, and only Kubernetes does it."""
        call = "set_debug_pause"
        given = {"before": before, "after": after, "on_error": on_error}
        for name, value in given.items():
            if not isinstance(value, bool):
                raise SettingError(self.name, f"{call}({name}={value!r})", "wants True or False")
        return change(self, call, pod=pod_entries(self, "debug_pause", canonical_json(given), once=True))

    def _set_quantity(self, call: str, setting: str, value: Any) -> Self:
        call = f"{call}({shown(value)})"
        return change(self, call, **{setting: text(self, call, setting, value)})


T = TypeVar("T", bound=TaskSettings)


def change(task: T, call: str, **changes: Any) -> T:
    """Set fields of a task's settings; ``call`` is what the author wrote.

    Raises:
        SettingError: the settings would be impossible, the task is a pipeline, or it is no task at all.
    """
    check_task(task, call)
    if isinstance(task.component.implementation, Dag) and not set(changes) <= set(_OF_GROUPS):
        raise SettingError(task.name, call, "is not for a pipeline, which runs nowhere itself; call it on its tasks")
    settings = replace(task.settings, **changes)
    if problem := next(problems(settings), None):
        raise SettingError(task.name, call, f"cannot be: {problem}")
    task.settings = settings
    return task


def check_task(task: Any, call: str) -> None:
    """Refuse what is not a task of a pipeline that is being authored."""
    if not isinstance(task, TaskSettings):
        found = f"{task!r} of type {type(task).__name__}"
        raise SettingError("?", call, f"is for tasks, got {found}; pass what a component's call in a pipeline gives")


def pod_entries(task: TaskSettings, kind: str, value: Text, *, once: bool) -> tuple[tuple[str, Text], ...]:
    """The pod settings with one more of ``kind``, or with it in the place of that before."""
    kept = tuple(entry for entry in task.settings.pod if not (once and entry[0] == kind))
    return (*kept, (kind, value))


def plain_text(task: Any, call: str, what: str, value: Any) -> str:
    """A text that must be known while authoring.

    Raises:
        SettingError: it holds an output, is empty or no text.
    """
    check_task(task, call)
    if isinstance(value, Channel) or not isinstance(bound(task, call, what, value), Constant):
        raise SettingError(task.name, call, f"wants a {what} that is known while authoring, got an output")
    if not isinstance(value, str) or not value:
        raise SettingError(task.name, call, f"wants a {what}, got {shown(value)}")
    return value


def text(task: Any, call: str, setting: str, value: Any) -> Text:
    """A text, or where it comes from; the number of a resource becomes text.

    Raises:
        SettingError: it is no text, or an output of another type.
    """
    check_task(task, call)
    found = bound(task, call, setting, value)
    if not isinstance(found, Constant):
        return found
    if setting in QUANTITIES and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise SettingError(task.name, call, f"wants a text, got {shown(value)} of type {type(value).__name__}")
    return value


def data(task: Any, call: str, kinds: tuple[type[Any], ...], value: Any) -> Text:
    """A dict or list as JSON text, or where it comes from.

    Raises:
        SettingError: it is neither, or holds what is not JSON.
    """
    check_task(task, call)
    found = bound(task, call, "pod", value)
    if not isinstance(found, Constant):
        return found
    if not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise SettingError(task.name, call, f"wants a {wanted}, got {shown(value)} of type {type(value).__name__}")
    return canonical_json(found.value)


def bound(task: TaskSettings, call: str, setting: str, value: Any) -> Binding:
    """A value as the task's group sees it: a Binding, for a value that is known a Constant."""
    from flowcore.dsl.arguments import read_argument
    from flowcore.dsl.building import bind

    try:
        argument = read_argument(task.frame, value, ParameterType("any"), f"task {task.name!r}, {call}")
    except ValueEncodingError as error:
        raise SettingError(task.name, call, f"got {error.found}; {error.remedy}") from None
    if isinstance(argument, Source):
        type_ = argument.type
        wanted = binding_types(setting)
        if not isinstance(type_, ParameterType) or type_.optional or type_.name not in (*wanted, "any"):
            raise SettingError(task.name, call, f"wants {' or '.join(wanted)}, got {argument.describe()}, which is {type_}")
    binding: Binding = bind(argument, task.frame)
    return binding


def shown(value: Any) -> str:
    """A value in a message; an output by its name."""
    return repr(value) if not isinstance(value, Channel) else str(repr(value)).partition(":")[0].removeprefix("<channel ")
