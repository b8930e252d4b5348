"""``flowcore.testing.run``: what users' own tests rest on."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from flowcore import dsl, testing
from flowcore.dsl import Dataset, Input, Model, Output
from flowcore.errors import RunFailed, UsageError, ValueEncodingError


class Score(NamedTuple):
    accuracy: float
    label: str


@dsl.component
def load(rows: int, table: Output[Dataset]) -> None:
    raise ConnectionError("the warehouse is not for tests")


@dsl.component(packages_to_install=["no-such-package>=9"])
def train(table: Input[Dataset], rate: float, model: Output[Model]) -> float:
    raise MemoryError("takes hours")


@dsl.component
def judge(accuracy: float, rate: float = 0.5) -> Score:
    return Score(accuracy, "good" if accuracy > rate else "bad")


@dsl.component
def say(label: str) -> str:
    return label.upper()


@dsl.pipeline
def learning(rows: int = 3) -> str:
    table = load(rows=rows).outputs["table"]
    with dsl.ParallelFor([0.1, 0.2], name="rates") as rate:
        train(table=table, rate=rate)
    best = train(table=table, rate=0.3).set_limit("gpu").set_retry(1)
    judged = judge(accuracy=best.outputs["Output"])
    return say(label=judged.outputs["label"]).output


def fake_load(rows: int, table: Any) -> None:
    Path(table.path).write_text("\n".join(map(str, range(rows))))


def fake_train(table: Any, rate: float, model: Any) -> float:
    model.save({"rows": len(Path(table.path).read_text().split("\n")), "rate": rate})
    return rate * 3


def test_fakes_get_decoded_arguments_and_artifacts_and_the_rest_runs_for_real() -> None:
    run = testing.run(learning, {"rows": 4}, replace={"load": fake_load, "train": fake_train})
    assert run.output == "GOOD"
    assert run.tasks["rates.1/train"].outputs["model"].load() == {"rows": 4, "rate": 0.2}
    assert run.tasks["judge"].outputs == {"accuracy": pytest.approx(0.9), "label": "good"}


def test_path_replaces_one_task_and_comes_before_the_components_name() -> None:
    rates: list[float] = []

    def note(table: Any, rate: float, model: Any) -> float:
        rates.append(rate)
        return 0.0

    testing.run(learning, replace={"load": fake_load, "train": fake_train, "rates/train": note})
    assert rates == [0.1, 0.2]


def test_values_stand_for_what_tasks_return() -> None:
    fakes = {"load": fake_load, "train": fake_train, "judge": {"accuracy": 0.1, "label": "odd"}, "say": "!"}
    run = testing.run(learning, replace=fakes)
    assert run.tasks["judge"].outputs == {"accuracy": 0.1, "label": "odd"}
    assert run.output == "!"


def test_mocks_and_components_can_stand_for_tasks() -> None:
    @dsl.component
    def whisper(label: str) -> str:
        return label.lower()

    judged = mock.Mock(return_value=(0.5, "SO"))
    run = testing.run(learning, replace={"load": fake_load, "train": fake_train, "judge": judged, "say": whisper})
    assert run.output == "so"
    judged.assert_called_once_with(accuracy=pytest.approx(0.9), rate=0.5)


def test_nothing_is_left_once_the_run_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run = testing.run(learning, replace={"load": fake_load, "train": fake_train})
    table = Path(run.tasks["load"].outputs["table"].path)
    assert table.exists()
    assert table.is_relative_to(tmp_path)
    del run
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_failure_is_raised_or_can_be_looked_at() -> None:
    with pytest.raises(RunFailed, match="the warehouse is not for tests"):
        testing.run(learning, replace={"train": fake_train})
    run = testing.run(learning, raise_on_failure=False, replace={"load": fake_load, "train": fake_train, "judge": 3})
    assert run.failures["judge"].type == ValueEncodingError.__name__


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tran": 1}, r"pipeline 'learning' has no such component or task; the nearest are 'train'"),
    ({"rates/trian": 1}, r"the nearest are 'rates/train'"),
    ({"say": lambda text: text}, r"<lambda>\(text\) cannot be called as component 'say', with parameters \(label\)"),
    ({"load": fake_train}, r"task 'load': fake_train\(.*cannot be called as component 'load', with .*\(rows, table\): missing"),
    ({"train": 0.9}, r"0.9 is a value, but component 'train' writes model; replace it by a function"),
]


@pytest.mark.parametrize(("replace", "text"), WRONG, ids=[next(iter(replace)) for replace, _ in WRONG])
def test_replacement_that_does_not_fit_is_refused_before_anything_runs(replace: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        testing.run(learning, replace=replace)
