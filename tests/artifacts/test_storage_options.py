"""References to secrets in storage_options: where they become values, what a missing one says, what no message ever shows."""

from __future__ import annotations

import json
import pickle
import traceback
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from flowcore.artifacts.storage_options import resolved
from flowcore.artifacts.store import ArtifactStore
from flowcore.errors import StorageError
from flowcore.executor import WorkOrder
from flowcore.testing import bodies


class PickyFileSystem(MemoryFileSystem):
    """Says what it was given when it refuses it, as careless drivers do."""

    protocol: ClassVar[str] = "picky"
    cachable = False
    seen: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **options: Any) -> None:
        self.seen.append(options)
        if options.get("refuse"):
            raise ValueError(f"not good: {options}")
        super().__init__()


fsspec.register_implementation("picky", PickyFileSystem, clobber=True)


def test_references_become_values_at_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "k")
    (tmp_path / "secret").write_text("s s\n")
    options = {
        "key": {"env": "A_KEY"},
        "client_kwargs": {"inner": [{"file": str(tmp_path / "secret")}, 3]},
        "plain": {"env": "A_KEY", "other": 1},
        "number": 5,
        "odd": {"env": 5},
    }
    assert resolved(options, "s3://b") == {
        "key": "k", "client_kwargs": {"inner": ["s s", 3]}, "plain": {"env": "A_KEY", "other": 1}, "number": 5, "odd": {"env": 5},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"secret": {"env": "NOT_SET"}}, r"storage_options\['secret'\] refers to the environment variable 'NOT_SET'.* not set"),
        ({"a": {"b": [{"file": "/no/such"}]}}, r"storage_options\['a'\]\['b'\]\[0\] refers to the file '/no/such'.*No such file"),
        ({"a": {"file": "/"}}, r"storage_options\['a'\] refers to the file '/'.*Is a directory"),
    ],
)
def test_a_missing_secret_names_the_option_and_the_reference(option: dict[str, Any], named: str) -> None:
    with pytest.raises(StorageError, match=f"'memory://x': {named}.*wherever tasks run"):
        ArtifactStore("memory://x", option).check()


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe")
    with pytest.raises(StorageError, match=r"secret', which cannot be read here"):
        ArtifactStore("memory://x", {"secret": {"file": str(tmp_path / "secret")}}).check()


def test_references_stay_references_in_stores_and_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "resolved-value")
    options = {"secret": {"env": "A_SECRET"}}
    store = ArtifactStore("picky://x", options)
    store.check()
    assert PickyFileSystem.seen[-1] == {"secret": "resolved-value"}
    assert pickle.loads(pickle.dumps(store)).storage_options == options
    order = WorkOrder("1", "echo", bodies.echo.pipeline.root, {}, {}, storage_options=store.storage_options)
    assert "resolved-value" not in json.dumps(order.to_json()) + repr(order) + repr(store)


def test_literal_secrets_show_in_no_repr() -> None:
    store = ArtifactStore("picky://x", {"secret": "literal-value"})
    order = WorkOrder("1", "echo", bodies.echo.pipeline.root, {}, {}, storage_options=store.storage_options)
    assert "literal-value" not in repr(order) + repr(store)


@pytest.mark.parametrize("secret", ["literal-value", {"env": "A_SECRET"}])
def test_what_a_driver_says_about_its_options_is_masked(monkeypatch: pytest.MonkeyPatch, secret: Any) -> None:
    monkeypatch.setenv("A_SECRET", "resolved-value")
    with pytest.raises(StorageError, match=r"cannot be opened: ValueError: not good: .*plain.*\*\*\*") as caught:
        ArtifactStore("picky://x", {"refuse": "plain", "secret_token": secret}).check()
    told = "".join(traceback.format_exception(caught.value))
    assert "literal-value" not in told.replace(repr(secret), "")
    assert "resolved-value" not in told
