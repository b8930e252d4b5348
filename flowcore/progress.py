"""What a person sees of a run while it goes on: a live tree on a terminal, plain lines elsewhere.

It reads the record's events in a thread of its own and can neither stop nor fail the run. Rich is loaded on first use.
"""

from __future__ import annotations

import math
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flowcore.errors import FlowcoreError
from flowcore.graph import Dag, Task
from flowcore.graph.bindings import Binding, Constant, ListOf, ScopeInput, TaskOutput
from flowcore.graph.walk import task_at
from flowcore.records import RunEvent
from flowcore.report import FOLDED_FROM, Row, duration, first_line, iterations, mark_of, number, write
from flowcore.run_state import TaskState

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flowcore.runs import Run

REFRESH_SECONDS = 0.1
_INDEX = re.compile(r"\.\d+/")
_ENDED = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.SKIPPED, TaskState.REUSED, TaskState.CANCELED})


@dataclass(slots=True)
class _Seen:
    """A task as its events tell it; times are UTC seconds since 1970."""

    state: str = "WAITING"
    started_at: float | None = None
    ended_at: float | None = None
    note: str = ""

    def seconds(self, now: float | None = None) -> float | None:
        end = self.ended_at if self.ended_at is not None else now
        return None if self.started_at is None or end is None else end - self.started_at


@dataclass(slots=True)
class _Loop:
    """The iterations of one loop; one is done when every task of its body has ended."""

    body: int
    total: int | None
    begun: set[int] = field(default_factory=set)
    #: How many bodies run now, by iteration.
    active: dict[int, int] = field(default_factory=dict)
    ended: dict[int, int] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    done: int = 0
    told: int = 0

    @property
    def folds(self) -> bool:
        return max(self.total or 0, len(self.begun)) > FOLDED_FROM

    def take(self, index: int, state: str, bodies: int, *, own: bool) -> None:
        """A task in iteration ``index`` came to a state; ``bodies`` more run now than before."""
        self.begun.add(index)
        if bodies:
            active = self.active.get(index, 0) + bodies
            if active:
                self.active[index] = active
            else:
                del self.active[index]
        if state == "FAILED":
            self.failed.add(index)
        if own and state in _ENDED:
            self.ended[index] = self.ended.get(index, 0) + 1
            self.done += self.ended[index] == self.body

    def counts(self) -> str:
        parts = [f"{self.done}/{self.total} done" if self.total is not None else f"{self.done} done"]
        if self.active:
            parts.append(f"{len(self.active)} running")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        return ", ".join(parts)


class _Board:
    """The state of a run as its events have told it so far."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.state = "PENDING"
        self.tasks: dict[str, _Seen] = {}
        self.loops: dict[str, _Loop] = {}
        self._leaves: dict[str, bool] = {}

    def take(self, event: RunEvent) -> None:
        if event.kind == "run":
            self.state = event.data["state"]
            return
        seen = self.tasks.setdefault(event.task, _Seen())
        if event.kind == "waiting":
            seen.note = f"waits: {event.data['reason']}"
        elif event.kind == "reported":
            seen.note = f"{event.data['name']} {number(event.data['value'])} at step {event.data['step']}"
        elif event.kind == "task":
            state = event.data["state"]
            bodies = (state == "RUNNING") - (seen.state == "RUNNING") if self._is_leaf(event.task) else 0
            seen.state = state
            if state == "RUNNING":
                seen.started_at, seen.ended_at, seen.note = event.at, None, ""
            elif state in _ENDED:
                seen.ended_at = event.at
                seen.note = event.data.get("error") or event.data.get("reason") or ""
            for path, index, own in iterations(event.task):
                self.loop(path).take(index, state, bodies, own=own)

    def _is_leaf(self, path: str) -> bool:
        static = _INDEX.sub("/", path)
        found = self._leaves.get(static)
        if found is None:
            found = self._leaves[static] = not isinstance(task_at(self.run.pipeline, static).component.implementation, Dag)
        return found

    def loop(self, path: str) -> _Loop:
        found = self.loops.get(path)
        if found is None:
            task = task_at(self.run.pipeline, path)
            body = task.component.implementation
            found = self.loops[path] = _Loop(len(body.tasks) if isinstance(body, Dag) else 1, _total(self.run, path, task))
        return found


def _total(run: Run, path: str, task: Task) -> int | None:
    """How many iterations a loop has; None where its items cannot be told from outside."""
    if task.loop is None:
        return None
    with suppress(FlowcoreError, KeyError, TypeError, IndexError):
        items = _value(run, path.rpartition("/")[0], task.loop.items)
        return len(items) if isinstance(items, list | tuple) else None
    return None


def _value(run: Run, scope: str, binding: Binding) -> Any:
    """The recorded value of a binding in a scope (the path of its group, or "" for the root)."""
    if isinstance(binding, Constant):
        return binding.value
    if isinstance(binding, ListOf):
        return binding.items
    if isinstance(binding, TaskOutput):
        found = run._records.tasks(run.run_id, f"{scope}/{binding.task}" if scope else binding.task)[0].outputs[binding.port]
    elif isinstance(binding, ScopeInput) and not scope:
        found = run.arguments[binding.name]
    elif isinstance(binding, ScopeInput):
        found = _value(run, scope.rpartition("/")[0], dict(task_at(run.pipeline, scope).inputs)[binding.name])
    else:
        return None
    for key in binding.path:
        found = found[key]
    return found


class Progress:
    """Shows a run while the block runs: a live view on a terminal, else a line an event. It leaves no thread behind.

    ``live=False`` gives lines on a terminal too, for runs whose bodies may use the terminal themselves.
    """

    def __init__(self, run: Run, *, live: bool = True) -> None:
        self._run = run
        self._live = live
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        terminal = _is_terminal(sys.stdout)
        view = _Tree(self._run) if self._live and terminal else _Lines(self._run)
        name = f"flowcore-progress-{self._run.run_id}"
        self._thread = threading.Thread(target=self._follow, args=[view], name=name, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._thread is not None
        self._ended.set()
        self._thread.join()

    def _follow(self, view: _Lines | _Tree) -> None:
        # Not run.events(): that waits for the run's end, and a block may end before it.
        since = 0
        # What cannot be read or shown is the run's own error, or a closed pipe: neither may disturb the run.
        with suppress(FlowcoreError, OSError, ValueError), view:
            while True:
                ended = self._ended.is_set()
                for event in self._run._records.events(self._run.run_id, since):
                    since = event.seq
                    view.take(event)
                view.refresh()
                if ended:
                    return
                self._ended.wait(REFRESH_SECONDS)


def _is_terminal(stream: Any) -> bool:
    """Whether a live view can be drawn there: a terminal that can move its cursor and knows our marks."""
    utf = str(getattr(stream, "encoding", "") or "").lower().startswith("utf")
    return utf and os.environ.get("TERM") != "dumb" and bool(getattr(stream, "isatty", lambda: False)())


class _Lines:
    """Plain lines, for logs and pipes."""

    def __init__(self, run: Run) -> None:
        self._board = _Board(run)

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def refresh(self) -> None:
        pass

    def take(self, event: RunEvent) -> None:
        self._board.take(event)
        line = self._line(event)
        if line:
            clock = time.strftime("%H:%M:%S", time.localtime(event.at))
            write(f"{clock} {line}\n")

    def _line(self, event: RunEvent) -> str | None:
        if event.kind == "run":
            took = f" {duration(event.offset_seconds)}" if event.data["state"] != "RUNNING" else ""
            return f"run {self._board.run.run_id} of {self._board.run.pipeline.name} {event.data['state']}{took}"
        if event.kind == "reported":
            return None
        seen = self._board.tasks[event.task]
        for path, _, _ in iterations(event.task):
            if self._board.loops[path].folds and not event.data.get("error"):
                return self._counts(path)
        if event.kind == "waiting":
            return f"{event.task} {seen.note}"
        words = [event.task, seen.state]
        seconds = seen.seconds()
        if seconds is not None and seen.state in _ENDED:
            words.append(duration(seconds))
        if event.task in self._board.loops and seen.state in _ENDED:
            words.append(f"({self._board.loops[event.task].counts()})")
        remark = event.data.get("error") or event.data.get("reason")
        if remark:
            words.append(first_line(remark))
        return " ".join(words)

    def _counts(self, path: str) -> str | None:
        loop = self._board.loops[path]
        step = max(1, math.ceil((loop.total or len(loop.begun)) / 10))
        if loop.done // step == loop.told // step:
            return None
        loop.told = loop.done
        return f"{path} {loop.counts()}"


class _Tree:
    """A live tree of the pipeline's tasks on a terminal; it vanishes at the end, where the summary takes its place."""

    def __init__(self, run: Run) -> None:
        from rich.console import Console
        from rich.live import Live

        class Screen(Console):
            def on_broken_pipe(self) -> None:
                """Rich would end the process where nobody reads any more; the run goes on."""
                self.quiet = True

        self._board = _Board(run)
        self._began = time.time()
        self._console = Screen()
        # No redirection: sys.stdout is flowcore.capture's to replace, and two owners would restore each other's streams.
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False,
            get_renderable=self._render,
        )  # fmt: skip

    def __enter__(self) -> _Tree:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def take(self, event: RunEvent) -> None:
        self._board.take(event)

    def refresh(self) -> None:
        self._live.refresh()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = time.time()
        rows = list(self._rows(self._board.run.pipeline.dag, "", 0, now))
        room = max(5, self._console.height - 4)
        shown, rest = _choose(rows, room)
        run = self._board.run
        head = Text.assemble((run.pipeline.name, "bold"), f"  {duration(now - self._began)}  ", (run.run_id, "dim"))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
        for row in shown:
            mark, style = mark_of(row.state)
            name = Text.assemble(f"{'  ' * row.depth}  ", (mark, style), f" {row.name}")
            table.add_row(name, "" if row.seconds is None else duration(row.seconds), first_line(row.note))
        return Group(head, table, Text(f"  {rest}", style="dim")) if rest else Group(head, table)

    def _rows(self, dag: Dag, prefix: str, depth: int, now: float) -> Iterator[Row]:
        for task in dag.tasks:
            path = prefix + task.name
            seen = self._board.tasks.get(path) or _Seen()
            note = self._board.loops[path].counts() if path in self._board.loops else seen.note
            yield Row(path, task.name, depth, seen.state, seen.seconds(now), note)
            body = task.component.implementation
            if isinstance(body, Dag) and task.loop is None and seen.state != "SKIPPED":
                yield from self._rows(body, f"{path}/", depth + 1, now)


def _choose(rows: list[Row], room: int) -> tuple[list[Row], str]:
    """The rows that fit, those that matter now first, and a line about the others."""
    if len(rows) <= room:
        return rows, ""
    urgency = {"FAILED": 0, "RUNNING": 1, "SUBMITTED": 2, "WAITING": 3, "READY": 3}
    ranked = sorted(range(len(rows)), key=lambda place: (urgency.get(rows[place].state, 4), place))
    kept = sorted(ranked[:room])
    left = ranked[room:]
    states: dict[str, int] = {}
    for place in left:
        word = rows[place].state.lower()
        states[word] = states.get(word, 0) + 1
    return [rows[place] for place in kept], "and " + ", ".join(f"{count} {word}" for word, count in sorted(states.items()))
