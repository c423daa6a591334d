"""A small Google Cloud Storage on 127.0.0.1, as a process: ``python -m tests.servers.gcs_app PORT`` (0: a free one).

It tests our client, and says nothing about Google's service. It answers the requests of the JSON and XML APIs
that google-cloud-storage, obstore and modeldrop make, as Google documents them, and 501 for everything else:
an unknown path, query parameter or ``x-goog-`` header is never ignored. Conditions are checked and the write is
made under one lock. What it does not do: sign-in (every caller may do everything; tests inject the refusals),
quotas, consistency across regions, object versions, holds, encryption (a KMS key's name is kept, nothing more).

Paths that begin with ``/_`` are for the tests.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import sys
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.servers.gcs_documents import (
    JSON_HEADERS,
    about_of,
    bucket_resource,
    error_document,
    hashes_of,
    page_token,
    parse_page_token,
    parse_related,
)
from tests.servers.gcs_exchange import LostConnection
from tests.servers.gcs_objects import Conditions, Objects, Refusal, Resumable, unknown
from tests.servers.gcs_xml import XMLExchange

_JSON_CONDITIONS = {
    "ifGenerationMatch": "generation",
    "ifGenerationNotMatch": "generation_not",
    "ifMetagenerationMatch": "metageneration",
}
_HEADERS = {
    "x-goog-api-client",
    "x-goog-content-sha256",
    "x-goog-copy-source",
    "x-goog-date",
    "x-goog-encryption-kms-key-name",
    "x-goog-gcs-idempotency-token",
    "x-goog-hash",
    "x-goog-if-generation-match",
    "x-goog-if-metageneration-match",
    "x-goog-metadata-directive",
    "x-goog-user-project",
}
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_OBJECT = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)")
_COPY = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)")
UNIT = 256 << 10
"""Google keeps what comes of a resumable upload in units of this."""
_ADMIN = ("GET", "POST", "DELETE")


class Server(ThreadingHTTPServer):
    """The server: what it holds, what it was asked, and what is to fail."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.objects = Objects()
        self.requests: list[tuple[str, str]] = []
        self.rules: list[dict[str, Any]] = []
        self.most = 1000
        self.refuse_sign_in: dict[str, str] = {}
        self.state = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client that hangs up is no news
            super().handle_error(request, client_address)

    def rule(self, method: str, path: str) -> dict[str, Any] | None:
        """Note a request; what is to happen instead of, or after, its answer."""
        with self.state:
            path = unquote(path)
            self.requests.append((method, path))
            for rule in self.rules:
                if rule["times"] > 0 and rule["method"] in {"", method} and rule["match"] in path:
                    rule["times"] -= 1
                    return rule
        return None


class _Handler(XMLExchange):
    server: Server

    def do_GET(self) -> None:  # noqa: N802 -- the library's name
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_GET  # noqa: N815 -- the library's names

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        self.path_only = urlsplit(self.path).path
        self.query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        self.body = self._read_body()
        self.flaw = ""
        self.refusal_headers = {}
        if self.path.startswith("/_") and self.command in _ADMIN:
            self._answer(self._admin)
            return
        self._obey(self.server.rule(self.command, self.path))

    def _obey(self, rule: dict[str, Any] | None) -> None:
        match rule:
            case {"do": "refuse", "status": status, "reason": reason, "message": message, "retry_after": seconds}:
                self.refusal_headers = {"Retry-After": seconds} if seconds else {}
                self._refuse(Refusal(status, reason, message or reason))
            case {"do": "answer", "status": status, "body": body}:
                self._send(status, body.encode(), {"Content-Type": "text/plain"})
            case {"do": "cut"}:
                self._cut()
            case {"do": "hold"}:
                self.close_connection = True
                self.connection.recv(1)  # until the client closes
            case {"do": "halve"}:
                self.body = self.body[: len(self.body) // 2 // UNIT * UNIT]
                self.wfile = LostConnection()  # type: ignore[assignment]
                self._answer(self._route)
                self._cut()
            case {"do": "lose"}:
                self.wfile = LostConnection()  # type: ignore[assignment]
                self._answer(self._route)
                self._cut()
            case {"do": "flip"}:
                middle = len(self.body) // 2
                self.body = self.body[:middle] + bytes([self.body[middle] ^ 1]) + self.body[middle + 1 :]
                self._answer(self._route)
            case {"do": "ignore" | "spoil" as flaw}:
                self.flaw = flaw
                self._answer(self._route)
            case _:
                self._answer(self._route)

    def _answer(self, what: Callable[[], None]) -> None:
        try:
            what()
        except Refusal as refusal:
            self._refuse(refusal)

    def _refuse(self, refusal: Refusal) -> None:
        told = self.refusal_headers
        media = self.query.get("alt") == "media" or self.path_only.startswith("/upload/")
        if self.command == "HEAD":
            self._send(refusal.status, b"", told)
        elif self.path_only.startswith(("/storage/", "/_")) and not media:
            self._send(refusal.status, json.dumps(error_document(refusal)).encode(), {**JSON_HEADERS, **told})
        elif media or self.path_only.startswith("/download/"):
            self._send(refusal.status, refusal.message.encode(), {"Content-Type": "text/html; charset=UTF-8", **told})
        else:
            text = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message><Details></Details>"
            self._xml(f"<?xml version='1.0' encoding='UTF-8'?><Error>{text}</Error>", refusal.status, told)

    def _route(self) -> None:
        for header in self.headers:
            name = header.lower()
            if name.startswith("x-goog-") and name not in _HEADERS and not name.startswith("x-goog-meta-"):
                raise unknown(f"the header {header}")
        path = self.path_only
        if path.startswith("/upload/storage/v1/b/") and path.endswith("/o"):
            self._upload(unquote(path.split("/")[5]))
        elif path.startswith("/download/storage/v1/b/"):
            self._json_api(path.removeprefix("/download"))
        elif path.startswith("/storage/v1/"):
            self._json_api(path)
        elif path.startswith(("/upload/", "/download/", "/storage/", "/batch")):
            raise unknown(f"{self.command} {path}")
        else:
            bucket, _, name = path[1:].partition("/")
            if not bucket:
                raise unknown(f"{self.command} {path}")
            self._xml_api(unquote(bucket), unquote(name))

    # --- the JSON API

    def _json_api(self, path: str) -> None:
        if copy := _COPY.fullmatch(path):
            self._copy(*(unquote(part) for part in copy.groups()))
        elif found := _OBJECT.fullmatch(path):
            self._json_object(unquote(found[1]), unquote(found[2]))
        else:
            self._json_bucket([unquote(part) for part in path.split("/")[3:]])

    def _json_bucket(self, parts: list[str]) -> None:
        objects = self.server.objects
        match (self.command, parts):
            case ("POST", ["b"]):
                self._allow("project")
                document = json.loads(self.body)
                objects.make_bucket(document["name"], document)
                self._json(bucket_resource(document["name"], document))
            case ("GET", ["b", bucket]):
                self._allow()
                self._json(bucket_resource(bucket, objects.bucket(bucket).resource))
            case ("GET", ["b", bucket, "iam"]):
                self._allow("optionsRequestedPolicyVersion")
                self._json(objects.bucket(bucket).resource.get("_policy", {"bindings": [], "version": 1}))
            case ("GET", ["b", bucket, "iam", "testPermissions"]):
                self._allow("permissions")
                objects.bucket(bucket)
                asked = [value for name, value in parse_qsl(urlsplit(self.path).query) if name == "permissions"]
                denied = objects.bucket(bucket).resource.get("_denied", [])
                granted = [name for name in asked if name not in denied]
                self._json({"kind": "storage#testIamPermissionsResponse", "permissions": granted})
            case ("GET", ["b", bucket, "o"]):
                self._json_list(bucket)
            case _:
                raise unknown(f"{self.command} {self.path_only}")

    def _json_list(self, bucket: str) -> None:
        self._allow("prefix", "delimiter", "pageToken", "maxResults", "startOffset")
        if "startOffset" in self.query:
            raise unknown("startOffset")
        page = self.server.objects.listing(
            bucket,
            self.query.get("prefix", ""),
            self.query.get("delimiter", ""),
            parse_page_token(self.query.get("pageToken", "")),
            min(self.server.most, int(self.query.get("maxResults", 1000))),
        )
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if items := [there.resource(bucket, name) for name, there in page.objects()]:
            answer["items"] = items
        if prefixes := page.prefixes():
            answer["prefixes"] = prefixes
        if page.last:
            answer["nextPageToken"] = page_token(page.last)
        self._json(answer)

    def _json_object(self, bucket: str, name: str) -> None:
        self._allow("generation", *_JSON_CONDITIONS)
        objects = self.server.objects
        generation = int(self.query["generation"]) if "generation" in self.query else None
        if self.command == "DELETE":
            objects.delete(bucket, name, self._conditions(), generation)
            self._send(204, b"", {})
        elif self.command == "GET":
            there = objects.get(bucket, name, generation)
            self._conditions().check(there)
            if self.query.get("alt") == "media":
                self._media(there)
            else:
                self._json(there.resource(bucket, name))
        else:
            raise unknown(f"{self.command} {self.path_only}")

    def _copy(self, source_bucket: str, source: str, bucket: str, name: str) -> None:
        self._allow(*_JSON_CONDITIONS, "rewriteToken", "destinationKmsKeyName")
        if self.command != "POST":
            raise unknown(f"{self.command} {self.path_only}")
        document = json.loads(self.body or b"{}")
        about = about_of(document, self.query.get("destinationKmsKeyName", "")) if document else None
        made = self.server.objects.copy((source_bucket, source), (bucket, name), about, self._conditions())
        resource = made.resource(bucket, name)
        if "/copyTo/" in self.path_only:
            self._json(resource)
        else:
            size = str(len(made.data))
            done = {"kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size}
            self._json(done | {"resource": resource})

    def _upload(self, bucket: str) -> None:
        self._allow("uploadType", "name", "kmsKeyName", "upload_id", *_JSON_CONDITIONS)
        kind = self.query.get("uploadType")
        if kind == "resumable" and "upload_id" in self.query:
            self._continue(self.query["upload_id"])
        elif self.command != "POST":
            raise unknown(f"{self.command} {self.path_only}")
        elif kind == "resumable":
            self._begin(bucket)
        elif kind == "multipart":
            document, content_type, data = parse_related(self.headers.get("Content-Type", ""), self.body)
            document.setdefault("contentType", content_type)
            self._put_json(bucket, document, data)
        elif kind == "media":
            self._put_json(bucket, {"contentType": self.headers.get("Content-Type", "")}, self.body)
        else:
            raise unknown(f"uploadType {kind}")

    def _put_json(self, bucket: str, document: dict[str, Any], data: bytes) -> None:
        name = document.get("name") or self.query["name"]
        about = about_of(document, self.query.get("kmsKeyName", ""))
        hashes = hashes_of(document) | self._hash_header()
        made = self.server.objects.put(bucket, name, data, about, self._conditions(), hashes)
        self._json(made.resource(bucket, name))

    def _begin(self, bucket: str) -> None:
        objects = self.server.objects
        document = json.loads(self.body or b"{}")
        document.setdefault("contentType", self.headers.get("X-Upload-Content-Type", ""))
        name = document.get("name") or self.query["name"]
        with objects.lock:
            self._conditions().check(objects.bucket(bucket).objects.get(name))
            upload_id = base64.urlsafe_b64encode(os.urandom(18)).decode()
            about = about_of(document, self.query.get("kmsKeyName", ""))
            objects.resumables[upload_id] = Resumable(
                bucket=bucket, name=name, about=about, conditions=self._conditions(), hashes=hashes_of(document)
            )
        where = f"http://{self.headers['Host']}{self.path_only}?uploadType=resumable&upload_id={upload_id}"
        self._send(200, b"", {"Location": where, "X-GUploader-UploadID": upload_id})

    def _continue(self, upload_id: str) -> None:
        objects = self.server.objects
        upload = objects.resumables.get(upload_id)
        wanted = _CONTENT_RANGE.fullmatch(self.headers.get("Content-Range", f"bytes 0-{len(self.body) - 1}/*"))
        if upload is None:
            raise Refusal(404, "notFound", "The upload is not there any more.")
        if self.command == "DELETE":
            del objects.resumables[upload_id]
            self._send(499, b"", {})
            return
        if self.command != "PUT" or wanted is None:
            raise unknown(f"{self.command} to a resumable upload")
        with objects.lock:
            if wanted[1] is not None:
                if int(wanted[1]) != len(upload.data):
                    raise Refusal(400, "invalid", "The chunk does not begin where the last one ended.")
                upload.data += self.body
            if not (wanted[3].isdecimal() and int(wanted[3]) == len(upload.data)):
                sent = {"Range": f"bytes=0-{len(upload.data) - 1}"} if upload.data else {}
                self._send(308, b"", sent)
                return
            hashes = {**upload.hashes, **self._hash_header()}
            made = objects.put(upload.bucket, upload.name, bytes(upload.data), upload.about, upload.conditions, hashes)
            del objects.resumables[upload_id]
        self._json(made.resource(upload.bucket, upload.name))

    def _conditions(self) -> Conditions:
        if self.flaw == "ignore":
            return Conditions()
        found = {field: int(self.query[name]) for name, field in _JSON_CONDITIONS.items() if name in self.query}
        return Conditions(**found)

    # --- what tests ask

    def _admin(self) -> None:
        server = self.server
        if self.path_only == "/_token":
            self._token()
            return
        document = json.loads(self.body) if self.body else {}
        match (self.command, self.path_only.split("/")[1:]):
            case ("POST", ["_buckets", name]):
                server.objects.make_bucket(name, document)
                self._json({})
            case ("GET", ["_requests"]):
                with server.state:
                    self._json(list(server.requests))
            case ("DELETE", ["_requests"]):
                with server.state:
                    server.requests.clear()
                    server.rules.clear()
                    server.most = 1000
                    server.refuse_sign_in = {}
                    server.objects.seconds_between_writes = 0.0
                self._json({})
            case ("POST", ["_rules"]):
                with server.state:
                    server.rules.append(document)
                self._json({})
            case ("POST", ["_pages"]):
                server.most = int(document["most"])
                self._json({})
            case ("POST", ["_pace"]):
                server.objects.seconds_between_writes = float(document["seconds"])
                self._json({})
            case ("GET", ["_unfinished", bucket]):
                with server.objects.lock:
                    begun: list[Any] = [*server.objects.uploads.values(), *server.objects.resumables.values()]
                    self._json([upload.name for upload in begun if upload.bucket == bucket])
            case ("POST", ["_sign_in"]):
                server.refuse_sign_in = document["error"]
                self._json({})
            case ("GET", ["_objects", bucket]):
                self._json(server.objects.get(bucket, document["name"]).resource(bucket, document["name"]))
            case _:
                raise unknown(f"{self.command} {self.path_only}")

    def _token(self) -> None:
        """What Google's token endpoint answers to a service account."""
        if refused := self.server.refuse_sign_in:
            self._send(400, json.dumps(refused).encode(), JSON_HEADERS)
        else:
            self._json({"access_token": "ya29.token-of-the-test", "expires_in": 3600, "token_type": "Bearer"})


def _stop_with_parent() -> None:
    """End when the pipe from whoever started this closes, however that happens."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=lambda: (os.read(0, 1), os._exit(0)), daemon=True).start()


def main() -> None:
    _stop_with_parent()
    with Server(int(sys.argv[1])) as server:
        print(server.server_address[1], flush=True)  # noqa: T201 -- this is how the tests learn the port
        server.serve_forever()


if __name__ == "__main__":
    main()
