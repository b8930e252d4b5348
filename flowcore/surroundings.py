"""What a body sees besides its inputs: environment variables, secrets, config maps and volumes; put there and taken away again.

Secret values are looked up here, where the body runs. They are in no order, and every text that leaves is masked.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flowcore.errors import RefusedError, UsageError
from flowcore.graph import NO_SETTINGS, Pipeline
from flowcore.graph.settings import ConfigMapEnv, ConfigMapVolume, EmptyDir, EphemeralVolume, SecretEnv, SecretVolume, Settings
from flowcore.graph.walk import leaf_tasks, task_kinds
from flowcore.masking import Masks

if TYPE_CHECKING:
    from flowcore.mounts import Mount

#: A value of a secret or config map: itself, ``{"env": NAME}`` or ``{"file": path}``.
Value = str | Mapping[str, str]
#: What the tables below are called in messages, by the field of Sources.
_KINDS = {"secrets": "secret", "config_maps": "config map"}
_EXAMPLES = {"secrets": "{'env': 'NAME'}", "config_maps": "'value'"}
#: Fields of a pod that mean something without one.
_FIELDS = re.compile(r"metadata\.(name|namespace|uid)|metadata\.(labels|annotations)\['([^']+)'\]|spec\.nodeName")
_LOG = logging.getLogger("flowcore")
#: Bodies that share this process's environment run one by one.
_LOCK = threading.RLock()


@dataclass(frozen=True)
class Sources:
    """Where the secrets, config maps and volumes of tasks come from on this machine; ``volumes`` maps claims to folders.

    Raises:
        UsageError: not such mappings; never shows a value.
    """

    secrets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict, repr=False)
    config_maps: Mapping[str, Mapping[str, Value]] = field(default_factory=dict, repr=False)
    volumes: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, what in _KINDS.items():
            table = getattr(self, kind)
            if not isinstance(table, Mapping):
                raise UsageError(f"{kind} is a {type(table).__name__}, wants a dict of names and their keys")
            for name, keys in table.items():
                if not isinstance(name, str) or not isinstance(keys, Mapping):
                    raise UsageError(f"{what} {name!r}: wants a dict of keys and values")
                for key, value in keys.items():
                    _check_value(f"{what} {name!r}", key, value)
        wrong = not isinstance(self.volumes, Mapping) or not all(
            isinstance(item, str | os.PathLike) for pair in self.volumes.items() for item in pair
        )
        if wrong:
            raise UsageError("volumes wants a dict of claim names and folders of this machine")

    def to_json(self) -> dict[str, Any]:
        """Plain data with the literal values in it: for a worker's socket, and nowhere else."""
        tables = {kind: {name: dict(keys) for name, keys in getattr(self, kind).items()} for kind in _KINDS}
        return {**tables, "volumes": {name: os.fspath(folder) for name, folder in self.volumes.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Sources:
        return cls(**data)


def _check_value(where: str, key: Any, value: Any) -> None:
    if not isinstance(key, str) or not re.fullmatch(r"[-._a-zA-Z0-9]+", key) or key in (".", ".."):
        raise UsageError(f"{where}: {key!r} is no key; keys are letters, digits, '-', '_' and '.'")
    reference = isinstance(value, Mapping) and len(value) == 1 and next(iter(value)) in ("env", "file")
    if not isinstance(value, str) and not (reference and isinstance(next(iter(value.values())), str)):
        raise UsageError(f"{where}, key {key!r}: a value is a text, {{'env': NAME}} or {{'file': path}}")


NO_SOURCES = Sources()


def missing(settings: Settings, sources: Sources, executor: str = "LocalExecutor") -> list[str]:
    """What a task's settings want and this machine does not have, a part of a sentence each with what to do.

    Names that the run makes are not known yet, and optional secrets and config maps may be missing.
    """
    return [finding for finding in _findings(settings, sources, executor) if finding]


def check_tasks(pipeline: Pipeline, sources: Sources, executor: str) -> None:
    """Refuse a pipeline whose tasks want what is not here; what only a pod has is logged, once.

    Raises:
        RefusedError: names each task and setting, with what to do.
    """
    findings: list[str] = []
    recorded: dict[str, list[str]] = {}
    if all(task.settings is NO_SETTINGS for _, task in task_kinds(pipeline.root)):
        return
    for path, task in leaf_tasks(pipeline.root):
        findings.extend(f"task {path!r} {finding}" for finding in missing(task.settings, sources, executor))
        for name in recorded_only(task.settings):
            recorded.setdefault(name, []).append(path)
    if findings:
        raise RefusedError(f"pipeline {pipeline.name!r} cannot run on {executor}: {'; '.join(findings)}")
    if recorded:
        parts = [f"{name} ({_paths(paths)})" for name, paths in recorded.items()]
        _LOG.warning("recorded, does not apply on %s: %s", executor, ", ".join(parts))


def _paths(paths: list[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


def _findings(settings: Settings, sources: Sources, executor: str) -> Iterator[str]:
    for kind, parts in _named(settings):
        for part in parts:
            if not part.optional and isinstance(part.name, str):
                keys = [key for key, _ in part.keys] if isinstance(part, SecretEnv | ConfigMapEnv) else None
                yield from _lacks(kind, part.name, keys, sources, executor)
    for volume in settings.volumes:
        folder = sources.volumes.get(volume.name) if isinstance(volume.name, str) else "."
        if folder is None:
            yield f"mounts the volume {volume.name!r}: pass {executor}(volumes={{{volume.name!r}: a folder of this machine}})"
        elif not os.path.isdir(folder):
            yield f"mounts the volume {volume.name!r}: its folder {os.fspath(folder)!r} does not exist"
    for name, path in settings.field_env:
        if _FIELDS.fullmatch(path) is None:
            yield f"wants the field {path} as {name}: only a pod has it; use it on Kubernetes only"
    for mount in settings.mounts:
        from flowcore.mounts import obstacle

        path = os.path.normpath(mount.mount_path)
        if not _is_itself(path, mount, sources) and (why := obstacle(path)):
            yield f"mounts {mount.name if isinstance(mount.name, str) else '?'!r} at {mount.mount_path!r}: {why}"


def _named(settings: Settings) -> Iterator[tuple[str, tuple[Any, ...]]]:
    yield "secrets", (*settings.secret_env, *settings.secret_volumes)
    yield "config_maps", (*settings.config_map_env, *settings.config_map_volumes)


def _lacks(kind: str, name: str, keys: list[str] | None, sources: Sources, executor: str) -> Iterator[str]:
    what, known = _KINDS[kind], getattr(sources, kind).get(name)
    if known is None:
        example = ", ".join(f"{key!r}: {_EXAMPLES[kind]}" for key in keys or ["key"])
        yield f"uses the {what} {name!r}: pass {executor}({kind}={{{name!r}: {{{example}}}}})"
        return
    for key in known if keys is None else keys:
        if key not in known:
            yield f"uses the key {key!r} of the {what} {name!r}, which has {', '.join(map(repr, known)) or 'none'}"
            continue
        try:
            value_of(known[key])
        except UsageError as error:
            yield f"uses the key {key!r} of the {what} {name!r}: {error}"


def value_of(value: Value) -> bytes:
    """The value itself, looked up here and now.

    Raises:
        UsageError: its environment variable is not set, or its file cannot be read.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if "env" in value:
        found = os.environ.get(value["env"])
        if found is None:
            raise UsageError(f"the environment variable {value['env']!r} is not set")
        return os.fsencode(found)
    try:
        with open(value["file"], "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"the file {value['file']!r} cannot be read: {error.strerror}") from None


@contextmanager
def prepared(settings: Settings, sources: Sources, attempt_id: str) -> Iterator[dict[str, str]]:
    """Put a body's folders in their place and give the variables for ``environment``; at the end everything is as it was.

    Raises:
        UsageError, StorageError: something is not here, or cannot be put where it is wanted.
    """
    from flowcore.mounts import mounted

    with _LOCK:
        variables = dict(_variables(settings, sources, attempt_id))
        # A volume may be wanted where it is.
        mounts = [mount for mount in _mounts(settings, sources) if not (mount.folder and _same(mount.path, mount.folder))]
        with mounted(mounts):
            yield variables


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Have these environment variables while the block runs; afterwards they and the working directory are as before."""
    before = {name: os.environ.get(name) for name in variables}
    folder = os.getcwd()
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        with contextlib.suppress(OSError):
            os.chdir(folder)


def _variables(settings: Settings, sources: Sources, attempt_id: str) -> Iterator[tuple[str, str]]:
    for name, value in settings.env:
        assert isinstance(value, str)
        yield name, value
    for kind, parts in _named(settings):
        for part in parts:
            if isinstance(part, SecretEnv | ConfigMapEnv):
                found = _looked_up(kind, part, sources)
                for key, name in part.keys:
                    if key in found:
                        yield name, _as_variable(f"key {key!r} of the {_KINDS[kind]} {part.name!r}", found[key])
                    elif not part.optional:
                        raise UsageError(f"the {_KINDS[kind]} {part.name!r} has no key {key!r}")
    for name, path in settings.field_env:
        yield name, _field(path, settings, attempt_id)


def _as_variable(what: str, value: bytes) -> str:
    if b"\0" in value:
        raise UsageError(f"{what} cannot be an environment variable: it holds a NUL byte; mount it as a volume")
    return os.fsdecode(value)


def _looked_up(kind: str, part: SecretEnv | ConfigMapEnv | SecretVolume | ConfigMapVolume, sources: Sources) -> dict[str, bytes]:
    known = getattr(sources, kind).get(part.name)
    if known is None:
        if part.optional:
            return {}
        raise UsageError(f"there is no {_KINDS[kind]} {part.name!r} here; pass LocalExecutor({kind}={{{part.name!r}: {{...}}}})")
    found = {}
    for key, value in known.items():
        if isinstance(part, SecretVolume | ConfigMapVolume) or key in dict(part.keys):
            try:
                found[key] = value_of(value)
            except UsageError as error:
                if not part.optional:
                    raise UsageError(f"key {key!r} of the {_KINDS[kind]} {part.name!r}: {error}") from None
    return found


def _field(path: str, settings: Settings, attempt_id: str) -> str:
    match = _FIELDS.fullmatch(path)
    if match is None:
        raise UsageError(f"only a pod has the field {path}: use it on Kubernetes only")
    if match[3]:
        return _label(f"pod_{match[2]}", match[3], settings)
    if match[1] is None:
        return platform.node()
    if match[1] == "namespace":
        return "default"
    if match[1] == "name":
        return re.sub(r"[^a-z0-9]+", "-", attempt_id.lower()).strip("-")
    import uuid

    return str(uuid.uuid5(uuid.NAMESPACE_URL, attempt_id))


def _label(kind: str, key: str, settings: Settings) -> str:
    """The last value that the author gave a label or annotation; as on Kubernetes empty where there is none."""
    found = [json.loads(text) for name, text in settings.pod if name == kind and isinstance(text, str)]
    return str({name: value for labels in found for name, value in labels.items()}.get(key, ""))


def _mounts(settings: Settings, sources: Sources) -> Iterator[Mount]:
    from flowcore.mounts import Mount

    for kind, parts in _named(settings):
        for part in parts:
            if isinstance(part, SecretVolume | ConfigMapVolume):
                yield Mount(os.path.normpath(part.mount_path), files=_looked_up(kind, part, sources))
    for volume in settings.volumes:
        folder = sources.volumes.get(str(volume.name))
        if folder is None:
            raise UsageError(f"there is no volume {volume.name!r} here; pass LocalExecutor(volumes={{{volume.name!r}: folder}})")
        folder = os.path.abspath(os.path.join(folder, volume.sub_path))
        if volume.sub_path:
            os.makedirs(folder, exist_ok=True)
        yield Mount(os.path.normpath(volume.mount_path), folder)
    own: tuple[EmptyDir | EphemeralVolume, ...] = (*settings.empty_dirs, *settings.ephemeral_volumes)
    for empty in own:
        yield Mount(os.path.normpath(empty.mount_path), alone=True)


def _is_itself(path: str, mount: Any, sources: Sources) -> bool:
    """Whether a volume is wanted where its folder is."""
    folder = sources.volumes.get(mount.name) if hasattr(mount, "sub_path") and isinstance(mount.name, str) else None
    return folder is not None and _same(path, os.path.join(folder, mount.sub_path))


def _same(path: str, folder: str) -> bool:
    return not os.path.islink(path) and os.path.realpath(path) == os.path.realpath(folder)


def recorded_only(settings: Settings) -> list[str]:
    """The settings that only a pod or a container has: they are recorded and do not apply here."""
    names = [kind.replace("_", " ") for kind, _ in settings.pod]
    if settings.container_image is not None:
        names.append("container image")
    if any(part.medium or part.size_limit for part in settings.empty_dirs):
        names.append("medium and size limit of an empty dir")
    if settings.ephemeral_volumes:
        names.append("size and class of an ephemeral volume")
    return list(dict.fromkeys(names))


def sweep() -> None:
    """Remove the folders that killed bodies left at their mount paths."""
    # Where nothing was mounted, nothing was imported for it.
    if mounts := sys.modules.get("flowcore.mounts"):
        mounts.sweep()


class Baseline:
    """The environment and folder of a worker process, to which it comes back after each body.

    What a module sets while it is imported stays: it is imported once for all bodies.
    """

    def __init__(self) -> None:
        self._environment = dict(_environ())
        self._folder = os.open(".", os.O_RDONLY)

    def restore(self) -> None:
        """Undo what a body changed."""
        # Compared first, and without a copy: most bodies change nothing, and this comes after each.
        if _environ() != self._environment:
            for name in [name for name in _environ() if name not in self._environment]:
                del os.environb[name]
            os.environb.update(self._environment)
        with contextlib.suppress(OSError):
            os.fchdir(self._folder)

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Keep what changes in the environment while the block runs."""
        before = dict(_environ())
        yield
        now = _environ()
        for name in before.keys() | now.keys():
            if before.get(name) != now.get(name):
                if name in now:
                    self._environment[name] = now[name]
                else:
                    self._environment.pop(name, None)


def _environ() -> Mapping[bytes, bytes]:
    found: Mapping[bytes, bytes] = getattr(os.environ, "_data", os.environb)
    return found


def masks_of(settings: Settings, sources: Sources) -> Masks:
    """The values that a task's secrets have here and now; what cannot be looked up cannot be shown either."""
    values = []
    parts: tuple[SecretEnv | SecretVolume, ...] = (*settings.secret_env, *settings.secret_volumes)
    for part in parts:
        for key, value in sources.secrets.get(str(part.name), {}).items():
            if isinstance(part, SecretVolume) or key in dict(part.keys):
                with contextlib.suppress(UsageError):
                    values.append(value_of(value))
    return Masks(values)
