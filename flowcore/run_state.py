"""The state machine of one run: ``handle(event) -> commands``. No IO, no clock, no thread, no log; every decision is made here.

A run is a tree of scopes. A scope is one Dag with its inputs; a loop opens one per item, lazily, at most ``parallelism`` at a
time. Events are facts in the past tense, commands imperatives that the runner carries out in order. Late and duplicate events
change nothing: an attempt is known from its Submit to its end, and never again.

Two budgets: a task's own retries count its failures; ``LOSSES`` counts workers that died with the attempt started. Attempts lost
before they started are free, up to ``UNSTARTED_LOSSES``, so that a run always ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from flowcore.errors import InternalError
from flowcore.executor import Finished, Lost, Started, Status, TaskError, Waiting
from flowcore.graph.bindings import condition_bindings, describe_condition, evaluate
from flowcore.graph.model import Component, Dag
from flowcore.graph.plan import plan_of
from flowcore.run_commands import (
    Ask,
    Cancel,
    CancelRequested,
    Command,
    Commit,
    Fact,
    FinishRun,
    Granted,
    Moved,
    Release,
    SetTimer,
    Submit,
    TimerFired,
)
from flowcore.scopes import EMPTY, Absent, Group, Node, Scope, Unusable, missing_input, output_of, resolve, resolve_settings
from flowcore.states import (
    CANCELED,
    FAILED,
    KFP_STATES,
    MOVES,
    REUSED,
    RUNNING,
    SKIPPED,
    SUBMITTED,
    SUCCEEDED,
    TERMINAL,
    WAITING,
    RunStatus,
    TaskState,
)

__all__ = [
    "KFP_STATES",
    "MOVES",
    "TERMINAL",
    "Ask",
    "Cancel",
    "CancelRequested",
    "Command",
    "Commit",
    "Fact",
    "FinishRun",
    "Granted",
    "Moved",
    "Release",
    "RunState",
    "RunStatus",
    "SetTimer",
    "Submit",
    "TaskState",
    "TimerFired",
]

LOSSES = 3
UNSTARTED_LOSSES = 100
_DONE = Status.SUCCEEDED

#: Which state of a child decides its group's: a failure over a cancellation over success.
_RANK = {SUCCEEDED: 0, REUSED: 0, SKIPPED: 0, CANCELED: 1, FAILED: 2}


class RunState:
    """The state of one run. Call ``start`` once, then ``handle`` for each event; both return commands to carry out in order.

    At most ``open_iterations`` of a loop are open at once, whatever its parallelism: a long loop costs memory for those only.
    """

    def __init__(
        self,
        root: Component,
        inputs: dict[str, Any],
        run_id: str = "run",
        *,
        stop_on_failure: bool = False,
        open_iterations: int = 10_000,
    ) -> None:
        assert isinstance(root.implementation, Dag)
        self._run_id = run_id
        self._window = open_iterations
        self._stop_on_failure = stop_on_failure
        self._root = Scope(None, plan_of(root.implementation), "", dict(inputs))
        self._by_attempt: dict[str, Node] = {}
        self._timers: dict[str, Node] = {}
        #: The permits of limits that were asked for, and those that active attempts hold, by the id of their attempt.
        self._asked: dict[str, Node] = {}
        self._held: set[str] = set()
        self._todo: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._commands: list[Command] = []
        self._failures: dict[str, TaskError] = {}
        self._stopped = self._canceled = False
        self._why_canceled = "its executor canceled it"
        self.finished = False
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Started: self._on_started,
            Finished: self._on_finished,
            Lost: self._on_lost,
            Waiting: self._on_waiting,
            TimerFired: self._on_timer,
            CancelRequested: self._on_cancel_requested,
            Granted: self._on_granted,
        }

    def start(self) -> list[Command]:
        """Open the root scope."""
        self._open(self._root)
        return self._drain()

    def handle(self, event: Fact) -> list[Command]:
        """Take one fact in; the commands that follow from it, in order. After the run's end there are none."""
        if self.finished:
            return []
        self._handlers[type(event)](event)
        if self._todo:
            return self._drain()
        commands, self._commands = self._commands, []
        return commands

    def _drain(self) -> list[Command]:
        # A worklist, not recursion: a chain of a thousand skipped tasks settles in one event.
        todo = self._todo
        while todo:
            step, subject = todo.popleft()
            step(subject)
        commands, self._commands = self._commands, []
        return commands

    # Facts about attempts

    def _on_started(self, event: Started) -> None:
        node = self._by_attempt.get(event.attempt_id)
        if node is None or node.state is not SUBMITTED:
            return
        self._move(node, RUNNING)
        self._commands.append(Moved(node.path, RUNNING, event.attempt_id))
        timeout = node.plan.timeout_seconds
        if timeout is not None:
            self._set_timer(f"timeout:{event.attempt_id}", timeout, node)

    def _on_waiting(self, event: Waiting) -> None:
        """Waiting changes no state; the runner records it."""

    def _on_finished(self, event: Finished) -> None:
        node = self._by_attempt.pop(event.attempt_id, None)
        if node is None:
            return
        if self._held:
            self._release(event.attempt_id)
        outcome = event.outcome
        if outcome.status is _DONE:
            outputs: dict[str, Any] = {**outcome.parameters, **outcome.artifacts} if outcome.artifacts else outcome.parameters
            if len(outputs) < len(node.plan.outputs) and (missing := node.plan.required - outputs.keys()):
                self._failed_attempt(node, TaskError("ValueError", f"task {node.path!r} ended without outputs {sorted(missing)}"))
                return
            self._move(node, SUCCEEDED)
            node.outputs = outputs
            self._commands.append(Commit(node.path, event.attempt_id, outcome))
            self._settle(node)
        elif node.timed_out:
            self._timed_out(node, outlived=event.outlived)
        elif outcome.status is Status.CANCELED or node.canceling:
            outlived = "; its body still runs in this process" if event.outlived else ""
            self._end(node, CANCELED, reason=f"{self._why_canceled}{outlived}")
        else:
            self._failed_attempt(node, outcome.error or TaskError("Exception", "the task failed without an error"))

    def _on_lost(self, event: Lost) -> None:
        node = self._by_attempt.pop(event.attempt_id, None)
        if node is None:
            return
        if self._held:
            self._release(event.attempt_id)
        if node.timed_out:
            self._timed_out(node)
            return
        if node.canceling:
            self._end(node, CANCELED, reason=self._why_canceled)
            return
        if event.started:
            node.losses += 1
        else:
            node.unstarted += 1
        if node.losses > LOSSES or node.unstarted > UNSTARTED_LOSSES:
            count = node.losses if node.losses > LOSSES else node.unstarted
            text = f"task {node.path!r} lost its worker {count} times; the last reason: {event.reason}"
            self._end(node, FAILED, TaskError("InfrastructureLost", text))
            return
        self._again(node, 0.0, event.attempt_id, reason=f"worker lost: {event.reason}")

    def _timed_out(self, node: Node, *, outlived: bool = False) -> None:
        seconds = node.plan.timeout_seconds
        left = "; its body still runs in this process" if outlived else ""
        self._failed_attempt(node, TaskError("TaskTimeout", f"task {node.path!r} ran longer than {seconds:g} s{left}"))

    def _failed_attempt(self, node: Node, error: TaskError) -> None:
        retry = node.plan.task.retry
        node.timed_out = False
        if node.canceling:
            self._end(node, CANCELED, reason=self._why_canceled)
        elif retry is not None and node.failures < retry.limit:
            delay = retry.delay_seconds(node.failures)
            node.failures += 1
            self._again(node, delay, node.attempt_id, error, f"retry {node.failures} of {retry.limit}")
        else:
            self._end(node, FAILED, error)

    def _again(self, node: Node, delay: float, attempt_id: str | None, error: TaskError | None = None, reason: str = "") -> None:
        self._move(node, WAITING)
        self._commands.append(Moved(node.path, WAITING, attempt_id, error, reason))
        if delay > 0:
            self._set_timer(f"retry:{node.path}:{node.attempt}", delay, node)
        else:
            self._todo.append((self._submit, node))

    def _set_timer(self, key: str, seconds: float, node: Node) -> None:
        self._timers[key] = node
        self._commands.append(SetTimer(key, seconds))

    def _on_timer(self, event: TimerFired) -> None:
        node = self._timers.pop(event.key, None)
        if node is None:
            return
        kind, _, rest = event.key.partition(":")
        if kind == "timeout":
            if node.state is RUNNING and node.attempt_id == rest:
                node.timed_out = True
                self._commands.append(Cancel(rest))
        elif node.state is WAITING:
            self._submit(node)

    # Cancellation

    def _on_cancel_requested(self, event: CancelRequested) -> None:
        self._canceled = True
        self._cancel_all("the run was canceled", force=event.force)

    def _cancel_all(self, reason: str, *, force: bool = False) -> None:
        """Cancel everything, what has not begun first: else it could begin in the place of what is being canceled."""
        self._why_canceled = reason
        before = len(self._commands)
        self._cancel_scope(self._root, force=force)
        self._commands[before:] = sorted(self._commands[before:], key=self._is_cancel_of_running)

    def _is_cancel_of_running(self, command: Command) -> bool:
        return isinstance(command, Cancel) and self._by_attempt[command.attempt_id].state is RUNNING

    def _cancel_scope(self, scope: Scope, *, force: bool) -> None:
        for node in scope.nodes:
            if node.state in TERMINAL or (node.plan.task.trigger == "all_done" and not force):
                continue
            self._cancel_node(node, force=force)

    def _cancel_node(self, node: Node, *, force: bool) -> None:
        first, node.canceling = not node.canceling, True
        if node.group is not None:
            for scope in list(node.group.open.values()):
                self._cancel_scope(scope, force=force)
        elif node.state in (SUBMITTED, RUNNING):
            if first or force:
                assert node.attempt_id is not None
                self._commands.append(Cancel(node.attempt_id))
        else:
            key = self._attempt_id(node, node.attempt + 1)
            if self._asked.pop(key, None) is not None:
                self._commands.append(Release(key))
            self._end(node, CANCELED, reason=self._why_canceled)

    # Limits

    def _may_start(self, node: Node, limit: str) -> bool:
        """Whether the next attempt has its permit; it is asked for where that has not been done."""
        key = self._attempt_id(node, node.attempt + 1)
        if key in self._held:
            return True
        if key not in self._asked:
            self._asked[key] = node
            self._commands.append(Ask(key, node.path, limit))
        return False

    def _on_granted(self, event: Granted) -> None:
        node = self._asked.pop(event.key, None)
        if node is not None:
            self._held.add(event.key)
            self._submit(node)

    def _release(self, attempt_id: str) -> None:
        if attempt_id in self._held:
            self._held.remove(attempt_id)
            self._commands.append(Release(attempt_id))

    # Scopes and readiness

    def _open(self, scope: Scope) -> None:
        if not scope.nodes:
            self._close(scope)
        nodes, todo, ready = scope.nodes, self._todo, self._ready
        for place in scope.plan.roots:
            todo.append((ready, nodes[place]))

    def _ready(self, node: Node) -> None:
        if node.state is not WAITING:
            return
        plan = node.plan
        try:
            if plan.needs and plan.task.trigger == "all_succeeded":
                self._check_upstream(node)
            if plan.children is None:
                node.inputs = self._inputs(node)
                self._submit(node)
                return
            if plan.task.condition is not None:
                self._check_condition(node)
            self._open_group(node, self._inputs(node))
        except Absent as absent:
            self._end(node, SKIPPED, reason=str(absent))
        except Unusable as unusable:
            self._end(node, FAILED, TaskError("ValueError", str(unusable)))

    def _check_upstream(self, node: Node) -> None:
        nodes, needs = node.scope.nodes, node.plan.needs
        skipped = False
        for place in needs:  # a failure first: it is passed on to what only comes after this task, a skip is not
            other = nodes[place]
            if other.state is SUCCEEDED:
                continue
            if other.state is FAILED or other.state is CANCELED or other.blamed:
                node.blamed = True
                raise Absent(f"task {other.path!r} did not succeed")
            skipped = skipped or other.state is SKIPPED
        if skipped:
            for place in needs:
                if nodes[place].state is SKIPPED and place in node.plan.certain:
                    raise Absent(f"task {nodes[place].path!r} was skipped")

    def _check_condition(self, node: Node) -> None:
        condition = node.plan.task.condition
        assert condition is not None
        for binding in condition_bindings(condition):
            resolve(binding, node.scope)  # a value that does not exist skips the branch, whatever the others say
        try:
            holds = evaluate(condition, lambda binding: resolve(binding, node.scope))
        except TypeError as error:
            raise Unusable(f"the condition of task {node.path!r} cannot be evaluated: {error}") from error
        if not holds:
            raise Absent(f"its condition is false: {describe_condition(condition)}")

    def _inputs(self, node: Node) -> dict[str, Any]:
        plan, scope = node.plan, node.scope
        inputs = plan.constants.copy()
        for name, source in plan.passed:
            try:
                inputs[name] = scope.inputs[source]
            except KeyError:
                raise missing_input(source) from None
        for name, place, port in plan.linked:
            inputs[name] = output_of(scope.nodes[place], port)
        for name, binding in plan.bound:
            inputs[name] = resolve(binding, scope)
        return inputs

    def _submit(self, node: Node) -> None:
        if node.state is not WAITING:
            return
        settings = None if node.plan.settings is None else resolve_settings(node)
        if node.plan.limit is not None and not self._may_start(node, node.plan.limit):
            return
        self._move(node, SUBMITTED)
        number = node.attempt = node.attempt + 1
        attempt_id = node.attempt_id = f"{self._run_id}/{node.path}#{number}"
        self._by_attempt[attempt_id] = node
        self._commands.append(Submit(attempt_id, node.path, number, node.plan.task, node.inputs, settings))

    def _attempt_id(self, node: Node, number: int) -> str:
        return f"{self._run_id}/{node.path}#{number}"

    def _open_group(self, node: Node, inputs: dict[str, Any]) -> None:
        assert node.plan.children is not None
        group = Group(inputs=inputs)
        loop = node.plan.task.loop
        if loop is None:
            group.results = [None]
            group.open[0] = Scope(node, node.plan.children, f"{node.path}/", inputs)
            node.group = group
            self._start_group(node)
            self._open(group.open[0])
            return
        items = resolve(loop.items, node.scope)
        if not isinstance(items, list):
            raise Unusable(f"loop {node.path!r}: got {type(items).__name__} for its items, wants a list")
        group.items = items
        group.results = [None] * len(items)
        node.group = group
        self._start_group(node)
        if not items:
            self._todo.append((self._close_group, node))
        for _ in range(min(loop.parallelism or self._window, self._window, len(items))):
            self._open_iteration(node, group, loop.item_input)

    def _start_group(self, node: Node) -> None:
        self._move(node, RUNNING)
        self._commands.append(Moved(node.path, RUNNING))

    def _open_iteration(self, node: Node, group: Group, item_input: str) -> None:
        assert group.items is not None
        assert node.plan.children is not None
        index, group.next_item = group.next_item, group.next_item + 1
        inputs = group.inputs.copy()
        inputs[item_input] = group.items[index]
        scope = group.open[index] = Scope(node, node.plan.children, f"{node.path}.{index}/", inputs, index)
        self._open(scope)

    # Ends

    def _end(self, node: Node, state: TaskState, error: TaskError | None = None, reason: str | None = None) -> None:
        self._move(node, state)
        path = node.path
        if state is FAILED and error is not None:
            self._failures[path] = error
        self._commands.append(Moved(path, state, node.attempt_id, error, reason))
        self._todo.append((self._settle, node))
        if state is FAILED and self._stop_on_failure and not self._stopped:
            self._stopped = True
            self._cancel_all(f"the run stops, since task {path!r} failed")

    def _settle(self, node: Node) -> None:
        """A terminal node: wake what waits for it, count it in its scope."""
        scope = node.scope
        if node.state is not SUCCEEDED and _RANK[node.state] > _RANK[scope.worst]:
            scope.worst = node.state
        for place in node.plan.dependents:
            dependent = scope.nodes[place]
            dependent.waiting -= 1
            if dependent.waiting == 0:
                self._todo.append((self._ready, dependent))
        scope.unsettled -= 1
        if scope.unsettled == 0:
            self._close(scope)

    def _close(self, scope: Scope) -> None:
        outputs: dict[str, Any] = {} if scope.plan.outputs else EMPTY
        for name, binding in scope.plan.outputs:
            try:
                outputs[name] = resolve(binding, scope)
            except (Absent, Unusable):
                continue
        node = scope.owner
        if node is None:
            self._finish(scope.worst, outputs)
            return
        group = node.group
        assert group is not None
        del group.open[scope.index]
        scope.nodes.clear()  # else a cycle of references, which waits for the garbage collector
        group.results[scope.index] = outputs
        if scope.worst is not SUCCEEDED and _RANK[scope.worst] > _RANK[group.worst]:
            group.worst = scope.worst
        loop = node.plan.loop
        if loop is not None and group.items is not None and group.next_item < len(group.items) and not node.canceling:
            self._open_iteration(node, group, loop.item_input)
        elif not group.open:
            self._close_group(node)

    def _close_group(self, node: Node) -> None:
        group = node.group
        assert group is not None
        if node.state in TERMINAL:
            return
        if group.items is None:
            node.outputs = group.results[0] or EMPTY
            state = group.worst
        else:
            done = [result for result in group.results if result is not None]
            names = [name for name, _ in node.plan.outputs]
            node.outputs = {name: [result[name] for result in done if name in result] for name in names}
            state = max(group.worst, CANCELED, key=_RANK.__getitem__) if len(done) < len(group.items) else group.worst
        node.group = None
        self._move(node, state)
        self._commands.append(Moved(node.path, state, outputs=node.outputs))
        self._todo.append((self._settle, node))

    def _finish(self, worst: TaskState, outputs: dict[str, Any]) -> None:
        if worst is CANCELED and not self._canceled:
            worst = FAILED
        status = RunStatus.CANCELED if self._canceled and worst is not SUCCEEDED else RunStatus(worst.value)
        self.finished = True
        self._commands.append(FinishRun(status, outputs, self._failures))

    def _move(self, node: Node, state: TaskState) -> None:
        if state not in MOVES[node.state]:
            story = f"attempt {node.attempt}, {node.failures} failures, {node.losses} losses"
            raise InternalError(f"task {node.path!r} cannot go from {node.state} to {state} ({story})")
        node.state = state

    # Looking

    def nodes(self) -> Iterator[Node]:
        """Every node of every open scope, outer ones first."""
        todo = [self._root]
        while todo:
            scope = todo.pop()
            for node in scope.nodes:
                yield node
                if node.group is not None:
                    todo.extend(node.group.open.values())

    def check(self) -> None:
        """Raise InternalError where the bookkeeping contradicts itself; tests call it after each event."""
        active = {node.attempt_id for node in self.nodes() if node.state in (SUBMITTED, RUNNING) and node.group is None}
        leaves = {node.attempt_id for node in self._by_attempt.values()}
        if active != leaves:
            raise InternalError(f"attempts known {sorted(map(str, leaves))} are not those active {sorted(map(str, active))}")
        held = {node.attempt_id for node in self._by_attempt.values() if node.plan.limit is not None}
        if held != self._held:
            raise InternalError(f"permits held {sorted(self._held)} are not those of active attempts {sorted(map(str, held))}")
        for node in self.nodes():
            unsettled = sum(child.state not in TERMINAL for child in node.scope.nodes)
            if node.scope.unsettled != unsettled:
                raise InternalError(f"scope {node.scope.prefix!r} counts {node.scope.unsettled} unsettled tasks, has {unsettled}")
            loop = node.plan.task.loop
            if node.group is not None and loop is not None and loop.parallelism and len(node.group.open) > loop.parallelism:
                raise InternalError(f"loop {node.path!r} has {len(node.group.open)} iterations open, may have {loop.parallelism}")
