"""The command line: run a pipeline of a file, look at recorded runs, draw a graph. It only calls the library.

Exit status: 0 success; 1 a run that failed or was canceled; 2 bad usage, or refused before anything ran. Heavy imports wait until
a command needs them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from flowcore import __version__
from flowcore.storage_check import storage

if TYPE_CHECKING:
    from flowcore.client import Client
    from flowcore.executor import Executor
    from flowcore.graph import Pipeline, Port
    from flowcore.runs import Run, TaskRun

SUCCESS, UNSUCCESSFUL, REFUSED = 0, 1, 2
LOCAL_MODES = {"local": "threads", "inline": "inline", "threads": "threads", "processes": "processes"}


class _Refused(click.ClickException):
    exit_code = REFUSED


class _Ended(click.ClickException):
    exit_code = UNSUCCESSFUL


class _Commands(click.Group):
    """Turns our errors into one message on stderr and an exit status; no traceback of ours is the user's business."""

    def invoke(self, ctx: click.Context) -> Any:
        from flowcore.errors import FlowcoreError, RunCanceled, RunFailed

        try:
            return super().invoke(ctx)
        except (RunFailed, RunCanceled) as error:
            raise _Ended(str(error)) from error
        except FlowcoreError as error:
            raise _Refused(str(error)) from error
        except KeyboardInterrupt:
            click.echo("canceled", err=True)
            ctx.exit(UNSUCCESSFUL)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowcore")
def cli() -> None:
    """Run flowcore pipelines and look at their runs."""


_records = click.option(
    "--records", metavar="PLACE", help="The record, a file or sqlite:///file. Default: $FLOWCORE_RECORDS or .flowcore/runs.db."
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")


@cli.command()
@click.argument("target", metavar="FILE[:PIPELINE]")
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="An argument, parsed by its type; repeatable.")
@_records
@click.option(
    "--pipeline-root", metavar="PLACE", help="Where artifacts go: a folder or an fsspec URL. Default: $FLOWCORE_PIPELINE_ROOT or "
    ".flowcore/artifacts."
)  # fmt: skip
@click.option(
    "--executor", default="local", show_default=True, metavar="NAME",
    help="local (threads), inline, threads, processes, or an installed executor."
)  # fmt: skip
@click.option("--workers", type=click.IntRange(1), metavar="N", help="How many tasks run at once. Default: one a core.")
@click.option(
    "--on-failure", type=click.Choice(["continue", "stop"]), default="continue", show_default=True,
    help="What happens to the rest after a task failed."
)  # fmt: skip
@click.option("--name", metavar="TEXT", help="A name for this run.")
@_json
@click.pass_context
def run(
    ctx: click.Context,
    target: str,
    arguments: tuple[str, ...],
    records: str | None,
    pipeline_root: str | None,
    executor: str,
    workers: int | None,
    on_failure: Any,
    name: str | None,
    as_json: bool,
) -> None:
    """Run a pipeline of a Python file and wait for its end.

    PIPELINE is the variable's or the pipeline's own name; it may be left out where the file has one. Ctrl-C cancels the run.
    """
    from flowcore.client import as_pipeline
    from flowcore.errors import FlowcoreError
    from flowcore.loading import load_pipeline

    chosen = _executor(executor, workers)
    # What an author's file and inline bodies print must not end up in the JSON.
    with _stdout_aside() if as_json else contextlib.nullcontext():
        pipeline = load_pipeline(target)
        values = parse_arguments(as_pipeline(pipeline), arguments)
        client = _watched_client(records, pipeline_root)
        canceled = False
        try:
            client.run(
                pipeline, values, executor=chosen, on_failure=on_failure, raise_on_failure=False, name=name, progress=not as_json
            )
        except KeyboardInterrupt:
            canceled = True
        except FlowcoreError as error:
            # Before the run began it is a refusal; after that it is how the run ended.
            raise (_Refused if client.watched is None else _Ended)(str(error)) from error
    ended: Run | None = client.watched
    if as_json and ended is not None:
        click.echo(_strict_json(_run_to_json(ended)))
    if canceled:
        click.echo("canceled" if ended is None else f"canceled; run {ended.run_id} was stopped", err=as_json)
    ctx.exit(SUCCESS if not canceled and ended is not None and ended.state == "SUCCEEDED" else UNSUCCESSFUL)


def _watched_client(records: str | None, pipeline_root: str | None) -> Any:
    """A client that keeps the run that it began, for when ``run`` raises."""
    from flowcore.client import DEFAULT, Client

    class WatchedClient(Client):
        watched: Run | None = None

        @contextlib.contextmanager
        def _shown(self, run: Run, *arguments: Any, **options: Any) -> Iterator[None]:
            self.watched = run
            with super()._shown(run, *arguments, **options):
                yield

    return WatchedClient(DEFAULT if records is None else records, pipeline_root)


def _executor(name: str, workers: int | None) -> Executor:
    from flowcore.errors import UsageError

    if name in LOCAL_MODES:
        from flowcore.executors.local import LocalExecutor

        mode: Any = LOCAL_MODES[name]
        if workers is not None and mode == "inline":
            raise UsageError("--workers has no meaning with --executor inline: it runs one task after another")
        return LocalExecutor(mode, workers)
    if workers is not None:
        raise UsageError(f"--workers is for the local executors, not for {name!r}")
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group="flowcore.executors")}
    if name not in found:
        raise UsageError(f"there is no executor {name!r}; there are {', '.join(sorted({*LOCAL_MODES, *found}))}")
    try:
        made: Executor = found[name].load()()
    except Exception as error:
        raise UsageError(f"executor {name!r} cannot be made: {type(error).__name__}: {error}") from error
    return made


def parse_arguments(pipeline: Pipeline, given: tuple[str, ...]) -> dict[str, Any]:
    """The values of ``NAME=VALUE`` texts by the declared types; an artifact is given as its path or URI.

    Raises:
        UsageError: no equals sign, or the same name twice.
        ValueEncodingError: the text is not of the declared type.
    """
    from flowcore.errors import UsageError

    ports = pipeline.root.input_ports
    values: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--arg {text!r}: write NAME=VALUE")
        if name in values:
            raise UsageError(f"--arg {name!r} is given twice")
        # An unknown name goes on as it is: the library's error lists the known ones.
        values[name] = _parse(ports[name], value) if name in ports else value
    return values


def _parse(port: Port, text: str) -> Any:
    from flowcore.artifacts.types import ARTIFACT_TYPES, Artifact
    from flowcore.errors import UsageError
    from flowcore.graph import ArtifactType
    from flowcore.values import decode, from_text

    where = f"--arg {port.name}"
    if not isinstance(port.type, ArtifactType):
        return decode(from_text(text, port.type, where), port.type, where)
    if port.type.is_list:
        raise UsageError(f"{where}: a list of artifacts cannot be given on the command line; call flowcore.run")
    return ARTIFACT_TYPES.get(port.type.schema_title, Artifact)(name=port.name, uri=text)


@cli.command()
@click.argument("target", metavar="FILE[:PIPELINE]")
@click.option("--format", "format_", type=click.Choice(["mermaid", "dot", "json"]), default="mermaid", show_default=True)
def graph(target: str, format_: str) -> None:
    """Print the graph of a pipeline; nothing is run."""
    from flowcore.client import as_pipeline
    from flowcore.loading import load_pipeline

    with contextlib.redirect_stdout(sys.stderr):
        pipeline = as_pipeline(load_pipeline(target))
    text = {"mermaid": pipeline.to_mermaid, "dot": pipeline.to_dot, "json": pipeline.to_json}[format_]()
    click.echo(text.rstrip("\n"))


@cli.group()
def runs() -> None:
    """Look at recorded runs."""


@runs.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="At most so many.")
@_records
@_json
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
        click.echo(_strict_json({"runs": rows}))
        return
    from flowcore.report import print_runs

    print_runs(found)


@runs.command()
@click.argument("run_id")
@_records
@_json
def show(run_id: str, records: str | None, as_json: bool) -> None:
    """Show one run: its tasks, errors with whole tracebacks, outputs."""
    found = _client(records).get_run(run_id)
    if as_json:
        click.echo(_strict_json(_run_to_json(found)))
        return
    from flowcore.report import print_summary

    print_summary(found, full=True)


@runs.command()
@click.argument("run_id")
@click.argument("task", required=False)
@_records
def logs(run_id: str, task: str | None, records: str | None) -> None:
    """Print what the tasks of a run wrote, or one of them: TASK is a path or a name."""
    from flowcore.errors import UsageError

    found = _client(records).get_run(run_id)
    try:
        written = found.logs(task)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error
    for part in written:
        for line in part.text.splitlines():
            click.echo(f"{part.task} | {line}")


def _client(records: str | None) -> Client:
    from flowcore.client import DEFAULT, Client

    return Client(DEFAULT if records is None else records)


# JSON


def _run_to_json(run: Run) -> dict[str, Any]:
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


@contextlib.contextmanager
def _stdout_aside() -> Iterator[None]:
    """Send standard output to standard error, that of child processes and C code too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _strict_json(value: Any) -> str:
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


cli.add_command(storage)


def main() -> None:
    """The ``flowcore`` command."""
    import signal

    # A service manager's SIGTERM means what Ctrl-C means: cancel the run, clean up, end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cli(prog_name="flowcore")


if __name__ == "__main__":
    main()
