"""A proxy on this machine before the real ones, for what obstore cannot be told. Loaded only where that matters.

It takes a proxy of its own to each address, and refuses those to which a redirection leads.
"""

from __future__ import annotations

import base64
import contextlib
import os
import select
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from modeldrop.util import http

if TYPE_CHECKING:
    from collections.abc import Iterable
    from urllib.parse import SplitResult

_CONNECT_SECONDS = 3.0
_HEAD_SECONDS = 15.0
_MAX_HEAD = 1 << 16
_CHUNK = 1 << 18
_OWN_HEADERS = (b"proxy-authorization", b"proxy-connection", b"connection")
REFUSED_PLAIN = "modeldrop: not an address of this registry"
"""The body of the answer to a plain request for another address, which is a 421."""

REFUSED_TUNNEL = "ProxyHeadersTooLong"
"""What obstore's error has in it where a tunnel to another address was refused: no other answer has that effect."""

_filters: dict[tuple[object, ...], ProxyFilter] = {}


def proxy_filter(only: Iterable[str] | None, certificates: str) -> str:
    """The address of a proxy that takes the way of ``modeldrop.util.http`` to each address; it ends with the process.

    Args:
        only: the addresses that may be asked; None: all.
        certificates: one more file of CAs to trust, where the real proxy speaks TLS, or "".
    """
    allowed = None if only is None else frozenset(_host_and_port(urlsplit(address)) for address in only)
    key = (os.getpid(), allowed, certificates)
    if key not in _filters:
        _filters[key] = ProxyFilter(allowed, certificates)
    return _filters[key].url


class ProxyFilter:
    """Listens on 127.0.0.1 for this process alone: whoever connects must know a secret.

    Args:
        allowed: hosts and ports that may be asked; None: all.
        certificates: as for ``proxy_filter``.

    Attributes:
        url: its address, with the secret.
    """

    def __init__(self, allowed: frozenset[tuple[str, int]] | None, certificates: str) -> None:
        self._allowed = allowed
        self._certificates = certificates
        secret = os.urandom(24).hex()
        self._secret = base64.b64encode(f"modeldrop:{secret}".encode())
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://modeldrop:{secret}@127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, name="modeldrop-proxy-filter", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue  # it hung up, or there are no descriptors left just now
            try:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()
            except RuntimeError:  # no more threads
                client.close()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as opened:
            opened.enter_context(client)
            try:
                client.settimeout(_HEAD_SECONDS)
                server = self._passed_on(client, *_read_head(client), opened)
            except (OSError, ValueError):
                # A reset, and no end: it was not the proxy that refused.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                return
            if server is not None:
                _pump(client, server)

    def _passed_on(
        self, client: socket.socket, head: bytes, rest: bytes, opened: contextlib.ExitStack
    ) -> socket.socket | None:
        """What is to be connected with the client, after its first request has been passed on; None: it was refused."""
        lines = head.split(b"\r\n")
        method, target, version = lines[0].split(b" ")
        tunnel = method == b"CONNECT"
        known = any(_is_header(line, b"proxy-authorization") and line.endswith(self._secret) for line in lines)
        url = f"https://{target.decode('ascii')}" if tunnel else target.decode("ascii")
        parts = urlsplit(url)
        # obstore does not tell the secret again where a redirection leads, but for tunnels.
        if not known or (self._allowed is not None and _host_and_port(parts) not in self._allowed):
            client.sendall(_refusal(tunnel=tunnel))
            return None
        proxy = http.proxy_for(url)
        server = self._connect_proxy(proxy, opened) if proxy else _connect(parts, opened)
        if tunnel:
            refusal = _ask_for_tunnel(server, proxy, target) if proxy else b""
            client.sendall(refusal or b"HTTP/1.1 200 OK\r\n\r\n")
            return None if refusal else server
        if not proxy:
            target = (f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/").encode("ascii")
        kept = [line for line in lines[1:] if not any(_is_header(line, name) for name in _OWN_HEADERS)]
        # One request for each connection: the next may be for another address.
        lines = [b" ".join((method, target, version)), *kept, b"Connection: close", *_authorization(proxy), b"", rest]
        server.sendall(b"\r\n".join(lines))
        return server

    def _connect_proxy(self, proxy: str, opened: contextlib.ExitStack) -> socket.socket:
        parts = urlsplit(proxy)
        connection = _connect(parts, opened)
        if parts.scheme != "https":
            return connection
        context = http.client_tls(http.ca_bundle(self._certificates))
        return opened.enter_context(context.wrap_socket(connection, server_hostname=parts.hostname))


def _host_and_port(parts: SplitResult) -> tuple[str, int]:
    return (parts.hostname or "").rstrip("."), parts.port or http.PORTS.get(parts.scheme, 0)


def _ask_for_tunnel(server: socket.socket, proxy: str, target: bytes) -> bytes:
    """What a proxy says instead of making a tunnel; b"" if it has made one."""
    lines = [b"CONNECT %b HTTP/1.1" % target, b"Host: %b" % target, *_authorization(proxy), b"", b""]
    server.sendall(b"\r\n".join(lines))
    head, _ = _read_head(server)  # nothing comes after it before the client has spoken
    return b"" if head.split(b" ")[1:2] == [b"200"] else head + b"\r\n\r\n"


def _connect(to: SplitResult, opened: contextlib.ExitStack) -> socket.socket:
    connection = opened.enter_context(socket.create_connection(_host_and_port(to), _CONNECT_SECONDS))
    connection.settimeout(_HEAD_SECONDS)
    return connection


def _is_header(line: bytes, name: bytes) -> bool:
    return line.lower().startswith(name + b":")


def _authorization(proxy: str) -> list[bytes]:
    """The header with the user and the password in a proxy's address, if they are there."""
    parts = urlsplit(proxy)
    if not parts.username:
        return []
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return [b"Proxy-Authorization: Basic " + base64.b64encode(user.encode())]


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The lines before the first empty one, and what has come after it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(4096)
        if not more or len(data) > _MAX_HEAD:
            raise ConnectionResetError
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _refusal(*, tunnel: bool) -> bytes:
    if tunnel:
        return b"HTTP/1.1 200 " + b"." * (1 << 14)
    body = REFUSED_PLAIN.encode()
    return b"HTTP/1.1 421 Misdirected Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Pass on what comes from either, until either ends."""
    one.settimeout(None)
    other.settimeout(None)
    buffer = memoryview(bytearray(_CHUNK))
    with contextlib.suppress(OSError):
        while True:
            for ready in select.select((one, other), (), ())[0]:
                pending = True
                while pending:
                    count = ready.recv_into(buffer)
                    if not count:
                        return
                    (other if ready is one else one).sendall(buffer[:count])
                    pending = bool(getattr(ready, "pending", int)())  # TLS has read more than was taken
