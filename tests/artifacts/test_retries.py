"""Which failures are tried again, how often, and what the last one says."""

from __future__ import annotations

import errno

import pytest

from flowcore.artifacts.retries import TRIES, ShortRead, again, is_transient
from flowcore.errors import StorageError


class ClientPayloadError(Exception):
    """As a driver names its own."""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EBUSY, "503"), OSError(errno.EIO, "?"), ConnectionResetError(), TimeoutError(), ClientPayloadError(),
        ShortRead("3 of 4"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_may_pass_is_tried_again(error: Exception) -> None:
    left = [error, error]

    def call() -> str:
        if left:
            raise left.pop()
        return "done"

    assert is_transient(error)
    assert again(call) == "done"


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(), PermissionError(), OSError(errno.ENOSPC, "full"), OSError(errno.EINVAL, "?"), ValueError(),
        StorageError("x"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_refused_is_not_tried_again(error: Exception) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        again(call)
    assert len(calls) == 1


def test_the_last_failure_tells_how_often_it_was_tried() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise ConnectionResetError(f"number {len(calls)}")

    with pytest.raises(ConnectionResetError, match=f"number {TRIES}") as caught:
        again(call)
    assert caught.value.__notes__ == [f"after {TRIES} tries"]
