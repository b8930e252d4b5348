"""Which order goes to which worker, as plain calls under a clock that the test moves."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcore.executor import WorkOrder
from flowcore.executors.budget import Budget, Request
from flowcore.executors.dispatch import MOST, PATIENCE_SECONDS, TARGET_SECONDS, Dispatch, Entry, Hand
from flowcore.testing import bodies

ECHO, MEET = bodies.echo.component, bodies.meet.component


def entry(number: int, component: object = ECHO, kind: str | None = None, request: Request | None = None) -> Entry:
    order = WorkOrder(f"run/{number}#1", str(number), component, {}, {})  # type: ignore[arg-type]
    return Entry(order, kind, request or Request())


def names(entries: list[Entry]) -> list[str]:
    return [each.order.task for each in entries]


def warm(dispatch: Dispatch, seconds: float, tasks: int = 600, component: object = ECHO) -> None:
    """Run tasks of a component that take this long."""
    hand = Hand()
    for number in range(tasks):
        dispatch.add(entry(-1 - number, component))
    while given := dispatch.fill(hand, 0.0):
        for each in given:
            dispatch.ended(each, seconds)


def test_first_order_of_a_component_is_handed_alone() -> None:
    dispatch = Dispatch(1)
    for number in range(10):
        dispatch.add(entry(number))
    assert names(dispatch.fill(Hand(), 0.0)) == ["0"]


def test_batches_of_short_tasks_double() -> None:
    dispatch, hand, sizes = Dispatch(1), Hand(), []
    for number in range(1000):
        dispatch.add(entry(number))
    while given := dispatch.fill(hand, 0.0):
        sizes.append(len(given))
        for each in given:
            dispatch.ended(each, 1e-6)
    assert sizes[:8] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert max(sizes) <= MOST


def test_batch_holds_no_more_work_than_the_target() -> None:
    dispatch = Dispatch(1)
    warm(dispatch, TARGET_SECONDS / 4)
    for number in range(100):
        dispatch.add(entry(number))
    assert len(dispatch.fill(Hand(), 0.0)) == 4


def test_long_tasks_are_handed_one_by_one() -> None:
    dispatch, hand = Dispatch(1), Hand()
    warm(dispatch, 1.0, 10)
    for number in range(10):
        dispatch.add(entry(number))
    assert len(dispatch.fill(hand, 0.0)) == 1
    assert dispatch.fill(hand, 0.0) == []


def test_worker_takes_no_more_than_its_part_of_what_waits() -> None:
    dispatch = Dispatch(4)
    warm(dispatch, 1e-6)
    for number in range(40):
        dispatch.add(entry(number))
    assert len(dispatch.fill(Hand(), 0.0)) == 10


def test_hand_that_runs_low_is_filled_again() -> None:
    dispatch, hand = Dispatch(1), Hand()
    warm(dispatch, TARGET_SECONDS / 8)
    for number in range(100):
        dispatch.add(entry(number))
    given = dispatch.fill(hand, 0.0)
    assert dispatch.fill(hand, 0.0) == []
    for each in given[:5]:
        dispatch.ended(each, TARGET_SECONDS / 8)
    assert len(dispatch.fill(hand, 0.0)) == 5


def test_order_of_an_unmeasured_component_does_not_wait_behind_others() -> None:
    dispatch, hand = Dispatch(1), Hand()
    warm(dispatch, 1e-6)
    dispatch.add(entry(0))
    dispatch.add(entry(1, MEET))
    assert names(dispatch.fill(hand, 0.0)) == ["0"]
    assert dispatch.fill(hand, 0.0) == []


def test_silent_worker_is_asked_once_for_what_it_has_not_begun() -> None:
    dispatch, hand = Dispatch(2), Hand()
    warm(dispatch, 1e-6)
    for number in range(8):
        dispatch.add(entry(number))
    given = dispatch.fill(hand, 10.0)
    assert dispatch.overdue(10.0 + PATIENCE_SECONDS / 2) == []
    assert dispatch.next_look_seconds(10.0) == pytest.approx(PATIENCE_SECONDS)
    assert dispatch.overdue(10.0 + 2 * PATIENCE_SECONDS) == [hand]
    assert dispatch.overdue(11.0) == []
    dispatch.give_back(given[1:])
    assert dispatch.fill(hand, 11.0) == []
    assert names(dispatch.fill(Hand(), 11.0))[0] == "1"


def test_what_was_given_back_is_handed_first_and_in_order() -> None:
    dispatch, hand = Dispatch(1), Hand()
    warm(dispatch, 1e-6)
    for number in range(6):
        dispatch.add(entry(number))
    given = dispatch.fill(hand, 0.0)
    dispatch.give_back(given[3:])
    for each in given[:3]:
        dispatch.ended(each)
    assert names(dispatch.fill(hand, 0.0)) == ["3", "4", "5"]


def test_suspects_of_a_death_are_handed_alone() -> None:
    dispatch, hand = Dispatch(1), Hand()
    warm(dispatch, 1e-6)
    for number in range(6):
        dispatch.add(entry(number))
    dispatch.give_back(dispatch.fill(hand, 0.0)[:3], alone=True)
    for expected in ("0", "1", "2"):
        for each in list(hand.entries.values()):
            dispatch.ended(each)
        assert names(dispatch.fill(hand, 0.0)) == [expected]


def test_no_more_workers_are_busy_than_there_are_slots() -> None:
    dispatch = Dispatch(2)
    for number in range(5):
        dispatch.add(entry(number))
    hands = [Hand() for _ in range(3)]
    assert [len(dispatch.fill(hand, 0.0)) for hand in hands] == [1, 1, 0]


def test_known_attempt_is_not_added_again() -> None:
    dispatch = Dispatch(1)
    assert dispatch.add(entry(1))
    assert not dispatch.add(entry(1))
    assert len(dispatch.fill(Hand(), 0.0)) == 1


def test_canceled_order_that_waits_is_never_handed() -> None:
    dispatch = Dispatch(2)
    for number in range(3):
        dispatch.add(entry(number))
    first = dispatch.entry("run/0#1")
    assert first is not None
    dispatch.ended(first)
    assert names(dispatch.fill(Hand(), 0.0)) == ["1"]


def test_last_slot_goes_to_the_oldest_order_whatever_worker_it_wants() -> None:
    dispatch, threads = Dispatch(1), Hand()
    dispatch.add(entry(0))
    running = dispatch.take(threads)
    dispatch.add(entry(1, kind="process"))
    dispatch.add(entry(2))
    assert running is not None
    dispatch.ended(running)
    assert dispatch.take(threads) is None
    assert names(dispatch.fill(Hand("process"), 0.0)) == ["1"]


def test_request_that_does_not_fit_waits() -> None:
    dispatch = Dispatch(4, Budget(cpus=2))
    for number in range(3):
        dispatch.add(entry(number, request=Request(cpus=1)))
    hands = [Hand() for _ in range(3)]
    assert [len(dispatch.fill(hand, 0.0)) for hand in hands] == [1, 1, 0]
    dispatch.ended(next(iter(hands[0].entries.values())))
    assert names(dispatch.fill(hands[2], 0.0)) == ["2"]


def test_stream_of_small_requests_does_not_keep_a_large_one_waiting() -> None:
    dispatch, hands = Dispatch(8, Budget(cpus=4)), [Hand() for _ in range(8)]
    begun = []
    for number in range(4):
        dispatch.add(entry(number, request=Request(cpus=1)))
        begun += dispatch.fill(hands[number], 0.0)
    dispatch.add(entry(4, request=Request(cpus=4)))
    for number in range(5, 20):  # each of these would fit whenever one of the first ends
        dispatch.add(entry(number, request=Request(cpus=1)))
    for ended in begun:
        assert [names(dispatch.fill(hand, 0.0)) for hand in hands[4:]] == [[]] * 4
        dispatch.ended(ended)
    assert names(dispatch.fill(hands[0], 0.0)) == ["4"]


def test_order_that_asks_for_nothing_passes_a_request_that_waits() -> None:
    dispatch = Dispatch(2, Budget(cpus=1))
    dispatch.add(entry(0, request=Request(cpus=1)))
    dispatch.fill(Hand(), 0.0)
    dispatch.add(entry(1, request=Request(cpus=1)))
    dispatch.add(entry(2))
    assert names(dispatch.fill(Hand(), 0.0)) == ["2"]


class Machine:
    """Workers that begin, end, die and are asked back at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.slots = self.random.randint(1, 4)
        self.dispatch = Dispatch(self.slots, Budget(cpus=4, gpus=(0, 1)))
        self.hands = [Hand(self.random.choice([None, "process"])) for _ in range(6)]
        self.added: list[str] = []
        self.ended: list[str] = []
        self.now = 0.0

    def step(self) -> None:
        self.now += self.random.random() / 100
        do = self.random.choice([self.add, self.fill, self.fill, self.end, self.end, self.back])
        do()
        self.check()

    def add(self) -> None:
        wants = self.random.choice([Request(), Request(), Request(cpus=self.random.randint(1, 4)), Request(gpus=1)])
        number = len(self.added)
        new = entry(number, self.random.choice([ECHO, MEET]), self.random.choice([None, "process"]), wants)
        assert self.dispatch.add(new)
        self.added.append(new.order.attempt_id)

    def fill(self) -> None:
        hand = self.random.choice(self.hands)
        if hand.kind is None and not hand.entries:
            self.dispatch.take(hand)
        elif hand.kind is not None:
            self.dispatch.fill(hand, self.now)

    def end(self) -> None:
        busy = [hand for hand in self.hands if hand.entries]
        if busy:
            first = next(iter(self.random.choice(busy).entries.values()))
            self.ended.append(first.order.attempt_id)
            self.dispatch.ended(first, self.random.choice([1e-6, 1e-3, 1.0]))

    def back(self) -> None:
        for hand in self.dispatch.overdue(self.now):
            self.dispatch.give_back(list(hand.entries.values())[1:], alone=self.random.random() < 0.3)

    def check(self) -> None:
        in_hands = [each for hand in self.hands for each in hand.entries.values()]
        assert sum(bool(hand.entries) for hand in self.hands) == self.dispatch.busy <= self.slots
        assert len({each.order.attempt_id for each in in_hands}) == len(in_hands)
        assert sum(each.request.cpus for each in in_hands) <= 4
        gpus = [index for each in in_hands for index in each.gpus]
        assert len(gpus) == len(set(gpus))
        for hand in self.hands:
            assert len(hand.entries) == 1 or not any(each.alone for each in hand.entries.values())
            assert all(each.kind == hand.kind for each in hand.entries.values())


@given(st.integers(0, 1 << 32))
def test_every_order_ends_once_whatever_the_workers_do(seed: int) -> None:
    machine = Machine(seed)
    for _ in range(200):
        machine.step()
    for _ in range(5000):
        if len(machine.ended) == len(machine.added):
            break
        for hand in machine.hands:
            if hand.kind is None:
                if not hand.entries:
                    machine.dispatch.take(hand)
            else:
                machine.dispatch.fill(hand, machine.now)
        machine.end()
        machine.check()
    kinds = {hand.kind for hand in machine.hands}
    waiting = [each for each in machine.dispatch.entries() if each.kind in kinds]
    if kinds == {None, "process"}:
        assert not waiting
        assert sorted(machine.ended) == sorted(machine.added)
