"""pipefunc: a fan-out as a map over a mapspec and a chain of functions, both in this process without its process pool."""

from itertools import pairwise

from pipefunc import PipeFunc, Pipeline
from work import identity, main


def fan(count):
    pipeline = Pipeline([PipeFunc(identity, output_name="y", mapspec="x[i] -> y[i]")])
    items = list(range(count))
    return lambda: pipeline.map({"x": items}, parallel=False, show_progress=False)["y"].output


def chain(count):
    names = ["first", *(f"y{place}" for place in range(count))]
    pipeline = Pipeline([PipeFunc(identity, output_name=y, renames={"x": x}) for x, y in pairwise(names)])
    last = f"y{count - 1}"
    return lambda: pipeline.map({"first": 1}, parallel=False, show_progress=False)[last].output


main("pipefunc", {"map": {"fan": fan, "chain": chain}})
