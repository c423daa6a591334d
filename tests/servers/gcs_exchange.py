"""One HTTP exchange of the GCS server."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.servers.gcs_documents import JSON_HEADERS, media_headers
from tests.servers.gcs_objects import (
    Object,
    Refusal,
    not_met,
    unknown,
)

_HARMLESS = {"alt", "fields", "prettyPrint", "projection", "userProject", "quotaUser", "key"}
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Exchange(BaseHTTPRequestHandler):
    """A request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True
    server: Any
    path_only: str
    query: Mapping[str, str]
    body: bytes
    flaw: str
    refusal_headers: Mapping[str, str]

    def _cut(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _media(self, there: Object) -> None:
        headers = media_headers(there)
        for name in ("If-Modified-Since", "If-Unmodified-Since"):
            if name in self.headers:
                raise unknown(name)
        if self.headers.get("If-None-Match", "").strip('"') == there.etag:
            self._send(304, b"", headers)
            return
        if self.headers.get("If-Match", there.etag).strip('"') != there.etag:
            raise not_met()
        if "Range" not in self.headers:
            self._send(200, there.data, headers)
            return
        wanted = RANGE.fullmatch(self.headers["Range"])
        if wanted is None or not (wanted[1] or wanted[2]):
            raise unknown(f"the range {self.headers['Range']}")
        size = len(there.data)
        first = int(wanted[1]) if wanted[1] else max(0, size - int(wanted[2]))
        last = min(int(wanted[2]), size - 1) if wanted[1] and wanted[2] else size - 1
        if first > last:
            raise Refusal(416, "requestedRangeNotSatisfiable", "Request range not satisfiable", "InvalidRange")
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._send(206, there.data[first : last + 1], headers)

    def _allow(self, *names: str) -> None:
        for name in self.query:
            if name not in names and name not in _HARMLESS:
                raise unknown(f"the parameter {name} of {self.command} {self.path_only}")

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

    def _json(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode(), JSON_HEADERS)

    def _xml(self, text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        kept = {name: value for name, value in (headers or {}).items() if name != "Content-Type"}
        self._send(status, text.encode(), {"Content-Type": "application/xml; charset=UTF-8"} | kept)

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        told = dict(headers)
        if self.command == "HEAD" and "x-goog-stored-content-length" in told:
            told["Content-Length"] = told["x-goog-stored-content-length"]
        elif status not in {204, 304}:
            told["Content-Length"] = str(len(body))
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD" and status not in {204, 304}:
            self.wfile.write(body)
        self.wfile.flush()


class LostConnection:
    """A connection whose answers get lost."""

    closed = False

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True
