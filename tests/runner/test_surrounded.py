"""Whole runs of tasks with settings: bodies find what they want in each mode, nothing stays, no secret is in anything written."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flowcore
from flowcore import dsl, kubernetes
from flowcore.errors import RefusedError, RunFailed
from flowcore.executors import LocalExecutor
from flowcore.graph import Pipeline
from tests.runner import surrounded

SECRET = "s3cr3t-\"quoted\"-päss"
MODES = ["inline", "threads", "processes"]
WORKERS = {"inline": None, "threads": 2, "processes": 2}


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files in which nothing stays."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.chdir(tmp_path)
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Any:
    return request.param


def executor(mode: Any, **sources: Any) -> LocalExecutor:
    return LocalExecutor(mode, WORKERS[mode], **sources)


def test_variables_are_there_for_their_body_only(mode: Any) -> None:
    @dsl.pipeline
    def mine() -> dict[str, str]:
        task = surrounded.variables("V_").set_env_variable("V_A", "1")
        kubernetes.use_config_map_as_env(task, "app", {"level": "V_LEVEL"})
        kubernetes.use_field_path_as_env(task, "V_SPACE", "metadata.namespace")
        surrounded.variables("V_").after(task)
        return task.output

    run = flowcore.run(mine, executor=executor(mode, config_maps={"app": {"level": "debug"}}))
    assert run.output == {"V_A": "1", "V_LEVEL": "debug", "V_SPACE": "default"}
    assert run.tasks["variables-2"].outputs["Output"] == {}
    assert "V_A" not in os.environ


def test_settings_may_come_from_other_tasks(mode: Any) -> None:
    @dsl.pipeline
    def mine(which: str) -> list[int]:
        name = surrounded.word("db")
        task = surrounded.lengths(["PASSWORD", "URL"]).set_env_variable("URL", f"postgres://{name.output}/{which}")
        return kubernetes.use_secret_as_env(task, name.output, {"password": "PASSWORD"}).output

    assert flowcore.run(mine, {"which": "x"}, executor=executor(mode, secrets={"db": {"password": "12345"}})).output == [5, 15]
    with pytest.raises(RunFailed, match="there is no secret 'db' here; pass LocalExecutor"):
        flowcore.run(mine, {"which": "x"}, executor=executor(mode))


def test_files_of_a_secret_are_there_for_every_body_of_a_loop(mode: Any, tmp_path: Path) -> None:
    at = str(tmp_path / "mnt" / "creds")

    @dsl.pipeline
    def mine() -> list[dict[str, int]]:
        with dsl.ParallelFor(list(range(8))):
            task = kubernetes.use_secret_as_volume(surrounded.files(at), "db", at)
        return dsl.Collected(task.output)

    run = flowcore.run(mine, executor=executor(mode, secrets={"db": {"password": "12345", "user": "joe"}}))
    assert run.output == [{"password": 5, "user": 3}] * 8
    assert not (tmp_path / "mnt").exists()


def test_empty_folders_are_each_bodys_own(mode: Any, tmp_path: Path) -> None:
    at = str(tmp_path / "scratch")

    @dsl.pipeline
    def mine() -> list[list[str]]:
        with dsl.ParallelFor(["a", "b", "c"]) as name:
            task = kubernetes.empty_dir_mount(surrounded.leave(at, name), "scratch", at)
        return dsl.Collected(task.output)

    assert flowcore.run(mine, executor=executor(mode)).output == [[], [], []]
    assert not os.path.lexists(at)


def test_volume_is_a_folder_that_keeps_what_is_written(mode: Any, tmp_path: Path) -> None:
    at = str(tmp_path / "mnt")
    (tmp_path / "data").mkdir()

    @dsl.pipeline
    def mine() -> list[str]:
        first = kubernetes.mount_pvc(surrounded.leave(at, "first"), "claim", at)
        return kubernetes.mount_pvc(surrounded.leave(at, "second"), "claim", at).after(first).output

    assert flowcore.run(mine, executor=executor(mode, volumes={"claim": tmp_path / "data"})).output == ["first"]
    assert sorted(os.listdir(tmp_path / "data")) == ["first", "second"]


def test_files_that_a_killed_body_had_do_not_stay(tmp_path: Path) -> None:
    at = str(tmp_path / "mnt" / "creds")

    @dsl.pipeline
    def mine() -> dict[str, int]:
        task = surrounded.die_once(at, str(tmp_path / "mark"))
        return kubernetes.use_secret_as_volume(task, "db", at).output

    run = flowcore.run(mine, executor=executor("processes", secrets={"db": {"password": "12345"}}))
    assert run.output == {"password": 5}
    assert not (tmp_path / "mnt").exists()


def test_files_of_a_body_that_ran_out_of_time_do_not_stay(tmp_path: Path) -> None:
    at = str(tmp_path / "mnt" / "creds")

    @dsl.pipeline
    def mine() -> None:
        kubernetes.use_secret_as_volume(surrounded.wait_forever(at), "db", at).set_timeout(0.3)

    chosen = executor("processes", secrets={"db": {"password": "12345"}})
    run = flowcore.run(mine, executor=chosen, raise_on_failure=False)
    error = run.tasks["wait-forever"].error
    assert error is not None
    assert error.type == "TaskTimeout"
    assert not (tmp_path / "mnt").exists()


def test_body_may_run_a_pipeline_whose_tasks_have_settings(mode: Any) -> None:
    @dsl.pipeline
    def mine() -> dict[str, str]:
        return surrounded.nest("V_A").set_env_variable("V_A", "outer").output

    assert flowcore.run(mine, executor=executor(mode)).output == {"outer": "outer", "V_A": "inner"}


def everything_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        yield path.name, os.fsencode(path)
        if path.is_file():
            yield path.name, path.read_bytes()


FORMS = {form.encode() for form in (SECRET, SECRET[3:9], repr(SECRET)[1:-1], SECRET.replace('"', '\\"'), "p\\u00e4ss")}


@pytest.mark.parametrize("kind", ["literal", "env", "file"])
def test_secret_is_in_nothing_that_is_written_or_told(
    mode: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    value: Any = SECRET
    if kind == "env":
        monkeypatch.setenv("FLOWCORE_TEST_SECRET", SECRET)
        value = {"env": "FLOWCORE_TEST_SECRET"}
    elif kind == "file":
        (tmp_path / "elsewhere").write_text(SECRET)
        value = {"file": str(tmp_path / "elsewhere")}

    @dsl.pipeline
    def mine() -> None:
        for task in (surrounded.tell("PASSWORD"), surrounded.fail("PASSWORD"), surrounded.lengths(["PASSWORD"])):
            kubernetes.use_secret_as_env(task, "db", {"password": "PASSWORD"})

    chosen = executor(mode, secrets={"db": {"password": value}})
    run = flowcore.run(
        mine, executor=chosen, records=tmp_path / "records" / "runs.db", pipeline_root=tmp_path / "root", raise_on_failure=False
    )
    assert run.tasks["lengths"].outputs["Output"] == [len(SECRET)]
    text = "".join(line.text for line in run.logs("tell"))
    assert "whole ***\n" in text
    assert "pieces ***" in text
    assert "logged ***" in text
    assert "half s3c" in text
    error = run.tasks["fail"].error
    assert error is not None
    assert error.message == "'***' is wrong"
    assert "LookupError: cause ***" in error.traceback
    with pytest.raises(RunFailed) as failed:
        run.raise_for_state()
    seen = [(name, data) for folder in ("records", "root") for name, data in everything_below(tmp_path / folder)]
    seen += [("pipeline", mine.pipeline.to_json().encode()), ("executor", repr(chosen).encode())]
    seen += [("error", repr(failed.value).encode())]
    seen += [("cause", repr(failed.value.__cause__).encode()), ("notes", repr(getattr(failed.value, "__notes__", "")).encode())]
    seen += [("event", repr(event).encode()) for event in run.events()]
    shown = capfd.readouterr()
    if mode == "processes":
        assert "raw ***" in text
    else:
        # What a child of the host's process writes goes where the host's own output goes: nothing of ours sees it.
        shown = type(shown)("".join(line for line in shown.out.splitlines(True) if not line.startswith("raw")), shown.err)
    seen += [("stdout", shown.out.encode()), ("stderr", shown.err.encode())]
    assert len(seen) > 10
    assert [name for name, data in seen if any(form in data for form in FORMS)] == []


def test_secret_is_not_in_the_terminal_of_an_inline_run(capsys: pytest.CaptureFixture[str]) -> None:
    @dsl.pipeline
    def mine() -> None:
        kubernetes.use_secret_as_env(surrounded.tell("PASSWORD"), "db", {"password": "PASSWORD"})

    flowcore.run(mine, executor=executor("inline", secrets={"db": {"password": SECRET}}))
    shown = capsys.readouterr()
    assert "whole ***\npieces ***" in shown.out
    assert shown.out.endswith("half s3c")
    assert SECRET not in shown.out + shown.err


def test_no_body_finds_what_one_before_it_changed_in_its_process(tmp_path: Path) -> None:
    @dsl.pipeline
    def mine() -> list[str]:
        first = surrounded.meddle("V_MEDDLED")
        return surrounded.look("V_MEDDLED").after(first).output

    run = flowcore.run(mine, executor=LocalExecutor("processes", 1))
    assert run.output == ["unset", os.getcwd(), run.tasks["meddle"].outputs["Output"]]


def test_host_finds_nothing_changed_by_a_body_with_settings(mode: Any) -> None:
    @dsl.pipeline
    def mine() -> None:
        surrounded.meddle("V_MEDDLED").set_env_variable("V_MEDDLED", "1")

    before = dict(os.environ), os.getcwd()
    flowcore.run(mine, executor=executor(mode))
    assert (dict(os.environ), os.getcwd()) == before


def test_run_without_its_secrets_is_refused_before_anything_runs(mode: Any, tmp_path: Path) -> None:
    @dsl.pipeline
    def mine() -> None:
        kubernetes.use_secret_as_env(surrounded.tell("PASSWORD"), "db", {"password": "PASSWORD"})
        kubernetes.mount_pvc(surrounded.word("x"), "claim", "/proc/version/x")

    with pytest.raises(RefusedError) as refused:
        flowcore.run(mine, executor=executor(mode), records=tmp_path / "runs.db")
    assert "task 'tell' uses the secret 'db'" in str(refused.value)
    assert "task 'word' mounts the volume 'claim'" in str(refused.value)
    assert "choose a mount_path that it can make" in str(refused.value)
    assert not (tmp_path / "runs.db").exists()


def test_where_settings_are_recorded_and_said_not_to_apply(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @dsl.pipeline
    def mine() -> str:
        return kubernetes.add_toleration(surrounded.word("x"), "gpu", "Exists").output

    with caplog.at_level(logging.WARNING, "flowcore"):
        run = flowcore.run(mine, executor=executor("inline"), records=tmp_path / "runs.db")
    assert caplog.messages == ["recorded, does not apply on LocalExecutor: toleration (word)"]
    text = flowcore.Client(records=tmp_path / "runs.db").get_run(run.run_id).pipeline.to_json()
    assert Pipeline.from_json(text).dag.tasks[0].settings.pod == (("toleration", '{"key":"gpu","operator":"Exists"}'),)
