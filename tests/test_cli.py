"""The command line as a user meets it: exit statuses, messages without tracebacks of ours, strict JSON, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from flowcore import __version__
from flowcore.cli import cli

STUDY = """
from typing import Optional
from flowcore import dsl
from flowcore.dsl import Dataset, Input, Metrics, Output

@dsl.component
def measure(size: int, metrics: Output[Metrics], table: Output[Dataset]) -> float:
    print("measuring", size)
    print("second line")
    metrics.log_metric("size", size)
    with open(table.path, "w") as file:
        file.write("x" * size)
    if size == 13:
        raise ValueError("unlucky number")
    return float("nan") if size == 0 else size / 2

@dsl.pipeline(name="The Study")
def study(size: int, label: str = "x", weights: dict[str, float] = {}, wide: bool = False, note: Optional[int] = None) -> float:
    return measure(size=size).output
"""
TWO = """
from flowcore import dsl

@dsl.component
def one() -> int:
    return 1

@dsl.pipeline
def first() -> int:
    return one().output

@dsl.pipeline(name="The Second")
def second() -> int:
    return one().output
"""


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line imports files: what it puts on sys.path and into sys.modules is the test's own."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "study.py").write_text(STUDY)
    (tmp_path / "two.py").write_text(TWO)
    for name in [*sys.modules]:
        if name in ("study", "two", "file", "broken") or name.startswith("flowcore_file_"):
            del sys.modules[name]


def _flowcore(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _refused(*arguments: str) -> str:
    """The message of a command that must end with status 2, nothing on stdout and no traceback of ours."""
    result = _flowcore(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "/flowcore/" not in result.stderr.replace("/.flowcore/", "")
    assert "Traceback" not in result.stderr
    return result.stderr


def _json(text: str) -> Any:
    def refuse(literal: str) -> NoReturn:
        raise AssertionError(f"{literal} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_a_run_that_succeeds_shows_itself_and_exits_with_0() -> None:
    result = _flowcore("run", "study.py", "--arg", "size=4")
    assert result.exit_code == 0, result.output
    assert "measure SUCCEEDED" in result.stdout
    assert "✓ SUCCEEDED  The Study" in result.stdout
    assert "  Output  2.0" in result.stdout


def test_a_run_that_fails_exits_with_1_and_shows_the_authors_line() -> None:
    result = _flowcore("run", "study.py", "--arg", "size=13")
    assert result.exit_code == 1
    assert "measure failed: ValueError: unlucky number" in result.stdout
    assert 'study.py", line 14, in measure' in result.stdout
    assert "flowcore/" not in result.stdout.replace(".flowcore/", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study.py"], "pipeline 'The Study': missing 'size'; its arguments are 'size', 'label', 'weights', 'wide', 'note'"),
        (["study.py", "--arg", "size=1", "--arg", "sise=2"], "unknown 'sise'; its arguments are"),
        (["study.py", "--arg", "size=many"], "--arg size: got the text 'many', wants int; write digits, like 42"),
        (["study.py", "--arg", "size=1.5"], "--arg size: got 1.5 of type float, wants int"),
        (["study.py", "--arg", "size=1", "--arg", "wide=yes"], "--arg wide: got the text 'yes', wants bool; write true or false"),
        (["study.py", "--arg", "size=1", "--arg", "weights=[1]"], "--arg weights"),
        (["study.py", "--arg", "size"], "--arg 'size': write NAME=VALUE"),
        (["study.py", "--arg", "size=1", "--arg", "size=2"], "--arg 'size' is given twice"),
        (["missing.py"], "there is no file 'missing.py'"),
        (["missing.py:study"], "there is no file 'missing.py'"),
        (["."], "'.' is not a Python file"),
        (["two.py"], "two.py has 2 pipelines; name one: two.py:first, two.py:second"),
        (["two.py:third"], "there is no pipeline 'third' in two.py; it has first, second"),
        (["two.py:dsl"], "'dsl' in two.py is a module, not a pipeline"),
        (["two.py:first", "--executor", "moon"], "there is no executor 'moon'; there are inline, local, processes, threads"),
        (["two.py:first", "--executor", "inline", "--workers", "2"], "--workers has no meaning with --executor inline"),
        (["two.py:first", "--workers", "0"], "--workers"),
        (["two.py:first", "--on-failure", "panic"], "--on-failure"),
        (["two.py:first", "--records", "."], "that is a folder; name a file in it"),
        (["two.py:first", "--records", "two.py"], "is not a record of flowcore"),
        (["two.py:first", "--executor", "processes", "--pipeline-root", "memory://x"], "exists in this process only"),
        ([], "Missing argument 'FILE[:PIPELINE]'"),
    ],
)
def test_bad_usage_is_refused_with_status_2(arguments: list[str], message: str) -> None:
    assert message in _refused("run", *arguments)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = 1\nimport not_there_at_all\n", ['broken.py", line 2', "No module named 'not_there_at_all'"]),
        ("x = 1\n\ndef f(:\n", ['broken.py", line 3', "SyntaxError"]),
        ("def f():\n    return 1 / 0\n\nf()\n", ['broken.py", line 4', 'broken.py", line 2, in f', "ZeroDivisionError"]),
        (
            "from flowcore import dsl\n@dsl.component\ndef f(x) -> None:\n    pass\n",
            ['broken.py", line 2', "component 'f': parameter 'x' has no type annotation"],
        ),
        ("import sys\nsys.exit(0)\n", ["broken.py ends the program when it is imported", "__main__"]),
        ("x = 1\n", ["broken.py has no pipeline; decorate a function with @dsl.pipeline"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_line(source: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(source)
    message = _refused("run", "broken.py")
    for part in expected:
        assert part in message
    assert "importlib" not in message


@pytest.mark.parametrize("target", ["two.py:second", "two.py:The Second", "two.py:one"])
def test_a_pipeline_is_found_by_variable_or_name_and_a_component_is_one(target: str) -> None:
    result = _flowcore("run", target, "--json")
    assert result.exit_code == 0
    assert _json(result.stdout)["outputs"] == {"Output": 1}


def test_arguments_are_parsed_by_their_types() -> None:
    given = ["size=4", "label=7", 'weights={"a": 1}', "wide=TRUE", "note=null"]
    result = _flowcore("run", "study.py", "--json", *[part for text in given for part in ("--arg", text)])
    assert _json(result.stdout)["arguments"] == {"size": 4, "label": "7", "weights": {"a": 1.0}, "wide": True, "note": None}


def test_an_artifact_is_given_as_its_path(tmp_path: Path) -> None:
    (tmp_path / "file.py").write_text(
        "from flowcore import dsl\n"
        "@dsl.component\n"
        "def count(table: dsl.Input[dsl.Dataset]) -> int:\n"
        "    with open(table.path) as file:\n"
        "        return len(file.read())\n"
    )
    (tmp_path / "table.csv").write_text("12345")
    result = _flowcore("run", "file.py:count", "--arg", f"table={tmp_path / 'table.csv'}", "--json")
    assert _json(result.stdout)["outputs"] == {"Output": 5}


def test_json_is_one_strict_object_and_nothing_else(tmp_path: Path) -> None:
    source = STUDY + "\nprint('printed on import')\n"
    (tmp_path / "study.py").write_text(source)
    result = _flowcore("run", "study.py", "--arg", "size=0", "--json", "--executor", "inline", "--name", "mine")
    assert result.exit_code == 0
    found = _json(result.stdout)
    assert found["state"] == "SUCCEEDED"
    assert found["name"] == "mine"
    assert found["outputs"] == {"Output": "NaN"}
    task = found["tasks"]["measure"]
    assert task["metrics"] == {"size": 0.0}
    assert task["outputs"]["table"]["type"] == "system.Dataset"
    assert Path(task["outputs"]["table"]["uri"]).exists()


def test_json_of_a_failed_run_holds_its_error() -> None:
    result = _flowcore("run", "study.py", "--arg", "size=13", "--json")
    assert result.exit_code == 1
    error = _json(result.stdout)["tasks"]["measure"]["error"]
    assert (error["type"], error["message"]) == ("ValueError", "unlucky number")


@pytest.mark.parametrize("executor", ["local", "inline", "threads", "processes"])
def test_every_local_executor_runs_a_file(executor: str) -> None:
    result = _flowcore("run", "study.py", "--arg", "size=4", "--executor", executor)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("name", ["json.py", "pandas.py", "my-pipeline.v2.py", "pytest.py"])
def test_a_file_whose_name_is_taken_is_loaded_all_the_same_in_processes_too(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / name).write_text(TWO.replace("return 1", "return 41"))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-m", "flowcore.cli", "run", f"inner/{name}:first", "--executor", "processes"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "  Output  41" in done.stdout


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "neighbour_of_main.py").write_text(TWO)
    (folder / "main_file.py").write_text("from neighbour_of_main import second\n")
    result = _flowcore("run", "inner/main_file.py", "--executor", "processes", "--json")
    assert result.exit_code == 0, result.output
    assert _json(result.stdout)["outputs"] == {"Output": 1}


def test_places_come_from_options_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWCORE_RECORDS", str(tmp_path / "there.db"))
    monkeypatch.setenv("FLOWCORE_PIPELINE_ROOT", str(tmp_path / "root"))
    assert _flowcore("run", "study.py", "--arg", "size=4").exit_code == 0
    assert (tmp_path / "there.db").exists()
    assert (tmp_path / "root" / "the-study").is_dir()
    other = ["--records", f"sqlite:///{tmp_path}/other.db", "--pipeline-root", str(tmp_path / "other")]
    assert _flowcore("run", "study.py", "--arg", "size=4", *other).exit_code == 0
    assert (tmp_path / "other.db").exists()
    assert (tmp_path / "other" / "the-study").is_dir()


def test_recorded_runs_are_listed_newest_first_and_shown(tmp_path: Path) -> None:
    good = _json(_flowcore("run", "study.py", "--arg", "size=4", "--json").stdout)["run_id"]
    bad = _json(_flowcore("run", "study.py", "--arg", "size=13", "--json", "--name", "bad").stdout)["run_id"]

    listed = _flowcore("runs", "list")
    assert listed.exit_code == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["run", bad, good]
    assert [row["run_id"] for row in _json(_flowcore("runs", "list", "--limit", "1", "--json").stdout)["runs"]] == [bad]

    shown = _flowcore("runs", "show", bad)
    assert shown.exit_code == 0
    for part in ("✗ FAILED  The Study", "ValueError: unlucky number", "Traceback", "measuring 13", bad, "named   bad"):
        assert part in shown.stdout
    assert _json(_flowcore("runs", "show", good, "--json").stdout)["outputs"] == {"Output": 2.0}

    assert _flowcore("runs", "logs", good).stdout == "measure | measuring 4\nmeasure | second line\n"
    assert _flowcore("runs", "logs", good, "measure").stdout == "measure | measuring 4\nmeasure | second line\n"


def test_what_is_not_recorded_is_refused(tmp_path: Path) -> None:
    assert "there is no record at" in _refused("runs", "list")
    run_id = _json(_flowcore("run", "study.py", "--arg", "size=4", "--json").stdout)["run_id"]
    assert "there is no run 'nope'" in _refused("runs", "show", "nope")
    assert "there is no run 'nope'" in _refused("runs", "logs", "nope")
    assert "no single task 'nope'" in _refused("runs", "logs", run_id, "nope")


@pytest.mark.parametrize(("format_", "begins"), [("mermaid", "flowchart TD"), ("dot", 'digraph "first"'), ("json", "{")])
def test_a_graph_is_drawn_without_running_anything(format_: str, begins: str, tmp_path: Path) -> None:
    result = _flowcore("graph", "two.py:first", "--format", format_)
    assert result.exit_code == 0
    assert result.stdout.startswith(begins)
    assert "one" in result.stdout
    assert not (tmp_path / ".flowcore").exists()


def test_help_and_version_load_nothing_heavy() -> None:
    program = (
        "import sys\nfrom click.testing import CliRunner\nfrom flowcore.cli import cli\n"
        "for words in (['--help'], ['--version'], ['run', '--help']):\n"
        "    assert CliRunner().invoke(cli, words).exit_code == 0\n"
        "heavy = {'rich', 'networkx', 'pyarrow', 'pandas', 'numpy', 'fsspec', 'sqlite3', 'cloudpickle'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert __version__ in _flowcore("--version").stdout


SLOW = """
import time
from pathlib import Path
from flowcore import dsl

@dsl.component
def slow() -> int:
    Path("started").touch()
    deadline = time.monotonic() + 60
    while not Path("release").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return 1

@dsl.component
def later(value: int) -> None:
    Path("later").touch()

@dsl.pipeline
def slow_one() -> None:
    later(value=slow().output)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [["--executor=threads"], ["--executor=processes"], ["--executor=inline"], ["--json"]])
def test_an_interrupt_cancels_the_run_and_exits_with_1(options: list[str], sent: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "slow_file.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "flowcore.cli", "run", "slow_file.py", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background inherits an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    with process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "started").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, (out, err)
    assert "Traceback" not in out + err
    assert "canceled; run " in (err if "--json" in options else out)
    assert not (tmp_path / "later").exists()
    if "--json" in options:
        assert _json(out)["state"] == "CANCELED"
    listed = _json(_flowcore("runs", "list", "--json").stdout)["runs"]
    assert [row["state"] for row in listed] == ["CANCELED"]
