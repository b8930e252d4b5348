"""What a task sees and where it runs, as plain data that executors read. Parses and checks; it never applies anything.

A value that a task makes is a Binding until the task is submitted; ``resolved`` puts the value in its place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from flowcore.graph.bindings import Binding, Constant, DictOf, ListOf, OneOf, ScopeInput, TaskOutput, Template

#: A text, or where it comes from.
Text = str | Binding
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SecretEnv:
    """Keys of the secret ``name`` as environment variables: (key, variable) pairs."""

    name: Text
    keys: Pairs
    optional: bool = False


@dataclass(frozen=True, slots=True)
class SecretVolume:
    """Each key of the secret ``name`` as a file in the folder ``mount_path``."""

    name: Text
    mount_path: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ConfigMapEnv:
    """Keys of the config map ``name`` as environment variables: (key, variable) pairs."""

    name: Text
    keys: Pairs
    optional: bool = False


@dataclass(frozen=True, slots=True)
class ConfigMapVolume:
    """Each key of the config map ``name`` as a file in the folder ``mount_path``."""

    name: Text
    mount_path: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """The persistent volume claim ``name``, or the folder ``sub_path`` of it, at ``mount_path``."""

    name: Text
    mount_path: str
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class EmptyDir:
    """An empty folder at ``mount_path`` that lives as long as the attempt; ``size_limit`` as memory is written."""

    name: str
    mount_path: str
    medium: str | None = None
    size_limit: str | None = None


@dataclass(frozen=True, slots=True)
class EphemeralVolume:
    """A volume of ``size`` (as memory is written) at ``mount_path`` that lives as long as the attempt."""

    name: str
    mount_path: str
    access_modes: tuple[str, ...]
    size: str
    storage_class_name: str | None = None
    labels: Pairs = ()
    annotations: Pairs = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What a task sees and where it runs. ``timeout_seconds`` counts the body only.

    Resources keep the author's text; ``cpu_cores``, ``memory_bytes`` and ``accelerator_count`` are the same as numbers. ``limit``
    names a limit of the Client that counts this task. ``pod`` holds what only a pod has: (one of POD_SETTINGS, JSON text).
    """

    timeout_seconds: float | None = None
    env: tuple[tuple[str, Text], ...] = ()
    secret_env: tuple[SecretEnv, ...] = ()
    secret_volumes: tuple[SecretVolume, ...] = ()
    config_map_env: tuple[ConfigMapEnv, ...] = ()
    config_map_volumes: tuple[ConfigMapVolume, ...] = ()
    field_env: Pairs = ()
    volumes: tuple[VolumeMount, ...] = ()
    empty_dirs: tuple[EmptyDir, ...] = ()
    ephemeral_volumes: tuple[EphemeralVolume, ...] = ()
    cpu_request: Text | None = None
    cpu_limit: Text | None = None
    memory_request: Text | None = None
    memory_limit: Text | None = None
    accelerator_type: Text | None = None
    accelerator_limit: Text | None = None
    container_image: Text | None = None
    display_name: str | None = None
    limit: str | None = None
    pod: tuple[tuple[str, Text], ...] = ()

    @property
    def cpu_cores(self) -> float:
        """Cores asked for: the request, else the limit, as Kubernetes has it; 0 where there is none or it is not known yet."""
        return self._number("cpu_limit" if self.cpu_request is None else "cpu_request")

    @property
    def memory_bytes(self) -> int:
        """Memory asked for: the request, else the limit; 0 where there is none or it is not known yet."""
        return int(self._number("memory_limit" if self.memory_request is None else "memory_request"))

    @property
    def accelerator_count(self) -> float:
        """Accelerators asked for; 0 where there are none or their number is not known yet."""
        return self._number("accelerator_limit")

    def _number(self, name: str) -> float:
        text = getattr(self, name)
        return QUANTITIES[name].parse(text) if isinstance(text, str) else 0

    @property
    def needs_process(self) -> bool:
        """Whether the body sees an environment or folders of its own: beside other bodies it then needs its own process."""
        return bool(
            self.env or self.field_env or self.secret_env or self.config_map_env or self.secret_volumes
            or self.config_map_volumes or self.volumes or self.empty_dirs or self.ephemeral_volumes
        )  # fmt: skip

    @property
    def mounts(self) -> tuple[SecretVolume | ConfigMapVolume | VolumeMount | EmptyDir | EphemeralVolume, ...]:
        """Everything that has a ``mount_path``."""
        return (*self.secret_volumes, *self.config_map_volumes, *self.volumes, *self.empty_dirs, *self.ephemeral_volumes)

    def bindings(self) -> Iterator[tuple[str, Binding]]:
        """(setting, binding) of every value that is not known yet."""
        if self is not NO_SETTINGS:
            for field in fields(self):
                yield from _bindings(field.name, getattr(self, field.name))


NO_SETTINGS = Settings()
_PARTS = (SecretEnv, SecretVolume, ConfigMapEnv, ConfigMapVolume, VolumeMount, EmptyDir, EphemeralVolume)
_BINDINGS = (Constant, ScopeInput, TaskOutput, OneOf, Template, ListOf, DictOf)


@dataclass(frozen=True, slots=True)
class Quantity:
    """How a resource is written: the whole text matches ``pattern`` (number, unit); a unit counts ``units[unit] / base``."""

    pattern: re.Pattern[str]
    units: dict[str, int]
    wanted: str
    base: int = 1

    def fits(self, text: str) -> bool:
        return len(text) <= 40 and self.pattern.fullmatch(text) is not None

    def parse(self, text: str) -> float:
        """The number that a text stands for; whole numbers stay int.

        Raises:
            ValueError: it does not fit.
        """
        match = self.pattern.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not {self.wanted}")
        number = float(match[1]) if "." in match[1] else int(match[1])
        value = number * self.units[match[2] or ""]
        return value if self.base == 1 else value / self.base


_POWERS = dict(enumerate("KMGTPE", start=1))
_MEMORY_UNITS = {"": 1, **{unit: 1000**n for n, unit in _POWERS.items()}, **{f"{unit}i": 1024**n for n, unit in _POWERS.items()}}
CPU = Quantity(re.compile(r"([0-9]*\.?[0-9]+)(m?)"), {"": 1000, "m": 1}, "cores such as '2', '0.5' or '500m'", base=1000)
MEMORY = Quantity(re.compile(r"([0-9]+)([KMGTPE]i?)?"), _MEMORY_UNITS, "bytes such as '512Mi', '4G' or '1000000'")
COUNT = Quantity(re.compile(r"([0-9]+)()"), {"": 1}, "a whole number from 0 on, such as 1")
QUANTITIES = {
    "cpu_request": CPU, "cpu_limit": CPU, "memory_request": MEMORY, "memory_limit": MEMORY, "accelerator_limit": COUNT,
}  # fmt: skip

#: The fields of a pod that may become environment variables.
FIELD_PATHS = re.compile(
    r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['[^']+'\]"
    r"|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?)"
)

#: What only a pod has, and what the JSON of each is. They are recorded and do not apply off Kubernetes.
POD_SETTINGS: dict[str, tuple[type[Any], ...]] = {
    "node_selector": (dict,),
    "node_affinity": (dict,),
    "node_affinity_json": (dict,),
    "toleration": (dict, list),
    "pod_labels": (dict,),
    "pod_annotations": (dict,),
    "image_pull_policy": (str,),
    "image_pull_secrets": (list,),
    "security_context": (dict,),
    "service_account": (str,),
    "init_container": (dict,),
    "debug_pause": (dict,),
}


def binding_types(setting: str) -> tuple[str, ...]:
    """The names of the parameter types that a setting may be bound to."""
    if setting == "pod":
        return ("dict", "list", "str")
    return ("str", "int", "float") if setting in QUANTITIES else ("str",)


def canonical_json(value: Any) -> str:
    """JSON that is equal where the data is."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _bindings(name: str, value: Any) -> Iterator[tuple[str, Binding]]:
    if isinstance(value, tuple):
        for item in value:
            yield from _bindings(name, item)
    elif isinstance(value, _PARTS):
        for field in fields(value):
            yield from _bindings(name, getattr(value, field.name))
    elif isinstance(value, _BINDINGS):
        yield name, value


def resolved(settings: Settings, value_of: Callable[[Binding], Any]) -> Settings:
    """Settings with the value of each binding in its place.

    Raises:
        ValueError: a value that its setting cannot have; whatever ``value_of`` raises.
    """

    def put(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(put(name, item) for item in value)
        if isinstance(value, _PARTS):
            return type(value)(**{field.name: put(name, getattr(value, field.name)) for field in fields(value)})
        return _as_text(name, value_of(value)) if isinstance(value, _BINDINGS) else value

    found = Settings(**{field.name: put(field.name, getattr(settings, field.name)) for field in fields(settings)})
    if problem := next(problems(found), None):
        raise ValueError(problem)
    return found


def _as_text(name: str, value: Any) -> str:
    if name == "pod":
        return canonical_json(value)
    if isinstance(value, str):
        return value
    if name in QUANTITIES and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{name} is {value!r} of type {type(value).__name__}, wants {' or '.join(binding_types(name))}")


def problems(settings: Settings) -> Iterator[str]:
    """What is wrong with settings, a part of a sentence each; what is not known yet is left out."""
    seconds = settings.timeout_seconds
    if seconds is not None and not (seconds > 0 and math.isfinite(seconds)):
        yield f"timeout_seconds is {seconds}, wants a number above 0"
    wrong = {name: text for name in QUANTITIES if not _fits(name, text := getattr(settings, name))}
    yield from (f"{name} is {text!r}, wants {QUANTITIES[name].wanted}" for name, text in wrong.items())
    for kind in ("cpu", "memory"):
        names = f"{kind}_request", f"{kind}_limit"
        request, limit = (getattr(settings, name) for name in names)
        both = isinstance(request, str) and isinstance(limit, str) and not wrong.keys() & set(names)
        if both and settings._number(names[0]) > settings._number(names[1]):
            yield f"{names[0]} {request!r} is above {names[1]} {limit!r}"
    yield from _unnamed(settings)
    yield from _env_problems(settings)
    yield from _mount_problems(settings)
    for name, text in settings.pod:
        yield from _pod_problems(name, text)


def _fits(name: str, text: Text | None) -> bool:
    return not isinstance(text, str) or QUANTITIES[name].fits(text)


def _unnamed(settings: Settings) -> Iterator[str]:
    for name in ("accelerator_type", "container_image", "limit"):
        if getattr(settings, name) == "":
            yield f"{name} is empty"
    for name in ("secret_env", "secret_volumes", "config_map_env", "config_map_volumes", "volumes"):
        if any(part.name == "" for part in getattr(settings, name)):
            yield f"{name} has an empty name"


def _env_problems(settings: Settings) -> Iterator[str]:
    keyed = [name for secret in settings.secret_env for _, name in secret.keys]
    keyed += [name for config_map in settings.config_map_env for _, name in config_map.keys]
    seen: set[str] = set()
    for name in [*(name for name, _ in settings.env), *(name for name, _ in settings.field_env), *keyed]:
        if not name or "=" in name or "\0" in name:
            yield f"{name!r} is no name of an environment variable"
        if name in seen:
            yield f"the environment variable {name!r} is set twice"
        seen.add(name)
    for _, path in settings.field_env:
        if FIELD_PATHS.fullmatch(path) is None:
            yield f"there is no field {path!r}; fields are such as metadata.name, metadata.labels['app'] and spec.nodeName"
    for name, value in settings.env:
        if isinstance(value, str) and "\0" in value:
            yield f"the environment variable {name!r} holds a NUL character"


def _mount_problems(settings: Settings) -> Iterator[str]:
    seen: set[str] = set()
    for mount in settings.mounts:
        path = mount.mount_path.rstrip("/")
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            yield f"mount_path {mount.mount_path!r} is not an absolute path below /"
        if path in seen:
            yield f"two volumes have the mount_path {mount.mount_path!r}"
        seen.add(path)
    for volume in settings.volumes:
        if volume.sub_path.startswith("/") or ".." in volume.sub_path.split("/") or "\0" in volume.sub_path:
            yield f"sub_path {volume.sub_path!r} leads out of its volume"
    sizes = [("size_limit", part.size_limit) for part in settings.empty_dirs]
    for name, text in [*sizes, *(("size", part.size) for part in settings.ephemeral_volumes)]:
        if text is not None and not MEMORY.fits(text):
            yield f"{name} is {text!r}, wants {MEMORY.wanted}"


def _pod_problems(name: str, text: Text) -> Iterator[str]:
    kinds = POD_SETTINGS.get(name)
    if kinds is None:
        yield f"there is no pod setting {name!r}"
    elif isinstance(text, str):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            yield f"{name} is not JSON: {text[:60]!r}"
            return
        if not isinstance(value, kinds):
            yield f"{name} is {text[:60]}, wants a {' or '.join(kind.__name__ for kind in kinds)}"
