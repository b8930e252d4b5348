"""Fixtures for all: every test works in a folder of its own and leaves no thread. Hypothesis profiles: ci (default), deep."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.services.s3"]

# A shell starts what runs in its background with SIGINT ignored, which every child inherits: tests press Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("FLOWCORE_HYPOTHESIS", "ci"))


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default records and artifacts go to ``.flowcore`` of the working directory: give each test its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLOWCORE_RECORDS", raising=False)
    monkeypatch.delenv("FLOWCORE_PIPELINE_ROOT", raising=False)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """A body that outlived its cancel may end a moment after the test released it; nothing else may be there at all."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("flowcore")]
    for thread in left:
        thread.join(timeout=10)
    assert not [thread.name for thread in left if thread.is_alive()]
