"""A container registry on 127.0.0.1 that follows the OCI distribution specification to the letter, in memory.

It is stricter than real ones: an upload can be finished once, and not after an attempt that broke off; a manifest is
taken only when all that it names is there, under the media type that it was sent with; what it does not know is
refused. Sign-in by password or by token, whose scope counts. ``answer`` and ``cut_after`` are for faults. It says
nothing about real registries: the soak tests ask one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.helpers.waiting import HANG_SECONDS
from tests.servers.threaded import ThreadedServer

USER, PASSWORD = "ci", "s3cret-of-ci"
IDENTITY_TOKEN = "an-identity-token-of-ci"
_PATH = re.compile(r"/v2/(?P<name>[a-z0-9._/-]+)/(?P<kind>manifests|blobs|blobs/uploads)/(?P<what>[^/]*)")
_READ = 1 << 16
_MANIFESTS = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
}


@dataclass(frozen=True)
class OciRequest:
    """A request as it came in, without its body; the names of headers in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class OciAnswer:
    """An answer made by a test."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, code: str, message: str = "") -> OciAnswer:
    """A refusal as the specification has it."""
    body = json.dumps({"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}).encode()
    return OciAnswer(status, body, {"Content-Type": "application/json"})


@dataclass
class OciRepository:
    """What a repository holds."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Media type and bytes, by digest."""
    tags: dict[str, str] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    """What has come of each that is not finished."""


class OciRegistry(ThreadedServer):
    """``127.0.0.1:PORT``; a context manager.

    Args:
        sign_in: ``""`` lets everybody in; ``basic`` asks for the password, ``bearer`` for a token.

    Attributes:
        repositories: by name.
        requests: what was asked, in order.
        answer: asked before anything else; what it returns is the answer, None means the registry's own.
        cut_after: how many bytes of a body it reads before it hangs up, for so many bodies, as in ``[1000, 1000]``.
        may: what the scope of a token may allow: ``pull``, ``push``.
        elsewhere: where it says that uploads go, such as ``http://127.0.0.1:1``; "" for here.
        realm: where tokens are to be had; "" for here.
    """

    def __init__(self, sign_in: str = "") -> None:
        super().__init__(_Handler, "registry")
        self.sign_in = sign_in
        self.repositories: dict[str, OciRepository] = {}
        self.requests: list[OciRequest] = []
        self.answer: Callable[[OciRequest], OciAnswer | None] = lambda _: None
        self.cut_after: list[int] = []
        self.may = {"pull", "push"}
        self.tokens: dict[str, set[str]] = {}
        self.elsewhere = ""
        self.realm = ""

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def of(self, name: str) -> OciRepository:
        return self.repositories.setdefault(name, OciRepository())

    def asked(self, method: str, part: str = "") -> list[str]:
        """The paths of requests with this method and this part of the path."""
        return [one.path for one in self.requests if one.method == method and part in one.path]


class _Handler(BaseHTTPRequestHandler):
    registry: OciRegistry  # set by the subclass that each server makes
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = OciRequest(self.command, self.path, headers)
        self.registry.requests.append(asked)
        self._left = int(headers.get("content-length", "0"))
        said = self.registry.answer(asked) or self._answer(asked)
        if said is not None:
            self._drain()
            self._send(said)

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``requests``."""

    def _answer(self, asked: OciRequest) -> OciAnswer | None:
        path, query = urlsplit(asked.path).path, parse_qs(urlsplit(asked.path).query)
        if path == "/token":
            return self._token(asked, query)
        found = _PATH.fullmatch(path)
        scope = {f"{found['name']}:{'pull' if asked.method in {'GET', 'HEAD'} else 'push'}"} if found else set()
        if path.startswith("/v2/") and (refusal := self._refusal(asked, scope)):
            return refusal
        if found is None:
            return OciAnswer(200, b"{}") if path == "/v2/" else error(404, "NAME_INVALID")
        repository, name, what = self.registry.of(found["name"]), found["name"], found["what"]
        answers: dict[tuple[str, str], Callable[[], OciAnswer | None]] = {
            ("manifests", "GET"): lambda: self._get_manifest(repository, what, asked),
            ("manifests", "PUT"): lambda: self._put_manifest(repository, what, asked),
            ("blobs", "HEAD"): lambda: self._get_blob(repository, what),
            ("blobs/uploads", "POST"): lambda: self._begin(name, query),
            ("blobs/uploads", "PATCH"): lambda: self._add(name, repository, what, query),
            ("blobs/uploads", "PUT"): lambda: self._finish(repository, what, query),
            ("blobs/uploads", "DELETE"): lambda: self._give_up(repository, what),
        }
        return answers.get((found["kind"], asked.method), lambda: error(405, "UNSUPPORTED"))()

    # --- signing in

    def _refusal(self, asked: OciRequest, scope: set[str]) -> OciAnswer | None:
        server, given = self.registry, asked.headers.get("authorization", "")
        if server.sign_in == "basic":
            wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if given != f"Basic {wanted}":
                return self._challenge('Basic realm="a registry, of tests"')
        if server.sign_in == "bearer":
            allowed = server.tokens.get(given.removeprefix("Bearer "))
            if allowed is None or not scope <= allowed:
                realm = server.realm or f"http://{server.host}/token"
                return self._challenge(f'Bearer realm="{realm}",service="registry, of tests",error="invalid_token"')
        return None

    def _challenge(self, text: str) -> OciAnswer:
        said = error(401, "UNAUTHORIZED", "authentication required")
        return OciAnswer(401, said.body, {**said.headers, "WWW-Authenticate": text})

    def _token(self, asked: OciRequest, query: Mapping[str, list[str]]) -> OciAnswer:
        server = self.registry
        if asked.method == "POST":
            form = parse_qs(self._read().decode())
            known = form.get("grant_type") == ["refresh_token"] and form.get("refresh_token") == [IDENTITY_TOKEN]
            scopes = form["scope"][0].split(" ")
        else:
            wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            known = asked.headers.get("authorization") == f"Basic {wanted}"
            scopes = query.get("scope", [])
        if not known or (query or form).get("service") != ["registry, of tests"]:
            return error(401, "UNAUTHORIZED", "incorrect username or password")
        token = secrets.token_hex(16)
        allowed = set()
        for scope in scopes:
            kind, name, actions = scope.split(":")
            assert kind == "repository"
            allowed |= {f"{name}:{action}" for action in actions.split(",") if action in server.may}
        server.tokens[token] = allowed
        return OciAnswer(200, json.dumps({"token": token, "expires_in": 60}).encode())

    # --- blobs and manifests

    def _get_blob(self, repository: OciRepository, digest: str) -> OciAnswer:
        data = repository.blobs.get(digest)
        return error(404, "BLOB_UNKNOWN") if data is None else OciAnswer(200, data)

    def _give_up(self, repository: OciRepository, session: str) -> OciAnswer:
        known = session in repository.uploads
        repository.uploads.pop(session, None)
        return OciAnswer(204) if known else error(404, "BLOB_UPLOAD_UNKNOWN")

    def _begin(self, name: str, query: Mapping[str, list[str]]) -> OciAnswer:
        server, repository = self.registry, self.registry.of(name)
        if "mount" in query:
            (digest,), (source,) = query["mount"], query["from"]
            if server.sign_in == "bearer":
                token = self.headers["Authorization"].removeprefix("Bearer ")
                assert f"{source}:pull" in server.tokens[token], "a mount needs the right to read its source"
            if digest in server.of(source).blobs:
                repository.blobs[digest] = server.of(source).blobs[digest]
                return OciAnswer(201, b"", {"Location": f"/v2/{name}/blobs/{digest}"})
        session = secrets.token_hex(8)
        repository.uploads[session] = b""
        return self._go_on(name, session)

    def _go_on(self, name: str, session: str) -> OciAnswer:
        """Where an upload goes on; the state says how many bytes it has, and counts only for the next request."""
        come = len(self.registry.of(name).uploads[session])
        address = f"{self.registry.elsewhere}/v2/{name}/blobs/uploads/{session}?_state=a%2Fb{come}"
        return OciAnswer(202, b"", {"Location": address})

    def _add(
        self, name: str, repository: OciRepository, session: str, query: Mapping[str, list[str]]
    ) -> OciAnswer | None:
        data = self._read_upload(repository, session, query)
        if not isinstance(data, bytes):
            return data
        repository.uploads[session] += data
        return self._go_on(name, session)

    def _read_upload(
        self, repository: OciRepository, session: str, query: Mapping[str, list[str]]
    ) -> bytes | OciAnswer | None:
        """The body of a request of an upload, or what is answered instead."""
        before = repository.uploads.get(session)
        if before is None or query.get("_state") != [f"a/b{len(before)}"]:
            return error(404, "BLOB_UPLOAD_UNKNOWN")
        if "Content-Length" not in self.headers:
            return error(411, "SIZE_INVALID", "no Content-Length")
        if self.registry.cut_after and self._left > self.registry.cut_after[0]:
            self.rfile.read(self.registry.cut_after.pop(0))
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        return self._read()

    def _finish(self, repository: OciRepository, session: str, query: Mapping[str, list[str]]) -> OciAnswer | None:
        came, (digest,) = self._read_upload(repository, session, query), query["digest"]
        if not isinstance(came, bytes):
            repository.uploads.pop(session, None)
            return came
        data = repository.uploads.pop(session) + came
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            return error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        repository.blobs[digest] = data
        return OciAnswer(201, b"", {"Location": "/somewhere", "Docker-Content-Digest": digest})

    def _get_manifest(self, repository: OciRepository, name: str, asked: OciRequest) -> OciAnswer:
        digest = repository.tags.get(name, name)
        if digest not in repository.manifests:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, data = repository.manifests[digest]
        assert media_type in asked.headers["accept"]
        return OciAnswer(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest})

    def _put_manifest(self, repository: OciRepository, name: str, asked: OciRequest) -> OciAnswer:
        data = self._read()
        digest, document = f"sha256:{hashlib.sha256(data).hexdigest()}", json.loads(data)
        media_type = asked.headers["content-type"]
        if media_type not in _MANIFESTS or document["mediaType"] != media_type or document["schemaVersion"] != 2:
            return error(400, "MANIFEST_INVALID")
        if name.startswith("sha256:") and name != digest:
            return error(400, "DIGEST_INVALID")
        for one in _named(document):
            held = repository.manifests.get(one["digest"], ("", None))[1] or repository.blobs.get(one["digest"])
            if held is None or len(held) != one["size"]:
                return error(400, "MANIFEST_BLOB_UNKNOWN", one["digest"])
        repository.manifests[digest] = media_type, data
        if not name.startswith("sha256:"):
            repository.tags[name] = digest
        return OciAnswer(201, b"", {"Docker-Content-Digest": digest})

    # --- bytes

    def _read(self) -> bytes:
        data = self.rfile.read(self._left)
        self._left = 0
        return data

    def _drain(self) -> None:
        """Take in what is left of a body that is not wanted."""
        while self._left > 0 and (data := self.rfile.read(min(_READ, self._left))):
            self._left -= len(data)

    def _send(self, said: OciAnswer) -> None:
        self.send_response(said.status)
        for name, value in said.headers.items():
            self.send_header(name, value)
        if said.status != 204:
            self.send_header("Content-Length", str(len(said.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said.body)


def _named(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [*document.get("manifests", ()), *document.get("layers", ()), *filter(None, [document.get("config")])]
