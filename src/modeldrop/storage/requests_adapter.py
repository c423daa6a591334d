"""``requests`` as Google's, Azure's and the Hub's clients use it: CAs and proxies by our rule, timeouts that hold.

By itself ``requests`` reads the variables in its own way, gives every address of a name the whole time to connect
(Google's have sixteen), and takes that same time as the limit for all of a body to leave.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import requests
import requests.adapters
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from modeldrop.storage.answer_text import MAX_BODY
from modeldrop.storage.sdk_answers import MAX_DOCUMENT_ANSWER, AnswerTooLargeError, beginning, bounded, note_answer
from modeldrop.util import http
from modeldrop.util.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECTIONS = 16
_SEND = 64 << 10
_LEAST_SHARE = 1.0
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def new_session() -> requests.Session:
    """A session that sends through ``Adapter``."""
    session = requests.Session()
    prepare_session(session)
    return session


def prepare_session(session: requests.Session, *, redirects: bool = True) -> None:
    """Let a session send through ``Adapter``, and not read the environment itself.

    Without ``redirects`` it follows none, as no storage service redirects: who does is something else.
    """
    session.trust_env = False
    if not redirects:
        session.get_redirect_target = lambda _: None  # type: ignore[method-assign,assignment]
    adapter = Adapter(pool_connections=4, pool_maxsize=_CONNECTIONS)
    session.mount("https://", adapter)
    session.mount("http://", adapter)


class Adapter(requests.adapters.HTTPAdapter):
    """Trusts and connects by ``modeldrop.util.http``, whatever the session says.

    It connects within one timeout, however many addresses there are, and sends large bodies in small steps. And it
    reads the bodies of refusals, which SDKs may leave unread: their connections can then be used again.
    """

    def __init__(self, **options: Any) -> None:
        self._trusted = http.ca_bundle() or True
        self._checked: set[str] = set()
        super().__init__(**options)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: FBT001, FBT002
        timeout: Any = None,
        verify: bool | str = True,  # noqa: ARG002, FBT001, FBT002
        cert: Any = None,
        proxies: Any = None,  # noqa: ARG002
    ) -> requests.Response:
        if isinstance(request.body, bytes) and len(request.body) > _SEND:
            request.body = _Slices(request.body)  # type: ignore[assignment]
        url = request.url or ""
        host = urlsplit(url).netloc
        if host not in self._checked and http.is_ca_as_server(url):
            raise requests.exceptions.SSLError(f"certificate verify failed: {http.CA_AS_SERVER}", request=request)
        self._checked.add(host)
        proxy = http.proxy_for(url)
        response = super().send(
            request,
            stream=stream,
            timeout=timeout,
            verify=self._trusted,
            cert=cert,
            proxies={url.partition(":")[0]: proxy} if proxy else {},
        )
        _take_in(cast("_Response", response), stream=stream)
        return response

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        response = super().build_response(req, resp)
        response.__class__ = _Response
        return response


class _Response(requests.Response):
    """An answer of which no more than ``most`` bytes are taken in; None: whatever comes.

    A class of its own, since an answer that held a function around itself would be freed by chance, its connection too.
    """

    most: int | None = None

    def iter_content(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        came = super().iter_content(*arguments, **options)
        return came if self.most is None else bounded(came, self.most)


def _take_in(response: _Response, *, stream: bool) -> None:
    """Note an answer, and see to it that only so much of it comes into memory."""
    if response.status_code >= 400:
        # Of a refusal whose body cannot be read, the status is left.
        failures = (requests.RequestException, HTTPError, OSError)
        response._content = beginning(response.iter_content(_SEND), failures)  # noqa: SLF001
        response._content_consumed = True  # noqa: SLF001
        if len(response.content) >= MAX_BODY:
            response.close()  # the rest may be endless
        _note(response, response.content)
        return
    asked = _RANGE.fullmatch(str(response.request.headers.get("x-ms-range", "")))
    if asked:
        # An answer to another question is told from what is more.
        response.most = max(int(asked[2]) - int(asked[1]) + 1, 0) + MAX_BODY
    elif not stream:
        response.most = MAX_DOCUMENT_ANSWER
    if stream:
        _note(response, None)
        return
    try:
        _note(response, response.content)
    except AnswerTooLargeError:
        response.close()
        raise


def _note(response: requests.Response, body: bytes | None) -> None:
    note_answer(response.status_code, body, response.url, response.headers.get("location"), close=response.close)


class _Slices:
    """Bytes, a slice at a time, as often as asked."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[memoryview]:
        return (self._data[start : start + _SEND] for start in range(0, len(self._data), _SEND))


def _connect(to: HTTPConnection, limit: float) -> socket.socket:
    """A socket to the first address that answers; all of them together have ``limit`` seconds."""
    deadline = Deadline(limit)
    try:
        found = socket.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NameResolutionError(to.host, to, error) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    share = max(_LEAST_SHARE, limit / len(addresses))
    failure: Exception = NewConnectionError(to, "there is no address")
    for address in addresses:
        left = deadline.left()
        if not left:
            break
        try:
            made = create_connection((address, to.port), min(share, left), to.source_address, to.socket_options)
        except TimeoutError:
            failure = ConnectTimeoutError(to, f"Connection to {to.host} timed out.")
        except OSError as error:
            failure = NewConnectionError(to, f"Failed to establish a new connection: {error}")
        else:
            made.settimeout(limit)
            return made
    raise failure


class _HTTP(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self, self.timeout) if isinstance(self.timeout, int | float) else super()._new_conn()


class _HTTPS(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self, self.timeout) if isinstance(self.timeout, int | float) else super()._new_conn()


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS
