"""Random nested pipelines under lost, late, duplicate, failing and canceled reports, against the naive interpreter."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from flowcore.graph import Dag, Pipeline
from flowcore.graph.checks import check_pipeline
from flowcore.run_state import TERMINAL, CancelRequested, RunState, RunStatus, TaskState
from tests.run_state.naive import Author, Fates, interpret
from tests.run_state.simulation import Simulation


@given(st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_any_run_ends_as_the_naive_interpreter_says(dice: random.Random, seed: int) -> None:
    root = Author(dice).component()
    check_pipeline(Pipeline(root))
    assert isinstance(root.implementation, Dag)
    fates = Fates(random=random.Random(seed))
    expected = interpret(root.implementation, {}, fates)
    simulation = Simulation(RunState(root, {}), fates, random.Random(seed + 1))
    finish = simulation.run()
    assert {path: state.value for path, state in simulation.states.items()} == expected.states
    assert finish.outputs == expected.outputs
    assert finish.status is (RunStatus.FAILED if expected.failed else RunStatus.SUCCEEDED)


@given(st.randoms(use_true_random=False), st.integers(0, 2**32), st.integers(0, 30))
def test_canceled_run_ends_and_submits_nothing_more(dice: random.Random, seed: int, cancel_at: int) -> None:
    root = Author(dice).component()
    simulation = Simulation(RunState(root, {}), Fates(random=random.Random(seed)), random.Random(seed + 1))
    simulation.obey(simulation.state.start())
    before: int | None = None
    while simulation.finish is None:
        if before is None and len(simulation.old) >= cancel_at:
            simulation.tell(CancelRequested())
            before = len(simulation.submitted)
        else:
            simulation.one_report()
    assert before is None or len(simulation.submitted) == before
    assert all(state in TERMINAL for state in simulation.states.values())


@given(st.randoms(use_true_random=False), st.integers(0, 2**32))
def test_run_that_stops_on_failure_ends_with_every_task_terminal(dice: random.Random, seed: int) -> None:
    root = Author(dice).component()
    state = RunState(root, {}, stop_on_failure=True)
    simulation = Simulation(state, Fates(random=random.Random(seed)), random.Random(seed + 1))
    finish = simulation.run()
    assert all(task in TERMINAL for task in simulation.states.values())
    failed = TaskState.FAILED in simulation.states.values()
    assert (finish.status is RunStatus.FAILED) == failed
