"""One request and its answer: HTTP as a container registry needs it, on connections that are kept."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urlsplit

from modeldrop.util.http import connect

MAX_ANSWER = 16 << 20
"""Bytes of an answer that are taken in; no document of a registry has as many."""

_STALL_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        status: of HTTP.
        headers: by their names in small letters; of several with one name the last.
        challenges: every header WWW-Authenticate.
        body: the beginning, ``MAX_ANSWER`` bytes at most.
    """

    status: int
    headers: Mapping[str, str]
    challenges: tuple[str, ...]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Attributes:
        method: of HTTP.
        url: whole.
        headers: besides those that every request has.
        body: gives the body in chunks, from its beginning at every call.
        size: of the body.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: Callable[[], Iterable[bytes]] = tuple
    size: int = 0


class Transport:
    """Sends requests one after another. Follows no redirection: an answer is what it is.

    Args:
        stall: seconds that connecting, or sending or receiving one piece, may take.
    """

    def __init__(self, stall: float = _STALL_SECONDS) -> None:
        self._stall = stall
        self._open: dict[tuple[str, str], tuple[HTTPConnection, dict[str, str], bool]] = {}

    def send(self, request: Request) -> Answer:
        """Send it, and take in the answer.

        A server may refuse a body before it has come whole: that answer counts. A kept connection that was closed
        meanwhile is replaced by a new one, where there is no body.

        Raises:
            CertificatesError: a variable names no usable certificates.
            OSError: there is no answer; ssl.SSLError where TLS fails.
        """
        parts = urlsplit(request.url)
        key = (parts.scheme, parts.netloc)
        kept = key in self._open
        try:
            return self._exchange(key, request)
        except (HTTPException, OSError):
            if not kept or request.size:  # what has a body is for the caller to begin anew
                raise
        return self._exchange(key, request)

    def interrupt(self) -> None:
        """From another thread: end the request that is going on, with an error."""
        for connection, _, _ in tuple(self._open.values()):
            sock: socket.socket | None = connection.sock
            if sock is not None:
                # Below TLS, whose own method would let go of TLS first, while the other thread may still send.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of all connections."""
        for connection, _, _ in self._open.values():
            connection.close()
        self._open.clear()

    def _exchange(self, key: tuple[str, str], request: Request) -> Answer:
        if key not in self._open:
            self._open[key] = connect(request.url, self._stall)
        connection, headers, through_proxy = self._open[key]
        done = False
        try:
            self._write(connection, request, headers, whole=through_proxy)
            response = connection.getresponse()
            answer = _take_in(response)
            done = not response.will_close and len(answer.body) < MAX_ANSWER
            return answer
        except ConnectionError:  # http.client's own is an HTTPException as well
            raise
        except HTTPException as error:
            raise OSError(f"it does not answer in HTTP: {type(error).__name__} {error}") from error
        finally:
            if not done:
                connection.close()
                del self._open[key]

    def _write(self, connection: HTTPConnection, request: Request, headers: Mapping[str, str], *, whole: bool) -> None:
        parts = urlsplit(request.url)
        target = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
        connection.putrequest(
            request.method,
            f"{parts.scheme}://{parts.netloc}{target}" if whole else target,
            skip_host=True,
            skip_accept_encoding=True,
        )
        for name, value in {"Host": parts.netloc, "Accept-Encoding": "identity", **headers, **request.headers}.items():
            connection.putheader(name, value)
        if request.size or request.method in {"POST", "PUT", "PATCH"}:
            connection.putheader("Content-Length", str(request.size))
        connection.endheaders()
        # Who refuses a body may close before all of it has come: the answer is read all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for chunk in request.body():
                connection.send(chunk)


def _take_in(response: HTTPResponse) -> Answer:
    body = response.read(MAX_ANSWER)
    return Answer(
        response.status,
        {name.lower(): value for name, value in response.getheaders()},
        tuple(response.headers.get_all("WWW-Authenticate", ())),
        body,
    )
