"""What a task of this machine sees and needs: its variables, its secrets, its packages, its share of the budget.

It decides whether a task may stay in this process, and refuses before the run what cannot be had here. It starts nothing.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowcore.errors import RefusedError, UsageError
from flowcore.executor import WorkOrder
from flowcore.executors.budget import NOTHING, Budget, Request
from flowcore.graph import Component, Pipeline, PythonFunction, Settings, Task
from flowcore.graph.settings import ConfigMapEnv, SecretEnv
from flowcore.graph.walk import leaf_tasks
from flowcore.packages import unmet

Source = Mapping[str, Mapping[str, Any]]
_NOT_ASKED = (None,) * 5
#: What a pod tells of itself and this machine knows too.
_FIELDS = ("metadata.name", "spec.nodeName")


@dataclass(frozen=True, slots=True)
class Seen:
    """The variables of one attempt; ``secrets`` are variables too, and what is captured does not show their values."""

    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)


NOTHING_SEEN = Seen()


class Placement:
    """The rules of one ``LocalExecutor``; see there for the arguments."""

    def __init__(
        self,
        mode: str,
        budget: Budget,
        *,
        secrets: Source | None,
        config_maps: Source | None,
        volumes: Mapping[str, str] | None,
        install_packages: bool,
    ) -> None:
        self._mode = mode
        self._budget = budget
        self._secrets = secrets or {}
        self._config_maps = config_maps or {}
        self._volumes = volumes or {}
        self._installs = install_packages and mode != "inline"
        self._missing: dict[int, tuple[Component, tuple[str, ...]]] = {}
        for name, keys in self._secrets.items():
            for key, value in keys.items():
                if not isinstance(value, str) and not _is_reference(value):
                    wanted = "a text, {'env': NAME} or {'file': path}"
                    raise UsageError(f"LocalExecutor(secrets=...): {name!r}, key {key!r} wants {wanted}")

    def keeps(self, task: Task) -> bool:
        """Whether a task's body may run in this process."""
        if self._mode == "processes":
            return False
        settings = task.settings
        return self._mode == "inline" or not (
            settings.needs_process or settings.accelerator_limit is not None or self.isolated(task.component)
        )

    def requirements(self, component: Component) -> tuple[str, ...]:
        """What has to be installed for a component in an environment of its own; empty where this one serves."""
        known = self._missing.get(id(component))
        if known is None:
            python = component.implementation
            assert isinstance(python, PythonFunction)
            isolated = python.use_venv or bool(python.packages and unmet(python.packages))
            # Held, since its identity is its key.
            known = self._missing[id(component)] = (component, tuple(sorted(python.packages)) if isolated else ())
        return known[1]

    def isolated(self, component: Component) -> bool:
        """Whether a component wants an environment of its own."""
        python = component.implementation
        return isinstance(python, PythonFunction) and (python.use_venv or bool(self.requirements(component)))

    def check(self, pipeline: Pipeline) -> None:
        """Refuse what cannot be had here.

        Raises:
            RefusedError: names the task, what it wants, and the remedy.
        """
        for task in leaf_tasks(pipeline.root):
            try:
                self._check_packages(task.component)
                self._check_fits(task.settings)
                self.seen(task.settings, task.name)
                self._check_mounts(task.settings)
            except _Problem as problem:
                raise RefusedError(f"task {task.name!r} {problem}") from None

    def _check_packages(self, component: Component) -> None:
        python = component.implementation
        if self._installs or not isinstance(python, PythonFunction):
            return
        missing = unmet(python.packages)
        where = "LocalExecutor(mode='inline')" if self._mode == "inline" else "LocalExecutor(install_packages=False)"
        if missing:
            names, command = ", ".join(missing), f"pip install {' '.join(map(repr, missing))}"
            raise _Problem(f"needs {names}, which this environment does not have; {where} installs nothing: {command}")
        if python.use_venv:
            raise _Problem(f"wants an environment of its own (use_venv=True), which {where} does not make")

    def _check_fits(self, settings: Settings) -> None:
        never = self._budget.never(self.request(settings))
        if never is not None:
            raise _Problem(f"{never}: ask for less, or give LocalExecutor(cpus=, memory=, gpus=) more")

    def request(self, settings: Settings) -> Request:
        """What a task asks for, as numbers."""
        asked = (
            settings.cpu_request, settings.cpu_limit, settings.memory_request, settings.memory_limit, settings.accelerator_limit
        )  # fmt: skip
        if asked == _NOT_ASKED:
            return NOTHING
        return Request(settings.cpu_cores, settings.memory_bytes, settings.accelerator_count)

    def of(self, order: WorkOrder) -> tuple[Request, Seen]:
        """What an order asks for and sees.

        Raises:
            RefusedError: as ``check`` does, where a value became known only now.
        """
        try:
            self._check_fits(order.settings)
            return self.request(order.settings), self.seen(order.settings, order.task)
        except _Problem as problem:
            raise RefusedError(f"task {order.task!r} {problem}") from None

    def seen(self, settings: Settings, task: str) -> Seen:
        """The variables of a task; what is not known yet is left out."""
        if not settings.needs_process:
            return NOTHING_SEEN
        environment = [(name, value) for name, value in settings.env if isinstance(value, str)]
        for name, path in settings.field_env:
            if path not in _FIELDS:
                raise _Problem(f"reads the field {path!r}, which only a pod has; here there are {', '.join(_FIELDS)}")
            environment.append((name, task if path == "metadata.name" else socket.gethostname()))
        for part in settings.config_map_env:
            environment += self._keyed("config map", "config_maps", self._config_maps, part)
        secrets: list[tuple[str, str]] = []
        for secret in settings.secret_env:
            secrets += self._keyed("secret", "secrets", self._secrets, secret)
        return Seen(tuple(environment), tuple(secrets))

    def _keyed(self, what: str, argument: str, source: Source, part: SecretEnv | ConfigMapEnv) -> list[tuple[str, str]]:
        if not isinstance(part.name, str):
            return []
        keys = source.get(part.name)
        found = []
        for key, variable in part.keys:
            value = None if keys is None else keys.get(key)
            if value is None:
                if part.optional:
                    continue
                name = part.name if keys is None else f"{part.name}, key {key}"
                wants = f"{argument}={{{part.name!r}: {{{key!r}: ...}}}}"
                raise _Problem(f"reads the {what} {name!r} as {variable}, which is not given: LocalExecutor({wants})")
            found.append((variable, _value(value, f"{what} {part.name!r}, key {key!r}")))
        return found

    def _check_mounts(self, settings: Settings) -> None:
        for mount in settings.mounts:
            path, kind = mount.mount_path, type(mount).__name__
            if kind == "VolumeMount" and isinstance(mount.name, str):
                folder = self._volumes.get(mount.name)
                if folder is None:
                    raise _Problem(
                        f"mounts the volume {mount.name!r}, which is not given: LocalExecutor(volumes={{{mount.name!r}: folder}})"
                    )
                target = os.path.realpath(os.path.join(folder, getattr(mount, "sub_path", "")))
                if os.path.isdir(target) and os.path.realpath(path) == target:
                    continue
                raise _Problem(
                    f"wants the folder {target!r} at {path!r}; LocalExecutor changes nothing there: "
                    f"make it a link, ln -s {target} {path}"
                )
            if getattr(mount, "optional", False):
                continue
            if kind in ("SecretVolume", "ConfigMapVolume") and os.path.isdir(path) and os.listdir(path):
                continue
            if kind in ("EmptyDir", "EphemeralVolume") and os.path.isdir(path) and os.access(path, os.W_OK):
                continue
            raise _Problem(f"wants a volume at {path!r}, which is not there; LocalExecutor mounts nothing: make that folder")


class _Problem(Exception):
    """What is wrong with a task: the sentence behind its name."""


def _is_reference(value: Any) -> bool:
    return isinstance(value, Mapping) and list(value) in (["env"], ["file"]) and all(isinstance(v, str) for v in value.values())


def _value(value: Any, what: str) -> str:
    if isinstance(value, str):
        return value
    if "env" in value:
        found = os.environ.get(value["env"])
        if found is None:
            raise _Problem(f"reads the {what} from the variable {value['env']}, which is not set: set it")
        return found
    try:
        with open(value["file"], encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise _Problem(f"reads the {what} from the file {value['file']}, which cannot be read: {error}") from None
