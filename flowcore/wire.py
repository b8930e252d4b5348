"""Frames between a driver and its worker processes: a length, then JSON. Nothing is pickled.

One frame holds many orders or many events. What the orders of one task share is sent to each worker once and then named by a
number; an attempt is named by the number of its handing. Reading an order changes nothing that later ones share.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flowcore.executor import (
    Event,
    Finished,
    Outcome,
    Output,
    Reported,
    Started,
    Status,
    WorkOrder,
    event_from_json,
    event_to_json,
)
from flowcore.graph import NO_SETTINGS

_LENGTH = struct.Struct("!Q")
_SUCCEEDED, _STARTED, _OTHER = 0, 1, 2

encode: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":")).encode


def decode(body: bytes) -> dict[str, Any]:
    """The message of a frame that ``send`` wrote."""
    message: dict[str, Any] = json.loads(body)
    return message


def frame(text: str) -> bytes:
    """A text as one frame."""
    body = text.encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(body)) + body


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message.

    Raises:
        OSError: the other end is gone.
    """
    connection.sendall(frame(encode(message)))


class Frames:
    """The frames of a stream of bytes that comes in pieces."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._have = 0
        self._wants = _LENGTH.size
        self._in_head = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take a piece; give the bodies of the frames that are whole now."""
        self._parts.append(data)
        self._have += len(data)
        while self._have >= self._wants:
            whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            body, rest = whole[: self._wants], whole[self._wants :]
            self._parts, self._have = [rest] if rest else [], len(rest)
            if self._in_head:
                self._wants = _LENGTH.unpack(body)[0]
            else:
                self._wants = _LENGTH.size
                yield body
            self._in_head = not self._in_head


class OrderWriter:
    """Writes orders for one worker."""

    def __init__(self) -> None:
        #: What each number stands for is held, since its parts are known by their identity.
        self._heads: dict[tuple[Any, ...], tuple[int, WorkOrder]] = {}

    def write(self, orders: Iterable[tuple[int, WorkOrder]]) -> bytes:
        """One frame of (number, order).

        Raises:
            TypeError, ValueError: an order holds what JSON cannot.
        """
        heads: list[Any] = []
        new: list[tuple[Any, ...]] = []
        rows: list[Any] = []
        known = self._heads
        try:
            for number, order in orders:
                settings = None if order.settings is NO_SETTINGS else order.settings
                key = (
                    id(order.component), id(order.code), settings, id(order.storage_options),
                    order.pipeline_root, order.seal_always, order.fetch_cache, order.fetch_cache_bytes,
                )  # fmt: skip
                head = known.get(key)
                if head is None:
                    head = known[key] = (len(known), order)
                    new.append(key)
                    plain = order.to_json()
                    for name in ("attempt_id", "task", "arguments", "artifacts", "output_uri"):
                        plain[name] = {} if name == "artifacts" else None
                    heads.append([head[0], plain])
                row = [number, head[0], order.attempt_id, order.task, order.arguments]
                if order.artifacts or order.output_uri is not None:
                    row += [order.to_json()["artifacts"], order.output_uri]
                rows.append(row)
            return frame(encode([heads, rows]))
        except BaseException:
            for key in new:
                del known[key]
            raise


class OrderReader:
    """Reads what an ``OrderWriter`` wrote."""

    def __init__(self) -> None:
        self._heads: dict[int, dict[str, Any]] = {}

    def read(self, body: bytes) -> list[tuple[int, WorkOrder | Exception]]:
        """(number, order) for each; an order that cannot be read is the error that says why."""
        heads, rows = json.loads(body)
        for place, head in heads:
            self._heads[place] = {"head": head}
        return [(row[0], self._order(*row[1:])) for row in rows]

    def _order(
        self, place: int, attempt_id: str, task: str, arguments: dict[str, Any], artifacts: Any = None, output_uri: Any = None
    ) -> WorkOrder | Exception:
        head = self._heads[place]
        try:
            shared: WorkOrder | None = head.get("order")
            if shared is None:
                shared = head["order"] = WorkOrder.from_json(head["head"])
            order = WorkOrder(
                attempt_id, task, shared.component, arguments, {}, shared.code, output_uri, shared.pipeline_root,
                shared.storage_options, shared.settings, shared.seal_always, None, shared.fetch_cache, shared.fetch_cache_bytes,
            )  # fmt: skip
            if artifacts:
                order.artifacts = WorkOrder.from_json({**head["head"], "artifacts": artifacts}).artifacts
        except Exception as error:  # noqa: BLE001  told as the outcome of this order
            return error
        return order


def event_text(number: int, event: Event) -> str:
    """An event of the handing ``number`` as one member of a list."""
    if type(event) is Started and event.execution is None:
        return f"[{_STARTED},{number}]"
    if type(event) is Finished:
        outcome = event.outcome
        if outcome.status is Status.SUCCEEDED and not outcome.artifacts and outcome.execution is None and not event.outlived:
            return encode([_SUCCEEDED, number, outcome.started_at, outcome.finished_at, outcome.parameters])
    plain = event_to_json(event)
    del plain["attempt_id"]
    return f"[{_OTHER},{number},{encode(plain)}]"


def read_events(body: bytes) -> list[list[Any]]:
    """The events of a frame, each for ``event_of``; its second member is the number of its handing."""
    events: list[list[Any]] = json.loads(body)
    return events


def event_of(attempt_id: str, where: str, row: list[Any]) -> Event:
    """One event; ``where`` the worker is."""
    kind = row[0]
    if kind == _STARTED:
        return Started(attempt_id, where)
    if kind == _SUCCEEDED:
        _, _, started_at, finished_at, parameters = row
        outcome = Outcome(Status.SUCCEEDED, parameters, started_at=started_at, finished_at=finished_at)
        return Finished(attempt_id, outcome)
    event = event_from_json({**row[2], "attempt_id": attempt_id})
    if isinstance(event, Output | Reported | Started | Finished):
        return event
    raise ValueError(f"a worker told {type(event).__name__}, which is its driver's to say")
