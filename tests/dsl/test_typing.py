"""``mypy --strict`` accepts what authors write, and knows what an output is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

AUTHOR = """
from typing import Dict, List, NamedTuple, Optional

import flowcore
from flowcore import dsl, kubernetes
from flowcore.dsl import Dataset, Input, InputPath, Metrics, Model, Output, OutputPath


class Split(NamedTuple):
    train: int
    test: int


@dsl.component
def numbers(count: int, scale: float = 1.0, names: Optional[List[str]] = None) -> List[int]:
    return list(range(count))


@dsl.component(base_image="python:3.12", packages_to_install=["pandas"])
def train(data: Input[Dataset], model: Output[Model], metrics: Output[Metrics], rate: float = 0.1) -> float:
    model.framework = "none"
    with open(data.path) as source, open(model.path, "w") as target:
        target.write(source.read())
    metrics.log_metric("accuracy", 0.5)
    return 0.5


@dsl.component
def write(data: Output[Dataset], note: OutputPath[str], config: Optional[Dict[str, float]] = None) -> None:
    with open(note, "w") as file:
        file.write("hello")


@dsl.component
def read(note: InputPath[Dataset]) -> int:
    return len(note)


@dsl.component
def split(rows: int) -> Split:
    return Split(rows, 0)


@dsl.component
async def later(value: float) -> bool:
    return value > 0


@dsl.pipeline
def inner(rows: int) -> int:
    return read(split(rows).outputs["train"]).output


@dsl.pipeline(name="typed", description="What authors write.")
def typed(rows: int = 3, rate: float = 0.1) -> List[float]:
    made = write()
    good = later(rate)
    with dsl.If(good.output & (rate > 0.5), name="good"):
        inner(rows).after(made)
    with dsl.Elif(~dsl.OneOf(good.output)):
        inner(rows)
    with dsl.Else():
        inner(rows)
    with dsl.ParallelFor([{"rate": 0.1}, {"rate": 0.2}], parallelism=2) as item:
        fitted = train(data=made.outputs["data"], rate=item.rate).set_retry(2, backoff_duration="1s").set_timeout(60)
    heavy = numbers(3).set_cpu_request("500m").set_cpu_limit(inner(rows).output).set_memory_limit("4G").set_env_variable("A", "b")
    heavy.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1).set_display_name("Heavy").set_limit("db")
    kubernetes.use_secret_as_env(heavy, secret_name="db", secret_key_to_env={"password": "PASSWORD"}).set_retry(1)
    kubernetes.add_toleration(kubernetes.mount_pvc(heavy, "data", "/data"), key="gpu", operator="Exists").after(made)
    reveal_type(kubernetes.set_timeout(heavy, 60).output)
    return dsl.Collected(fitted.output)


run = flowcore.run(typed, {"rows": 4})
print(run.outputs, typed.pipeline.to_mermaid(), split.python_func(3).train + 1)
reveal_type(fitted := train(data=Dataset(uri="/x")).output)
reveal_type(numbers(3).output)
reveal_type(split(3).output.train)
reveal_type(later(1.0).output)
"""
ROOT = Path(__file__).resolve().parents[2]


def test_mypy_strict_accepts_an_authors_file_and_knows_its_outputs(tmp_path: Path) -> None:
    (tmp_path / "author.py").write_text(AUTHOR)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(ROOT / ".mypy_cache"),
        str(tmp_path / "author.py"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert [line for line in lines if "author.py" in line or line.startswith("error")] == []
    assert lines == [
        'note: Revealed type is "list[int]"',
        'note: Revealed type is "float"',
        'note: Revealed type is "list[int]"',
        'note: Revealed type is "int"',
        'note: Revealed type is "bool"',
    ], done.stdout
