"""dask on its threaded scheduler with two threads: delayed calls, and a graph written by hand, its cheapest way."""

import dask
import dask.threaded
from work import identity, main


def fan(count):
    called = dask.delayed(identity)
    return lambda: dask.compute(*[called(number) for number in range(count)], scheduler="threads", num_workers=2)


def chain(count):
    called = dask.delayed(identity)
    task = called(1)
    for _ in range(count - 1):
        task = called(task)
    return lambda: task.compute(scheduler="threads", num_workers=2)


def graph_fan(count):
    names = [f"y{place}" for place in range(count)]
    graph = {name: (identity, place) for place, name in enumerate(names)}
    return lambda: dask.threaded.get(graph, names, num_workers=2)


def graph_chain(count):
    graph = {f"y{place}": (identity, f"y{place - 1}" if place else 1) for place in range(count)}
    return lambda: dask.threaded.get(graph, f"y{count - 1}", num_workers=2)


main("dask", {"delayed": {"fan": fan, "chain": chain}, "graph": {"fan": graph_fan, "chain": graph_chain}})
