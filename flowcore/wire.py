"""Frames between a driver and its worker processes: a length, then JSON. Nothing is pickled."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

from flowcore.executor import Event, WorkOrder, event_to_json

_LENGTH = struct.Struct("!Q")


def send(connection: socket.socket, message: Event | WorkOrder | dict[str, Any]) -> None:
    """Send one message.

    Raises:
        OSError: the other end is gone.
    """
    if isinstance(message, WorkOrder):
        plain = message.to_json()
    elif isinstance(message, dict):
        plain = message
    else:
        plain = event_to_json(message)
    body = json.dumps(plain, separators=(",", ":")).encode("utf-8", "surrogatepass")
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket, lives: Callable[[], bool] = lambda: True) -> dict[str, Any] | None:
    """The next message; None when the other end is gone, or ``lives`` says so while a receive timeout ran out."""
    head = _exactly(connection, _LENGTH.size, lives)
    body = None if head is None else _exactly(connection, _LENGTH.unpack(head)[0], lives)
    if body is None:
        return None
    message: dict[str, Any] = json.loads(body)
    return message


def _exactly(connection: socket.socket, count: int, lives: Callable[[], bool]) -> bytes | None:
    parts: list[bytes] = []
    gone = False
    while count:
        try:
            part = connection.recv(min(count, 1 << 20))
        except BlockingIOError:
            if gone:
                return None
            gone = not lives()  # once more: it may have sent its last words in between
            continue
        except OSError:
            return None
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
