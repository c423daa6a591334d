"""A proxy that forwards requests, but answers those about one thing with a shape of ``fuzzed_answers``."""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.forwarding import HOP_BY_HOP, ask_upstream, read_body
from tests.servers.fuzzed_answers import Exchange
from tests.servers.threaded import ThreadedServer

if TYPE_CHECKING:
    from tests.servers.fuzzed_answers import Shape

_SECRET = re.compile(r"[A-Za-z0-9+/=_.-]{20,}$")


@dataclass(frozen=True, slots=True)
class _Plan:
    position: int
    shape: Shape
    once: bool


class FuzzingProxy(ThreadedServer):
    """The proxy, before a server on 127.0.0.1 (0: before none); a context manager.

    Attributes:
        asked: method and path of every request since ``begin``.
        fuzzed: how many got a fuzzed answer.
        secrets: signatures and tokens that came with requests, ever.
    """

    def __init__(self, upstream: int = 0) -> None:
        super().__init__(_Handler, "proxy")
        self.upstream = upstream
        self.asked: list[tuple[str, str]] = []
        self.fuzzed = 0
        self.secrets: set[str] = set()
        self._plan: _Plan | None = None
        self._lock = threading.Lock()

    def begin(self, position: int = -1, shape: Shape | None = None, *, once: bool = False) -> None:
        """Forget the requests so far, and plan for those that come.

        Args:
            position: which request gets the shape, counted from 0; and after it each with its method and path.
            shape: how it is answered; None: all are answered truly.
            once: answer that one request so, and its repetitions truly.
        """
        with self._lock:
            self.asked.clear()
            self.fuzzed = 0
            self._plan = None if shape is None else _Plan(position, shape, once)

    def shape_for(self, method: str, path: str) -> Shape | None:
        """How the request that has just come is to be answered; None: truly."""
        with self._lock:
            self.asked.append((method, path))
            plan = self._plan
            if plan is None or len(self.asked) <= plan.position:
                return None
            if len(self.asked) > plan.position + 1 and (plan.once or self.asked[plan.position] != (method, path)):
                return None
            self.fuzzed += 1
            return plan.shape


class _Handler(BaseHTTPRequestHandler):
    proxy: FuzzingProxy
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        shape = self.proxy.shape_for(self.command, self.path)
        body = read_body(self)
        for value in (self.headers.get("Authorization", ""), self.headers.get("x-amz-security-token", "")):
            self.proxy.secrets.update(_SECRET.findall(value))
        one = Exchange(self.command, self.path, dict(self.headers.items()))
        if shape is None or shape.forwards:
            one = self._forwarded(one, body)
        if shape is None:
            self._answer(one)
            return
        self.close_connection = True
        try:
            for data in shape.make(one):
                self.wfile.write(data)
            self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has heard enough

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``asked``."""

    def _forwarded(self, one: Exchange, body: bytes) -> Exchange:
        reply, data = ask_upstream(self.proxy.upstream, one.method, one.path, one.headers.items(), body)
        headers = {n: v for n, v in reply.getheaders() if n.lower() not in HOP_BY_HOP - {"content-length"}}
        return Exchange(one.method, one.path, one.headers, reply.status, headers, data)

    def _answer(self, one: Exchange) -> None:
        self.send_response_only(one.status)
        for name, value in one.answer_headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        told = next((value for name, value in one.answer_headers.items() if name.lower() == "content-length"), "0")
        if one.status != 204:
            self.send_header("Content-Length", told if one.method == "HEAD" else str(len(one.body)))
        self.end_headers()
        self.wfile.write(one.body)
