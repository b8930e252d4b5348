"""``flowcore storage check URL``: the published store checks on the user's own storage, without a test framework.

Everything is written below one folder of its own under the URL, which is removed at the end, whatever happened.
"""

from __future__ import annotations

import inspect
import json
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from flowcore.errors import FlowcoreError, UsageError

if TYPE_CHECKING:
    from flowcore.artifacts.store import ArtifactStore

PREFIX = "flowcore-check-"


@dataclass
class CheckResult:
    """One promise, whether it held, and if not what was seen and what to do."""

    promise: str
    passed: bool
    seconds: float
    problem: str = ""


def check_storage(url: str, storage_options: Mapping[str, Any]) -> Iterator[CheckResult]:
    """Run every check of the published suite below ``url``; the last result tells whether all that was written is gone.

    Where the storage cannot be used at all, there is one result, which says why.
    """
    from flowcore.artifacts.store import ArtifactStore
    from flowcore.testing.store_checks import StoreChecks

    if not __debug__:
        raise UsageError("python -O leaves out what the checks check; run flowcore storage check without -O")
    outer = ArtifactStore(url, storage_options)
    was_there = outer.is_local and os.path.isdir(outer.root)
    found = _result("the storage can be written, read and listed", outer.check)
    yield found
    if not found.passed:
        return
    place = outer.join(f"{PREFIX}{os.urandom(4).hex()}")
    try:
        checks = StoreChecks()
        vars(checks)["storage_options"] = dict(storage_options)
        for number, (promise, check, arguments) in enumerate(_checks(checks)):
            yield _result(promise, lambda: _run(check, arguments, f"{place}/{number}", storage_options))  # noqa: B023  run at once
    finally:
        with suppress(Exception):  # told by the last check
            outer._files.remove(place)
    yield _result("nothing is left behind", lambda: _check_empty(outer, place))
    if outer.is_local and not was_there:
        with suppress(OSError):
            os.rmdir(outer.root)


def _checks(checks: Any) -> Iterator[tuple[str, Callable[..., None], dict[str, Any]]]:
    """(promise, check, the argument of its case) of each check and case."""
    for name, _ in inspect.getmembers(type(checks), inspect.isfunction):
        if name.startswith("test_"):
            check = getattr(checks, name)
            promise = name.removeprefix("test_").replace("_s_", "'s ").replace("_", " ")
            argument, values = getattr(check, "cases", (None, [None]))
            for value in values:
                shown = repr(value) if len(repr(value)) <= 30 else repr(value)[:29] + "…"
                yield (promise, check, {}) if argument is None else (f"{promise}: {shown}", check, {argument: value})


def _run(check: Callable[..., None], arguments: dict[str, Any], root: str, storage_options: Mapping[str, Any]) -> None:
    from pathlib import Path

    from flowcore.artifacts.store import ArtifactStore

    with (
        tempfile.TemporaryDirectory(prefix="flowcore-check-") as folder,
        ArtifactStore(root, storage_options, cache_dir=os.path.join(folder, "cache")) as store,
    ):
        store.check()
        attempt = store.join("pipeline", "run", "task", "1")
        made = {"store": store, "store_root": root, "attempt": attempt, "tmp_path": Path(folder)}
        made |= {"execution": store.begin(attempt), **arguments}
        wanted = inspect.signature(check).parameters
        check(**{name: made[name] for name in wanted})


def _check_empty(store: ArtifactStore, place: str) -> None:
    name = place.rpartition("/")[2]
    if name in store._files.folders(store.root):
        raise AssertionError(f"{place!r} could not be removed; remove it by hand, and allow deleting there")


def _result(promise: str, check: Callable[[], object]) -> CheckResult:
    begin = time.monotonic()
    problem = None
    try:
        check()
    except AssertionError as error:
        problem = _failed_line(error)
    except FlowcoreError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001  whatever a driver raises is a failed check, not ours to fall over
        problem = f"{type(error).__name__}: {error}"
    return CheckResult(promise, problem is None, time.monotonic() - begin, problem or "")


def _failed_line(error: AssertionError) -> str:
    if str(error):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    line = next((frame.line for frame in reversed(frames) if frame.line and frame.line.startswith("assert ")), "")
    remedy = "this storage does not behave as flowcore needs; use another, or report it with this line"
    return f"expected {line.removeprefix('assert ')}; {remedy}" if line else remedy


def parse_storage_options(texts: tuple[str, ...]) -> dict[str, Any]:
    """fsspec's options of ``KEY=VALUE`` texts. A value that is JSON counts as that, others as text; dots in a key nest.

    Raises:
        UsageError: no equals sign, or a key both holds options and is one.
    """
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            # The text may hold a secret.
            raise UsageError("--storage-option: write KEY=VALUE, for instance endpoint_url=http://localhost:9000")
        inside = options
        for name in names[:-1]:
            inside = inside.setdefault(name, {})
            if not isinstance(inside, dict):
                raise UsageError(f"--storage-option {key!r}: {name!r} is given a value of its own too")
        try:
            inside[names[-1]] = json.loads(value)
        except ValueError:
            inside[names[-1]] = value
    return options


@click.group()
def storage() -> None:
    """Look after the place where artifacts go."""


@storage.command()
@click.argument("url")
@click.option(
    "--storage-option", "options", multiple=True, metavar="KEY=VALUE",
    help="An option of fsspec's for this URL; repeatable. Dots nest: secret.env=NAME reads a variable, secret.file=PATH a file.",
)  # fmt: skip
@click.pass_context
def check(ctx: click.Context, url: str, options: tuple[str, ...]) -> None:
    """Run flowcore's storage checks on URL, a folder or any fsspec URL, and leave nothing behind there.

    Exit status: 0 if every check passed, 1 if one failed.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, results = Console(highlight=False), []
    with console.status("Checking …") as status:
        for result in check_storage(url, parse_storage_options(options)):
            results.append(result)
            status.update(f"Checking … {len(results)} done")
    table = Table("", "promise", "seconds", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for result in results:
        mark = Text("ok", style="green") if result.passed else Text("FAILED", style="bold red")
        table.add_row(mark, Text(result.promise), f"{result.seconds:.2f}")
        if result.problem:
            table.add_row("", Text(result.problem, style="red"), "")
    console.print(table)
    failed = sum(not result.passed for result in results)
    verdict = f"{failed} of {len(results)} checks failed" if failed else f"all {len(results)} checks passed"
    console.print(f"\n{verdict}: {url}", markup=False, soft_wrap=True)
    ctx.exit(1 if failed else 0)
