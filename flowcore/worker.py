"""Runs one work order, wherever that is: decodes and stages its inputs, calls the function, checks, seals and tells.

``python -m flowcore.worker FD FD FD FD`` is a worker process of the local executor: see ``flowcore.serving``.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
import traceback
from bdb import BdbQuit
from collections.abc import Callable
from contextlib import nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flowcore.capture import SINK, Sink
from flowcore.code import load_function
from flowcore.errors import ArtifactError, FlowcoreError, ValueEncodingError
from flowcore.executor import Event, Outcome, Output, Reported, Started, Status, TaskError, WorkOrder
from flowcore.graph import NO_SETTINGS, ArtifactType, CodeRef, Component, Port, PythonFunction
from flowcore.values import decoder, encoder, from_text, to_text

if TYPE_CHECKING:
    from flowcore.artifacts.store import ArtifactStore, Execution
    from flowcore.artifacts.types import Artifact, ArtifactRef
    from flowcore.masking import Masks
    from flowcore.surroundings import Baseline, Sources

#: Up to Python 3.11 an enum's attribute costs as much as a call.
_SUCCEEDED = Status.SUCCEEDED

TEXT_LIMIT_BYTES = 64 * 1024 * 1024


class TaskContext(Sink):
    """A running body's place: where its text goes, and what it can ask of its worker."""

    __slots__ = ("order", "report")

    def __init__(self, order: WorkOrder, report: Callable[[Event], None], *, passthrough: bool) -> None:
        self._partial = None
        self.passthrough = passthrough
        self.order = order
        self.report = report

    def _pass_on(self, stream: str, text: str) -> None:
        self.report(Output(self.order.attempt_id, stream, text))


def current_task() -> TaskContext | None:
    """The task whose body runs in this context; None outside of one."""
    sink = SINK.get()
    return sink if isinstance(sink, TaskContext) else None


class Stores:
    """What one worker keeps between its orders: the artifact stores that it has open, by root, and the functions it has found.

    What they keep in files meanwhile lies below ``private_dir``, which whoever started the worker removes: it may be killed.
    """

    def __init__(self, private_dir: str | None = None, sources: Sources | None = None) -> None:
        #: Where the secrets, config maps and volumes of orders come from.
        self.sources = sources
        #: Set in a process of the worker's own, which comes back to it after each body.
        self.baseline: Baseline | None = None
        #: Masks the secrets of the order that ran last; None where it had none.
        self.masks: Masks | None = None
        self._private_dir = private_dir
        self._made: str | None = None
        #: Threads share one of these: two that want a root at once must not open it twice.
        self._lock = threading.Lock()
        self._open: dict[str, ArtifactStore] = {}
        self._functions: dict[CodeRef, Callable[..., Any]] = {}

    def function(self, order: WorkOrder) -> Callable[..., Any]:
        """The function of an order: the one that it carries, else the one that its code names.

        Raises:
            CodeError: it is not there, or other code than the driver's.
        """
        if order.function is not None:
            return order.function
        code = order.code
        assert code is not None
        function = self._functions.get(code)
        if function is None:
            store = self.get(order) if code.blob else None
            with nullcontext() if self.baseline is None else self.baseline.importing():
                function = self._functions[code] = load_function(code, store)
        return function

    def get(self, order: WorkOrder) -> ArtifactStore:
        """The store of the order's pipeline_root."""
        from flowcore.artifacts.store import ArtifactStore

        root = order.pipeline_root
        assert root is not None
        with self._lock:
            store = self._open.get(root)
            if store is None:
                store = self._open[root] = ArtifactStore(
                    root, order.storage_options, cache_dir=order.fetch_cache, cache_bytes=order.fetch_cache_bytes,
                    private_dir=self._private_dir,
                )  # fmt: skip
        return store

    def private_dir(self) -> str:
        """A directory for worker processes, which goes with ``close``."""
        import tempfile

        with self._lock:
            if self._made is None:
                self._made = tempfile.mkdtemp(prefix="flowcore-workers-")
            return self._made

    def close(self) -> None:
        for store in self._open.values():
            store.close()
        self._open.clear()
        if self._made is not None:
            from flowcore.artifacts.local_files import remove_tree

            remove_tree(self._made)
            self._made = None


class _CallPlan:
    """How a component's function is called; derived once a component."""

    __slots__ = (
        "artifact_inputs", "artifact_outputs", "path_outputs", "plain",
        "returned", "returns", "seals", "text_inputs", "text_outputs", "values",
    )  # fmt: skip

    def __init__(self, component: Component) -> None:
        implementation = component.implementation
        assert isinstance(implementation, PythonFunction)
        self.returns = implementation.returns
        self.values = [
            (port.name, decoder(port.type), f"component {component.name!r}, input {port.name!r}")
            for port in component.inputs
            if not isinstance(port.type, ArtifactType)
        ]
        #: Parameters that the body reads as files: InputPath(str) and the like.
        self.text_inputs = [port for port in component.inputs if port.style == "path" and not port.is_artifact]
        self.artifact_inputs = [port for port in component.inputs if port.is_artifact]
        self.artifact_outputs = [port for port in component.outputs if port.is_artifact]
        self.text_outputs = [port for port in component.outputs if port.style == "path" and not port.is_artifact]
        #: Artifacts that the body gets as a path: OutputPath("Dataset").
        self.path_outputs = [port.name for port in self.artifact_outputs if port.style == "path"]
        self.returned = [
            (port, encoder(port.type), f"component {component.name!r}, output {port.name!r}")
            for port in component.outputs
            if port.style == "return" and not isinstance(port.type, ArtifactType)
        ]
        self.seals = bool(self.artifact_outputs)
        self.plain = not (self.artifact_inputs or self.artifact_outputs or self.text_inputs or self.text_outputs)


def _call_plan(component: Component) -> _CallPlan:
    plan: _CallPlan | None = component.__dict__.get("_call_plan")
    if plan is None:
        plan = component.__dict__["_call_plan"] = _CallPlan(component)
    return plan


def run_order(
    order: WorkOrder,
    report: Callable[[Event], None],
    stores: Stores,
    *,
    where: str,
    passthrough: bool = False,
    context: TaskContext | None = None,
) -> Outcome:
    """Run one attempt: reports Started and what the body writes, returns its outcome. The caller reports Finished.

    Only KeyboardInterrupt leaves this function; every other exception of the body or of sealing is a failed outcome.
    ``context`` is given for a body whose surroundings are there.
    """
    if context is None and order.settings is not NO_SETTINGS and order.settings.needs_process:
        from flowcore.surrounded import run_surrounded

        return run_surrounded(order, report, stores, where=where, passthrough=passthrough)
    started_at = time.time()
    execution: Execution | None = None
    function = order.function
    try:
        component = order.component
        plan: _CallPlan = component.__dict__.get("_call_plan") or _call_plan(component)
        if function is None:
            function = stores.function(order)
        arguments = order.arguments
        call: dict[str, Any] = {}
        #: Inputs given as paths: what they fetched stays as long as they are there.
        opened: list[Artifact] = []
        for name, decode, port_where in plan.values:
            call[name] = decode(arguments[name], port_where)
        seals = plan.seals or order.seal_always
        if seals or not plan.plain:
            scratch = seals or bool(plan.text_inputs or plan.text_outputs)
            execution = _stage(order, plan, call, stores, opened, scratch=scratch)
        report(Started(order.attempt_id, where, execution.name if execution is not None else None))
        paths = {name: call[name].path for name in plan.path_outputs} if plan.path_outputs else None
        if context is None:
            context = TaskContext(order, report, passthrough=passthrough)
        token = SINK.set(context)
        try:
            returned = function(**(call | paths if paths else call))
            if hasattr(returned, "__await__"):
                returned = _await(returned)
        finally:
            SINK.reset(token)
            context.flush()
        outcome = Outcome(_SUCCEEDED, _parameters(order, plan, returned, call), {}, None, None, started_at)
        if execution is not None and seals:
            _seal(order, plan, call, execution, outcome)
        elif execution is not None:
            execution.discard()
        outcome.finished_at = time.time()
        return outcome
    except KeyboardInterrupt:
        if execution is not None:
            execution.discard()
        raise
    except BaseException as error:  # noqa: BLE001  a body may raise anything, SystemExit included: it is a result
        if execution is not None:
            execution.discard()
        return Outcome(Status.FAILED, error=task_error(error, function), started_at=started_at, finished_at=time.time())


def waited_for(returned: Any) -> Any:
    """What a body returned, an async body's own return value."""
    return _await(returned) if hasattr(returned, "__await__") else returned


def _await(awaitable: Any) -> Any:
    """Run an async body on a loop of its own, in a thread of its own where this thread already runs a loop."""
    import asyncio

    async def main() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(main())
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, thread_name_prefix="flowcore-async") as pool:
        return pool.submit(contextvars.copy_context().run, asyncio.run, main()).result()


def _stage(
    order: WorkOrder, plan: _CallPlan, call: dict[str, Any], stores: Stores, opened: list[Artifact], *, scratch: bool
) -> Execution | None:
    store = stores.get(order)
    for port in plan.artifact_inputs:
        call[port.name] = _input(store, port, order.artifacts.get(port.name), opened)
    if not scratch:
        return None
    assert order.output_uri is not None
    execution = store.begin(order.output_uri)
    for port in plan.artifact_outputs:
        assert isinstance(port.type, ArtifactType)
        artifact = execution.output(port.name, port.type.schema_title)
        call[port.name] = artifact
    for port in plan.text_inputs:
        path = execution.scratch_path(port.name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(to_text(call[port.name]))
        call[port.name] = path
    for port in plan.text_outputs:
        call[port.name] = execution.scratch_path(port.name)
    return execution


def _input(store: ArtifactStore, port: Port, refs: ArtifactRef | list[ArtifactRef] | None, opened: list[Artifact]) -> Any:
    if refs is None:
        return None
    found = [store.open_input(ref) for ref in (refs if isinstance(refs, list) else [refs])]
    if port.style == "path":
        opened += found
        paths = [artifact.path for artifact in found]
        return paths if isinstance(refs, list) else paths[0]
    return found if isinstance(refs, list) else found[0]


def _parameters(order: WorkOrder, plan: _CallPlan, returned: Any, call: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    name = order.component.name
    if plan.returns == "single":
        for port, encode_output, where in plan.returned:
            values[port.name] = encode_output(returned, where)
    elif plan.returns == "namedtuple":
        fields = _fields(name, plan, returned)
        for port, encode_output, where in plan.returned:
            values[port.name] = encode_output(fields[port.name], where)
    elif returned is not None:
        raise ValueEncodingError(
            f"component {name!r}", f"a returned {type(returned).__name__}", "no return value", "annotate the return type: -> ..."
        )
    for port in plan.text_outputs:
        values[port.name] = _text_output(name, port, call[port.name])
    return values


def _fields(component: str, plan: _CallPlan, returned: Any) -> Any:
    """What a body returned for its NamedTuple, by name: the tuple itself, a dict, or a plain tuple of the same length."""
    names = [port.name for port, *_ in plan.returned]
    if isinstance(returned, dict) and set(names) <= set(returned):
        return returned
    if isinstance(returned, tuple) and all(hasattr(returned, name) for name in names):
        return {name: getattr(returned, name) for name in names}
    if isinstance(returned, tuple | list) and len(returned) == len(names):
        return dict(zip(names, returned, strict=True))
    found = f"a {type(returned).__name__}"
    if isinstance(returned, tuple | list):
        found = f"{found} of {len(returned)} values"
    wanted = f"the annotated NamedTuple ({', '.join(names)})"
    raise ValueEncodingError(f"component {component!r}, its return value", found, wanted, "return one value for each name")


def _text_output(component: str, port: Port, path: str) -> Any:
    assert not isinstance(port.type, ArtifactType)
    where = f"component {component!r}, output {port.name!r}"
    remedy = f"for files declare it OutputPath('Dataset') or Output[Dataset] instead of OutputPath({port.type})"
    try:
        size = os.path.getsize(path)
    except OSError:
        if port.type.optional:
            return None
        missing = "no file at its path"
        raise ValueEncodingError(where, missing, str(port.type), "write the value to the path, or return it") from None
    if size > TEXT_LIMIT_BYTES:
        raise ValueEncodingError(where, f"a file of {size} bytes", f"the text of a {port.type}", remedy)
    with open(path, "rb") as file:
        data = file.read()
    try:
        text = data.decode()
        if "\x00" in text:
            raise UnicodeError
    except UnicodeError:
        raise ValueEncodingError(where, "a binary file", f"the text of a {port.type}", remedy) from None
    return from_text(text, port.type, where)


def _seal(order: WorkOrder, plan: _CallPlan, call: dict[str, Any], execution: Execution, outcome: Outcome) -> None:
    for port in plan.artifact_outputs:
        artifact: Artifact = call[port.name]
        try:
            outcome.artifacts[port.name] = execution.seal_artifact(artifact)
        except ArtifactError as error:
            raise ArtifactError(f"component {order.component.name!r}, output {port.name!r}: {error}") from error
    outcome.execution = execution.name
    outcome.finished_at = time.time()
    execution.seal(outcome.to_json())


def task_error(error: BaseException, function: Callable[..., Any] | None = None) -> TaskError:
    """An exception as text, its traceback from the author's first line on; causes and notes included.

    Where no line of the author's took part, such as in checking what ``function`` returned, the text says where that is.
    """
    kind = type(error)
    plain = kind.__module__ in ("builtins", "flowcore.errors")
    name = kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"
    trace = _authors_part(error.__traceback__)
    # An exception whose text cannot be had is still a result: what its own code raises must not replace it.
    try:
        message = str(error)
    except BaseException:  # noqa: BLE001
        message = f"<{name} whose text cannot be had>"
    if kind is BdbQuit:
        message = "the debugger was left; breakpoint() works with LocalExecutor(mode='inline')"
    if isinstance(error, FlowcoreError) and function is not None and not _has_authors_line(trace):
        code = inspect.unwrap(function).__code__
        text = f'  File "{code.co_filename}", line {code.co_firstlineno}, in {code.co_name}\n{name}: {message}\n'
        return TaskError(name, message, text, error.with_traceback(None))
    try:
        text = "".join(traceback.TracebackException(kind, error, trace, compact=True).format())
    except BaseException:  # noqa: BLE001
        text = "".join([*traceback.format_tb(trace), f"{name}: {message}\n"])
    return TaskError(name, message, text, error.with_traceback(trace))


#: The files whose frames lie between a worker and its body.
_OURS = {__file__, os.path.join(os.path.dirname(__file__), "surrounded.py")}


def _authors_part(trace: TracebackType | None) -> TracebackType | None:
    found = trace
    while found is not None and found.tb_frame.f_code.co_filename in _OURS:
        found = found.tb_next
    return found if found is not None else trace


def _has_authors_line(trace: TracebackType | None) -> bool:
    package = os.path.dirname(__file__) + os.sep
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]
    return any(not os.path.abspath(name).startswith(package) for name in frames)


def report_value(step: int, value: float, name: str) -> None:
    """Report a value of the running body; outside a task it does nothing, so that bodies can be called by hand."""
    context = current_task()
    if context is not None:
        context.report(Reported(context.order.attempt_id, name, int(step), float(value)))


def main(arguments: list[str]) -> None:
    """Serve orders; the arguments are the file descriptors that ``flowcore.serving.serve`` wants."""
    from flowcore.serving import serve

    serve(*map(int, arguments))


if __name__ == "__main__":
    # Not this copy of the module: bodies find their task through the context variable of the one that they import.
    from flowcore.worker import main as serve

    serve(sys.argv[1:])
