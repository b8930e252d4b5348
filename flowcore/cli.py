"""The command line: run a pipeline of a file, look at recorded runs, draw a graph. It only calls the library.

Exit status: 0 success; 1 a run that failed or was canceled; 2 bad usage, or refused before anything ran. Heavy imports wait until
a command needs them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from flowcore import __version__
from flowcore.cli_runs import SUCCESS, UNSUCCESSFUL, Ended, Refused, json_option, records_option, run_to_json, runs, strict_json
from flowcore.storage_check import storage

if TYPE_CHECKING:
    from flowcore.executor import Executor
    from flowcore.graph import Pipeline, Port
    from flowcore.interrupts import Interrupts
    from flowcore.progress import Progress
    from flowcore.runner import Driver
    from flowcore.runs import Run

LOCAL_MODES = {"local": "threads", "inline": "inline", "threads": "threads", "processes": "processes"}


class _Commands(click.Group):
    """Turns our errors into one message on stderr and an exit status; no traceback of ours is the user's business."""

    def invoke(self, ctx: click.Context) -> Any:
        from flowcore.errors import FlowcoreError, RunCanceled, RunFailed

        try:
            return super().invoke(ctx)
        except (RunFailed, RunCanceled) as error:
            raise Ended(str(error)) from error
        except FlowcoreError as error:
            raise Refused(str(error)) from error
        except KeyboardInterrupt:
            click.echo("canceled", err=True)
            ctx.exit(UNSUCCESSFUL)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="flowcore")
def cli() -> None:
    """Run flowcore pipelines and look at their runs."""


# Each group of commands has a module of its own.
cli.add_command(runs)
cli.add_command(storage)


@cli.command()
@click.argument("target", metavar="FILE[:PIPELINE]")
@click.option("--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="An argument, parsed by its type; repeatable.")
@records_option
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
@json_option
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

    PIPELINE is the variable's or the pipeline's own name; it may be left out where the file has one. Ctrl-C cancels the run, a
    second one stops it at once.
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
            with client.interrupts():
                client.run(
                    pipeline, values, executor=chosen, on_failure=on_failure, raise_on_failure=False, name=name,
                    progress=not as_json,
                )  # fmt: skip
        except KeyboardInterrupt:
            canceled = True
        except FlowcoreError as error:
            # Before the run began it is a refusal; after that it is how the run ended.
            raise (Refused if client.watched is None else Ended)(str(error)) from error
    ended: Run | None = client.watched
    if as_json and ended is not None:
        click.echo(strict_json(run_to_json(ended)))
    if canceled:
        click.echo("canceled" if ended is None else f"canceled; run {ended.run_id} was stopped", err=as_json)
    ctx.exit(SUCCESS if not canceled and ended is not None and ended.state == "SUCCEEDED" else UNSUCCESSFUL)


def _watched_client(records: str | None, pipeline_root: str | None) -> Any:
    """A client that keeps the run that it began, for when ``run`` raises or must be stopped."""
    from flowcore.client import DEFAULT, Client

    class WatchedClient(Client):
        watched: Run | None = None
        progress: Progress | None = None

        @contextlib.contextmanager
        def _shown(self, run: Run, driver: Driver, *, show: bool) -> Iterator[None]:
            from flowcore.progress import Progress

            self.watched = run
            if not show:
                yield
                return
            with Progress(run, live=not driver.on_callers_thread) as self.progress:
                yield
            self.progress.summarize()

        def interrupts(self) -> Interrupts:
            from flowcore.interrupts import Interrupts

            return Interrupts(self._say, self._give_up)

        def _say(self, message: str) -> None:
            if self.progress is None or not self.progress.say(message):
                click.echo(message, err=True)

        def _give_up(self) -> None:
            """The driver's thread does not come back: write the run's end in its place."""
            if self.watched is not None:
                self.watched._abandon("the process was stopped at once")

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


def main() -> None:
    """The ``flowcore`` command."""
    import signal

    # A service manager's SIGTERM means what Ctrl-C means: cancel the run, clean up, end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli(prog_name="flowcore")
    except SystemExit as end:
        from flowcore.interrupts import Interrupts, leave

        if Interrupts.pressed:
            # Bodies that go on, and threads that they left behind, do not hold up the end that was asked for.
            leave(end.code if isinstance(end.code, int) else UNSUCCESSFUL)
        raise


if __name__ == "__main__":
    main()
