"""A forward proxy that answers in place of every host: what clients send to addresses of the clouds is seen as sent."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

import trustme

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.threaded import ThreadedServer

_ERROR = '<?xml version="1.0"?><Error><Code>{}</Code><Message>No.</Message></Error>'
_CREDENTIALS = (
    "<AccessKeyId>ASIASESSION</AccessKeyId><SecretAccessKey>example</SecretAccessKey>"
    "<SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
)
_STS = {
    "AssumeRoleWithWebIdentity": f"<Credentials>{_CREDENTIALS}</Credentials>",
    "GetCallerIdentity": "<Arn>arn:aws:sts::123456789012:user/dana</Arn><UserId>1</UserId><Account>1</Account>",
}


@dataclass(frozen=True, slots=True)
class ProxiedRequest:
    """A request as it came in; ``path`` with its query, the names of headers in small letters."""

    method: str
    host: str
    path: str
    headers: Mapping[str, str]


class RecordingProxy(ThreadedServer):
    """``http://127.0.0.1:PORT``, to be HTTPS_PROXY; a context manager.

    Behind it every host is S3 with whatever bucket is asked for: objects, listings that are empty, conditional writes,
    uploads in parts that are given up, sessions of directory buckets; and STS. Signatures are not checked. It shows
    what our clients send, and says nothing about Amazon's service.

    Args:
        folder: where ``ca_file`` is written.

    Attributes:
        ca_file: the PEM file of the CA that signs every host's certificate.
        requests: what was asked, in order.
        objects: by host and path.
        refusal: status and page that every request is answered with; None for none.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(_Handler, "proxy")
        self._authority = trustme.CA()
        self.ca_file = folder / "recording-proxy-ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        self.requests: list[ProxiedRequest] = []
        self.objects: dict[str, bytes] = {}
        self.refusal: tuple[int, bytes] | None = None
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def url(self) -> str:
        """What HTTPS_PROXY is to be."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget requests and objects."""
        self.requests.clear()
        self.objects.clear()

    def context(self, host: str) -> ssl.SSLContext:
        """TLS as this host."""
        if host not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._authority.issue_cert(host).configure_cert(context)
            self._contexts[host] = context
        return self._contexts[host]


class _Handler(BaseHTTPRequestHandler):
    proxy: RecordingProxy  # set by the subclass that each server makes
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS
    host = ""

    def do_CONNECT(self) -> None:
        self.host = self.path.rpartition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.connection = self.proxy.context(self.host).wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        self.proxy.requests.append(ProxiedRequest(self.command, headers["host"], self.path, headers))
        if self.proxy.refusal is not None:
            self._send(*self.proxy.refusal, {"Content-Type": "text/html"})
            return
        parts = urlsplit(self.path)
        query = parts.query + body.decode("latin-1") if self.command == "POST" else parts.query
        action = next((action for action in _STS if action in query), "")
        if action:
            self._xml(f"<{action}Response><{action}Result>{_STS[action]}</{action}Result></{action}Response>")
        elif parts.query == "session":
            self._xml(f"<CreateSessionResult><Credentials>{_CREDENTIALS}</Credentials></CreateSessionResult>")
        elif "list-type=2" in parts.query:
            self._xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
        elif parts.query == "uploads" and self.command == "POST":
            self._xml("<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
        elif "uploadId" in parts.query and self.command == "DELETE":
            self._send(204, b"", {})
        elif parts.query and "x-id" not in parts.query:
            self._xml(_ERROR.format("AccessDenied"), 403)
        else:
            self._object(f"{self.host}{unquote(parts.path)}", headers, body)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``requests``."""

    def _object(self, name: str, headers: Mapping[str, str], body: bytes) -> None:
        objects = self.proxy.objects
        there = objects.get(name)
        tag = f'"{hashlib.md5(there or b"", usedforsecurity=False).hexdigest()}"'
        if self.command == "PUT":
            wrong = there is None or headers["if-match"] != tag if "if-match" in headers else there is not None
            if wrong and ("if-match" in headers or "if-none-match" in headers):
                self._xml(_ERROR.format("PreconditionFailed"), 412)
                return
            objects[name] = body
            self._send(200, b"", {"ETag": f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'})
        elif self.command == "DELETE":
            objects.pop(name, None)
            self._send(204, b"", {})
        elif there is None:
            self._xml(_ERROR.format("NoSuchKey"), 404)
        else:
            self._send(200, there, {"ETag": tag, "Last-Modified": "Sun, 01 Nov 2026 00:00:00 GMT"})

    def _xml(self, text: str, status: int = 200) -> None:
        self._send(status, text.encode(), {"Content-Type": "application/xml"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
