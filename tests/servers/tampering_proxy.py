"""A proxy that forwards requests and lets a test answer, or change, those that it chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.forwarding import HOP_BY_HOP, ask_upstream
from tests.servers.threaded import ThreadedServer


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A request as it came in; ``path`` with its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class ProxyAnswer:
    """What to answer in the server's place."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class TamperingProxy(ThreadedServer):
    """The proxy, before a server on 127.0.0.1 (0: before none); a context manager.

    Attributes:
        requests: all that came in.
        tamper: what to do with a request: answer it, forward another body, or (None) forward it as it is.
    """

    def __init__(self, upstream: int = 0) -> None:
        super().__init__(_Handler, "proxy")
        self.upstream = upstream
        self.requests: list[ProxyRequest] = []
        self.tamper: Callable[[ProxyRequest], ProxyAnswer | bytes | None] = lambda _: None


class _Handler(BaseHTTPRequestHandler):
    proxy: TamperingProxy
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = ProxyRequest(self.command, self.path, dict(self.headers.items()), body)
        self.proxy.requests.append(request)
        decided = self.proxy.tamper(request)
        answer = decided if isinstance(decided, ProxyAnswer) else self._forwarded(request, decided)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else str(len(answer.body))
        if answer.status != 204:
            self.send_header("Content-Length", length or "0")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``requests``."""

    def _forwarded(self, request: ProxyRequest, body: bytes | None) -> ProxyAnswer:
        sent = request.body if body is None else body
        reply, data = ask_upstream(self.proxy.upstream, request.method, request.path, request.headers.items(), sent)
        return ProxyAnswer(reply.status, dict(reply.getheaders()), data)
