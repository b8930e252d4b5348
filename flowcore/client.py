"""Where runs begin: a client knows a record, a pipeline_root and an executor; ``flowcore.run`` uses a default one."""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from flowcore.artifacts.store import ArtifactStore
from flowcore.code import check_not_importing
from flowcore.driving import Drive, undisturbed
from flowcore.errors import ArgumentError, AuthoringError, RecordError, UsageError
from flowcore.executor import Executor
from flowcore.graph import ArtifactType, Pipeline
from flowcore.graph.checks import check_pipeline
from flowcore.graph.walk import leaf_components
from flowcore.limits import Limits, check_limits
from flowcore.records import Records, RunRow
from flowcore.run_state import RunStatus
from flowcore.runner import Driver, check_runnable, new_run_id, outputs_to_json
from flowcore.runs import Run, RunList
from flowcore.values import encode

if TYPE_CHECKING:
    import asyncio

    from flowcore.dsl.component import ComponentFunction
    from flowcore.dsl.pipeline import PipelineFunction

    Runnable = Pipeline | PipelineFunction[Any, Any] | ComponentFunction[Any, Any]

DEFAULT_RECORDS = os.path.join(".flowcore", "runs.db")
DEFAULT_ROOT = os.path.join(".flowcore", "artifacts")
OnFailure = Literal["continue", "stop"]


class _Default:
    def __repr__(self) -> str:
        return "default"


DEFAULT: Any = _Default()


class Client:
    """Runs pipelines and reads the record of their runs.

    Args:
        records: the record file, ``sqlite:///runs.db`` or a path; None keeps the record in memory, for as long as each run's
            object. Default: ``FLOWCORE_RECORDS``, else ``.flowcore/runs.db`` of the working directory.
        pipeline_root: where artifacts go, a folder or any fsspec URL. Default: the pipeline's own, ``FLOWCORE_PIPELINE_ROOT``,
            else ``.flowcore/artifacts``.
        storage_options: fsspec's options of pipeline_root. Secrets in them may be references, ``{"env": NAME}`` or
            ``{"file": PATH}``, resolved wherever a file system is opened, so that their values travel in no order.
        executor: where tasks run; default ``LocalExecutor()``, threads.
        fetch_cache: a folder that keeps what is fetched from a remote pipeline_root, for all runs and processes that name it.
            Default: a temporary one for each run.
        fetch_cache_bytes: its bound, for either; what was used longest ago goes first, but nothing that a running task has
            open. Default: 10 GiB.
        limits: how many tasks that name one with ``task.set_limit(name)`` run at once, over all runs of this client, in whichever
            threads; who waits longest comes first. Two clients share none.
        synchronous: "full" keeps what was recorded also when the machine loses its power, and is slower; "normal" keeps it when
            the process dies.
    """

    def __init__(
        self,
        records: str | os.PathLike[str] | None = DEFAULT,
        pipeline_root: str | os.PathLike[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        executor: Executor | None = None,
        *,
        fetch_cache: str | os.PathLike[str] | None = None,
        fetch_cache_bytes: int | None = None,
        limits: Mapping[str, int] | None = None,
        synchronous: Literal["normal", "full"] = "normal",
    ) -> None:
        if records is DEFAULT:
            records = os.environ.get("FLOWCORE_RECORDS") or DEFAULT_RECORDS
        self.records = None if records is None else os.fspath(records)
        self.pipeline_root = None if pipeline_root is None else os.fspath(pipeline_root)
        self.storage_options = dict(storage_options or {})
        self.executor = executor
        self.fetch_cache = None if fetch_cache is None else os.fspath(fetch_cache)
        self.fetch_cache_bytes = fetch_cache_bytes
        self._limits = Limits(limits)
        if synchronous not in ("normal", "full"):
            raise UsageError(f"synchronous={synchronous!r}: 'normal' or 'full'")
        self._synchronous = synchronous

    def _store(self, root: str) -> ArtifactStore:
        return ArtifactStore(root, self.storage_options, cache_dir=self.fetch_cache, cache_bytes=self.fetch_cache_bytes)

    def run(
        self,
        pipeline: Runnable,
        arguments: Mapping[str, Any] | None = None,
        *,
        executor: Executor | None = None,
        pipeline_root: str | os.PathLike[str] | None = None,
        on_failure: OnFailure = "continue",
        raise_on_failure: bool = True,
        name: str | None = None,
        progress: bool = False,
    ) -> Run:
        """Run a pipeline and wait for its end.

        Args:
            arguments: values of its inputs; others take their defaults.
            on_failure: after a task failed, "continue" with what does not depend on it, or "stop" the rest.
            raise_on_failure: False gives the failed run instead of raising.
            progress: show what happens while it runs, and a summary at the end.

        Raises:
            RunFailed: a task failed; carries its own exception's type, message and traceback.
            RunCanceled: somebody canceled it.
            ArgumentError, UsageError, StorageError, RecordError, CodeError: refused before any task ran.
        """
        drive = Drive(lambda: self._prepare(pipeline, arguments, executor, pipeline_root, on_failure, name))
        try:
            run = drive.prepare()
            with self._shown(run, drive.driver, show=progress):
                drive.wait()
        except KeyboardInterrupt:
            drive.abandon()
            raise
        if raise_on_failure or run._error is not None:
            run.raise_for_state()
        return run

    def submit(
        self,
        pipeline: Runnable,
        arguments: Mapping[str, Any] | None = None,
        *,
        executor: Executor | None = None,
        pipeline_root: str | os.PathLike[str] | None = None,
        on_failure: OnFailure = "continue",
        name: str | None = None,
    ) -> Run:
        """Start a pipeline and return at once; its driver's thread ends with the run. ``run.result()`` waits.

        Raises:
            ArgumentError, UsageError, StorageError, RecordError, CodeError: refused before any task ran.
        """
        drive = Drive(lambda: self._prepare(pipeline, arguments, executor, pipeline_root, on_failure, name))
        run = drive.prepare()
        run._aside = drive.start()
        return run

    async def arun(
        self,
        pipeline: Runnable,
        arguments: Mapping[str, Any] | None = None,
        *,
        executor: Executor | None = None,
        pipeline_root: str | os.PathLike[str] | None = None,
        on_failure: OnFailure = "continue",
        raise_on_failure: bool = True,
        name: str | None = None,
    ) -> Run:
        """``run`` for a running event loop, which goes on meanwhile. Canceling it cancels the run and waits for its end.

        Raises:
            As ``run``; asyncio.CancelledError.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        # Prepared aside too: a busy record or a slow store would hold the loop up.
        drive = Drive(lambda: self._prepare(pipeline, arguments, executor, pipeline_root, on_failure, name))
        aside = drive.start(lambda: loop.call_soon_threadsafe(ended.set))
        canceled: asyncio.CancelledError | None = None
        while not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError as error:
                canceled = error
                drive.cancel()
        aside.wait()
        if canceled is not None:
            raise canceled
        if aside.error is not None:
            raise aside.error
        run = drive.run
        if raise_on_failure or run._error is not None:
            run.raise_for_state()
        return run

    def get_run(self, run_id: str) -> Run:
        """A recorded run.

        Raises:
            RecordError: there is no such run, or no record.
        """
        records = self._existing_records()
        row = records.run(run_id)
        pipeline = Pipeline.from_json(records.pipeline_json(row.pipeline_hash))
        store = self._store(row.pipeline_root or DEFAULT_ROOT)
        return Run(run_id, pipeline, records, store)

    def list_runs(self, limit: int = 100) -> RunList:
        """The recorded runs, newest first.

        Raises:
            RecordError: there is no record.
        """
        records = self._existing_records()
        return RunList(records.runs(limit))

    def _existing_records(self) -> Records:
        if self.records is None:
            raise UsageError("this client keeps no record (records=None); name a file")
        records = Records(self.records, create=False)
        records.end_writing()
        return records

    def _prepare(
        self,
        pipeline: Runnable,
        arguments: Mapping[str, Any] | None,
        executor: Executor | None,
        pipeline_root: str | os.PathLike[str] | None,
        on_failure: str,
        name: str | None,
    ) -> tuple[Run, Driver]:
        check_not_importing()
        graph = as_pipeline(pipeline)
        if on_failure not in ("continue", "stop"):
            raise UsageError(f"on_failure={on_failure!r}: 'continue' or 'stop'")
        values = encode_arguments(graph, arguments or {})
        chosen = self._executor(executor)
        given = pipeline_root if pipeline_root is not None else self.pipeline_root or getattr(pipeline, "pipeline_root", None)
        root = os.fspath(given or os.environ.get("FLOWCORE_PIPELINE_ROOT") or DEFAULT_ROOT)
        check_runnable(graph, chosen, root)
        check_limits(graph, self._limits)
        store = self._store(root)
        if given or not chosen.in_process or any(leaf.touches_files for leaf in leaf_components(graph.root)):
            store.check()
        records = Records(self.records, synchronous=self._synchronous)
        run_id = new_run_id()
        run = Run(run_id, graph, records, store)
        row = RunRow(
            run_id, graph.name, graph.hash, RunStatus.PENDING, outputs_to_json(values), {}, time.time(), None, None, store.root,
            repr(chosen), name,
        )  # fmt: skip
        try:
            # Requests reach the driver, which is made after the recorder that delivers them.
            recorder = records.begin(row, graph.to_json(), on_failure, lambda kind: driver.hear(kind))  # noqa: PLW0108
            stop = on_failure == "stop"
            driver = Driver(
                graph, values, run_id=run_id, executor=chosen, recorder=recorder, store=store, stop_on_failure=stop,
                limits=self._limits,
            )  # fmt: skip
            run._recorder = recorder
            run._cancel = driver.cancel
            driver.prepare()
        except BaseException as error:
            state = RunStatus.CANCELED if isinstance(error, KeyboardInterrupt) else RunStatus.FAILED
            undisturbed(records.end_writing)
            if not isinstance(error, RecordError):
                undisturbed(lambda: records.give_up(run_id, state))
            raise
        return run, driver

    def _executor(self, given: Executor | None) -> Executor:
        chosen = given if given is not None else self.executor
        if chosen is None:
            from flowcore.executors.local import LocalExecutor

            return LocalExecutor()
        if not isinstance(chosen, Executor):
            raise UsageError(f"executor={chosen!r}: wants an Executor, such as LocalExecutor(mode='processes')")
        return copy.copy(chosen)

    @contextlib.contextmanager
    def _shown(self, run: Run, driver: Driver, *, show: bool) -> Iterator[None]:
        if not show:
            yield
            return
        from flowcore.progress import Progress

        # A body on this thread has the terminal to itself: breakpoint() and a live view do not mix.
        with Progress(run, live=not driver.on_callers_thread) as progress:
            yield
        progress.summarize()


def as_pipeline(pipeline: Any) -> Pipeline:
    """The frozen pipeline of what may be run: a Pipeline, or what ``@dsl.pipeline`` or ``@dsl.component`` made.

    Raises:
        UsageError: anything else.
    """
    graph = getattr(pipeline, "pipeline", pipeline)
    if not isinstance(graph, Pipeline):
        hint = "decorate it with @dsl.pipeline" if callable(pipeline) else "pass what @dsl.pipeline made"
        raise UsageError(f"got {pipeline!r} of type {type(pipeline).__name__} as a pipeline; {hint}")
    check_pipeline(graph)
    return graph


def encode_arguments(pipeline: Pipeline, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The encoded values of a pipeline's inputs, defaults included.

    Raises:
        ArgumentError: missing or unknown ones.
        ValueEncodingError, TypeMismatch: one of the wrong type.
    """
    from flowcore.dsl.component import artifact_ref

    where = f"pipeline {pipeline.name!r}"
    if not isinstance(arguments, Mapping):
        raise UsageError(f"{where}: arguments are a dict of names and values, got {type(arguments).__name__}")
    ports = pipeline.root.input_ports
    unknown = [str(name) for name in arguments if name not in ports]
    missing = [name for name, port in ports.items() if name not in arguments and not (port.has_default or port.type.optional)]
    if unknown or missing:
        raise ArgumentError(where, missing=missing, unknown=unknown, known=ports)
    values: dict[str, Any] = {}
    for name, port in ports.items():
        value = arguments.get(name, port.default)
        if name not in arguments:
            values[name] = value
        elif not isinstance(port.type, ArtifactType):
            values[name] = encode(value, port.type, f"{where}, argument {name!r}")
        elif value is None and port.type.optional:
            values[name] = None
        elif port.type.is_list:
            if not isinstance(value, list):
                raise AuthoringError(f"{where}, argument {name!r}: got {type(value).__name__}, wants a list of artifacts")
            values[name] = [artifact_ref(pipeline.name, port, item) for item in value]
        else:
            values[name] = artifact_ref(pipeline.name, port, value)
    return values


