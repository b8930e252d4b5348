"""The pipelines that are measured; importable, so that worker processes find their functions by name."""

from __future__ import annotations

from flowcore import dsl
from flowcore.dsl.pipeline import PipelineFunction


def identity(x: int) -> int:
    return x


noop = dsl.component(identity)


@dsl.pipeline
def fan(items: list) -> None:  # type: ignore[type-arg]
    with dsl.ParallelFor(items) as item:
        noop(x=item)


def chain(length: int) -> PipelineFunction[..., int]:
    """A pipeline of ``length`` tasks, each reading the one before."""

    @dsl.pipeline(name="chain")
    def chained(x: int) -> int:
        task = noop(x=x)
        for _ in range(length - 1):
            task = noop(x=task.output)
        output: int = task.output
        return output

    return chained
