"""What a body sees besides its inputs is there while it runs, comes from where the executor says, and is gone afterwards."""

from __future__ import annotations

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowcore import dsl, kubernetes
from flowcore.errors import RefusedError, UsageError
from flowcore.graph import NO_SETTINGS, Settings
from flowcore.graph.settings import (
    ConfigMapEnv,
    ConfigMapVolume,
    EmptyDir,
    EphemeralVolume,
    SecretEnv,
    SecretVolume,
    VolumeMount,
)
from flowcore.mounts import obstacle
from flowcore.surroundings import NO_SOURCES, Sources, check_tasks, environment, masks_of, missing, prepared

ATTEMPT = "20250101-000000-abcdef/sweep.3/Train_it#2"


@contextmanager
def applied(settings: Settings, sources: Sources, attempt: str) -> Iterator[None]:
    with prepared(settings, sources, attempt) as variables, environment(variables):
        yield


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("FLOWCORE_TEST_TOKEN", "from-env")
    (tmp_path / "key.pem").write_bytes(b"from\xff-file\n")
    (tmp_path / "data").mkdir()
    return Sources(
        {"db": {"user": "joe", "token": {"env": "FLOWCORE_TEST_TOKEN"}, "key.pem": {"file": str(tmp_path / "key.pem")}}},
        {"app": {"level": "debug", "mode": "fast"}},
        {"claim": tmp_path / "data"},
    )


def test_variables_come_from_everywhere_and_go(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V_PLAIN", "before")
    settings = Settings(
        env=(("V_PLAIN", "plain"), ("V_EMPTY", "")),
        secret_env=(SecretEnv("db", (("user", "V_USER"), ("token", "V_TOKEN"), ("key.pem", "V_KEY"))),),
        config_map_env=(ConfigMapEnv("app", (("level", "V_LEVEL"),)),),
        field_env=(("V_POD", "metadata.name"), ("V_SPACE", "metadata.namespace"), ("V_NODE", "spec.nodeName")),
    )
    before = dict(os.environ)
    with applied(settings, sources, ATTEMPT):
        assert {name: value for name, value in os.environ.items() if name.startswith("V_")} == {
            "V_PLAIN": "plain",
            "V_EMPTY": "",
            "V_USER": "joe",
            "V_TOKEN": "from-env",
            "V_KEY": "from\udcff-file\n",
            "V_LEVEL": "debug",
            "V_POD": "20250101-000000-abcdef-sweep-3-train-it-2",
            "V_SPACE": "default",
            "V_NODE": platform.node(),
        }
        os.environ["V_PLAIN"] = "changed"
        del os.environ["V_USER"]
    assert dict(os.environ) == before


def test_uid_is_the_attempts_own() -> None:
    def uid(attempt: str) -> str:
        with applied(Settings(field_env=(("V_UID", "metadata.uid"),)), NO_SOURCES, attempt):
            return os.environ["V_UID"]

    assert uid("a#1") == uid("a#1") != uid("a#2")


def test_labels_and_annotations_are_those_of_the_author() -> None:
    settings = Settings(
        field_env=(("V_A", "metadata.labels['app']"), ("V_B", "metadata.annotations['why']"), ("V_C", "metadata.labels['none']")),
        pod=(("pod_labels", '{"app":"old"}'), ("pod_labels", '{"app":"new"}'), ("pod_annotations", '{"why":"it is"}')),
    )
    with applied(settings, NO_SOURCES, ATTEMPT):
        assert [os.environ[name] for name in ("V_A", "V_B", "V_C")] == ["new", "it is", ""]


def test_folders_hold_what_is_mounted(sources: Sources, tmp_path: Path) -> None:
    at = str(tmp_path / "mnt")
    settings = Settings(
        secret_volumes=(SecretVolume("db", f"{at}/creds/"),),
        config_map_volumes=(ConfigMapVolume("app", f"{at}/app"),),
        volumes=(VolumeMount("claim", f"{at}/data"), VolumeMount("claim", f"{at}/part", "a/b")),
        empty_dirs=(EmptyDir("e", f"{at}/empty", "Memory", "1Gi"),),
        ephemeral_volumes=(EphemeralVolume("v", f"{at}/own", ("ReadWriteOnce",), "1Gi"),),
    )
    with applied(settings, sources, ATTEMPT):
        assert {file.name: file.read_bytes() for file in Path(at, "creds").iterdir()} == {
            "user": b"joe",
            "token": b"from-env",
            "key.pem": b"from\xff-file\n",
        }
        assert Path(at, "app", "mode").read_text() == "fast"
        Path(at, "part", "result").write_text("kept")
        assert Path(at, "data", "a", "b", "result").read_text() == "kept"
        Path(at, "empty", "x").touch()
        Path(at, "own", "x").touch()
    assert not os.path.lexists(at)
    assert (tmp_path / "data" / "a" / "b" / "result").read_text() == "kept"


def test_volume_may_be_wanted_where_it_is(sources: Sources, tmp_path: Path) -> None:
    settings = Settings(volumes=(VolumeMount("claim", str(tmp_path / "data")),))
    assert missing(settings, sources) == []
    with applied(settings, sources, ATTEMPT):
        (tmp_path / "data" / "x").touch()
    assert (tmp_path / "data" / "x").exists()


def test_optional_secrets_and_keys_may_be_missing(sources: Sources) -> None:
    settings = Settings(
        secret_env=(SecretEnv("none", (("k", "V_A"),), optional=True), SecretEnv("db", (("none", "V_B"),), optional=True)),
        config_map_env=(ConfigMapEnv("none", (("k", "V_C"),), optional=True),),
    )
    assert missing(settings, sources) == []
    with applied(settings, sources, ATTEMPT):
        assert not [name for name in os.environ if name.startswith("V_")]


@pytest.mark.parametrize(
    ("settings", "finding"),
    [
        (
            Settings(secret_env=(SecretEnv("aws", (("id", "A"), ("key", "B"))),)),
            "uses the secret 'aws': pass LocalExecutor(secrets={'aws': {'id': {'env': 'NAME'}, 'key': {'env': 'NAME'}}})",
        ),
        (
            Settings(config_map_volumes=(ConfigMapVolume("cfg", "/tmp/flowcore-none"),)),
            "uses the config map 'cfg': pass LocalExecutor(config_maps={'cfg': {'key': 'value'}})",
        ),
        (
            Settings(secret_env=(SecretEnv("db", (("pass", "A"),)),)),
            "uses the key 'pass' of the secret 'db', which has 'user', 'token', 'key.pem'",
        ),
        (
            Settings(volumes=(VolumeMount("pvc", "/tmp/flowcore-none"),)),
            "mounts the volume 'pvc': pass LocalExecutor(volumes={'pvc': a folder of this machine})",
        ),
        (
            Settings(field_env=(("IP", "status.podIP"),)),
            "wants the field status.podIP as IP: only a pod has it; use it on Kubernetes only",
        ),
        (
            Settings(empty_dirs=(EmptyDir("e", "/usr"),)),
            f"mounts 'e' at '/usr': {obstacle('/usr')}",
        ),
    ],
)
def test_what_is_not_here_is_found_before_the_run(settings: Settings, finding: str, sources: Sources) -> None:
    assert missing(settings, sources) == [finding]


def test_references_that_lead_nowhere_are_found_before_the_run(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    sources = Sources({"db": {"a": {"env": "FLOWCORE_NOT_SET"}, "b": {"file": gone}}}, volumes={"claim": gone})
    settings = Settings(
        secret_volumes=(SecretVolume("db", str(tmp_path / "x")),), volumes=(VolumeMount("claim", str(tmp_path / "y")),)
    )
    assert missing(settings, sources) == [
        "uses the key 'a' of the secret 'db': the environment variable 'FLOWCORE_NOT_SET' is not set",
        f"uses the key 'b' of the secret 'db': the file {gone!r} cannot be read: No such file or directory",
        f"mounts the volume 'claim': its folder {gone!r} does not exist",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(secret_env=(SecretEnv("none", (("k", "A"),)),)), "there is no secret 'none' here; pass LocalExecutor(secrets="),
        (Settings(secret_env=(SecretEnv("db", (("none", "A"),)),)), "the secret 'db' has no key 'none'"),
        (Settings(config_map_volumes=(ConfigMapVolume("none", "/tmp/x"),)), "there is no config map 'none' here"),
        (Settings(volumes=(VolumeMount("none", "/tmp/x"),)), "there is no volume 'none' here"),
        (Settings(field_env=(("A", "status.hostIP"),)), "only a pod has the field status.hostIP"),
        (Settings(config_map_env=(ConfigMapEnv("nul", (("k", "A"),)),)), "key 'k' of the config map 'nul' cannot be"),
    ],
)
def test_name_that_the_run_made_and_nobody_has_fails_by_name(settings: Settings, message: str, sources: Sources) -> None:
    known = Sources(sources.secrets, {**sources.config_maps, "nul": {"k": "a\0b"}}, sources.volumes)
    before = dict(os.environ)
    with pytest.raises(UsageError) as caught:
        applied(settings, known, ATTEMPT).__enter__()
    assert str(caught.value).startswith(message)
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"secrets": ["db"]}, "secrets is a list, wants a dict of names and their keys"),
        ({"secrets": {"db": "hunter2"}}, "secret 'db': wants a dict of keys and values"),
        ({"secrets": {"db": {"a/b": "hunter2"}}}, "secret 'db': 'a/b' is no key; keys are letters, digits, '-', '_' and '.'"),
        ({"secrets": {"db": {"..": "hunter2"}}}, "secret 'db': '..' is no key"),
        ({"secrets": {"db": {"k": b"hunter2"}}}, "secret 'db', key 'k': a value is a text, {'env': NAME} or {'file': path}"),
        ({"secrets": {"db": {"k": {"vault": "hunter2"}}}}, "secret 'db', key 'k': a value is a text"),
        ({"config_maps": {"c": {"k": {"env": 3}}}}, "config map 'c', key 'k': a value is a text"),
        ({"volumes": {"c": 3}}, "volumes wants a dict of claim names and folders of this machine"),
    ],
)
def test_mapping_that_is_none_is_refused_without_its_values(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Sources(**arguments)
    assert str(caught.value).startswith(message)
    assert "hunter2" not in str(caught.value)


def test_sources_travel_as_data_and_do_not_show_values(sources: Sources) -> None:
    assert Sources.from_json(sources.to_json()).to_json() == sources.to_json()
    assert "joe" not in repr(sources)


def test_secret_values_of_a_task_are_masked_and_no_others(sources: Sources) -> None:
    env = masks_of(Settings(secret_env=(SecretEnv("db", (("token", "A"),)),)), sources)
    assert env("joe from-env debug") == "joe *** debug"
    assert masks_of(Settings(secret_volumes=(SecretVolume("db", "/x"),)), sources)("joe from-env") == "*** ***"
    assert not masks_of(Settings(config_map_env=(ConfigMapEnv("app", (("level", "A"),)),)), sources)
    assert not masks_of(NO_SETTINGS, sources)


@dsl.component
def nothing() -> None:
    pass


def test_all_that_a_pipeline_lacks_is_named_at_once() -> None:
    @dsl.pipeline
    def inner() -> None:
        kubernetes.use_config_map_as_env(nothing(), "app", {"level": "LEVEL"})

    @dsl.pipeline
    def mine() -> None:
        kubernetes.use_secret_as_env(nothing(), "db", {"password": "PASSWORD"})
        inner()
        nothing()

    with pytest.raises(RefusedError) as caught:
        check_tasks(mine.pipeline, NO_SOURCES, "LocalExecutor")
    assert str(caught.value) == (
        "pipeline 'mine' cannot run on LocalExecutor: "
        "task 'nothing' uses the secret 'db': pass LocalExecutor(secrets={'db': {'password': {'env': 'NAME'}}}); "
        "task 'inner/nothing' uses the config map 'app': pass LocalExecutor(config_maps={'app': {'level': 'value'}})"
    )


def test_what_only_a_pod_has_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    @dsl.pipeline
    def mine() -> None:
        for _ in range(5):
            kubernetes.add_node_selector(nothing(), "gpu", "a100")
        kubernetes.empty_dir_mount(nothing().set_container_image("x:1"), "e", "/tmp/flowcore-none", medium="Memory")

    with caplog.at_level(logging.WARNING, "flowcore"):
        check_tasks(mine.pipeline, NO_SOURCES, "LocalExecutor")
    (line,) = caplog.messages
    assert line.startswith("recorded, does not apply on LocalExecutor: node selector (nothing, nothing-2, nothing-3 and 2 more)")
    assert line.endswith(", container image (nothing-6), medium and size limit of an empty dir (nothing-6)")


BASELINE = """
import os, sys, types
from flowcore.surroundings import Baseline
os.environ["KEPT"] = "1"
folder = os.getcwd()
baseline = Baseline()
os.environ.update(KEPT="2", NEW="3", PATH="")
os.chdir("/")
baseline.restore()
assert os.environ["KEPT"] == "1" and "NEW" not in os.environ and os.environ["PATH"]
assert os.getcwd() == folder
with baseline.importing():
    os.environ["IMPORTED"] = "4"
    del os.environ["KEPT"]
os.environ.clear()
baseline.restore()
assert os.environ["IMPORTED"] == "4" and "KEPT" not in os.environ and os.environ["PATH"]
print("done")
"""


def test_process_comes_back_to_its_baseline_and_keeps_what_imports_set() -> None:
    done = subprocess.run([sys.executable, "-c", BASELINE], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "done\n", done.stderr
