"""A folder served over https under a private CA, as a CDN in front of a bucket would."""

from __future__ import annotations

import email.utils
import hashlib
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import trustme

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.threaded import ThreadedServer

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class HttpsRequest:
    """A request as it came in; the names of headers in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpsAnswer:
    """An answer made by a test."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpsServer(ThreadedServer):
    """``https://localhost:PORT``; a context manager. GET, HEAD, single ranges, ETags, 404.

    Args:
        folder: what it serves.
        prefix: the path that the folder is below, such as ``models``.
        host: the name that its certificate is for, beside 127.0.0.1.
        certificate: a PEM file with a key and the certificate to use instead.

    Attributes:
        ca_file: the PEM file of the CA that signed its certificate.
        requests: what was asked, in order.
        answer: asked before the folder; what it returns is the answer, None means the folder's.
        ranges: whether it knows them.
    """

    def __init__(
        self, folder: Path, prefix: str = "", *, host: str = "localhost", certificate: Path | None = None
    ) -> None:
        super().__init__(_Handler, "https")
        authority = trustme.CA()
        self.folder = folder
        self.prefix = f"/{prefix}/" if prefix else "/"
        self.ca_file = folder.parent / f"{folder.name}-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self.requests: list[HttpsRequest] = []
        self.answer: Callable[[HttpsRequest], HttpsAnswer | None] = lambda _: None
        self.ranges = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate:
            context.load_cert_chain(certificate)
        else:
            authority.issue_cert(host, "127.0.0.1").configure_cert(context)
        # The handshake is made by the thread that serves the connection, not by the one that accepts all.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)

    @property
    def url(self) -> str:
        """The address of what it serves."""
        return f"https://localhost:{self.port}{self.prefix}".rstrip("/")

    def file(self, path: str) -> Path | None:
        """The file that a path of a request names."""
        path = unquote(path)
        if not path.startswith(self.prefix):
            return None
        name = path.removeprefix(self.prefix)
        file = self.folder / name
        return file if ".." not in name.split("/") and file.is_file() else None


class _Handler(BaseHTTPRequestHandler):
    https: HttpsServer  # set by the subclass that each server makes
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        request = HttpsRequest(self.command, self.path, headers, body)
        self.https.requests.append(request)
        answer = self.https.answer(request)
        if answer is not None:
            self._send(answer.status, answer.body, answer.headers)
            return
        file = self.https.file(urlsplit(self.path).path)
        if file is None:
            self._send(404, b"no such object", {})
            return
        data = file.read_bytes()
        told = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()[:32]}"',
            "Last-Modified": email.utils.formatdate(file.stat().st_mtime, usegmt=True),
            "Accept-Ranges": "bytes",
        }
        wanted = _RANGE.fullmatch(headers.get("range", "")) if self.https.ranges else None
        if wanted is None:
            self._send(200, data, told)
            return
        first, last = int(wanted[1]), min(int(wanted[2] or len(data) - 1), len(data) - 1)
        if first > last:
            self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        self._send(206, data[first : last + 1], told | {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``requests``."""

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
