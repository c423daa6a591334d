"""The process behind ``S3Server``: moto, and in front of it what moto lacks. See there.

``python -m tests.servers.s3_app`` prints the port it listens on, and ends when its standard input does.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Any]
App: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

_REASONS = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 503: "Service Unavailable"}


@dataclass
class Rule:
    """What to do to the next ``times`` requests that match. See ``S3Server`` for the kinds."""

    kind: str
    method: str = ""
    match: str = ""
    times: int = 1
    status: int = 0
    code: str = ""
    extra: str = ""
    message: str = "Told to."
    header: str = ""
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def forgotten(self) -> tuple[str, ...]:
        """How the names of the headers begin that moto is not shown."""
        if self.kind in {"plain", "corrupt"}:
            return ("HTTP_X_AMZ_CHECKSUM", "HTTP_X_AMZ_SDK_CHECK", "HTTP_CONTENT_MD5")
        return (f"HTTP_{self.header.upper().replace('-', '_')}",) if self.kind == "ignored" else ()


class Front:
    """Stands before moto: one request at a time, checksums that are checked, faults on demand.

    At a time, because a condition must hold until its write is done; and because moto closes an object's file when the
    object is replaced, whoever is reading it.
    """

    def __init__(self, moto: App) -> None:
        self._moto = moto
        self._turn = threading.Lock()
        self._state = threading.Lock()
        self._requests: list[tuple[str, str, dict[str, str]]] = []
        self._rules: list[Rule] = []

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        body = _body(environ)
        path = environ.get("RAW_URI") or environ["REQUEST_URI"]
        if path.startswith("/_admin/"):
            return self._admin(path.removeprefix("/_admin/"), body, start)
        method = environ["REQUEST_METHOD"]
        rule = self._note(method, path, environ)
        kind = rule.kind if rule else ""
        if rule and kind == "answer":
            return _answer(start, rule)
        if kind == "silent":
            environ["werkzeug.socket"].recv(1)  # until the client gives up
            return _cut(environ)
        if kind == "cut":
            return _cut(environ)
        if rule:
            for name in [name for name in environ if name.startswith(rule.forgotten())]:
                del environ[name]
        if kind == "corrupt" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        refusal = _check(environ, body)
        if refusal:
            return _refuse(start, 400, refusal)
        if kind == "unquoted" and '"' in environ.get("HTTP_IF_MATCH", ""):
            return _refuse(start, 412, "PreconditionFailed")
        status, headers, answer = self._ask(environ, body)
        if kind == "landed":
            return _cut(environ)
        if rule and rule.headers and kind == "plain":
            names = {name.lower() for name in rule.headers}
            headers = [entry for entry in headers if entry[0].lower() not in names] + list(rule.headers.items())
        start(status, headers)
        return answer

    def _ask(self, environ: Environ, body: bytes) -> tuple[str, list[tuple[str, str]], list[bytes]]:
        """What moto answers."""
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        told: list[Any] = []
        with self._turn:
            answer = list(self._moto(environ, lambda *given: told.extend(given)))
        return told[0], list(told[1]), answer

    def _note(self, method: str, path: str, environ: Environ) -> Rule | None:
        sent = {
            name[5:].replace("_", "-").lower(): value for name, value in environ.items() if name.startswith("HTTP_")
        }
        sent["content-type"] = environ.get("CONTENT_TYPE", "")
        with self._state:
            self._requests.append((method, path, sent))
            for rule in self._rules:
                if rule.times and rule.method in {"", method} and rule.match in path and rule.header in {"", *sent}:
                    rule.times -= 1
                    return rule
        return None

    def _admin(self, what: str, body: bytes, start: StartResponse) -> Iterable[bytes]:
        with self._state:
            if what == "requests":
                answer = json.dumps(self._requests).encode()
            elif what == "rule":
                self._rules.append(Rule(**json.loads(body)))
                answer = b""
            else:
                self._requests.clear()
                self._rules.clear()
                answer = b""
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
        return [answer]


class _Dispatcher(DomainDispatcherApplication):
    """Looks into moto's folder once for each host, not twice for each request."""

    def __init__(self, create_app: Callable[..., Any]) -> None:
        super().__init__(create_app)
        self._known: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._known:
            self._known[host] = super().get_backend_for_host(host)
        return self._known[host]


class _Handler(MotoRequestHandler):
    disable_nagle_algorithm = True

    def log(self, *_: Any, **__: Any) -> None:
        """Say nothing: the tests read ``requests``."""


def _body(environ: Environ) -> bytes:
    source = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        return bytes(source.read())
    return bytes(source.read(int(environ.get("CONTENT_LENGTH") or 0)))


def _check(environ: Environ, body: bytes) -> str:
    """The code to refuse a body with, whose checksum is not the one that was sent; "" where all is well."""
    if "aws-chunked" in environ.get("HTTP_CONTENT_ENCODING", ""):
        return ""
    sha256 = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
    if sha256 and environ["REQUEST_METHOD"] == "PUT":
        if base64.b64encode(hashlib.sha256(body).digest()).decode() != sha256:
            return "BadDigest"
        # Amazon keeps and returns every checksum it was sent; moto only with this header.
        environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "SHA256"
    md5 = environ.get("HTTP_CONTENT_MD5")
    return "BadDigest" if md5 and base64.b64encode(hashlib.md5(body).digest()).decode() != md5 else ""


def _refuse(start: StartResponse, status: int, code: str) -> Iterable[bytes]:
    return _answer(start, Rule("answer", status=status, code=code))


def _answer(start: StartResponse, rule: Rule) -> Iterable[bytes]:
    """What was ordered: an error as S3 words it, unless the rule has its own body."""
    error = f"<Error><Code>{rule.code}</Code><Message>{rule.message}</Message>{rule.extra}</Error>"
    body = (rule.body or f"<?xml version='1.0'?>{error}").encode()
    told = {"Content-Type": "application/xml", "Content-Length": str(len(body))} | rule.headers
    start(f"{rule.status} {_REASONS.get(rule.status, 'Told To')}", list(told.items()))
    return [body]


def _cut(environ: Environ) -> Iterable[bytes]:
    """Close the connection without an answer."""
    connection = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def main() -> None:
    """Serve until standard input ends."""
    logging.disable()
    server = make_server("127.0.0.1", 0, Front(_Dispatcher(create_backend_app)), True, request_handler=_Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
