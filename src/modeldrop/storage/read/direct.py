"""Reads long parts of files over connections of the standard library, at addresses that obstore has signed.

obstore hands every byte from its thread to ours, in new memory, and over TLS through rustls. For documents and small
files that does not matter; of the time in which 1 GiB comes, it is a fifth (docs/benchmarks.md). Here the thread that
verifies a piece receives it too, into memory that the processor's cache still holds, and OpenSSL decrypts it.

Only the plain answer is dealt with: 206, with the very bytes that were asked for. Whatever else comes, obstore is
asked for the same, and for all that follows. It knows redirections, regions and gateways, and its words are what our
errors are made of.
"""

from __future__ import annotations

import time
from datetime import timedelta
from http.client import HTTPException
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import obstore
from obstore.exceptions import BaseError

from modeldrop.storage.read.interface import Stream, strong
from modeldrop.storage.read.obstore_calls import obstore_call
from modeldrop.storage.urls import parse_bucket
from modeldrop.util import http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from http.client import HTTPConnection, HTTPResponse
    from socket import socket

    from modeldrop.storage.read.interface import Room
    from modeldrop.storage.read.obstore_client import ObstoreClient

_VALID = timedelta(minutes=15)  # for as long as S3 takes a signature in a header
# Seconds, as obstore's: to connect, without a byte, and of a whole request.
_CONNECT, _READ, _REQUEST = 3.0, 8.0, 15.0
_DIGITS = 19  # of a size, at most


class CutOffError(OSError):
    """An answer did not come, or not whole. Its text is obstore's word for the cause: one table explains both."""


class DirectReader:
    """Reads long parts of the files of one registry; several threads may use it.

    Args:
        client: the registry. obstore has read from it before, so its address, region and certificates are right.
    """

    def __init__(self, client: ObstoreClient) -> None:
        self.client = client
        self._base = _unsigned_address(client)
        self._works = _is_enough(client)
        self._opened: list[HTTPConnection] = []
        self._idle: list[HTTPConnection] = []
        self._lock = Lock()

    def __del__(self) -> None:
        for connection in self._opened:
            connection.close()

    def stream(self, key: str, start: int, length: int, etag: str, chunk: int, room: Room) -> Stream | None:
        """As ``RegistryReader.stream``, but None where obstore is to be asked instead, now and from now on.

        Raises:
            CutOffError: no answer came in time; the chunks raise it where the rest does not come.
        """
        if not self._works:
            return None
        headers = {"Range": f"bytes={start}-{start + length - 1}"} | ({"If-Match": etag} if etag else {})
        try:
            connection, line, response = self._ask(self._address(key), headers)
        except TimeoutError as error:
            raise CutOffError("TimedOut") from error
        except (BaseError, OSError, HTTPException, ValueError):
            self._works = False
            return None
        size = _size(response, start, length)
        if size is None:
            self._works = False
            connection.close()
            return None
        chunks = self._chunks(connection, _receiver(line, response), response, length, chunk, room)
        return Stream(strong(response.headers["ETag"]), size, chunks)

    def hang_up(self) -> None:
        """Close the connections that wait for another request."""
        with self._lock:
            idle, self._idle = self._idle, []
            for connection in idle:
                connection.close()
            self._opened = [connection for connection in self._opened if connection.sock]

    def _address(self, key: str) -> str:
        if self._base:
            return f"{self._base}/{quote(key)}"
        with obstore_call():
            return str(obstore.sign(self.client.store, "GET", key, _VALID))

    def _ask(self, address: str, headers: dict[str, str]) -> tuple[HTTPConnection, socket, HTTPResponse]:
        """Ask on a connection that is open, or, where the service has closed it meanwhile, on a new one.

        Returns:
            The connection; its socket, which it forgets where this answer is to be the last; the answer.
        """
        parts = urlsplit(address)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        while True:
            with self._lock:
                idle = self._idle.pop() if self._idle else None
            connection = idle or self._connect(address)
            try:
                connection.request("GET", target, headers=headers)
                line: socket = connection.sock
                return connection, line, connection.getresponse()
            except (OSError, HTTPException) as error:
                connection.close()
                if idle is None or isinstance(error, TimeoutError):
                    raise

    def _connect(self, address: str) -> HTTPConnection:
        certificates = self.client.address.certificates if self.client.address else ""
        with self._lock:  # certificates are parsed once
            connection, _, _ = http.connect(address, _CONNECT, certificates)
            self._opened.append(connection)
        try:
            connection.connect()
        except TimeoutError as error:
            raise ConnectionError(str(error)) from error  # obstore is asked, and says it
        connection.sock.settimeout(_READ)
        return connection

    def _chunks(
        self,
        connection: HTTPConnection,
        receive: Callable[[memoryview], int],
        response: HTTPResponse,
        length: int,
        chunk: int,
        room: Room,
    ) -> Iterator[memoryview]:
        """The body. What has come before it breaks off is handed over all the same."""
        end, left = time.monotonic() + _REQUEST, length
        try:
            while left:
                view = room(min(chunk, left))
                filled, cause = _fill(view, receive, end)
                left -= filled
                yield view[:filled]
                if cause:
                    raise CutOffError(cause)
        finally:
            response.close()
            if left or response.will_close:
                connection.close()
            else:
                with self._lock:
                    self._idle.append(connection)


def _is_enough(client: ObstoreClient) -> bool:
    """Whether an address, signed or not, is all that is needed to read there."""
    if http.proxy_for(client.endpoint):
        return False
    if client.scheme == "s3":
        # S3 Express signs by sessions; and who pays is said in a header, which would have to be signed.
        return client.address is not None and not client.address.express and not client.address.requester_pays
    return client.scheme == "https"


def _unsigned_address(client: ObstoreClient) -> str:
    """The registry's address where requests are not signed, else ""."""
    if client.scheme == "https":
        return client.settings.url.rstrip("/")
    if client.signed_by or client.address is None:
        return ""
    bucket = parse_bucket(client.settings.url)
    parts = (
        client.endpoint.rstrip("/"),
        "" if client.address.by_host else bucket.name,
        quote(bucket.prefix.rstrip("/")),
    )
    return "/".join(part for part in parts if part)


def _size(response: HTTPResponse, start: int, length: int) -> int | None:
    """The whole object's size, where the answer is the part that was asked for, and nothing but that."""
    headers = response.headers
    part, _, size = (headers["Content-Range"] or "").partition("/")
    plain = response.status == 206 and part == f"bytes {start}-{start + length - 1}"
    plain = plain and size.isdecimal() and len(size) <= _DIGITS
    plain = plain and headers["Content-Length"] == str(length) and not headers["Transfer-Encoding"]
    return int(size) if plain and (headers["Content-Encoding"] or "identity") == "identity" else None


def _receiver(line: socket, response: HTTPResponse) -> Callable[[memoryview], int]:
    """What fills memory with the body: first with what came along with the headers, then from the socket."""
    buffered, ready = response.fp, -1

    def next_bytes(view: memoryview) -> int:
        nonlocal ready
        if ready < 0:
            ready = len(buffered.peek())
        if not ready:
            return line.recv_into(view)
        came = buffered.readinto(view[:ready])
        ready -= came
        return came

    return next_bytes


def _fill(view: memoryview, receive: Callable[[memoryview], int], end: float) -> tuple[int, str]:
    """Fill memory until a time; how many bytes came, and, if not all did, why."""
    filled = 0
    while filled < len(view):
        if time.monotonic() > end:
            return filled, "TimedOut"
        try:
            came = receive(view[filled:])
        except TimeoutError:
            return filled, "TimedOut"
        except OSError:
            return filled, "ConnectionReset"
        if not came:
            return filled, "IncompleteMessage"
        filled += came
    return filled, ""
