"""What proxies before a test server have in common: reading a request whole, and asking the server the same."""

from __future__ import annotations

import contextlib
import http.client
from typing import TYPE_CHECKING

from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from http.server import BaseHTTPRequestHandler

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "expect"})
"""Headers that are not passed on."""


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The body of the request that a handler has the head of, in chunks or not."""
    if handler.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    data = bytearray()
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        data += handler.rfile.read(size)
        handler.rfile.readline()
    while handler.rfile.readline().strip():
        pass
    return bytes(data)


def ask_upstream(
    port: int, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes
) -> tuple[http.client.HTTPResponse, bytes]:
    """Ask the server on a port of 127.0.0.1 the same; its answer, and the body of that."""
    upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
    with contextlib.closing(upstream):
        upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                upstream.putheader(name, value)
        upstream.putheader("Content-Length", str(len(body)))
        upstream.endheaders(body)
        reply = upstream.getresponse()
        return reply, reply.read()
