"""Which order goes to which worker, and when: adaptive batches of small tasks, slots and a budget. Pure: no thread, no clock.

A hand is what one worker has got and not ended. The rules:

* An order is handed alone until its component has been measured short; then batches double up to ``TARGET_SECONDS`` of work.
* A worker that was not heard of for ``PATIENCE_SECONDS`` gives back what it has not begun, so that a long task holds back none.
* A hand that is not empty takes a slot. Orders leave in the order in which they came, whatever kind of worker they want. One
  whose request does not fit in what is left of the budget holds back later requests, but none that asks for nothing.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterable
from itertools import count

from flowcore.executor import WorkOrder
from flowcore.executors.budget import NOTHING, Budget, Request

TARGET_SECONDS = 0.008
PATIENCE_SECONDS = 0.020
MOST = 256
#: How many kinds of worker nobody waits for are kept in mind.
_KINDS = 16
#: A measured task up to which others may wait behind it.
_SHORT_SECONDS = TARGET_SECONDS / 2


class Entry:
    """An order on its way: waiting, or in a hand."""

    __slots__ = ("alone", "asks", "gone", "gpus", "hand", "kind", "number", "order", "pace", "request", "seconds", "started")

    def __init__(self, order: WorkOrder, kind: Hashable = None, request: Request = NOTHING) -> None:
        self.order = order
        self.kind = kind
        self.request = request
        self.asks = request is not NOTHING and bool(request)
        self.alone = self.asks
        self.started = False
        self.gone = False
        self.gpus: tuple[str, ...] = ()
        self.hand: Hand | None = None
        self.number = 0
        #: What it was expected to take when it was handed.
        self.seconds = 0.0
        self.pace: _Pace | None = None


class Hand:
    """What one worker holds, in the order in which it begins it. Its owner calls ``heard`` with each sign of life."""

    __slots__ = ("entries", "heard_at", "kind", "load_seconds", "overdue")

    def __init__(self, kind: Hashable = None) -> None:
        self.kind = kind
        self.entries: dict[str, Entry] = {}
        self.load_seconds = 0.0
        self.heard_at = 0.0
        self.overdue = False

    def heard(self, now: float) -> None:
        """The worker told something."""
        self.heard_at = now
        self.overdue = False


class _Pace:
    """What is known of a component's tasks: how long they take and how many may be in one hand."""

    __slots__ = ("component", "ends", "room", "seconds")

    def __init__(self, component: object) -> None:
        self.component = component  # held, since its identity is its key
        self.seconds = math.inf
        self.room = 1
        self.ends = 0

    def ended(self, seconds: float) -> None:
        self.seconds = seconds if self.seconds is math.inf else 0.75 * self.seconds + 0.25 * seconds
        self.ends += 1
        if seconds > _SHORT_SECONDS:
            self.room = 1
            self.ends = 0
        elif self.ends >= self.room:
            self.room = min(2 * self.room, MOST)
            self.ends = 0


class Dispatch:
    """The waiting orders of one executor, and the hands that they go to. One lock of the caller's guards it."""

    def __init__(self, slots: int, budget: Budget | None = None) -> None:
        self.slots = slots
        self._budget = budget or Budget()
        self._free: dict[Hashable, deque[Entry]] = {}
        self._asking: deque[Entry] = deque()
        self._known: dict[str, Entry] = {}
        self._paces: dict[int, _Pace] = {}
        self._numbers = count(1)
        self._hands: dict[Hand, None] = {}
        self.busy = 0

    def __len__(self) -> int:
        """How many orders wait or are in a hand."""
        return len(self._known)

    def entry(self, attempt_id: str) -> Entry | None:
        """A known attempt, waiting or in a hand."""
        return self._known.get(attempt_id)

    def entries(self) -> list[Entry]:
        """All known attempts."""
        return list(self._known.values())

    def add(self, entry: Entry) -> bool:
        """Let an order wait; False where its attempt is known."""
        order = entry.order
        if order.attempt_id in self._known:
            return False
        self._known[order.attempt_id] = entry
        entry.number = next(self._numbers)
        component = order.component
        pace = self._paces.get(id(component))
        if pace is None:
            pace = self._paces[id(component)] = _Pace(component)
        entry.pace = pace
        self._queue(entry).append(entry)
        return True

    def _queue(self, entry: Entry) -> deque[Entry]:
        if entry.asks:
            return self._asking
        queue = self._free.get(entry.kind)
        if queue is None:
            queue = self._free[entry.kind] = deque()
        return queue

    def waiting(self, kind: Hashable) -> int:
        """About how many orders wait for a kind of worker."""
        free = self._free.get(kind)
        return (len(free) if free else 0) + (sum(entry.kind == kind for entry in self._asking) if self._asking else 0)

    def kinds(self) -> list[Hashable]:
        """The kinds of worker that orders wait for, the oldest order's first."""
        if len(self._free) == 1 and not self._asking:
            ((kind, queue),) = self._free.items()
            return [kind] if self._head(queue) is not None else []
        heads: dict[Hashable, int] = {}
        for kind in list(self._free):
            if (head := self._head(self._free[kind])) is not None:
                heads[kind] = head.number
        if (asks := self._head(self._asking)) is not None:
            heads[asks.kind] = min(asks.number, heads.get(asks.kind, asks.number))
        return sorted(heads, key=heads.__getitem__)

    def _head(self, queue: deque[Entry]) -> Entry | None:
        while queue and queue[0].gone:
            queue.popleft()
        return queue[0] if queue else None

    def _next(self, kind: Hashable, *, asking: bool) -> Entry | None:
        """The oldest order that may go to this kind of worker now; with ``asking`` its request is taken from the budget."""
        free = self._free.get(kind)
        entry = self._head(free) if free else None
        if self._asking and asking:
            asks = self._head(self._asking)
            if asks is not None and asks.kind == kind and (entry is None or asks.number < entry.number):
                gpus = self._budget.take(asks.request)
                if gpus is not None:
                    asks.gpus = gpus
                    self._asking.popleft()
                    return asks
        if entry is not None and free is not None:
            if (len(self._free) > 1 or self._asking) and self._waits_longer(kind, entry.number):
                return None
            free.popleft()
            if not free and len(self._free) > _KINDS:
                del self._free[kind]  # each task may want a kind of its own
        return entry

    def _waits_longer(self, kind: Hashable, number: int) -> bool:
        """Whether an older order wants another kind of worker and the last slot."""
        if self.slots - self.busy > 1:
            return False
        for other, queue in self._free.items():
            if other != kind and (head := self._head(queue)) is not None and head.number < number:
                return True
        asks = self._head(self._asking)
        if asks is None or asks.kind == kind or asks.number > number:
            return False
        gpus = self._budget.take(asks.request)
        if gpus is None:
            return False
        self._budget.give(asks.request, gpus)
        return True

    def fill(self, hand: Hand, now: float) -> list[Entry]:
        """What the hand's worker gets now; empty where it has enough, or no slot or order is left for it."""
        entries = hand.entries
        waiting = self._free.get(hand.kind)
        if not waiting and not self._asking:
            return []
        given: list[Entry] = []
        if entries:
            if hand.overdue or not waiting or hand.load_seconds > _SHORT_SECONDS or next(iter(entries.values())).alone:
                return given
        elif self.busy >= self.slots:
            return given
        # Others may want their part of what waits.
        share = max(1, -(-len(waiting or ()) // self.slots))
        while len(given) < share:
            if (entries or given) and not (waiting and self._joins(hand, waiting[0])):
                break
            entry = self._next(hand.kind, asking=not entries)
            if entry is None:
                break
            assert entry.pace is not None
            if not entries:
                self.busy += 1
                self._hands[hand] = None
                hand.heard(now)
            entry.hand = hand
            entry.seconds = entry.pace.seconds if entry.pace.seconds is not math.inf else TARGET_SECONDS
            hand.load_seconds += entry.seconds
            entries[entry.order.attempt_id] = entry
            given.append(entry)
            if entry.alone:
                break
        return given

    def _joins(self, hand: Hand, entry: Entry) -> bool:
        """Whether an order may wait behind what is in the hand."""
        pace = entry.pace
        assert pace is not None
        return (
            not entry.alone
            and pace.seconds <= _SHORT_SECONDS
            and len(hand.entries) < pace.room
            and hand.load_seconds + pace.seconds <= TARGET_SECONDS
        )

    def take(self, hand: Hand) -> Entry | None:
        """One order for an empty hand: for workers that come for the next one themselves."""
        if self.busy >= self.slots:
            return None
        entry = self._next(hand.kind, asking=True)
        if entry is not None:
            self.busy += 1
            entry.hand = hand
            hand.entries[entry.order.attempt_id] = entry
        return entry

    def ended(self, entry: Entry, seconds: float | None = None) -> None:
        """An attempt is over, in a hand or waiting; ``seconds`` is what it took, where that is known."""
        del self._known[entry.order.attempt_id]
        if entry.hand is None:
            entry.gone = True
        else:
            self._leave(entry.hand, entry)
        if seconds is not None and entry.pace is not None:
            entry.pace.ended(seconds)

    def _leave(self, hand: Hand, entry: Entry) -> None:
        del hand.entries[entry.order.attempt_id]
        entry.hand = None
        hand.load_seconds -= entry.seconds
        if entry.asks:
            self._budget.give(entry.request, entry.gpus)
            entry.gpus = ()
        if not hand.entries:
            hand.load_seconds = 0.0
            self.busy -= 1
            self._hands.pop(hand, None)

    def give_back(self, entries: Iterable[Entry], *, alone: bool = False) -> None:
        """Orders that their worker has certainly not begun wait again, before all others; suspects of a death run ``alone``."""
        for entry in sorted(entries, key=lambda entry: -entry.number):
            assert entry.hand is not None
            self._leave(entry.hand, entry)
            entry.alone = entry.alone or alone
            self._queue(entry).appendleft(entry)

    def overdue(self, now: float) -> list[Hand]:
        """The hands whose workers were not heard of for too long and may hold back what they have not begun; each named once."""
        found = []
        for hand in self._hands:
            if len(hand.entries) > 1 and not hand.overdue and now - hand.heard_at >= PATIENCE_SECONDS:
                hand.overdue = True
                found.append(hand)
        return found

    def next_look_seconds(self, now: float) -> float | None:
        """When ``overdue`` may name a hand next, from now; None while no hand holds back anything."""
        times = [hand.heard_at for hand in self._hands if len(hand.entries) > 1 and not hand.overdue]
        return max(0.0, min(times) + PATIENCE_SECONDS - now) if times else None
