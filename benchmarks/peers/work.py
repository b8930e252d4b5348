"""The work that every peer does, how it is timed and told. Standard library only: it is run by each peer's own interpreter.

A peer gives functions (count) → (build) → (run) → result: what an author does once, what happens once a pipeline and once a
run. The result is compared with the right one, outside the timing.
"""

import gc
import importlib.metadata
import json
import sys
import time


def identity(x: int) -> int:
    return x


def main(package, variants):
    """Measure one variant: ``script VARIANT FAN CHAIN REPEATS`` prints JSON."""
    name, fan, chain, repeats = sys.argv[1], *map(int, sys.argv[2:])
    shapes = {"fan": (fan, list(range(fan))), "chain": (chain, 1)}
    result = {"version": importlib.metadata.version(package)}
    for shape, build in variants[name].items():
        count, right = shapes[shape]
        result[shape] = [timed(build, count, right) for _ in range(repeats + 1)][1:]  # the first one warms up
    print(json.dumps(result))


def timed(build, count, right):
    """(seconds to build, seconds to run)."""
    gc.collect()
    begin = time.perf_counter()
    run = build(count)
    built = time.perf_counter()
    found = run()
    end = time.perf_counter()
    found = list(found) if isinstance(right, list) else found
    assert found == right, f"wrong result: {found!r:.200}"
    return built - begin, end - built
