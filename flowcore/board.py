"""Where a run stands, for those who look on: its tasks, its loops folded into counts. It reads the record, and shows nothing.

A look costs little however many iterations there are: loops are summed up by the record, not told event by event.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowcore import looks
from flowcore.errors import FlowcoreError
from flowcore.graph import Dag, Task
from flowcore.graph.bindings import Binding, Constant, ListOf, ScopeInput, TaskOutput
from flowcore.graph.walk import task_at
from flowcore.looks import LoopCounts, TaskLook
from flowcore.report import Row, exact, first_line, number
from flowcore.run_state import TERMINAL, RunStatus

if TYPE_CHECKING:
    from flowcore.runs import Run

#: Events beyond so many in one look are not read: what they tell is in the tasks' rows too, but for notes.
EVENTS = 200
_INDEX = re.compile(r"\.\d+(?=/)")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place of the pipeline that gets a line: a task outside of loops, a loop, or a loop within loops.

    ``path`` is a run's, but for the loops within ``loop``: theirs begins below its iteration and names no index.
    """

    path: str
    name: str
    depth: int
    task: Task
    loop: str | None = None

    @property
    def body(self) -> Dag | None:
        found = self.task.component.implementation
        return found if isinstance(found, Dag) else None


def spots(dag: Dag, prefix: str = "", depth: int = 0) -> Iterator[Spot]:
    """The places of a pipeline in the order of authoring, each group before what is in it."""
    for task in dag.tasks:
        spot = Spot(prefix + task.name, task.name, depth, task)
        yield spot
        if task.loop is not None and spot.body is not None:
            yield from _loops_within(spot.body, "", depth + 1, spot.path)
        elif spot.body is not None:
            yield from spots(spot.body, f"{spot.path}/", depth + 1)


def _loops_within(dag: Dag, prefix: str, depth: int, loop: str) -> Iterator[Spot]:
    for task in dag.tasks:
        body = task.component.implementation
        if not isinstance(body, Dag):
            continue
        path = prefix + task.name
        if task.loop is not None:
            yield Spot(path, task.name, depth, task, loop)
        yield from _loops_within(body, f"{path}/", depth + (task.loop is not None), loop)


class Board:
    """A run as it stood at the last ``look``."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.state: str = RunStatus.PENDING
        self.tasks: dict[str, TaskLook] = {}
        self.loops: dict[str, LoopCounts] = {}
        self.inner: dict[str, dict[str, LoopCounts]] = {}
        self.totals: dict[str, int | None] = {}
        #: What running tasks reported last, and what others wait for.
        self.notes: dict[str, str] = {}
        self.spots = list(spots(run.pipeline.dag))
        self._paths = [spot.path for spot in self.spots if spot.loop is None]
        self._loops = [spot for spot in self.spots if spot.loop is None and spot.task.loop is not None]
        self._nested = {spot.loop for spot in self.spots if spot.loop is not None}
        self._counted: set[str] = set()
        self._seen = 0

    def look(self) -> None:
        """Read how the run stands now.

        Raises:
            RecordError: the record cannot be read.
        """
        records, run_id = self.run._records, self.run.run_id
        # The run's state first: where it has ended, all that follows is final.
        self.state = looks.run_state(records, run_id)
        self.tasks = {look.path: look for look in looks.states(records, run_id, self._paths)}
        for spot in self._loops:
            self._count(spot)
        newest = looks.last_event(records, run_id)
        if newest - self._seen <= EVENTS:
            for event in records.events(run_id, self._seen):
                self._take_note(event.kind, event.task, event.data)
        self._seen = newest

    def _take_note(self, kind: str, path: str, data: dict[str, Any]) -> None:
        if kind == "waiting":
            self.notes[path] = f"waits: {data['reason']}"
        elif kind == "reported":
            self.notes[path] = f"{data['name']} {number(data['value'])} at step {data['step']}"
        elif data.get("state") == "WAITING" and data.get("reason"):
            self.notes[path] = data["reason"]
        else:
            self.notes.pop(path, None)

    def _count(self, spot: Spot) -> None:
        path, seen = spot.path, self.tasks.get(spot.path)
        if seen is None or path in self._counted or spot.body is None:
            return
        if path not in self.totals:
            self.totals[path] = _total(self.run, path, spot.task)
        self.loops[path] = looks.loop_counts(self.run._records, self.run.run_id, path, len(spot.body.tasks))
        if path in self._nested:
            self._count_nested(path)
        if seen.state in TERMINAL:
            self._counted.add(path)

    def _count_nested(self, path: str) -> None:
        """Iterations of the loops within a loop, over all of its own: as many are done as have ended each of their tasks."""
        ended: dict[str, int] = {}
        found: dict[str, LoopCounts] = {}
        inner = {spot.path: spot for spot in self.spots if spot.loop == path}
        for inside, state, count in looks.loop_states(self.run._records, self.run.run_id, path):
            static = _INDEX.sub("", inside)
            scope = static.rpartition("/")[0]
            if scope not in inner:
                continue
            counts = found.setdefault(scope, LoopCounts())
            counts.failed += count * (state == "FAILED")
            counts.running += count * (state == "RUNNING")
            if state in TERMINAL:
                ended[static] = ended.get(static, 0) + count
        for scope, counts in found.items():
            body = inner[scope].body
            assert body is not None
            counts.done = min((ended.get(f"{scope}/{task.name}", 0) for task in body.tasks), default=0)
        self.inner[path] = found

    def counts(self, loop: str) -> str:
        """The iterations of a loop in words."""
        return in_words(self.loops[loop], self.totals.get(loop))

    def rows(self, now: float) -> Iterator[Row]:
        """A line for each place, the parts of skipped groups left out; ``now`` is in UTC seconds since 1970."""
        skipped = ""
        for spot in self.spots:
            if spot.loop is not None:
                inner = self.inner.get(spot.loop, {}).get(spot.path)
                if inner is not None:
                    seen = self.tasks[spot.loop]
                    state = "RUNNING" if inner.running else seen.state if seen.state in TERMINAL else "WAITING"
                    yield Row(f"{spot.loop}/{spot.path}", spot.name, spot.depth, state, None, in_words(inner, None))
                continue
            if skipped and spot.path.startswith(skipped):
                continue
            skipped = ""
            look = self.tasks.get(spot.path)
            if look is None:
                yield Row(spot.path, spot.name, spot.depth, "WAITING", None, self.notes.get(spot.path, ""))
                continue
            if look.state == "SKIPPED":
                skipped = f"{spot.path}/"
            yield Row(spot.path, spot.name, spot.depth, look.state, seconds_of(look, now), self._note(look))

    def _note(self, look: TaskLook) -> str:
        if look.path in self.loops:
            return self.counts(look.path)
        if look.state in TERMINAL:
            return remark(look)
        note = self.notes.get(look.path, "")
        if look.state == "WAITING" and look.attempt:
            return ", ".join(part for part in (f"attempt {look.attempt} ended", note) if part)
        return ", ".join(part for part in (f"attempt {look.attempt}" if look.attempt > 1 else "", note) if part)


def seconds_of(look: TaskLook, now: float | None = None) -> float | None:
    """How long a task took, or has taken by ``now``; None where it has not begun."""
    end = look.finished_at if look.state in TERMINAL else now if look.state == "RUNNING" else None
    return None if look.started_at is None or end is None else end - look.started_at


def remark(look: TaskLook) -> str:
    """Why a task ended as it did, in one line; empty for a success."""
    if look.error is not None and look.state == "FAILED":
        return first_line(f"{look.error.type}: {look.error.message}")
    return first_line(look.reason or "")


def in_words(counts: LoopCounts, total: int | None) -> str:
    """The iterations of a loop: "7/10 done, 2 running, 1 failed, 0.3s each"."""
    parts = [f"{counts.done}/{total} done" if total is not None else f"{counts.done} done"]
    if counts.running:
        parts.append(f"{counts.running} running")
    if counts.failed:
        parts.append(f"{counts.failed} failed")
    if counts.mean_seconds is not None:
        parts.append(f"{exact(counts.mean_seconds)} each")
    return ", ".join(parts)


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
        found = run._stored(run.row().arguments)[binding.name]
    elif isinstance(binding, ScopeInput):
        found = _value(run, scope.rpartition("/")[0], dict(task_at(run.pipeline, scope).inputs)[binding.name])
    else:
        return None
    for key in binding.path:
        found = found[key]
    return found
