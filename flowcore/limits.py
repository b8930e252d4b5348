"""How many tasks of each kind may run at once, over all runs of a client: named limits, first come, first served.

It decides nothing about tasks: a state machine asks for a permit and is told. Safe to use from any thread; never calls back
while it holds its lock.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping

from flowcore.errors import RefusedError, UsageError
from flowcore.graph import Dag, Pipeline


class Permit:
    """One place in one limit, waited for, held or given back. Give it back with ``release``, whichever it is; twice is fine."""

    __slots__ = ("_granted", "_limits", "name", "state")

    def __init__(self, limits: Limits, name: str, granted: Callable[[], object]) -> None:
        self._limits = limits
        self._granted = granted
        self.name = name
        #: "waiting", "held" or "released".
        self.state = "waiting"

    def release(self) -> None:
        """Give the place to who waits longest for one; or wait no longer."""
        self._limits._release(self)

    def _grant(self) -> None:
        self._granted()


#: All limits of this process, for its forked children.
_ALL: weakref.WeakSet[Limits] = weakref.WeakSet()


class Limits:
    """Named limits, each a number of places from 1 on.

    Raises:
        UsageError: names that are no text, or numbers that are no such numbers.
    """

    def __init__(self, limits: Mapping[str, int] | None = None) -> None:
        for name, number in (limits or {}).items():
            if not isinstance(name, str) or not name:
                raise UsageError(f"limits={dict(limits or {})!r}: {name!r} is no name")
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise UsageError(f"limits: {name!r} is {number!r}, wants a whole number from 1 on")
        self._sizes = dict(limits or {})
        self._lock = threading.Lock()
        self._held = dict.fromkeys(self._sizes, 0)
        self._waiting: dict[str, deque[Permit]] = {name: deque() for name in self._sizes}
        _ALL.add(self)

    def __contains__(self, name: object) -> bool:
        return name in self._sizes

    @property
    def names(self) -> list[str]:
        """The names of the limits."""
        return list(self._sizes)

    def held(self, name: str) -> int:
        """How many places of a limit are taken."""
        return self._held[name]

    def ask(self, name: str, granted: Callable[[], object]) -> Permit:
        """Ask for a place; where its state is "waiting", ``granted`` is called later, on the thread of who releases one."""
        permit = Permit(self, name, granted)
        with self._lock:
            if self._held[name] < self._sizes[name]:
                self._hold(permit)
            else:
                self._waiting[name].append(permit)
        return permit

    def _hold(self, permit: Permit) -> None:
        self._held[permit.name] += 1
        permit.state = "held"

    def _release(self, permit: Permit) -> None:
        following = None
        with self._lock:
            state, permit.state = permit.state, "released"
            if state == "waiting":
                self._waiting[permit.name].remove(permit)
            elif state == "held":
                self._held[permit.name] -= 1
                if self._waiting[permit.name]:
                    following = self._waiting[permit.name].popleft()
                    self._hold(following)
        if following is not None:
            following._grant()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        for name in self._sizes:
            self._held[name] = 0
            self._waiting[name].clear()


def _begin_anew() -> None:
    """In a forked child: the runs that hold places are not here."""
    for limits in list(_ALL):
        limits._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def check_limits(pipeline: Pipeline, limits: Limits) -> None:
    """Refuse a pipeline with a task whose limit the client does not have.

    Raises:
        RefusedError: names the task, the limit and the remedy.
    """
    todo = [("", pipeline.dag)]
    while todo:
        prefix, dag = todo.pop()
        for task in dag.tasks:
            if isinstance(task.component.implementation, Dag):
                todo.append((f"{prefix}{task.name}/", task.component.implementation))
            elif (name := task.settings.limit) is not None and name not in limits:
                known = ", ".join(map(repr, limits.names)) or "none"
                raise RefusedError(
                    f"task {prefix + task.name!r} counts against limit {name!r}, which this client lacks (it has {known}); "
                    f"make it Client(limits={{{name!r}: 4}}) and run it there"
                )
