"""A small HTTP proxy that fails at chosen requests, in front of a server that does not. It changes nothing else."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

BUSY = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>ServiceUnavailable</Code>'
    b"<Message>Please try again later.</Message></Error>"
)


@dataclass
class Fault:
    """What goes wrong with the next ``times`` requests whose "METHOD path?query" holds each of ``words``.

    ``action`` is "503"; "reset", before the server sees the request; "lose", a reset in the place of the server's answer;
    "truncate", the answer's head and half of its body, then a reset; "flip", one bit of the body changed; "short", half of the
    body with a head that says so.
    """

    action: str
    words: tuple[str, ...]
    times: int = 1


@dataclass
class FaultProxy:
    """Forwards to ``target``; ``requests`` holds the "METHOD path?query" of all that came, ``fail`` adds a fault."""

    target: str
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    #: Called with each request before it is forwarded, in the proxy's thread.
    watch: Callable[[str], None] = lambda request: None

    def fail(self, action: str, *words: str, times: int = 1) -> None:
        self.faults.append(Fault(action, words, times))

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, name="fault-proxy", kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def next_fault(self, request: str) -> str | None:
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and all(word in request for word in fault.words):
                    fault.times -= 1
                    return fault.action
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Silent."""

    def forward(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = f"{self.command} {self.path}"
        action = proxy.next_fault(request)
        proxy.watch(request)
        if action == "503":
            self.answer(503, [("Content-Type", "application/xml")], BUSY)
            return
        if action == "reset":
            self.reset()
            return
        place = urlsplit(proxy.target)
        connection = http.client.HTTPConnection(place.hostname or "", place.port)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        hop_by_hop = ("connection", "transfer-encoding")
        headers = [(name, value) for name, value in response.getheaders() if name.lower() not in hop_by_hop]
        if action == "lose":
            self.reset()
            return
        if action == "flip" and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if action == "short":
            content = content[: len(content) // 2]
            headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        if action == "truncate":
            self.answer(response.status, headers, content, sent=len(content) // 2)
            self.reset()
            return
        self.answer(response.status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815  http.server's names

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
        self.wfile.flush()

    def reset(self) -> None:
        """Close so that the other side sees a reset, not an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
