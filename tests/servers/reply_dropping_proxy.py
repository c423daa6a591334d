"""A proxy that forwards requests and, when told to, cuts the line after the write landed: the reply is lost."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.forwarding import HOP_BY_HOP, ask_upstream, read_body
from tests.servers.threaded import ThreadedServer


class ReplyDroppingProxy(ThreadedServer):
    """The proxy, before a server on 127.0.0.1; a context manager.

    Attributes:
        dropped: method and path of the requests whose replies were lost.
    """

    def __init__(self, upstream: int) -> None:
        super().__init__(_Handler, "proxy")
        self.upstream = upstream
        self.dropped: list[tuple[str, str]] = []
        self._wanted: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def drop(self, method: str, match: str, *, times: int = 1) -> None:
        """Lose the replies to the next ``times`` successful requests of this method whose URL has ``match``."""
        with self._lock:
            self._wanted += [(method, match)] * times

    def drops(self, method: str, path: str, status: int) -> bool:
        """Whether this reply is to be lost; then it is counted."""
        with self._lock:
            for wanted in self._wanted:
                if (status < 300 or status == 308) and method == wanted[0] and wanted[1] in path:
                    self._wanted.remove(wanted)
                    self.dropped.append((method, path))
                    return True
        return False


class _Handler(BaseHTTPRequestHandler):
    proxy: ReplyDroppingProxy
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS

    def _forward(self) -> None:
        body = read_body(self)
        reply, data = ask_upstream(self.proxy.upstream, self.command, self.path, self.headers.items(), body)
        if self.proxy.drops(self.command, self.path, reply.status):
            self.close_connection = True
            return
        self.send_response_only(reply.status, reply.reason)
        for name, value in reply.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        length = reply.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        if length is not None and reply.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _forward  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""
