"""``flowcore storage check``: what passes, what fails and says why, and that nothing is left in the user's storage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from click.testing import CliRunner, Result
from fsspec.implementations.memory import MemoryFileSystem

from flowcore.cli import cli
from flowcore.errors import UsageError
from flowcore.storage_check import check_storage, parse_storage_options
from tests.services.s3 import SECRET, Bucket


class TearingFileSystem(MemoryFileSystem):
    """Loses the last byte of all but probes, and cannot delete."""

    protocol: ClassVar[str] = "tearing"
    store: ClassVar[dict[str, object]] = {}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: object) -> None:
        super().pipe_file(path, value if len(value) == 16 else value[:-1], mode, **options)

    def rm_file(self, path: str) -> None:
        if not path.rpartition("/")[2].startswith(".probe"):
            raise PermissionError("deleting is not allowed")
        super().rm_file(path)


fsspec.register_implementation("tearing", TearingFileSystem, clobber=True)


def run_check(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["storage", "check", *arguments], terminal_width=200)


def test_a_folder_passes_and_nothing_is_left(tmp_path: Path) -> None:
    done = run_check(str(tmp_path / "runs"))
    assert done.exit_code == 0
    assert "ok  sealed file fetches back equal" in done.output
    assert "FAILED" not in done.output
    assert f"checks passed: {tmp_path}/runs" in done.output
    assert not (tmp_path / "runs").exists()


def test_what_was_there_before_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("1")
    assert run_check(str(tmp_path)).exit_code == 0
    assert os.listdir(tmp_path) == ["mine"]


@pytest.mark.s3
def test_a_bucket_passes_and_nothing_is_left(s3_bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", SECRET)
    options = [f"key={s3_bucket.storage_options['key']}", "secret.env=THE_SECRET", f"endpoint_url={s3_bucket.endpoint_url}"]
    done = run_check(s3_bucket.root, *(f"--storage-option={option}" for option in options))
    assert done.exit_code == 0, done.output
    assert SECRET not in done.output
    assert s3_bucket.all_keys() == []
    assert s3_bucket.unfinished_uploads() == []


def test_a_storage_that_cannot_be_used_has_one_result_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run_check(str(tmp_path / "file" / "runs"))
    assert done.exit_code == 1
    assert "FAILED  the storage can be written" in done.output
    assert "choose another pipeline_root" in " ".join(done.output.split())
    assert "1 of 1 checks failed" in done.output


def test_a_storage_that_breaks_promises_is_told_which() -> None:
    results = {result.promise: result for result in check_storage("tearing://bucket/runs", {})}
    torn = results["sealed file fetches back equal and ends in its name"]
    assert not torn.passed
    assert "7 bytes were sent and 6 arrived" in torn.problem
    left = results["nothing is left behind"]
    assert not left.passed
    assert "remove it by hand" in left.problem
    assert results["an output that is a symlink is refused"].passed


def test_the_checks_need_no_pytest(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from flowcore.storage_check import check_storage\n"
        "results = list(check_storage(sys.argv[1], {}))\n"
        "sys.exit(0 if len(results) > 60 and all(result.passed for result in results) else 1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "runs")], check=True, timeout=100)


def test_python_that_leaves_out_assertions_is_refused(tmp_path: Path) -> None:
    code = "import sys; from flowcore.cli import main; sys.argv[0] = 'flowcore'; main()"
    command = [sys.executable, "-O", "-c", code, "storage", "check", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "without -O" in done.stderr


def test_storage_options_are_text_json_or_nested() -> None:
    given = ("key=abc", "max_concurrency=4", "client_kwargs.region_name=eu-west-1", "secret.env=NAME", 'a={"b": [1]}', "b=x=y")
    assert parse_storage_options(given) == {
        "key": "abc", "max_concurrency": 4, "client_kwargs": {"region_name": "eu-west-1"}, "secret": {"env": "NAME"},
        "a": {"b": [1]}, "b": "x=y",
    }  # fmt: skip


@pytest.mark.parametrize("given", [("secretvalue",), ("=secretvalue",), ("a..b=secretvalue",), ("a=1", "a.b=secretvalue")])
def test_options_that_cannot_be_read_are_refused_without_showing_them(given: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_storage_options(given)
    assert "secretvalue" not in str(caught.value)
