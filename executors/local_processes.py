"""Bodies in worker processes: one thread watches them all, takes what they tell, and hands out what waits.

Orders are also handed out by whoever submits while a worker is idle. Everything is guarded by one lock, which is never held while
something is reported: a report may submit and cancel.
"""

from __future__ import annotations

import os
import selectors
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flowcore.executor import Event, Finished, Lost, Outcome, Output, Report, Started, Status
from flowcore.executors.dispatch import Dispatch, Entry, Hand
from flowcore.executors.worker_process import WorkerProcess
from flowcore.executors.yielding import YieldingLock
from flowcore.surroundings import Sources, masks_of
from flowcore.wire import event_of
from flowcore.worker import Stores, task_error

#: How often it is looked whether a process lives whose death the system does not tell.
_LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """What kind of process a task wants: its interpreter and its own import path. Each kind is one object."""

    python: str | None = None
    sys_path: tuple[str, ...] | None = None


class _Worker:
    """A process and its hand; ``numbers`` are its orders by the number of their handing, in that order."""

    def __init__(self, process: WorkerProcess, place: Place, gpus: tuple[str, ...]) -> None:
        self.process = process
        self.hand = Hand(place)
        self.place = place
        self.gpus = gpus
        self.numbers: dict[int, Entry] = {}
        #: What is reported for an attempt instead of its worker's death.
        self.ends: dict[str, Event] = {}
        self.dying = False
        self.told = False
        self.watches_writing = False
        self.pidfd: int | None = None


class ProcessPool:
    """Worker processes, as many busy ones as the dispatch has slots, and as many idle ones as that."""

    def __init__(
        self, report: Report, dispatch: Dispatch, lock: YieldingLock, look: Callable[[], None], sources: Sources
    ) -> None:
        self._report = report
        self._dispatch = dispatch
        self._lock = lock
        #: Looks, with the lock held, for what can be handed out now, here and elsewhere.
        self._look_everywhere = look
        self._workers: list[_Worker] = []
        self._new: list[_Worker] = []
        self._by_hand: dict[Hand, _Worker] = {}
        self._lost: list[Event] = []
        #: Where the processes keep files meanwhile: they are killed, so it is removed here.
        self._stores = Stores()
        self._sources = sources
        self._number = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._wake_read, self._wake_write = -1, -1
        _POOLS.add(self)

    def look(self) -> None:
        """Hand out what waits to idle workers, starting them where there are too few. The lock is held."""
        dispatch = self._dispatch
        while dispatch.busy < dispatch.slots and not self._closed:
            for place in dispatch.kinds():
                if isinstance(place, Place) and self._give(place):
                    break
            else:
                return

    def refill(self) -> None:
        """Give more to busy workers that are about to run out. The lock is held."""
        for worker in list(self._workers):
            if worker.numbers and not worker.dying:
                self._hand(worker, self._dispatch.fill(worker.hand, time.monotonic()))

    def _give(self, place: Place) -> bool:
        hand = Hand(place)
        entries = self._dispatch.fill(hand, time.monotonic())
        if not entries:
            return False
        try:
            worker = self._idle(place, entries[0].gpus) or self._start(place, entries[0].gpus)
        except OSError as error:
            for entry in entries:
                self._lost.append(Lost(entry.order.attempt_id, f"its worker process cannot be started: {error}", started=False))
                self._dispatch.ended(entry)
            self._wake()
            return True
        del self._by_hand[worker.hand]
        worker.hand = hand
        self._by_hand[hand] = worker
        self._hand(worker, entries)
        return True

    def _idle(self, place: Place, gpus: tuple[str, ...]) -> _Worker | None:
        # The last that was started comes first: the others can be let go.
        for worker in reversed(self._workers):
            if worker.place is place and worker.gpus == gpus and _is_idle(worker):
                return worker
        return None

    def _start(self, place: Place, gpus: tuple[str, ...]) -> _Worker:
        # Variables that the author sets come later, and win.
        environment = {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {}
        process = WorkerProcess(self._stores.private_dir(), place.python, place.sys_path, environment, self._sources)
        worker = _Worker(process, place, gpus)
        self._by_hand[worker.hand] = worker
        self._workers.append(worker)
        self._new.append(worker)
        idle = [other for other in self._workers if _is_idle(other) and other is not worker]
        for other in idle[: max(0, len(idle) - self._dispatch.slots)]:
            self._retire(other)
        if self._thread is None:
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)
            self._thread = threading.Thread(target=self._watch, name="flowcore-workers", daemon=True)
            self._thread.start()
        self._wake()
        return worker

    def _retire(self, worker: _Worker) -> None:
        worker.dying = True
        worker.process.kill()
        self._wake()

    def _wake(self) -> None:
        if self._thread is not None:
            with suppress(BlockingIOError):
                os.write(self._wake_write, b"!")

    def _hand(self, worker: _Worker, entries: list[Entry]) -> None:
        if not entries:
            return
        numbered = []
        for entry in entries:
            self._number += 1
            worker.numbers[self._number] = entry
            numbered.append((self._number, entry))
        try:
            worker.process.hand(numbered)
        except OSError:
            pass  # it is dead, which its watcher finds out in a moment
        except Exception as error:  # noqa: BLE001  such as options that are not JSON
            self._cannot_be_sent(worker, numbered, error)
        if worker.process.has_unsent:
            self._wake()

    def _cannot_be_sent(self, worker: _Worker, numbered: list[tuple[int, Entry]], error: Exception) -> None:
        for number, entry in numbered:
            del worker.numbers[number]
            if len(numbered) > 1:
                self._hand_one(worker, entry)
                continue
            self._dispatch.ended(entry)
            outcome = Outcome(Status.FAILED, error=task_error(error))
            self._lost.append(Finished(entry.order.attempt_id, outcome))
            self._wake()

    def _hand_one(self, worker: _Worker, entry: Entry) -> None:
        self._hand(worker, [entry])

    def cancel(self, entry: Entry) -> Finished | None:
        """End an attempt in a hand: at once where its worker has not begun it, else by killing that one. The lock is held."""
        assert entry.hand is not None
        worker = self._by_hand[entry.hand]
        canceled = Finished(entry.order.attempt_id, Outcome(Status.CANCELED))
        number = next(number for number, other in worker.numbers.items() if other is entry)
        back = worker.process.take_back()
        if number in back:
            back.remove(number)
            worker.process.give_again(back)
            del worker.numbers[number]
            self._dispatch.ended(entry)
            return canceled
        if number != max(worker.numbers.keys() - set(back)):
            worker.process.give_again(back)  # it has ended, and its report is on the way
            return None
        # Nothing else of this worker has begun and not ended, so nobody else is hurt.
        worker.ends[entry.order.attempt_id] = canceled
        self._back(worker, back)
        worker.dying = True
        worker.process.kill()
        return None

    def _back(self, worker: _Worker, numbers: list[int]) -> None:
        self._dispatch.give_back([worker.numbers.pop(number) for number in numbers if number in worker.numbers])

    def close(self) -> None:
        """End every process. The lock is held."""
        self._closed = True
        self._wake()

    def join(self) -> None:
        """Wait for the end of the watching thread."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
            os.close(self._wake_read)
            os.close(self._wake_write)
        self._stores.close()  # with what killed workers kept in files
        _POOLS.discard(self)
        self._stores.close()

    # The watching thread

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ, None)
            looked_at = time.monotonic()
            while True:
                with self._lock:
                    events, self._lost = self._lost, []
                    for worker in self._new:
                        self._register(selector, worker)
                    self._new.clear()
                    if self._closed:
                        for worker in list(self._workers):
                            self._bury(selector, worker, events)
                    wait = self._dispatch.next_look_seconds(time.monotonic())
                if events:
                    self._report(*events)
                if self._closed:
                    return
                ready = selector.select(_LOOK_SECONDS if wait is None else min(wait, _LOOK_SECONDS))
                events = []
                now = time.monotonic()
                stale, looked_at = (True, now) if now - looked_at >= _LOOK_SECONDS else (False, looked_at)
                with self._lock:
                    self._take(selector, ready, events)
                    if stale:
                        for worker in list(self._workers):
                            if not worker.process.lives():
                                self._bury(selector, worker, events)
                    for hand in self._dispatch.overdue(now):
                        worker = self._by_hand[hand]
                        self._back(worker, worker.process.take_back())
                    self.refill()
                    self._look_everywhere()
                if events:
                    self._report(*events)

    def _register(self, selector: selectors.BaseSelector, worker: _Worker) -> None:
        selector.register(worker.process.connection, selectors.EVENT_READ, worker)
        with suppress(AttributeError, OSError):  # only Linux has it
            worker.pidfd = os.pidfd_open(worker.process.pid)
            selector.register(worker.pidfd, selectors.EVENT_READ, worker)

    def _take(self, selector: selectors.BaseSelector, ready: list[Any], events: list[Event]) -> None:
        dead = []
        for key, mask in ready:
            worker = key.data
            if worker is None:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            elif key.fd == worker.pidfd:
                dead.append(worker)
            else:
                alive = True
                if mask & selectors.EVENT_READ:
                    rows, alive = worker.process.receive()
                    self._told(worker, rows, events)
                if mask & selectors.EVENT_WRITE:
                    with suppress(OSError):
                        worker.process.go_on_sending()
                if not alive:
                    dead.append(worker)
        for worker in dict.fromkeys(dead):
            self._bury(selector, worker, events)
        for worker in self._workers:
            if worker.process.has_unsent is not worker.watches_writing and worker not in self._new:
                worker.watches_writing = worker.process.has_unsent
                write = selectors.EVENT_WRITE if worker.watches_writing else 0
                selector.modify(worker.process.connection, selectors.EVENT_READ | write, worker)

    def _told(self, worker: _Worker, rows: list[list[Any]], events: list[Event]) -> None:
        if not rows:
            return
        worker.told = True
        worker.hand.heard(time.monotonic())
        where, numbers = worker.process.where, worker.numbers
        for row in rows:
            entry = numbers.get(row[1])
            if entry is None:
                continue
            attempt_id = entry.order.attempt_id
            event = event_of(attempt_id, where, row)
            if type(event) is Finished:
                outcome = event.outcome
                seconds = None
                if outcome.started_at is not None and outcome.finished_at is not None:
                    seconds = max(0.0, outcome.finished_at - outcome.started_at)
                del numbers[row[1]]
                self._dispatch.ended(entry, seconds)
                event = worker.ends.pop(attempt_id, event)
            elif type(event) is Started:
                entry.started = True
            events.append(event)

    def _bury(self, selector: selectors.BaseSelector, worker: _Worker, events: list[Event]) -> None:
        """A worker died, or is to: everything that it held is reported or waits again."""
        self._workers.remove(worker)
        if worker in self._new:
            self._new.remove(worker)
        else:
            selector.unregister(worker.process.connection)
        if worker.pidfd is not None:
            selector.unregister(worker.pidfd)
            os.close(worker.pidfd)
        rows, reason = worker.process.bury()
        self._told(worker, rows, events)
        back = set(worker.process.take_back())
        if self._closed:
            reason = "the executor was closed"
        begun = [entry for number, entry in worker.numbers.items() if number not in back]
        for stream, text in worker.process.raw():
            if begun:
                order = begun[-1].order
                events.append(Output(order.attempt_id, stream, masks_of(order.settings, self._sources)(text)))
        # A worker that never told anything may never do: what it was given is lost, so that somebody counts.
        lost = begun if worker.told and not self._closed else list(worker.numbers.values())
        again = [entry for entry in worker.numbers.values() if entry not in lost]
        for entry in lost:
            attempt_id = entry.order.attempt_id
            killed = worker.ends.pop(attempt_id, None)
            events.append(Lost(attempt_id, reason, entry.started) if killed is None else killed)
            self._dispatch.ended(entry)
        self._dispatch.give_back(again)
        worker.numbers.clear()
        self._by_hand.pop(worker.hand, None)
        worker.process.close()

    def forget(self) -> None:
        """In a forked child: the processes are the parent's."""
        self._closed = True
        for worker in self._workers:
            worker.process.forget()


def _is_idle(worker: _Worker) -> bool:
    return not worker.numbers and not worker.dying


_POOLS: weakref.WeakSet[ProcessPool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_POOLS):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
