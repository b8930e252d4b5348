"""Which failures of a storage pass by themselves, and a bounded number of tries. Knows no driver; never retries what is refused.

Drivers retry too (s3fs five times, botocore five times below it): here is for what they give up or do not cover.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from flowcore.errors import FlowcoreError

T = TypeVar("T")

TRIES = 4
GIVE_UP_SECONDS = 60.0
"""No new try starts later than this after the first, whatever the driver's own timeouts are."""

_FIRST_WAIT_SECONDS = 0.1
_TRANSIENT_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        "EBUSY", "EAGAIN", "EIO", "EREMOTEIO", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED", "EPIPE",
        "ENETDOWN", "ENETRESET", "ENETUNREACH", "EHOSTUNREACH", "EHOSTDOWN",
    )
    if hasattr(errno, name)
)  # fmt: skip
_TRANSIENT_NAMES = frozenset(
    {
        "HTTPClientError", "EndpointConnectionError", "ConnectionClosedError", "ConnectTimeoutError", "ReadTimeoutError",
        "ResponseStreamingError", "IncompleteReadError", "IncompleteRead", "ResponseParserError", "ClientPayloadError",
        "ClientConnectionError", "ServerDisconnectedError", "FSTimeoutError", "AioConnectTimeoutError", "HttpError",
        "ProtocolError", "FlexibleChecksumError", "ShortRead",
    }
)  # fmt: skip
"""Exceptions of drivers that are no core dependencies, by name."""


class ShortRead(OSError):
    """Fewer bytes came than were asked for and announced."""


def is_transient(error: BaseException) -> bool:
    """Whether the same call may work a moment later."""
    if isinstance(error, FlowcoreError | FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNOS:
        return True
    return any(kind.__name__ in _TRANSIENT_NAMES for kind in type(error).__mro__)


def again(call: Callable[[], T], tries: int = TRIES) -> T:
    """What ``call`` gives, tried anew where its failure may pass; the last failure tells in a note how often it was tried."""
    start, number = time.monotonic(), 1
    while True:
        try:
            return call()
        except Exception as error:
            if not is_transient(error) or number >= tries or time.monotonic() - start > GIVE_UP_SECONDS:
                if number > 1:
                    error.add_note(f"after {number} tries")
                raise
        time.sleep(_FIRST_WAIT_SECONDS * 3 ** (number - 1) * random.uniform(0.5, 1.0))
        number += 1
