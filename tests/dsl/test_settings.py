"""What authors say about a task's surroundings becomes its settings; what cannot be is refused where it is written."""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from flowcore import dsl, kubernetes
from flowcore.errors import AuthoringError, CycleError, SettingError, UsageError
from flowcore.graph import Dag, ListOf, Pipeline, ScopeInput, Settings, TaskOutput, Template
from flowcore.graph.settings import (
    POD_SETTINGS,
    ConfigMapEnv,
    ConfigMapVolume,
    EmptyDir,
    EphemeralVolume,
    SecretEnv,
    SecretVolume,
    VolumeMount,
)

from .parts import is_big, number, shown, text, write


def settings_of(*changes: Callable[[Any], Any]) -> Settings:
    @dsl.pipeline
    def mine() -> None:
        task = number(1)
        for change in changes:
            assert change(task) is task

    assert Pipeline.from_json(mine.pipeline.to_json()) == mine.pipeline
    return mine.pipeline.dag.tasks[0].settings


def author(function: Callable[..., Any]) -> str:
    """The message of a pipeline's refusal, which is an error of the author's and a ValueError, and shows the author's line."""
    with pytest.raises(SettingError) as caught:
        dsl.pipeline(function)
    assert isinstance(caught.value, ValueError)
    assert any(frame.filename == __file__ and "#" not in frame.name for frame in traceback.extract_tb(caught.tb))
    return str(caught.value)


def refused(change: Callable[[Any], Any]) -> str:
    def wrong() -> None:
        change(number(1))

    return author(wrong).removeprefix("task 'number': ")


k = kubernetes


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        (lambda t: t.set_cpu_request("500m"), Settings(cpu_request="500m")),
        (lambda t: t.set_cpu_limit(2), Settings(cpu_limit="2")),
        (lambda t: t.set_cpu_limit(0.5), Settings(cpu_limit="0.5")),
        (lambda t: t.set_memory_request("1Gi"), Settings(memory_request="1Gi")),
        (lambda t: t.set_memory_limit(1024), Settings(memory_limit="1024")),
        (lambda t: t.set_accelerator_type("nvidia.com/gpu"), Settings(accelerator_type="nvidia.com/gpu", accelerator_limit="1")),
        (
            lambda t: t.set_accelerator_limit(4).set_accelerator_type("tpu-v3"),
            Settings(accelerator_type="tpu-v3", accelerator_limit="4"),
        ),
        (lambda t: t.set_gpu_limit("2"), Settings(accelerator_limit="2")),
        (lambda t: t.add_node_selector_constraint("a100"), Settings(accelerator_type="a100", accelerator_limit="1")),
        (
            lambda t: t.set_env_variable("A", "1").set_env_variable("B", "").set_env_variable("A", "2"),
            Settings(env=(("A", "2"), ("B", ""))),
        ),
        (lambda t: t.set_container_image("python:3.12"), Settings(container_image="python:3.12")),
        (lambda t: t.set_display_name("Train it"), Settings(display_name="Train it")),
        (lambda t: t.set_timeout(2).set_retry(1), Settings(2.0)),
        (lambda t: t.set_limit("db"), Settings(limit="db")),
        (
            lambda t: t.set_debug_pause().set_debug_pause(on_error=True),
            Settings(pod=(("debug_pause", '{"after":true,"before":false,"on_error":true}'),)),
        ),
        (lambda t: k.use_secret_as_env(t, "s", {"key": "KEY"}), Settings(secret_env=(SecretEnv("s", (("key", "KEY"),)),))),
        (
            lambda t: k.use_secret_as_env(k.use_secret_as_env(t, "s", {"a": "A"}), "s", secret_key_to_env={}, optional=True),
            Settings(secret_env=(SecretEnv("s", (("a", "A"),)), SecretEnv("s", (), True))),
        ),
        (
            lambda t: k.use_secret_as_volume(t, "s", mount_path="/etc/creds", optional=True),
            Settings(secret_volumes=(SecretVolume("s", "/etc/creds", True),)),
        ),
        (
            lambda t: k.use_config_map_as_env(t, config_map_name="c", config_map_key_to_env={"key": "KEY"}),
            Settings(config_map_env=(ConfigMapEnv("c", (("key", "KEY"),)),)),
        ),
        (lambda t: k.use_config_map_as_volume(t, "c", "/etc/c"), Settings(config_map_volumes=(ConfigMapVolume("c", "/etc/c"),))),
        (lambda t: k.use_field_path_as_env(t, "POD", "metadata.name"), Settings(field_env=(("POD", "metadata.name"),))),
        (lambda t: k.mount_pvc(t, "data", "/data", sub_path="a/b"), Settings(volumes=(VolumeMount("data", "/data", "a/b"),))),
        (
            lambda t: k.empty_dir_mount(t, "tmp", "/scratch", medium="Memory", size_limit="1Gi"),
            Settings(empty_dirs=(EmptyDir("tmp", "/scratch", "Memory", "1Gi"),)),
        ),
        (
            lambda t: k.add_ephemeral_volume(t, "e", "/e", ["ReadWriteOnce"], "5Gi", labels={"a": "b"}),
            Settings(ephemeral_volumes=(EphemeralVolume("e", "/e", ("ReadWriteOnce",), "5Gi", None, (("a", "b"),)),)),
        ),
        (lambda t: k.set_timeout(t, 5), Settings(5.0)),
        (lambda t: k.set_timeout(k.set_timeout(t, 5), 0), Settings()),
    ],
)
def test_what_is_written_becomes_settings(change: Callable[[Any], Any], settings: Settings) -> None:
    assert settings_of(change) == settings


@pytest.mark.parametrize(
    ("change", "entries"),
    [
        (
            lambda t: k.add_node_selector(k.add_node_selector(t, "gpu", "a100"), "zone", ""),
            [("node_selector", {"gpu": "a100"}), ("node_selector", {"zone": ""})],
        ),
        (lambda t: k.add_node_selector_json(t, {"gpu": "a100"}), [("node_selector", {"gpu": "a100"})]),
        (
            lambda t: k.add_node_affinity(t, [{"key": "zone", "operator": "In", "values": ["a"]}], weight=5),
            [("node_affinity", {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}], "weight": 5})],
        ),
        (lambda t: k.add_node_affinity_json(t, {"x": [1]}), [("node_affinity_json", {"x": [1]})]),
        (
            lambda t: k.add_toleration(t, "gpu", "Equal", "yes", "NoExecute", 60),
            [("toleration", {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute", "tolerationSeconds": 60})],
        ),
        (lambda t: k.add_toleration(t, operator="Exists"), [("toleration", {"operator": "Exists"})]),
        (lambda t: k.add_toleration_json(t, [{"key": "gpu"}]), [("toleration", [{"key": "gpu"}])]),
        (lambda t: k.add_pod_label(t, "team", "ml"), [("pod_labels", {"team": "ml"})]),
        (lambda t: k.add_pod_annotation(t, "why", "it runs"), [("pod_annotations", {"why": "it runs"})]),
        (
            lambda t: k.set_image_pull_policy(k.set_image_pull_policy(t, "Never"), "Always"),
            [("image_pull_policy", "Always")],
        ),
        (lambda t: k.set_image_pull_secrets(t, ["a", "b"]), [("image_pull_secrets", ["a", "b"])]),
        (
            lambda t: k.add_image_pull_secret(k.add_image_pull_secret(t, "a"), secret_name="b"),
            [("image_pull_secrets", ["a"]), ("image_pull_secrets", ["b"])],
        ),
        (lambda t: k.set_service_account(t, "trainer"), [("service_account", "trainer")]),
        (
            lambda t: k.set_security_context(t, run_as_user=0, run_as_non_root=False),
            [("security_context", {"runAsUser": 0, "runAsNonRoot": False})],
        ),
        (
            lambda t: k.add_init_container(
                t, "wait", "sh:1", ["sh", "-c"], [""], {"Z": "1", "A": "$(Z)"}, {"v": "/v"}, "Always", {"cpu": "1"}, {"cpu": "2"}
            ),
            [
                (
                    "init_container",
                    {
                        "name": "wait", "image": "sh:1", "command": ["sh", "-c"], "args": [""],
                        "env": [["Z", "1"], ["A", "$(Z)"]], "volumeMounts": [["v", "/v"]], "restartPolicy": "Always",
                        "resourceRequests": [["cpu", "1"]], "resourceLimits": [["cpu", "2"]],
                    },
                )
            ],
        ),
    ],
)  # fmt: skip
def test_what_only_a_pod_has_is_kept_as_json(change: Callable[[Any], Any], entries: list[tuple[str, Any]]) -> None:
    found = settings_of(change)
    assert [(kind, json.loads(str(entry))) for kind, entry in found.pod] == entries
    assert found == Settings(pod=found.pod)


def test_every_function_of_kubernetes_takes_a_task_and_is_covered_by_its_checks() -> None:
    functions = [f for name, f in vars(kubernetes).items() if inspect.isfunction(f) and not name.startswith("_")]
    own = [function for function in functions if function.__module__ == kubernetes.__name__]
    assert len(own) == 23
    for function in own:
        required = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty][1:]
        with pytest.raises(SettingError, match=r"is for tasks, got 3 of type int; pass what a component's call"):
            function(3, *("x" for _ in required))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.set_cpu_limit("4x"), "set_cpu_limit('4x') cannot be: cpu_limit is '4x', wants cores such as"),
        (lambda t: t.set_cpu_limit(None), "set_cpu_limit(None) wants a text, got None of type NoneType"),
        (lambda t: t.set_cpu_limit(True), "set_cpu_limit(True) wants a text, got True of type bool"),
        (lambda t: t.set_cpu_limit(t), "set_cpu_limit(<task 'number' of component 'number'>) got the task 'number'"),
        (lambda t: t.set_memory_limit(0.5), "set_memory_limit(0.5) cannot be: memory_limit is '0.5', wants bytes"),
        (
            lambda t: t.set_memory_limit("1G").set_memory_request("2G"),
            "set_memory_request('2G') cannot be: memory_request '2G' is",
        ),
        (lambda t: t.set_accelerator_limit(-1), "set_accelerator_limit(-1) cannot be: accelerator_limit is '-1', wants a whole"),
        (lambda t: t.set_gpu_limit("many"), "set_gpu_limit('many') cannot be"),
        (lambda t: t.set_accelerator_type(""), "set_accelerator_type cannot be: accelerator_type is empty"),
        (lambda t: t.set_env_variable("", "x"), "set_env_variable('') wants a name, got ''"),
        (lambda t: t.set_env_variable("A=B", "x"), "set_env_variable('A=B') cannot be: 'A=B' is no name of"),
        (lambda t: t.set_env_variable("A", 1), "set_env_variable('A') wants a text, got 1 of type int"),
        (lambda t: t.set_display_name(1), "set_display_name wants a name, got 1"),
        (lambda t: t.set_limit(""), "set_limit wants a name, got ''"),
        (lambda t: t.set_limit(t.output), "set_limit wants a name that is known while authoring, got an output"),
        (lambda t: t.set_debug_pause(before=1), "set_debug_pause(before=1) wants True or False"),
        (
            lambda t: k.use_secret_as_env(t, "s", {"a": "A", "b": "A"}),
            "use_secret_as_env cannot be: the environment variable 'A' is",
        ),
        (lambda t: k.use_secret_as_env(t, "", {}), "use_secret_as_env cannot be: secret_env has an empty name"),
        (lambda t: k.use_secret_as_env(t, "s", ["a"]), "use_secret_as_env wants secret_key_to_env, a dict of texts, got ['a']"),
        (lambda t: k.use_secret_as_env(t, "s", {"a": 1}), "use_secret_as_env wants a secret_key_to_env['a'], got 1"),
        (lambda t: k.use_secret_as_env(t, "s", {}, optional=1), "use_secret_as_env(optional=1) wants True or False"),
        (
            lambda t: k.use_secret_as_volume(t, "s", "creds"),
            "use_secret_as_volume cannot be: mount_path 'creds' is not an absolute",
        ),
        (
            lambda t: k.use_field_path_as_env(t, "A", "metadata.nam"),
            "use_field_path_as_env cannot be: there is no field 'metadata.nam'",
        ),
        (lambda t: k.mount_pvc(t, "v", "/a", "../x"), "mount_pvc cannot be: sub_path '../x' leads out"),
        (lambda t: k.empty_dir_mount(k.mount_pvc(t, "v", "/a"), "e", "/a"), "empty_dir_mount cannot be: two volumes have the"),
        (
            lambda t: k.empty_dir_mount(t, "e", "/a", size_limit="big"),
            "empty_dir_mount cannot be: size_limit is 'big', wants bytes",
        ),
        (
            lambda t: k.add_ephemeral_volume(t, "e", "/a", [], "1Gi"),
            "add_ephemeral_volume wants access_modes, a list of ReadWrite",
        ),
        (lambda t: k.add_ephemeral_volume(t, "e", "/a", ["RW"], "1Gi"), "add_ephemeral_volume(access_modes='RW') wants one of"),
        (lambda t: k.set_timeout(t, -1), "set_timeout(-1) wants a whole number of seconds from 0 on"),
        (lambda t: k.add_node_selector(t, "", "x"), "add_node_selector wants a key, got ''"),
        (lambda t: k.add_node_selector_json(t, "x"), "add_node_selector_json wants a dict, got 'x' of type str"),
        (k.add_node_affinity, "add_node_affinity wants match_expressions or match_fields"),
        (lambda t: k.add_node_affinity(t, [{}], weight=101), "add_node_affinity(weight=101) wants a whole number from 1 to 100"),
        (lambda t: k.add_node_affinity(t, [{}]), "add_node_affinity(matchExpressions) wants dicts with key, operator and values"),
        (
            lambda t: k.add_node_affinity(t, [{"key": "a", "operator": "in"}]),
            "add_node_affinity(matchExpressions)(operator='in') wants",
        ),
        (lambda t: k.add_toleration(t, "a", "exists"), "add_toleration(operator='exists') wants one of Equal, Exists"),
        (lambda t: k.add_toleration(t, effect="NoExecute"), "add_toleration without a key wants operator='Exists'"),
        (lambda t: k.add_toleration(t, "a", "Exists", "b"), "add_toleration with operator='Exists' takes no value, got 'b'"),
        (
            lambda t: k.add_toleration(t, "a", toleration_seconds=5),
            "add_toleration takes toleration_seconds with effect='NoExecute'",
        ),
        (lambda t: k.add_toleration_json(t, {1, 2}), "add_toleration_json got {1, 2}"),
        (
            lambda t: k.set_image_pull_policy(t, "Sometimes"),
            "set_image_pull_policy(policy='Sometimes') wants one of Always, Never",
        ),
        (lambda t: k.set_image_pull_secrets(t, "a"), "set_image_pull_secrets wants a list of secret names, got 'a'"),
        (k.set_security_context, "set_security_context wants run_as_user, run_as_group or run_as_non_root"),
        (lambda t: k.set_security_context(t, run_as_user="root"), "set_security_context(runAsUser='root') wants a whole number"),
        (
            lambda t: k.add_init_container(t, "a", "i", restart_policy="Never"),
            "add_init_container(restart_policy='Never') wants one of",
        ),
        (
            lambda t: k.add_init_container(t, "a", "i", volume_mounts={"v": "v"}),
            "add_init_container wants absolute paths in volume",
        ),
        (
            lambda t: k.add_init_container(k.add_init_container(t, "a", "i"), "a", "i"),
            "add_init_container has an init container 'a' already",
        ),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(change: Callable[[Any], Any], message: str) -> None:
    assert refused(change).startswith(message)


def test_outputs_become_bindings_and_their_tasks_come_first() -> None:
    @dsl.pipeline
    def mine(image: str) -> None:
        cores, name = number(2), text("db")
        task = number(1).set_cpu_limit(cores.output).set_container_image(image)
        task.set_env_variable("URL", f"postgres://{name.output}:{cores.output}")
        kubernetes.use_secret_as_env(task, name.output, {"password": "PASSWORD"})
        kubernetes.set_image_pull_secrets(task, ["plain", name.output])

    task = mine.pipeline.dag.tasks[2]
    name, cores = TaskOutput("text", "Output"), TaskOutput("number", "Output")
    assert task.settings == Settings(
        env=(("URL", Template(("postgres://", name, ":", cores))),),
        secret_env=(SecretEnv(name, (("password", "PASSWORD"),)),),
        cpu_limit=cores,
        container_image=ScopeInput("image"),
        pod=task.settings.pod,
    )
    (kind, secrets), = task.settings.pod
    assert kind == "image_pull_secrets"
    assert isinstance(secrets, ListOf)
    assert secrets.items[1] == name
    assert Pipeline.from_json(mine.pipeline.to_json()) == mine.pipeline


def test_outputs_from_around_reach_settings_inside_loops_and_branches() -> None:
    @dsl.pipeline
    def mine() -> None:
        size, big = text("1Gi"), is_big(20)
        with dsl.If(big.output), dsl.ParallelFor([{"cpu": "1"}, {"cpu": "2"}]) as item:
            number(1).set_memory_limit(size.output).set_cpu_limit(item.cpu)

    branch = mine.pipeline.dag.tasks[2].component.implementation
    assert isinstance(branch, Dag)
    loop = branch.tasks[0].component.implementation
    assert isinstance(loop, Dag)
    settings = loop.tasks[0].settings
    assert settings.cpu_limit == ScopeInput("item", ("cpu",))
    assert isinstance(settings.memory_limit, ScopeInput)


def test_output_that_a_setting_cannot_be_is_refused() -> None:
    def artifact() -> None:
        number(1).set_container_image(write("x").outputs["data"])

    def truth() -> None:
        number(1).set_cpu_limit(is_big(1).output)

    def whole() -> None:
        number(1).set_container_image(number(2).output)

    def selector() -> None:
        kubernetes.add_node_selector_json(number(1), number(2).output)

    def inside() -> None:
        with dsl.ParallelFor([1, 2]):
            made = text("x")
        number(1).set_container_image(made.output)

    assert "set_container_image got Dataset" in author(artifact)
    assert "set_cpu_limit(output 'Output' of 'is-big') wants str or int or float, got" in author(truth)
    assert "set_container_image wants str, got output 'Output' of 'number-2', which is int" in author(whole)
    assert "add_node_selector_json wants dict or list or str, got output 'Output' of 'number-2', which is int" in author(selector)
    with pytest.raises(AuthoringError, match="is inside the loop 'for-loop-1' and is read outside"):
        dsl.pipeline(inside)


def test_task_whose_setting_is_its_own_output_is_a_cycle() -> None:
    def mine() -> None:
        task = number(1)
        task.set_cpu_limit(task.output)

    with pytest.raises(CycleError, match="number → number"):
        dsl.pipeline(mine)


@dsl.pipeline
def inner() -> None:
    number(1)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.set_cpu_limit("1"),
        lambda t: t.set_env_variable("A", "1"),
        lambda t: t.set_timeout(1),
        lambda t: t.set_limit("db"),
        lambda t: t.set_container_image("x"),
        lambda t: t.set_debug_pause(),
        lambda t: k.use_secret_as_env(t, "s", {"a": "A"}),
        lambda t: k.add_pod_label(t, "a", "b"),
    ],
)
def test_task_that_is_a_pipeline_has_no_settings_of_its_own(change: Callable[[Any], Any]) -> None:
    def mine() -> None:
        change(inner())

    assert "is not for a pipeline, which runs nowhere itself; call it on its tasks" in author(mine)


def test_task_that_is_a_pipeline_may_have_a_display_name() -> None:
    @dsl.pipeline
    def mine() -> None:
        inner().set_display_name("The inner one")

    assert mine.pipeline.dag.tasks[0].settings == Settings(display_name="The inner one")


def test_finished_task_takes_no_settings() -> None:
    done: Any = number(1)
    with pytest.raises(UsageError, match=r"has already run, outside a pipeline, so \.set_cpu_limit means nothing"):
        done.set_cpu_limit("1")
    with pytest.raises(SettingError, match="use_secret_as_env is for tasks, got <finished task 'number'"):
        kubernetes.use_secret_as_env(done, "s", {})


def test_settings_of_one_task_are_not_those_of_another() -> None:
    @dsl.pipeline
    def mine() -> None:
        number(1).set_env_variable("A", "1")
        shown({})

    assert [task.settings for task in mine.pipeline.dag.tasks] == [Settings(env=(("A", "1"),)), Settings()]
    assert set(POD_SETTINGS) >= {"node_selector", "debug_pause"}
