"""Bodies in threads of this process, which come for the next order themselves: no hand-over where one is just done.

An attempt is known to the dispatch from its submit to its end; whoever takes it out reports that end, so each is reported once,
whether the body, a cancel or the close comes first. Reports are made without holding the lock: they may submit and cancel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from flowcore.executor import Event, Finished, Lost, Outcome, Report, Status
from flowcore.executors.dispatch import Dispatch, Entry, Hand
from flowcore.executors.yielding import YieldingLock
from flowcore.surroundings import Sources
from flowcore.worker import Stores, run_order, task_error


class _Server:
    """One thread: its hand and the lock that it sleeps on."""

    def __init__(self, number: int) -> None:
        self.hand = Hand()
        self.bell = threading.Lock()
        self.bell.acquire()
        self.name = f"flowcore-{number}"
        #: It ended an order and reports that: it comes for the next one by itself.
        self.returns = False
        self.dismissed = False
        self.thread: threading.Thread | None = None


class ThreadPool:
    """Up to ``dispatch.slots`` threads, started as orders come. ``lock`` guards the dispatch, which others may share."""

    def __init__(
        self, report: Report, dispatch: Dispatch, lock: YieldingLock, freed: Callable[[], None], sources: Sources
    ) -> None:
        self._report = report
        self._dispatch = dispatch
        self._lock = lock
        #: Called, without the lock, when a slot is free that a worker of another kind may want.
        self._freed = freed
        self._servers: dict[int, _Server] = {}
        self._sleeping: list[_Server] = []
        self._roused = 0
        self._count = 0
        self._closed = False
        self.stores = Stores(sources=sources)

    def look(self) -> None:
        """Rouse or start threads for what waits. The lock is held."""
        dispatch = self._dispatch
        waiting = dispatch.waiting(None)
        me = self._servers.get(threading.get_ident())
        room = min(waiting, dispatch.slots - dispatch.busy) - (me is not None and me.returns) - self._roused
        while room > 0 and not self._closed:
            room -= 1
            if self._sleeping:
                self._roused += 1
                self._sleeping.pop().bell.release()
            elif len(self._servers) < dispatch.slots:
                self._roused += 1
                self._start()
            else:
                return

    def _start(self) -> None:
        server = _Server(self._count)
        self._count += 1
        server.thread = threading.Thread(target=self._serve, args=[server], name=server.name, daemon=True)
        server.thread.start()  # it waits for the lock that we hold
        assert server.thread.ident is not None
        self._servers[server.thread.ident] = server

    def _serve(self, server: _Server) -> None:
        lock, dispatch, roused = self._lock, self._dispatch, True
        while True:
            with lock:
                self._roused -= roused
                roused = False
                server.returns = False
                if server.dismissed or self._closed:
                    return
                entry = dispatch.take(server.hand)
                if entry is None:
                    self._sleeping.append(server)
            if entry is None:
                if dispatch.kinds():
                    self._freed()
                server.bell.acquire()
                roused = True
                continue
            outcome = self._run(entry, server.name)
            with lock:
                known = dispatch.entry(entry.order.attempt_id) is entry
                if known:
                    dispatch.ended(entry, _seconds(outcome))
                    server.returns = True
            if known:
                self._report(Finished(entry.order.attempt_id, outcome))

    def _run(self, entry: Entry, where: str) -> Outcome:
        def report(event: Event) -> None:
            if entry.hand is not None:
                self._report(event)

        try:
            return run_order(entry.order, report, self.stores, where=where)
        except KeyboardInterrupt as error:
            # Only a body can raise it here, so it is a result: the terminal's goes to the main thread.
            return Outcome(Status.FAILED, error=task_error(error))
        except Exception as error:  # noqa: BLE001  nobody else would report this attempt's end
            return Outcome(Status.FAILED, error=task_error(error))

    def let_go(self, entry: Entry) -> None:
        """Leave a running body to itself: its thread ends with it and its place is free. The lock is held."""
        for ident, server in list(self._servers.items()):
            if server.hand is entry.hand:
                server.dismissed = True
                del self._servers[ident]
        self._dispatch.ended(entry)

    def close(self) -> list[Lost]:
        """Stop serving; the ends of what still ran. The lock is held."""
        self._closed = True
        ends = []
        for entry in self._dispatch.entries():
            if entry.kind is None:
                ends.append(Lost(entry.order.attempt_id, "the executor was closed", started=entry.hand is not None))
                if entry.hand is not None:
                    self.let_go(entry)
                else:
                    self._dispatch.ended(entry)
        for server in self._sleeping:
            server.bell.release()
        self._sleeping.clear()
        return ends

    def join(self) -> None:
        """Wait for every thread but those whose bodies were left to themselves."""
        me = threading.current_thread()
        for server in list(self._servers.values()):
            assert server.thread is not None
            if server.thread is not me:
                server.thread.join()
        self.stores.close()


def _seconds(outcome: Outcome) -> float | None:
    if outcome.started_at is None or outcome.finished_at is None:
        return None
    return max(0.0, outcome.finished_at - outcome.started_at)
