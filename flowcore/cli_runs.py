"""``flowcore runs``: list, show, follow and cancel recorded runs, write their pages. It only calls the library.

Exit status: 0 success; 1 a run that failed or was canceled; 2 bad usage; 3 a run that goes on, or has lost its driver.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from flowcore.client import Client
    from flowcore.runs import Run, TaskRun

SUCCESS, UNSUCCESSFUL, REFUSED, GOES_ON = 0, 1, 2, 3


class Refused(click.ClickException):
    exit_code = REFUSED


class Ended(click.ClickException):
    exit_code = UNSUCCESSFUL


class _GoesOn(click.ClickException):
    exit_code = GOES_ON


records_option = click.option(
    "--records", metavar="PLACE", help="The record, a file or sqlite:///file. Default: $FLOWCORE_RECORDS or .flowcore/runs.db."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


@click.group()
def runs() -> None:
    """Look at recorded runs."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="At most so many.")
@records_option
@json_option
def list_(limit: int, records: str | None, as_json: bool) -> None:
    """List runs, newest first."""
    found = _client(records).list_runs(limit)
    if as_json:
        rows = [
            {
                "run_id": row.run_id, "name": row.name, "pipeline": row.pipeline, "state": row.state,
                "created_at": row.created_at, "started_at": row.started_at, "finished_at": row.finished_at,
            }
            for row in found
        ]  # fmt: skip
        click.echo(strict_json({"runs": rows}))
        return
    from flowcore.report import print_runs

    print_runs(found)


@runs.command()
@click.argument("run_id")
@records_option
@json_option
def show(run_id: str, records: str | None, as_json: bool) -> None:
    """Show one run: its tasks, errors with whole tracebacks, outputs."""
    found = _find(records, run_id)
    if as_json:
        click.echo(strict_json(run_to_json(found)))
        return
    from flowcore.report import print_summary

    print_summary(found, full=True)


@runs.command()
@click.argument("run_id")
@click.argument("task", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends; the exit status then tells how.")
@records_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line: task, attempt, stream, text.")
@click.pass_context
def logs(ctx: click.Context, run_id: str, task: str | None, follow: bool, records: str | None, as_json: bool) -> None:
    """Print what the tasks of a run wrote, or one of them: TASK is a path or a name."""
    from flowcore.following import Follower

    found = _find(records, run_id)
    follower = Follower(found)
    try:
        _print_logs(found, task, iter(follower) if follow else iter([None]), as_json=as_json, follow=follow)
    except KeyboardInterrupt:
        raise _GoesOn(f"run {run_id} goes on") from None
    if not follow:
        return
    if follower.driver_lost:
        raise _GoesOn(follower.driver_lost)
    state = found.state
    click.echo(f"run {run_id} {state}", err=True)
    ctx.exit(SUCCESS if state == "SUCCEEDED" else UNSUCCESSFUL)


def _print_logs(run: Run, task: str | None, moments: Iterator[None], *, as_json: bool, follow: bool) -> None:
    from flowcore.errors import UsageError

    path, since = None, 0
    for _ in moments:
        if task is not None and path is None:
            path = _begun(run, task, follow=follow)
            if path is None:
                continue
        since, lines = run._logs_since(since, path)
        for part in lines:
            if as_json:
                click.echo(json.dumps({name: getattr(part, name) for name in ("task", "attempt", "stream", "text")}))
                continue
            for line in part.text.splitlines():
                click.echo(f"{part.task} | {line}")
    if task is not None and path is None:
        raise UsageError(f"run {run.run_id} ended before its task {task!r} began")


def _begun(run: Run, task: str, *, follow: bool) -> str | None:
    """The path of a task; None where it may still begin.

    Raises:
        UsageError: there is no such task, or it is not clear which one is meant.
    """
    from flowcore.errors import UsageError
    from flowcore.following import knows_task

    try:
        return run.tasks[task].path
    except KeyError as error:
        if "several tasks" in str(error) or not (follow and knows_task(run, task)):
            raise UsageError(str(error.args[0])) from error
    return None


@runs.command()
@click.argument("run_id")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the run's end.")
@click.option("--timeout", type=click.FloatRange(0), default=60.0, show_default=True, metavar="SECONDS", help="How long to wait.")
@records_option
@json_option
@click.pass_context
def cancel(ctx: click.Context, run_id: str, wait: bool, timeout: float, records: str | None, as_json: bool) -> None:
    """Cancel a run, whichever process drives it."""
    from flowcore.following import Follower
    from flowcore.runs import ENDED

    found = _find(records, run_id)
    before = found.state
    silent = ""
    if before not in ENDED:
        found.cancel()
        deadline = time.monotonic() + timeout
        if wait:
            follower = Follower(found)
            for _ in follower:
                if time.monotonic() > deadline:
                    break
            silent = follower.driver_lost
    state = found.state
    if as_json:
        click.echo(strict_json({"run_id": run_id, "state": state, "was": before, "driver_lost": silent or None}))
    if before in ENDED:
        if not as_json:
            click.echo(f"run {run_id} has ended already: {before}")
        return
    if state in ENDED:
        if not as_json:
            click.echo(f"run {run_id} was asked to end and ended: {state}")
        return
    if silent:
        raise _GoesOn(silent)
    if not as_json:
        waited = f"; it has not ended after {timeout:g} s" if wait else ""
        click.echo(f"run {run_id} was asked to end{waited}: flowcore runs logs -f {run_id}")
    ctx.exit(GOES_ON if wait else SUCCESS)


@runs.command()
@click.argument("run_id")
@click.option("-o", "--output", metavar="FILE", help="Where to; - is standard output. Default: RUN_ID.html.")
@records_option
def html(run_id: str, output: str | None, records: str | None) -> None:
    """Write a run as one HTML file: graph, timeline, logs, metrics, artifacts. It opens from disk, without a network."""
    from flowcore.errors import UsageError

    found = _find(records, run_id)
    if output == "-":
        click.echo(found.to_html(), nl=False)
        return
    path = output or f"{run_id}.html"
    try:
        found.to_html(path)
    except OSError as error:
        raise UsageError(f"the page cannot be written to {path}: {error.strerror or error}") from error
    click.echo(path)


def _client(records: str | None) -> Client:
    from flowcore.client import DEFAULT, Client

    return Client(DEFAULT if records is None else records)


def _find(records: str | None, run_id: str) -> Run:
    """A recorded run.

    Raises:
        RecordError: no record, or no such run; the message names those that are near.
    """
    from flowcore.errors import RecordError

    client = _client(records)
    known = [row.run_id for row in client.list_runs(1000)]
    if run_id in known:
        return client.get_run(run_id)
    near = [other for other in known if other.startswith(run_id) or other.endswith(run_id)]
    near = (near or difflib.get_close_matches(run_id, known, 5, 0.5))[:5]
    try:
        return client.get_run(run_id)
    except RecordError as error:
        place = os.path.abspath(str(client.records).removeprefix("sqlite:///"))
        hint = f"the nearest: {', '.join(near)}" if near else "`flowcore runs list` shows those there are"
        raise RecordError(f"there is no run {run_id!r} in {place}; {hint}") from error


# JSON


def run_to_json(run: Run) -> dict[str, Any]:
    row = run.row()
    return {
        "run_id": row.run_id,
        "name": row.name,
        "pipeline": row.pipeline,
        "state": row.state,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "arguments": run.arguments,
        "outputs": run.outputs,
        "tasks": {path: _task_to_json(task) for path, task in run.tasks.items()},
        "pipeline_root": row.pipeline_root,
    }


def _task_to_json(task: TaskRun) -> dict[str, Any]:
    return {
        "state": str(task.state),
        "attempts": task.attempts,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "outputs": task.outputs,
        "metrics": task.metrics,
        "reason": task.reason,
        "error": None if task.error is None else task.error.to_json(),
    }


def strict_json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=2)


def _plain(value: Any) -> Any:
    """A value as strict JSON has it: artifacts as objects, nan and the infinities by their names."""
    from flowcore.artifacts.types import Artifact

    if isinstance(value, Artifact):
        return {"type": value.schema_title, "uri": value.uri, "metadata": _plain(value.metadata)}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
