"""Looking at a run until it ends, whichever process drives it. It reads the record now and then, and changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flowcore import looks
from flowcore.graph import Dag
from flowcore.graph.walk import task_at
from flowcore.runs import ENDED

if TYPE_CHECKING:
    from flowcore.runs import Run

LOOK_SECONDS = 0.2
#: A driver renews its lease every second; one that has been silent for so long is taken for dead.
SILENT_SECONDS = 20.0


class Follower:
    """Iterate over it: each step is a moment to look, the last one after the run's end, so that nothing is missed.

    ``driver_lost`` says in a sentence that the run has no living driver, in which case the iteration ends too.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.driver_lost = ""

    def __iter__(self) -> Iterator[None]:
        while True:
            ended = self._run.state in ENDED
            yield
            if ended:
                return
            driver, heard = looks.driver(self._run._records, self._run.run_id)
            silent = time.time() - heard
            if silent > SILENT_SECONDS and self._run.state not in ENDED:
                self.driver_lost = (
                    f"run {self._run.run_id} is {self._run.state} in the record, but its driver {driver} has not been heard of"
                    f" for {silent:.0f} s: it was killed, or its machine sleeps"
                )
                return
            time.sleep(LOOK_SECONDS)


def knows_task(run: Run, task: str) -> bool:
    """Whether a path or a name is of a task that the run may still begin."""
    try:
        task_at(run.pipeline, task)
    except KeyError:
        return _has_name(run.pipeline.dag, task)
    return True


def _has_name(dag: Dag, name: str) -> bool:
    return any(
        task.name == name or (isinstance(task.component.implementation, Dag) and _has_name(task.component.implementation, name))
        for task in dag.tasks
    )
