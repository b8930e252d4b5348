"""flowcore on the same work, recorded durably in a file, in the modes that the peers have."""

from work import main

import flowcore
from benchmarks.pipelines import chain as author_chain
from benchmarks.pipelines import noop
from flowcore import dsl
from flowcore.executors import LocalExecutor


def fan_in(mode):
    def fan(count):
        @dsl.pipeline
        def fan_out(items: list) -> list:
            with dsl.ParallelFor(items) as item:
                task = noop(x=item)
            return dsl.Collected(task.output)

        items = list(range(count))
        executor = LocalExecutor(mode=mode, workers=None if mode == "inline" else 2)
        return lambda: next(iter(flowcore.run(fan_out, {"items": items}, executor=executor).outputs.values()))

    return fan


def chain_in(mode):
    def chain(count):
        pipeline = author_chain(count)
        executor = LocalExecutor(mode=mode, workers=None if mode == "inline" else 2)
        return lambda: next(iter(flowcore.run(pipeline, {"x": 1}, executor=executor).outputs.values()))

    return chain


main("flowcore", {mode: {"fan": fan_in(mode), "chain": chain_in(mode)} for mode in ("inline", "threads", "processes")})
