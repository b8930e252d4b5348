"""The rows of the engine: recorded no-op tasks in each local mode, how their cost grows, the state machine alone, authoring."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import flowcore
from benchmarks import floors
from benchmarks.figures import Figure, in_turns, seconds, timed
from benchmarks.pipelines import chain, fan
from flowcore.client import Client
from flowcore.executor import Finished, Outcome, Started, Status
from flowcore.executors import LocalExecutor
from flowcore.run_commands import Command, Submit
from flowcore.run_state import RunState

Mode = Literal["inline", "threads", "processes"]
MODES: tuple[Mode, ...] = ("inline", "threads", "processes")
BUILD = "graphlib build and execute"


@dataclass(frozen=True)
class Sizes:
    """How much is measured; ``quick`` takes about half a minute and its ratios mean little."""

    repeats: int = 5
    fan: int = 10_000
    chain: int = 1_000
    many: int = 100_000
    few: int = 1_000
    authored: int = 10_000
    runs: int = 100
    history: int = 5_000
    arrow_bytes: int = 800_000_000
    s3_bytes: int = 1_000_000_000


QUICK = Sizes(
    repeats=2, fan=1_000, chain=200, many=5_000, few=500, authored=1_000, runs=40, history=500,
    arrow_bytes=20_000_000, s3_bytes=20_000_000,
)  # fmt: skip


def _executor(mode: Mode) -> LocalExecutor:
    return LocalExecutor(mode=mode, workers=None if mode == "inline" else 2)


def fan_out(sizes: Sizes) -> Iterator[Figure]:
    """ParallelFor over no-op typed components, recorded durably."""
    count, items = sizes.fan, list(range(sizes.fan))
    per_task = 1e6 / count
    for mode in MODES:
        executor = _executor(mode)
        flowcore.run(fan, {"items": [1]}, executor=executor)
        if mode == "processes":
            floors.loky(count)
        what = f"fan-out of {count:,}, {mode}{'' if mode == 'inline' else '(2)'}"
        ours, floor, loky = in_turns(
            sizes.repeats,
            timed(lambda: flowcore.run(fan, {"items": items}, executor=executor)),  # noqa: B023
            lambda: floors.build_and_execute(count),
            lambda: floors.loky(count) if mode == "processes" else 0.0,  # noqa: B023
        )
        yield Figure(what, "µs/task", ours * per_task, floor * per_task, BUILD, must=15, aim=8)
        if mode == "processes":
            note = "ours starts its workers in each run, loky keeps its own"
            yield Figure(what, "µs/task", ours * per_task, loky * per_task, "joblib loky, n_jobs=2", must=4, note=note)


def chained(sizes: Sizes) -> Iterator[Figure]:
    """A chain of no-op tasks, each reading the one before, recorded durably."""
    count, pipeline = sizes.chain, chain(sizes.chain)
    for mode in MODES:
        executor = _executor(mode)
        flowcore.run(pipeline, {"x": 1}, executor=executor)
        ours, floor = in_turns(
            sizes.repeats,
            timed(lambda: flowcore.run(pipeline, {"x": 1}, executor=executor)),  # noqa: B023
            lambda: floors.build_and_execute(count, chained=True),
        )
        limits = {"must": 15, "aim": 6} if mode == "inline" else {}
        what = f"chain of {count:,}, {mode}{'' if mode == 'inline' else '(2)'}"
        yield Figure(what, "µs/task", ours / count * 1e6, floor / count * 1e6, BUILD, **limits)


def growth(sizes: Sizes) -> Iterator[Figure]:
    """The cost of a task of a large fan-out beside that of a small one, inline."""
    executor = _executor("inline")
    many, few = list(range(sizes.many)), list(range(sizes.few))
    flowcore.run(fan, {"items": few}, executor=executor)
    large, small = in_turns(
        min(sizes.repeats, 3),
        timed(lambda: flowcore.run(fan, {"items": many}, executor=executor)),
        lambda: statistics.median(seconds(lambda: flowcore.run(fan, {"items": few}, executor=executor)) for _ in range(5)),
    )
    what = f"a task of {sizes.many:,}, inline"
    yield Figure(what, "µs/task", large / sizes.many * 1e6, small / sizes.few * 1e6, f"a task of {sizes.few:,}", must=1.2)


def play(state: RunState, outcome: Outcome) -> None:
    """Run a state machine to its end with an executor that finishes each attempt at once."""
    todo: list[Command] = state.start()
    handle = state.handle
    while todo:
        commands: list[Command] = []
        for command in todo:
            if type(command) is Submit:
                attempt_id = command.attempt_id
                commands += handle(Started(attempt_id, "here"))
                commands += handle(Finished(attempt_id, outcome))
        todo = commands
    assert state.finished


def state_machine(sizes: Sizes) -> Iterator[Figure]:
    """``RunState`` alone with instantly finishing attempts beside graphlib's get_ready and done over the same graph."""
    outcome = Outcome(Status.SUCCEEDED, {"Output": 1})
    items, pipeline = list(range(sizes.many)), chain(sizes.authored)
    shapes = (
        ("fan-out", sizes.many, fan.pipeline.root, {"items": items}, False),
        ("chain", sizes.authored, pipeline.pipeline.root, {"x": 1}, True),
    )
    for name, count, root, inputs, is_chain in shapes:
        play(RunState(root, {**inputs}), outcome)
        ours, floor, build = in_turns(
            sizes.repeats,
            timed(lambda: play(RunState(root, {**inputs}), outcome)),  # noqa: B023
            lambda: floors.get_ready_and_done(count, chained=is_chain),  # noqa: B023
            lambda: floors.build_and_order(count, chained=is_chain),  # noqa: B023
        )
        note = f"{ours / build:.1f}× where graphlib's add and prepare count too"
        what = f"state machine alone, {name} of {count:,}"
        floor_is = "graphlib get_ready and done"
        yield Figure(what, "µs/task", ours / count * 1e6, floor / count * 1e6, floor_is, must=7, aim=5, note=note)


def authoring(sizes: Sizes) -> Iterator[Figure]:
    """Tracing a pipeline: the cost of a task of a long one beside that of one a tenth as long."""
    long, short = sizes.authored, sizes.authored // 10
    chain(short)
    ours, floor = in_turns(min(sizes.repeats, 3), timed(lambda: chain(long)), timed(lambda: chain(short)))
    what = f"authoring a chain of {long:,}"
    yield Figure(what, "µs/task", ours / long * 1e6, floor / short * 1e6, f"a chain of {short:,}", note="linear is 1.0×")


def repeated(sizes: Sizes) -> Iterator[Figure]:
    """Runs of a small pipeline one after another on one record: late ones beside the first, and beside a record of their own."""
    pipeline, window, executor = chain(5), sizes.runs // 5, _executor("inline")
    ours, apart = Client(records="grows.db"), Client(records="apart.db")

    def run_on(client: Client) -> float:
        return seconds(lambda: client.run(pipeline, {"x": 1}, executor=executor))

    for client in (ours, apart):
        run_on(client)
    costs = [run_on(ours) * 1e3 for _ in range(sizes.runs)]
    early, late = statistics.median(costs[:window]), statistics.median(costs[-window:])
    what = f"a run of 5 tasks, the last {window} of {sizes.runs}"
    yield Figure(what, "ms/run", late, early, f"the first {window}", note="no growth is 1.0×")
    for _ in range(sizes.history - sizes.runs):
        run_on(ours)
    late, early = in_turns(window, lambda: run_on(ours) * 1e3, lambda: run_on(apart) * 1e3)
    what = f"a run of 5 tasks after {sizes.history:,} others"
    yield Figure(what, "ms/run", late, early, "in a record of its own", note="no growth is 1.0×")
