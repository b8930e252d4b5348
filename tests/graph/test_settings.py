"""Settings as data: equal after a round trip, numbers from Kubeflow's texts, bindings resolved, everything else refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcore.errors import AuthoringError, GraphError, TypeMismatch
from flowcore.graph import (
    NO_SETTINGS,
    Binding,
    Component,
    Constant,
    Dag,
    ParameterType,
    Pipeline,
    Port,
    ScopeInput,
    Settings,
    Task,
    TaskOutput,
    Template,
)
from flowcore.graph.checks import check_pipeline, dependencies
from flowcore.graph.plan import plan_of
from flowcore.graph.serialization import settings_from_text, settings_to_text
from flowcore.graph.settings import (
    CPU,
    QUANTITIES,
    ConfigMapEnv,
    ConfigMapVolume,
    EmptyDir,
    EphemeralVolume,
    SecretEnv,
    SecretVolume,
    VolumeMount,
    problems,
    resolved,
)

from .graphs import INT, any_settings, step
from .test_serialization import places


def with_settings(settings: Settings, *inputs: Port, component: Component | None = None) -> Pipeline:
    task = Task("train", component or step(), (("a", Constant(1)),) if component is None else (), settings=settings)
    return Pipeline(Component("p", inputs, (), Dag((task,))))


def refusal(settings: Settings, *inputs: Port) -> str:
    with pytest.raises(AuthoringError) as caught:
        check_pipeline(with_settings(settings, *inputs))
    return str(caught.value)


@given(any_settings())
def test_any_settings_come_back_equal(settings: Settings) -> None:
    pipeline = with_settings(settings, Port("n", ParameterType("any")))
    back = Pipeline.from_json(pipeline.to_json())
    assert back.dag.tasks[0].settings == settings
    assert back.to_json() == pipeline.to_json()
    assert settings_from_text(settings_to_text(settings)) == settings


@given(any_settings(), st.data())
def test_settings_with_anything_replaced_are_read_or_refused(settings: Settings, data: st.DataObject) -> None:
    whole = json.loads(with_settings(settings, Port("n", ParameterType("any"))).to_json())
    task = whole["components"][-1]["implementation"]["dag"]["tasks"][0]["task"]
    container, key = data.draw(st.sampled_from(places(task)))
    container[key] = data.draw(st.sampled_from([None, -1, 1.5, True, "", "..", "/", "9" * 5000, [], {}, [["a", "b"]], "a\0"]))
    try:
        pipeline = Pipeline.from_json(json.dumps(whole))
    except AuthoringError:
        return
    assert Pipeline.from_json(pipeline.to_json()) == pipeline


def test_pipeline_without_settings_does_not_mention_them() -> None:
    text = with_settings(NO_SETTINGS).to_json()
    assert "settings" not in text
    assert Pipeline.from_json(text).dag.tasks[0].settings is NO_SETTINGS


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("cpu_limit", "2", 2), ("cpu_limit", "0.5", 0.5), ("cpu_limit", ".25", 0.25), ("cpu_limit", "500m", 0.5),
        ("cpu_limit", "1.5m", 0.0015), ("memory_limit", "1000", 1000), ("memory_limit", "1K", 1000),
        ("memory_limit", "1Ki", 1024),
        ("memory_limit", "2M", 2_000_000), ("memory_limit", "2Mi", 2 << 20), ("memory_limit", "3G", 3 * 10**9),
        ("memory_limit", "3Gi", 3 << 30), ("memory_limit", "1T", 10**12), ("memory_limit", "1Ti", 1 << 40),
        ("memory_limit", "1P", 10**15), ("memory_limit", "1Pi", 1 << 50), ("memory_limit", "1E", 10**18),
        ("memory_limit", "1Ei", 1 << 60), ("accelerator_limit", "0", 0), ("accelerator_limit", "8", 8),
    ],
)  # fmt: skip
def test_text_of_a_resource_is_this_number(name: str, text: str, number: float) -> None:
    numbers = {"cpu_limit": "cpu_cores", "memory_limit": "memory_bytes", "accelerator_limit": "accelerator_count"}
    assert getattr(Settings(**{name: text}), numbers[name]) == number


def test_millicores_lose_nothing() -> None:
    assert all(CPU.parse(f"{count}m") == count / 1000 for count in range(5000))


def test_request_counts_before_the_limit_and_what_is_not_known_counts_nothing() -> None:
    assert Settings(cpu_request="1", cpu_limit="4").cpu_cores == 1
    assert Settings(cpu_request="0", cpu_limit="4").cpu_cores == 0
    assert Settings(memory_limit="1Gi").memory_bytes == 1 << 30
    assert (NO_SETTINGS.cpu_cores, NO_SETTINGS.memory_bytes, NO_SETTINGS.accelerator_count) == (0, 0, 0)
    assert Settings(cpu_request=ScopeInput("n"), memory_limit=ScopeInput("n"), accelerator_limit=ScopeInput("n")).cpu_cores == 0


@pytest.mark.parametrize("name", sorted(QUANTITIES))
@pytest.mark.parametrize("text", ["", "x", "1 ", "-1", "1.", "1e3", "1Gb", "1k", "9" * 41, "１"])
def test_text_that_is_no_resource_is_refused_with_the_wanted_form(name: str, text: str) -> None:
    assert refusal(Settings(**{name: text})) == (
        f"pipeline 'p', task 'train': {name} is {text!r}, wants {QUANTITIES[name].wanted}"
    )


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (Settings(-1.0), "timeout_seconds is -1.0, wants a number above 0"),
        (Settings(cpu_request="2", cpu_limit="1500m"), "cpu_request '2' is above cpu_limit '1500m'"),
        (Settings(memory_request="1Gi", memory_limit="1G"), "memory_request '1Gi' is above memory_limit '1G'"),
        (Settings(env=(("A=B", "x"),)), "'A=B' is no name of an environment variable"),
        (Settings(env=(("A", "x\0"),)), "the environment variable 'A' holds a NUL character"),
        (Settings(env=(("A", "x"),), secret_env=(SecretEnv("s", (("k", "A"),)),)), "the environment variable 'A' is set twice"),
        (Settings(config_map_env=(ConfigMapEnv("", ()),)), "config_map_env has an empty name"),
        (Settings(secret_volumes=(SecretVolume("s", "creds"),)), "mount_path 'creds' is not an absolute path below /"),
        (Settings(config_map_volumes=(ConfigMapVolume("s", "/"),)), "mount_path '/' is not an absolute path below /"),
        (Settings(volumes=(VolumeMount("v", "/a/../b"),)), "mount_path '/a/../b' is not an absolute path below /"),
        (Settings(volumes=(VolumeMount("v", "/a"),), empty_dirs=(EmptyDir("e", "/a/"),)), "two volumes have the mount_path"),
        (Settings(volumes=(VolumeMount("v", "/a", "../b"),)), "sub_path '../b' leads out of its volume"),
        (Settings(empty_dirs=(EmptyDir("e", "/a", size_limit="big"),)), "size_limit is 'big', wants bytes such as"),
        (Settings(ephemeral_volumes=(EphemeralVolume("e", "/a", ("ReadWriteOnce",), "5GB"),)), "size is '5GB', wants bytes"),
        (Settings(container_image=""), "container_image is empty"),
        (Settings(pod=(("color", '"red"'),)), "there is no pod setting 'color'"),
        (Settings(pod=(("node_selector", "{"),)), "node_selector is not JSON: '{'"),
        (Settings(pod=(("node_selector", "[]"),)), "node_selector is [], wants a dict"),
    ],
)
def test_impossible_settings_are_refused_by_task(settings: Settings, problem: str) -> None:
    assert refusal(settings).startswith(f"pipeline 'p', task 'train': {problem}")


def test_settings_of_a_pipeline_in_a_pipeline_are_refused_but_for_its_display_name() -> None:
    inner = Component("inner", (), (), Dag((Task("step", step(), (("a", Constant(1)),)),)))
    check_pipeline(with_settings(Settings(display_name="Inner"), component=inner))
    with pytest.raises(GraphError, match="task 'train' is a pipeline, which runs nowhere itself"):
        check_pipeline(with_settings(Settings(cpu_limit="1"), component=inner))


def test_task_waits_for_what_its_settings_read() -> None:
    task = Task("train", step(), settings=Settings(secret_env=(SecretEnv(Template(("s-", TaskOutput("name", "Output"))), ()),)))
    assert dependencies(task) == {"name": True}
    plan = plan_of(Dag((Task("name", step(), (("a", Constant(1)),)), task)))
    assert plan.tasks[1].needs == (0,)
    assert plan.tasks[1].certain == {0}
    assert [planned.settings for planned in plan.tasks] == [None, task.settings]


@pytest.mark.parametrize(
    ("settings", "type_", "wanted"),
    [
        (Settings(cpu_limit=ScopeInput("n")), ParameterType("bool"), "str or int or float"),
        (Settings(cpu_limit=ScopeInput("n")), ParameterType("str", optional=True), "str or int or float"),
        (Settings(container_image=ScopeInput("n")), INT, "str"),
        (Settings(env=(("A", ScopeInput("n")),)), INT, "str"),
        (Settings(pod=(("node_selector", ScopeInput("n")),)), INT, "dict or list or str"),
    ],
)
def test_output_that_no_setting_can_be_is_refused(settings: Settings, type_: ParameterType, wanted: str) -> None:
    with pytest.raises(TypeMismatch, match=f"got {type_}, wants {wanted}; task 'train' reads n".replace("[", r"\[")):
        check_pipeline(with_settings(settings, Port("n", type_)))


def test_setting_that_reads_what_does_not_exist_is_refused() -> None:
    assert "setting 'cpu_limit' of task 'train' reads an input 'n'" in refusal(Settings(cpu_limit=ScopeInput("n")))


def value_of(binding: Binding) -> Any:
    assert isinstance(binding, ScopeInput)
    return {"name": "db", "cores": 2, "half": 0.5, "selector": {"b": 1, "a": 2}, "none": None}[binding.name]


def test_values_take_the_place_of_their_bindings() -> None:
    settings = Settings(
        env=(("A", ScopeInput("name")), ("B", "x")),
        secret_env=(SecretEnv(ScopeInput("name"), (("k", "K"),), optional=True),),
        cpu_request=ScopeInput("half"),
        cpu_limit=ScopeInput("cores"),
        pod=(("node_selector", ScopeInput("selector")),),
    )
    assert resolved(settings, value_of) == Settings(
        env=(("A", "db"), ("B", "x")),
        secret_env=(SecretEnv("db", (("k", "K"),), optional=True),),
        cpu_request="0.5",
        cpu_limit="2",
        pod=(("node_selector", '{"a":2,"b":1}'),),
    )


@given(any_settings())
def test_resolved_settings_hold_no_binding(settings: Settings) -> None:
    def text(binding: Binding) -> Any:
        return "2"

    try:
        found = resolved(settings, text)
    except ValueError:
        assert settings.pod
        return
    assert not list(found.bindings())
    assert not list(problems(found))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (Settings(cpu_limit=ScopeInput("name")), "cpu_limit is 'db', wants cores such as"),
        (Settings(cpu_limit=ScopeInput("none")), "cpu_limit is None of type NoneType, wants str or int or float"),
        (Settings(memory_limit=ScopeInput("half")), "memory_limit is '0.5', wants bytes such as"),
        (Settings(container_image=ScopeInput("cores")), "container_image is 2 of type int, wants str"),
        (Settings(pod=(("node_selector", ScopeInput("name")),)), 'node_selector is "db", wants a dict'),
    ],
)
def test_value_that_its_setting_cannot_have_is_refused(settings: Settings, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        resolved(settings, value_of)


def test_only_what_the_body_sees_needs_a_process() -> None:
    assert not NO_SETTINGS.needs_process
    assert Settings(empty_dirs=(EmptyDir("e", "/a"),)).needs_process
    assert not Settings(5.0, cpu_limit="1", pod=(("service_account", '"x"'),), display_name="x").needs_process
