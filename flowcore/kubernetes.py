"""What ``kfp.kubernetes`` offers, by its names: secrets, config maps, volumes and where a task's pod runs. Plain data only.

Each function takes a task and returns it, and raises SettingError, a ValueError, for what cannot be. What a body sees (secrets,
config maps, volumes, fields) holds on every executor; where a pod runs is recorded and applies on Kubernetes.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from flowcore.dsl.task_settings import TaskSettings, change, check_task, data, plain_text, pod_entries, shown, text
from flowcore.errors import SettingError
from flowcore.graph.settings import (
    POD_SETTINGS,
    ConfigMapEnv,
    ConfigMapVolume,
    EmptyDir,
    EphemeralVolume,
    Pairs,
    SecretEnv,
    SecretVolume,
    Text,
    VolumeMount,
    canonical_json,
)

T = TypeVar("T", bound=TaskSettings)

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")
PULL_POLICIES = ("Always", "Never", "IfNotPresent")
ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")


# What the body sees


def use_secret_as_env(task: T, secret_name: str, secret_key_to_env: dict[str, str], optional: bool = False) -> T:
    """Keys of a secret as environment variables; an ``optional`` secret may be missing."""
    call = "use_secret_as_env"
    keys = _pairs(task, call, "secret_key_to_env", secret_key_to_env)
    part = SecretEnv(text(task, call, "secret_env", secret_name), keys, _flag(task, call, "optional", optional))
    return change(task, call, secret_env=(*task.settings.secret_env, part))


def use_secret_as_volume(task: T, secret_name: str, mount_path: str, optional: bool = False) -> T:
    """Each key of a secret as a file in the folder ``mount_path``."""
    call = "use_secret_as_volume"
    name, path = text(task, call, "secret_volumes", secret_name), plain_text(task, call, "mount_path", mount_path)
    part = SecretVolume(name, path, _flag(task, call, "optional", optional))
    return change(task, call, secret_volumes=(*task.settings.secret_volumes, part))


def use_config_map_as_env(task: T, config_map_name: str, config_map_key_to_env: dict[str, str], optional: bool = False) -> T:
    """Keys of a config map as environment variables; an ``optional`` config map may be missing."""
    call = "use_config_map_as_env"
    keys = _pairs(task, call, "config_map_key_to_env", config_map_key_to_env)
    part = ConfigMapEnv(text(task, call, "config_map_env", config_map_name), keys, _flag(task, call, "optional", optional))
    return change(task, call, config_map_env=(*task.settings.config_map_env, part))


def use_config_map_as_volume(task: T, config_map_name: str, mount_path: str, optional: bool = False) -> T:
    """Each key of a config map as a file in the folder ``mount_path``."""
    call = "use_config_map_as_volume"
    name, path = text(task, call, "config_map_volumes", config_map_name), plain_text(task, call, "mount_path", mount_path)
    part = ConfigMapVolume(name, path, _flag(task, call, "optional", optional))
    return change(task, call, config_map_volumes=(*task.settings.config_map_volumes, part))


def use_field_path_as_env(task: T, env_name: str, field_path: str) -> T:
    """A field of the body's pod, such as ``metadata.name``, as an environment variable."""
    call = "use_field_path_as_env"
    pair = plain_text(task, call, "env_name", env_name), plain_text(task, call, "field_path", field_path)
    return change(task, call, field_env=(*task.settings.field_env, pair))


def mount_pvc(task: T, pvc_name: str, mount_path: str, sub_path: str = "") -> T:
    """A persistent volume claim, or its folder ``sub_path``, at ``mount_path``."""
    call = "mount_pvc"
    name, path = text(task, call, "volumes", pvc_name), plain_text(task, call, "mount_path", mount_path)
    part = VolumeMount(name, path, plain_text(task, call, "sub_path", sub_path) if sub_path else "")
    return change(task, call, volumes=(*task.settings.volumes, part))


def empty_dir_mount(task: T, volume_name: str, mount_path: str, medium: str | None = None, size_limit: str | None = None) -> T:
    """A folder of the attempt's own at ``mount_path``; ``medium`` "Memory" and ``size_limit`` apply on Kubernetes only."""
    call = "empty_dir_mount"
    name, path = plain_text(task, call, "volume_name", volume_name), plain_text(task, call, "mount_path", mount_path)
    part = EmptyDir(name, path, _optional(task, call, "medium", medium), _optional(task, call, "size_limit", size_limit))
    return change(task, call, empty_dirs=(*task.settings.empty_dirs, part))


def add_ephemeral_volume(
    task: T,
    volume_name: str,
    mount_path: str,
    access_modes: list[str],
    size: str,
    storage_class_name: str | None = None,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> T:
    """A volume of ``size`` for the attempt alone at ``mount_path``."""
    call = "add_ephemeral_volume"
    check_task(task, call)
    if not isinstance(access_modes, list | tuple) or not access_modes:
        raise SettingError(task.name, call, f"wants access_modes, a list of {', '.join(ACCESS_MODES)}; got {access_modes!r}")
    part = EphemeralVolume(
        plain_text(task, call, "volume_name", volume_name),
        plain_text(task, call, "mount_path", mount_path),
        tuple(_one_of(task, call, "access_modes", mode, ACCESS_MODES) for mode in access_modes),
        plain_text(task, call, "size", size),
        _optional(task, call, "storage_class_name", storage_class_name),
        _pairs(task, call, "labels", labels or {}),
        _pairs(task, call, "annotations", annotations or {}),
    )
    return change(task, call, ephemeral_volumes=(*task.settings.ephemeral_volumes, part))


def set_timeout(task: T, seconds: int) -> T:
    """End an attempt whose body has run this many seconds; 0 for no end."""
    check_task(task, "set_timeout")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
        raise SettingError(task.name, f"set_timeout({seconds!r})", "wants a whole number of seconds from 0 on")
    return task.set_timeout(seconds) if seconds else change(task, "set_timeout", timeout_seconds=None)


# Where the pod runs


def add_node_selector(task: T, label_key: str, label_value: str) -> T:
    """Run on nodes with this label only."""
    call = "add_node_selector"
    return _pod_pair(task, call, "node_selector", label_key, label_value)


def add_node_selector_json(task: T, node_selector_json: dict[str, Any]) -> T:
    """Run on nodes with these labels only; the dict may be an output."""
    return _pod_data(task, "add_node_selector_json", "node_selector", node_selector_json)


def add_node_affinity(
    task: T,
    match_expressions: list[dict[str, Any]] | None = None,
    match_fields: list[dict[str, Any]] | None = None,
    weight: int | None = None,
) -> T:
    """Run on nodes that match all expressions and fields: prefer them with a ``weight`` from 1 to 100, else require them."""
    call = "add_node_affinity"
    check_task(task, call)
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= 100):
        raise SettingError(task.name, f"{call}(weight={weight!r})", "wants a whole number from 1 to 100")
    terms = {"matchExpressions": match_expressions or [], "matchFields": match_fields or []}
    if not any(terms.values()):
        raise SettingError(task.name, call, "wants match_expressions or match_fields")
    for name, requirements in terms.items():
        for requirement in requirements:
            _check_requirement(task, f"{call}({name})", requirement)
    given = {name: value for name, value in {**terms, "weight": weight}.items() if value}
    return _pod_data(task, call, "node_affinity", given)


def add_node_affinity_json(task: T, node_affinity_json: dict[str, Any]) -> T:
    """A node affinity as Kubernetes writes it; the dict may be an output."""
    return _pod_data(task, "add_node_affinity_json", "node_affinity_json", node_affinity_json)


def add_toleration(
    task: T,
    key: str | None = None,
    operator: str | None = None,
    value: str | None = None,
    effect: str | None = None,
    toleration_seconds: int | None = None,
) -> T:
    """Tolerate a node's taint: ``operator`` "Equal" or "Exists"; ``toleration_seconds`` with the effect "NoExecute" only."""
    call = "add_toleration"
    check_task(task, call)
    exists = operator is not None and _one_of(task, call, "operator", operator, ("Equal", "Exists")) == "Exists"
    if effect is not None:
        _one_of(task, call, "effect", effect, EFFECTS)
    if key is None and not exists:
        raise SettingError(task.name, call, "without a key wants operator='Exists', which tolerates every taint")
    if exists and value:
        raise SettingError(task.name, call, f"with operator='Exists' takes no value, got {value!r}")
    if toleration_seconds is not None:
        if isinstance(toleration_seconds, bool) or not isinstance(toleration_seconds, int):
            raise SettingError(task.name, call, f"wants whole toleration_seconds, got {toleration_seconds!r}")
        if effect != "NoExecute":
            raise SettingError(task.name, call, f"takes toleration_seconds with effect='NoExecute' only, got effect={effect!r}")
    given = {"key": key, "operator": operator, "value": value, "effect": effect, "tolerationSeconds": toleration_seconds}
    return _pod_data(task, call, "toleration", {name: item for name, item in given.items() if item is not None})


def add_toleration_json(task: T, toleration_json: dict[str, Any] | list[dict[str, Any]]) -> T:
    """One toleration or a list of them as Kubernetes writes them; may be an output."""
    return _pod_data(task, "add_toleration_json", "toleration", toleration_json)


def add_pod_label(task: T, label_key: str, label_value: str) -> T:
    """A label of the pod."""
    return _pod_pair(task, "add_pod_label", "pod_labels", label_key, label_value)


def add_pod_annotation(task: T, annotation_key: str, annotation_value: str) -> T:
    """An annotation of the pod."""
    return _pod_pair(task, "add_pod_annotation", "pod_annotations", annotation_key, annotation_value)


def set_image_pull_policy(task: T, policy: str) -> T:
    """When the image is pulled: "Always", "Never" or "IfNotPresent"."""
    call = "set_image_pull_policy"
    return _pod_data(task, call, "image_pull_policy", _one_of(task, call, "policy", policy, PULL_POLICIES), once=True)


def set_image_pull_secrets(task: T, secret_names: list[str]) -> T:
    """The secrets that the image is pulled with, in place of those before; names may be outputs."""
    call = "set_image_pull_secrets"
    check_task(task, call)
    if not isinstance(secret_names, list | tuple) or not secret_names:
        raise SettingError(task.name, call, f"wants a list of secret names, got {shown(secret_names)}")
    for name in secret_names:
        text(task, call, "secret_env", name)
    return _pod_data(task, call, "image_pull_secrets", list(secret_names), once=True)


def add_image_pull_secret(task: T, secret_name: str) -> T:
    """One more secret that the image is pulled with; the name may be an output."""
    call = "add_image_pull_secret"
    text(task, call, "secret_env", secret_name)
    return _pod_data(task, call, "image_pull_secrets", [secret_name])


def set_service_account(task: T, service_account: str) -> T:
    """The service account that the pod runs as."""
    call = "set_service_account"
    name = plain_text(task, call, "service_account", service_account)
    return _pod_data(task, call, "service_account", name, once=True)


def set_security_context(
    task: T, run_as_user: int | None = None, run_as_group: int | None = None, run_as_non_root: bool | None = None
) -> T:
    """The user and group that the body's container runs as."""
    call = "set_security_context"
    check_task(task, call)
    numbers = {"runAsUser": run_as_user, "runAsGroup": run_as_group}
    for name, number in numbers.items():
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
            raise SettingError(task.name, f"{call}({name}={number!r})", "wants a whole number from 0 on")
    if run_as_non_root is not None:
        _flag(task, call, "run_as_non_root", run_as_non_root)
    given = {name: item for name, item in {**numbers, "runAsNonRoot": run_as_non_root}.items() if item is not None}
    if not given:
        raise SettingError(task.name, call, "wants run_as_user, run_as_group or run_as_non_root")
    return _pod_data(task, call, "security_context", given, once=True)


def add_init_container(
    task: T,
    name: str,
    image: str,
    command: list[str] | None = None,
    args: list[str] | None = None,
    env: dict[str, str] | None = None,
    volume_mounts: dict[str, str] | None = None,
    restart_policy: str | None = None,
    resource_requests: dict[str, str] | None = None,
    resource_limits: dict[str, str] | None = None,
) -> T:
    """A container that runs before the body's, or beside it with ``restart_policy="Always"``.

    ``volume_mounts`` maps names of the task's volumes to paths in that container.
    """
    call = "add_init_container"
    if restart_policy is not None:
        _one_of(task, call, "restart_policy", restart_policy, ("Always",))
    lists = {"command": command, "args": args}
    for what, words in lists.items():
        for word in words or ():
            _plain(task, call, what, word)
    tables = {
        "env": env, "volumeMounts": volume_mounts, "resourceRequests": resource_requests, "resourceLimits": resource_limits,
    }  # fmt: skip
    given: dict[str, Any] = {"name": plain_text(task, call, "name", name), "image": plain_text(task, call, "image", image)}
    known = [json.loads(entry) for kind, entry in task.settings.pod if kind == "init_container" and isinstance(entry, str)]
    if any(container["name"] == name for container in known):
        raise SettingError(task.name, call, f"has an init container {name!r} already; name them apart")
    for path in (volume_mounts or {}).values():
        if not isinstance(path, str) or not path.startswith("/"):
            raise SettingError(task.name, call, f"wants absolute paths in volume_mounts, got {path!r}")
    given |= {what: list(words) for what, words in lists.items() if words}
    # Pairs, in the author's order: a later variable may refer to an earlier one.
    given |= {what: _pairs(task, call, what, table) for what, table in tables.items() if table}
    given |= {"restartPolicy": restart_policy} if restart_policy is not None else {}
    return _pod_data(task, call, "init_container", given)


# What they share


def _pod_data(task: T, call: str, kind: str, value: Any, *, once: bool = False) -> T:
    entry = data(task, call, POD_SETTINGS[kind], value)
    return change(task, call, pod=pod_entries(task, kind, entry, once=once))


def _pod_pair(task: T, call: str, kind: str, key: str, value: str) -> T:
    found: Text = canonical_json({plain_text(task, call, "key", key): _plain(task, call, "value", value)})
    return change(task, call, pod=pod_entries(task, kind, found, once=False))


def _plain(task: TaskSettings, call: str, what: str, value: Any) -> str:
    """A text that is known while authoring and may be empty."""
    return "" if isinstance(value, str) and value == "" else plain_text(task, call, what, value)


def _optional(task: TaskSettings, call: str, what: str, value: Any) -> str | None:
    return None if value is None else plain_text(task, call, what, value)


def _flag(task: TaskSettings, call: str, what: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise SettingError(task.name, f"{call}({what}={shown(value)})", "wants True or False, known while authoring")
    return value


def _one_of(task: TaskSettings, call: str, what: str, value: Any, known: tuple[str, ...]) -> str:
    check_task(task, call)
    if not isinstance(value, str) or value not in known:
        raise SettingError(task.name, f"{call}({what}={shown(value)})", f"wants one of {', '.join(known)}")
    return str(value)


def _pairs(task: TaskSettings, call: str, what: str, table: Any) -> Pairs:
    check_task(task, call)
    if not isinstance(table, dict):
        raise SettingError(task.name, call, f"wants {what}, a dict of texts, got {shown(table)} of type {type(table).__name__}")
    return tuple(
        (plain_text(task, call, f"key in {what}", key), _plain(task, call, f"{what}[{key!r}]", value))
        for key, value in table.items()
    )


def _check_requirement(task: TaskSettings, call: str, requirement: Any) -> None:
    if not isinstance(requirement, dict) or not {"key", "operator"} <= set(requirement) <= {"key", "operator", "values"}:
        raise SettingError(task.name, call, f"wants dicts with key, operator and values, got {requirement!r}")
    _one_of(task, call, "operator", requirement["operator"], OPERATORS)
