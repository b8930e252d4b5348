"""What a page or a chart shows of one run: its rows read once, and folded by their places in the pipeline. It only reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flowcore import looks
from flowcore.graph import Dag
from flowcore.graph.svg import Mark
from flowcore.records import TaskRow
from flowcore.report import exact, iterations
from flowcore.run_state import TERMINAL

if TYPE_CHECKING:
    from flowcore.runs import Run

#: Which state stands for many: the first of these that one of them has.
_LOUDEST = ("FAILED", "RUNNING", "CANCELED", "SUBMITTED", "READY", "WAITING", "SUCCEEDED", "REUSED", "SKIPPED")
_INDEXED = re.compile(r"(.*)\.(\d+)")


@dataclass(slots=True)
class Folded:
    """The tasks of one place of the pipeline: one outside of loops, else one an iteration."""

    states: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    timed: int = 0

    def take(self, row: TaskRow) -> None:
        self.states[row.state] = self.states.get(row.state, 0) + 1
        if row.started_at is not None and row.finished_at is not None and row.state in TERMINAL:
            self.seconds += row.finished_at - row.started_at
            self.timed += 1

    @property
    def state(self) -> str:
        return next((state for state in _LOUDEST if state in self.states), "WAITING")

    @property
    def mean_seconds(self) -> float | None:
        return self.seconds / self.timed if self.timed else None

    def mark(self) -> Mark:
        mean = self.mean_seconds
        took = "" if mean is None else exact(mean)
        count = sum(self.states.values())
        if count == 1:
            return Mark(self.state, took)
        loud = self.states[self.state]
        which = f"{loud:,} of {count:,}" if loud < count else f"×{count:,}"
        return Mark(self.state, f"{which}{'' if mean is None else f', {exact(mean)} each'}")


class Picture:
    """The rows of a run.

    Raises:
        RecordError: the record cannot be read.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        records = run._records
        self.row = run.row()
        self.tasks = {row.path: row for row in records.tasks(run.run_id)}
        self.attempts = looks.attempts(records, run.run_id)
        self.folded: dict[str, Folded] = {}
        self._scopes: dict[str, tuple[str, Dag]] = {"": ("", run.pipeline.dag)}
        #: The indices of the iterations of each loop, and those with a failure.
        self.iterations: dict[str, dict[int, bool]] = {}
        for path, row in self.tasks.items():
            self.folded.setdefault(self.place(path), Folded()).take(row)
            self._take_iterations(path, failed=row.state == "FAILED")

    def place(self, path: str) -> str:
        """The path without iterations: where in the pipeline the task is."""
        scope, _, name = path.rpartition("/")
        prefix = self._scope(scope)[0]
        return prefix + name

    def _scope(self, path: str) -> tuple[str, Dag]:
        """(place with a slash at its end, the Dag) of a group or an iteration."""
        found = self._scopes.get(path)
        if found is None:
            outer, _, name = path.rpartition("/")
            prefix, dag = self._scope(outer)
            tasks = {task.name: task for task in dag.tasks}
            task = tasks.get(name)
            if task is None or task.loop is not None:
                match = _INDEXED.fullmatch(name)
                assert match is not None, path
                task = tasks[match[1]]
            body = task.component.implementation
            assert isinstance(body, Dag)
            found = self._scopes[path] = (f"{prefix}{task.name}/", body)
        return found

    def _take_iterations(self, path: str, *, failed: bool) -> None:
        for loop, index in iterations(path):
            known = self.iterations.setdefault(loop, {})
            known[index] = failed or known.get(index, False)

    def marks(self) -> dict[str, Mark]:
        """What the graph shows of each place."""
        rest = Mark("SKIPPED") if self.row.finished_at is not None else Mark("WAITING")
        marks = dict.fromkeys(self._places(self.run.pipeline.dag, ""), rest)
        for place, folded in self.folded.items():
            marks[place] = folded.mark()
            if folded.state == "SKIPPED":
                within = [spot for spot in marks if spot.startswith(f"{place}/") and spot not in self.folded]
                marks.update(dict.fromkeys(within, Mark("SKIPPED")))
        return marks

    def _places(self, dag: Dag, prefix: str) -> Iterator[str]:
        for task in dag.tasks:
            yield prefix + task.name
            body = task.component.implementation
            if isinstance(body, Dag):
                yield from self._places(body, f"{prefix}{task.name}/")

    def state_counts(self) -> dict[str, int]:
        """How many tasks came to each state, groups left out."""
        counts: dict[str, int] = {}
        for place, folded in self.folded.items():
            if not self.is_group(place):
                for state, count in folded.states.items():
                    counts[state] = counts.get(state, 0) + count
        return counts

    def is_group(self, place: str) -> bool:
        dag = self.run.pipeline.dag
        for name in place.split("/"):
            body = next(task for task in dag.tasks if task.name == name).component.implementation
            if not isinstance(body, Dag):
                return False
            dag = body
        return True

