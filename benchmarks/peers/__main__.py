"""Prints one table of flowcore and other libraries on the same work, each in its own environment. ``python -m benchmarks.peers``.

Environments are made once, under ``build/peers``, with pinned versions; measuring goes round the libraries in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parents[1] / "build" / "peers"
#: What is installed into each environment.
REQUIREMENTS = {
    "hamilton": "apache-hamilton==1.90.0",
    "dask": "dask==2026.8.0",
    "pipefunc": "pipefunc==0.93.2",
    "joblib": "joblib==1.6.0",
}


@dataclass(frozen=True)
class Peer:
    """One way to use a library. ``fan`` and ``chain`` are the largest sizes that it is given: where its cost of a task grows
    with their number, a smaller size is in its favour."""

    name: str
    variant: str
    records: str
    note: str = ""
    fan: int = 1_000_000
    chain: int = 1_000_000


OURS = "states, times, inputs, outputs, events; in a file"
PEERS = (
    Peer("flowcore", "inline", OURS),
    Peer("flowcore", "threads", OURS, "2 threads"),
    Peer("flowcore", "processes", OURS, "2 processes, started in each run"),
    Peer("hamilton", "nodes", "nothing", "one node a call, known before the run; recursive: no chain of 1,000", 1_000, 200),
    Peer("hamilton", "Parallelizable", "nothing", "items known in the run; synchronous executor", 1_000),
    Peer("dask", "delayed", "nothing", "2 threads; includes making the delayed calls", 1_000),
    Peer("dask", "graph", "nothing", "2 threads; a graph written by hand, known before the run"),
    Peer("pipefunc", "map", "results in memory", "parallel=False", chain=200),
    Peer("joblib", "threads", "nothing", "2 threads; no graph, so no chain"),
    Peer("joblib", "processes", "nothing", "2 loky processes kept between uses; no graph, so no chain"),
)


def interpreter(name: str, console: Console) -> str:
    """The interpreter of a peer's environment, which is made where it is missing or has another version; ours is this one."""
    if name == "flowcore":
        return sys.executable
    folder, requirement = ENVIRONMENTS / name, REQUIREMENTS[name]
    python, stamp = folder / "bin" / "python", folder / "requirement.txt"
    if not stamp.exists() or stamp.read_text() != requirement:
        console.print(f"Installing {requirement} into {folder} (once)", style="dim", highlight=False)
        venv.create(folder, clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", requirement]
        subprocess.run(install, check=True, stderr=subprocess.PIPE)
        stamp.write_text(requirement)
    return str(python)


def measure(peer: Peer, python: str, fan: int, chain: int, repeats: int) -> dict[str, Any]:
    """What a peer's own process says of one variant."""
    command = [python, str(HERE / f"with_{peer.name}.py"), peer.variant, str(fan), str(chain), str(repeats)]
    environment = dict(os.environ)
    if peer.name == "flowcore":
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), environment.get("PYTHONPATH", "")])
    else:
        environment.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="flowcore-bench-") as folder:
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        return {"error": (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def summary(peer: Peer, results: list[dict[str, Any]], fan: int, chain: int) -> dict[str, Any]:
    """Medians over the rounds, in microseconds a task; ``authoring`` is what is done once a pipeline, of the chain."""
    row: dict[str, Any] = {"peer": peer.name, "variant": peer.variant, "records": peer.records, "note": peer.note}
    if failed := [result["error"] for result in results if "error" in result]:
        return {**row, "error": failed[0]}
    row["version"] = results[0]["version"]
    for shape, count in (("fan", fan), ("chain", chain)):
        pairs = [pair for result in results for pair in result.get(shape, [])]
        if pairs:
            built, ran = zip(*pairs, strict=True)
            row[f"{shape}_authoring"] = statistics.median(built) / count * 1e6
            row[shape] = statistics.median(ran) / count * 1e6
            row[f"{shape}_count"] = count
    return row


def cell(row: dict[str, Any], shape: str, wanted: int) -> str:
    """Microseconds a task, with the size where it is not the one that the column names."""
    if shape not in row:
        return "–"
    count = row[f"{shape.removesuffix('_authoring')}_count"]
    return f"{row[shape]:,.1f}" + ("" if count == wanted else f" (of {count:,})")


def table_of(rows: list[dict[str, Any]], fan: int, chain: int) -> Table:
    table = Table(title="the same no-op calls, µs a task")
    headers = (
        "library", "way", f"fan-out of {fan:,}", f"chain of {chain:,}", "authoring the fan-out", "the chain", "records", "note",
    )  # fmt: skip
    for place, column in enumerate(headers):
        table.add_column(column, justify="right" if 2 <= place <= 5 else "left")
    for row in rows:
        if "error" in row:
            table.add_row(row["peer"], row["variant"], *[""] * 4, row["records"], f"failed: {row['error']}")
            continue
        sizes = {"fan": fan, "chain": chain, "fan_authoring": fan, "chain_authoring": chain}
        cells = [cell(row, shape, sizes[shape]) for shape in ("fan", "chain", "fan_authoring", "chain_authoring")]
        table.add_row(f"{row['peer']} {row['version']}", row["variant"], *cells, row["records"], row["note"])
    return table


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    names = sorted({peer.name for peer in PEERS})
    which = f"which to measure beside flowcore (default: all): {', '.join(names)}"
    parser.add_argument("peers", nargs="*", metavar="PEER", help=which)
    parser.add_argument("--quick", action="store_true", help="small sizes, whose figures mean little")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.peers if name not in names]:
        parser.error(f"there is no peer {', '.join(unknown)}; the peers are {', '.join(names)}")
    fan, chain, rounds, repeats = (500, 50, 1, 1) if options.quick else (10_000, 1_000, 3, 2)
    progress = Console(stderr=True)
    peers = [peer for peer in PEERS if not options.peers or peer.name in {"flowcore", *options.peers}]
    pythons = {peer.name: interpreter(peer.name, progress) for peer in peers}
    load = os.getloadavg()[0]
    results: dict[Peer, list[dict[str, Any]]] = {peer: [] for peer in peers}
    for number in range(rounds):
        for peer in peers:
            progress.print(f"round {number + 1} of {rounds}: {peer.name} {peer.variant}", style="dim", highlight=False)
            sizes = min(fan, peer.fan), min(chain, peer.chain)
            results[peer].append(measure(peer, pythons[peer.name], *sizes, repeats))
    rows = [summary(peer, found, min(fan, peer.fan), min(chain, peer.chain)) for peer, found in results.items()]
    if options.json:
        found = {"python": platform.python_version(), "cores": os.cpu_count(), "load": load, "peers": rows}
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    console = Console()
    console = Console(width=max(console.width, 170)) if not console.is_terminal else console
    console.print(table_of(rows, fan, chain))
    console.print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} at the start; "
        f"medians of {rounds * repeats}, libraries in turns. Only flowcore's runs are recorded.",
        style="dim",
        highlight=False,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
