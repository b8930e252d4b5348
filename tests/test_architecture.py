"""The house as docs/architecture.md draws it: rooms, what each may import, what an import of flowcore loads, the public names."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

import flowcore
from flowcore import dsl, executors, testing

ROOT = Path(__file__).parents[1]


def rooms() -> dict[str, tuple[list[str], list[str]]]:
    """(modules, known rooms) by room, from the table."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (`.*`) \| ?(.*?) ?\|$", text, re.MULTILINE)
    return {room: (re.findall(r"`([\w.]+)`", names), [name for name in known.split(", ") if name]) for room, names, known in rows}


def room_of(module: str) -> str:
    """The room with the longest module name that holds ``module``."""
    found = [
        (len(name), room)
        for room, (names, _) in rooms().items()
        for name in names
        if module == name or (module.startswith(name + ".") and name != "flowcore")
    ]
    assert found, f"{module} is in no room of docs/architecture.md"
    return max(found)[1]


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("flowcore", exclude_type_checking_imports=True, cache_dir=None)


def test_every_module_imports_only_what_its_room_knows(imports: grimp.ImportGraph) -> None:
    pairs = [(module, other) for module in imports.modules for other in imports.find_modules_directly_imported_by(module)]
    known = {room: {room, *others} for room, (_, others) in rooms().items()}
    assert not [f"{module} imports {other}" for module, other in sorted(pairs) if room_of(other) not in known[room_of(module)]]


def test_contracts_of_import_linter_are_those_of_the_table() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    table = rooms()
    expected = {}
    for room, (modules, known) in table.items():
        strangers = [names for other, (names, _) in table.items() if other != room and other not in known]
        others = sorted(name for names in strangers for name in names if name != "flowcore")
        expected[room] = ([name for name in modules if name != "flowcore"], others)
    assert {contract["id"]: (contract["source_modules"], contract["forbidden_modules"]) for contract in configured} == {
        room: rule for room, rule in expected.items() if rule[1]
    }


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


DATA = {"ray", "kubernetes", "pyarrow", "networkx", "pandas", "numpy", "fsspec", "rich", "click"}
HEAVY = DATA | {"sqlite3", "asyncio", "cloudpickle"}


def test_import_of_flowcore_loads_nothing_heavy() -> None:
    assert not HEAVY & loaded_by("import flowcore")


def test_authoring_and_running_here_loads_no_data_library() -> None:
    statement = "from flowcore import Client, dsl; from flowcore.executors import LocalExecutor; Client(executor=LocalExecutor())"
    assert not DATA & loaded_by(statement)


def test_public_names_are_these() -> None:
    assert set(flowcore.__all__) == {
        "Client", "Pipeline", "Run", "RunStatus", "TaskState", "arun", "dsl", "errors", "executors", "kubernetes", "run",
        "submit",
    }  # fmt: skip
    assert set(executors.__all__) == {"LocalExecutor"}
    assert set(testing.__all__) == {"ExecutorConformance", "ScriptedExecutor", "StoreConformance", "run"}
    for module in (flowcore, dsl, executors, testing):
        for name in module.__all__:
            assert getattr(module, name) is not None


def test_function_run_is_not_hidden_by_a_module() -> None:
    program = "import flowcore.client, flowcore; flowcore.run.__call__; from flowcore import run; print(callable(run))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "True"
