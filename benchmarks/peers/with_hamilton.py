"""Hamilton: parameterized nodes, its cheapest way; and Parallelizable and Collect, its way for items known only in the run."""

from hamilton import ad_hoc_utils, driver
from hamilton.execution import executors
from hamilton.function_modifiers import parameterize, source, value
from hamilton.htypes import Collect, Parallelizable
from work import identity, main


def graph_of(names):
    @parameterize(**names)
    def node(x: int) -> int:
        return identity(x)

    return driver.Builder().with_modules(ad_hoc_utils.create_temporary_module(node)).build()


def fan(count):
    names = [f"node_{place}" for place in range(count)]
    graph = graph_of({name: {"x": value(place)} for place, name in enumerate(names)})
    return lambda: graph.execute(names).values()


def chain(count):
    graph = graph_of({f"node_{place}": {"x": source(f"node_{place - 1}" if place else "first")} for place in range(count)})
    last = f"node_{count - 1}"
    return lambda: graph.execute([last], inputs={"first": 1})[last]


def number(items: list) -> Parallelizable[int]:
    yield from items


def called(number: int) -> int:
    return identity(number)


def collected(called: Collect[int]) -> list:
    return list(called)


def dynamic_fan(count):
    graph = (
        driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(ad_hoc_utils.create_temporary_module(number, called, collected))
        .with_remote_executor(executors.SynchronousLocalTaskExecutor())
        .build()
    )
    items = list(range(count))
    return lambda: graph.execute(["collected"], inputs={"items": items})["collected"]


main("apache-hamilton", {"nodes": {"fan": fan, "chain": chain}, "Parallelizable": {"fan": dynamic_fan}})
