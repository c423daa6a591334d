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
import binascii
import json
import os
import re
import stat
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.servers.gcs_documents import (
    JSON_HEADERS,
    about_of,
    bucket_resource,
    child_text,
    error_document,
    hashes_of,
    media_headers,
    page_token,
    parse_page_token,
    parse_related,
)
from tests.servers.gcs_exchange import Exchange, LostConnection
from tests.servers.gcs_objects import (
    About,
    Conditions,
    Objects,
    Refusal,
    Resumable,
    check_hashes,
    unknown,
)

_HARMLESS = {"alt", "fields", "prettyPrint", "projection", "userProject", "quotaUser", "key"}
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
_XML = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
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


class _Handler(Exchange):
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
        if self.path.startswith("/_") and self.command in _ADMIN:
            self._answer(self._admin)
            return
        self._obey(self.server.rule(self.command, self.path))

    def _obey(self, rule: dict[str, Any] | None) -> None:
        match rule:
            case {"do": "refuse", "status": status, "reason": reason, "message": message}:
                self._refuse(Refusal(status, reason, message or reason))
            case {"do": "cut"}:
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
        media = self.query.get("alt") == "media" or self.path_only.startswith("/upload/")
        if self.command == "HEAD":
            self._send(refusal.status, b"", {})
        elif self.path_only.startswith(("/storage/", "/_")) and not media:
            self._send(refusal.status, json.dumps(error_document(refusal)).encode(), JSON_HEADERS)
        elif media or self.path_only.startswith("/download/"):
            self._send(refusal.status, refusal.message.encode(), {"Content-Type": "text/html; charset=UTF-8"})
        else:
            text = f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message><Details></Details>"
            self._xml(f"<?xml version='1.0' encoding='UTF-8'?><Error>{text}</Error>", refusal.status)

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

    def _allow(self, *names: str) -> None:
        for name in self.query:
            if name not in names and name not in _HARMLESS:
                raise unknown(f"the parameter {name} of {self.command} {self.path_only}")

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

    # --- the XML API

    def _xml_api(self, bucket: str, name: str) -> None:
        if not name:
            self._xml_bucket(bucket)
        elif "uploads" in self.query or "uploadId" in self.query:
            self._xml_multipart(bucket, name)
        elif self.command in {"GET", "HEAD"}:
            self._allow("generation")
            wanted = int(self.query["generation"]) if "generation" in self.query else None
            there = self.server.objects.get(bucket, name, wanted)
            self._media(there)
        elif self.command == "PUT":
            self._xml_put(bucket, name)
        elif self.command == "DELETE":
            self._allow("generation")
            self.server.objects.delete(bucket, name, self._xml_conditions())
            self._send(204, b"", {})
        else:
            raise unknown(f"{self.command} {self.path_only}")

    def _xml_put(self, bucket: str, name: str) -> None:
        self._allow()
        objects = self.server.objects
        source = self.headers.get("x-goog-copy-source")
        if source is None:
            hashes = self._hash_header()
            made = objects.put(bucket, name, self.body, self._xml_about(), self._xml_conditions(), hashes)
            self._send(200, b"", media_headers(made))
        else:
            if self.headers.get("x-goog-metadata-directive", "COPY") != "COPY":
                raise unknown("this x-goog-metadata-directive")
            source_bucket, _, source_name = unquote(source).lstrip("/").partition("/")
            copied = objects.copy((source_bucket, source_name), (bucket, name), None, self._xml_conditions())
            result = f"<ETag>&quot;{copied.etag}&quot;</ETag>"
            self._xml(f"<CopyObjectResult {_XML}>{result}</CopyObjectResult>", headers=media_headers(copied))

    def _xml_multipart(self, bucket: str, name: str) -> None:
        self._allow("uploads", "uploadId", "partNumber")
        if self.headers.get("x-goog-if-generation-match") is not None:
            raise unknown("conditions on multipart uploads, and neither does Google's service")
        objects = self.server.objects
        upload_id = self.query.get("uploadId", "")
        match (self.command, "uploads" in self.query, "partNumber" in self.query):
            case ("POST", True, False):
                started = objects.initiate(bucket, name, self._xml_about())
                where = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><UploadId>{started}</UploadId>"
                self._xml(f"<InitiateMultipartUploadResult {_XML}>{where}</InitiateMultipartUploadResult>")
            case ("PUT", False, True):
                upload = objects.upload(bucket, name, upload_id)
                crc32c, md5 = check_hashes(self.body, self._hash_header())
                upload.parts[int(self.query["partNumber"])] = self.body
                etag = binascii.hexlify(base64.b64decode(md5)).decode()
                self._send(200, b"", {"ETag": f'"{etag}"', "x-goog-hash": f"crc32c={crc32c},md5={md5}"})
            case ("POST", False, False):
                parts = [
                    (int(child_text(part, "PartNumber")), child_text(part, "ETag")) for part in ET.fromstring(self.body)
                ]
                made = objects.complete(bucket, name, upload_id, parts)
                if self.flaw == "spoil":
                    objects.damage(bucket, name)
                result = f"<Bucket>{bucket}</Bucket><Key>{escape(name)}</Key><ETag>&quot;{made.etag}&quot;</ETag>"
                self._xml(f"<CompleteMultipartUploadResult {_XML}>{result}</CompleteMultipartUploadResult>")
            case ("DELETE", False, False):
                objects.abort(bucket, name, upload_id)
                self._send(204, b"", {})
            case _:
                raise unknown(f"{self.command} {self.path_only}")

    def _xml_bucket(self, bucket: str) -> None:
        if self.command == "GET" and "uploads" in self.query:
            self._xml_uploads(bucket)
        elif self.command == "GET" and self.query.get("list-type") == "2":
            self._xml_list(bucket)
        else:
            raise unknown(f"{self.command} {self.path}")

    def _xml_list(self, bucket: str) -> None:
        self._allow("list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after")
        prefix = self.query.get("prefix", "")
        after = parse_page_token(self.query.get("continuation-token", "")) or self.query.get("start-after", "")
        limit = min(self.server.most, int(self.query.get("max-keys", 1000)))
        page = self.server.objects.listing(bucket, prefix, self.query.get("delimiter", ""), after, limit)
        rows = [f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page.entries)}</KeyCount>"]
        rows.append(f"<IsTruncated>{str(bool(page.last)).lower()}</IsTruncated>")
        if page.last:
            rows.append(f"<NextContinuationToken>{page_token(page.last)}</NextContinuationToken>")
        for name, there in page.objects():
            when = there.updated.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            rows.append(
                f"<Contents><Key>{escape(name)}</Key><Generation>{there.generation}</Generation>"
                f"<MetaGeneration>1</MetaGeneration><LastModified>{when}</LastModified>"
                f"<ETag>&quot;{there.etag}&quot;</ETag><Size>{len(there.data)}</Size></Contents>"
            )
        rows += [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in page.prefixes()]
        self._xml(f"<ListBucketResult {_XML}>{''.join(rows)}</ListBucketResult>")

    def _xml_uploads(self, bucket: str) -> None:
        self._allow("uploads", "prefix", "max-uploads", "key-marker", "upload-id-marker")
        objects = self.server.objects
        objects.bucket(bucket)
        marker = (self.query.get("key-marker", ""), self.query.get("upload-id-marker", ""))
        limit = min(self.server.most, int(self.query.get("max-uploads", 1000)))
        with objects.lock:
            found = sorted(
                (upload.name, upload_id, upload.started)
                for upload_id, upload in objects.uploads.items()
                if upload.bucket == bucket and upload.name.startswith(self.query.get("prefix", ""))
            )
        rest = [entry for entry in found if entry[:2] > marker]
        page, more = rest[:limit], len(rest) > limit
        rows = [f"<Bucket>{bucket}</Bucket><IsTruncated>{str(more).lower()}</IsTruncated>"]
        if more:
            rows.append(f"<NextKeyMarker>{escape(page[-1][0])}</NextKeyMarker>")
            rows.append(f"<NextUploadIdMarker>{page[-1][1]}</NextUploadIdMarker>")
        for name, upload_id, started in page:
            when = started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            rows.append(
                f"<Upload><Key>{escape(name)}</Key><UploadId>{upload_id}</UploadId><Initiated>{when}</Initiated></Upload>"
            )
        self._xml(f"<ListMultipartUploadsResult {_XML}>{''.join(rows)}</ListMultipartUploadsResult>")

    def _xml_about(self) -> About:
        metadata = {
            name[len("x-goog-meta-") :].lower(): value.encode("latin-1").decode("utf-8")
            for name, value in self.headers.items()
            if name.lower().startswith("x-goog-meta-")
        }
        return About(
            self.headers.get("Content-Type") or "application/octet-stream",
            self.headers.get("Cache-Control", ""),
            metadata,
            self.headers.get("x-goog-encryption-kms-key-name", ""),
        )

    def _xml_conditions(self) -> Conditions:
        generation = self.headers.get("x-goog-if-generation-match")
        metageneration = self.headers.get("x-goog-if-metageneration-match")
        return Conditions(
            generation=None if generation is None else int(generation),
            metageneration=None if metageneration is None else int(metageneration),
        )

    # --- both

    def _hash_header(self) -> dict[str, str]:
        said = {}
        for value in self.headers.get_all("x-goog-hash", []):
            for item in value.split(","):
                name, _, digest = item.strip().partition("=")
                if name not in {"crc32c", "md5"}:
                    raise unknown(f"the hash {name}")
                said[name] = digest
        if "Content-MD5" in self.headers:
            said["md5"] = self.headers["Content-MD5"]
        return said

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
                self._json({})
            case ("POST", ["_rules"]):
                with server.state:
                    server.rules.append(document)
                self._json({})
            case ("POST", ["_pages"]):
                server.most = int(document["most"])
                self._json({})
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
