"""What a service, or something before it, may answer instead of what it should: a table, the same at every run.

Each shape gives an answer as raw bytes, from the request and, where it only changes a true answer, from that.
"""

from __future__ import annotations

import functools
import gzip
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from html import escape
from types import MappingProxyType

HUGE = 100 << 20
_BLOCK = bytes(1 << 20)
_HTML = (
    b"<!DOCTYPE html>\n<html><head><title>Sign in to Acme Guest Wi-Fi</title></head>"
    b"<body><h1>Welcome</h1><form action='/login'></form></body></html>"
)
_XML = '<?xml version="1.0" encoding="utf-8"?>\n'


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and what the real service answers to it; status 0 where it was not asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int = 0
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Shape:
    """One way to answer.

    Attributes:
        name: for reports.
        make: the bytes to send before the connection is closed.
        forwards: whether the real service is asked first, so that what was asked for has happened.
        heavy: whether it is large: for few rounds.
    """

    name: str
    make: Callable[[Exchange], Iterable[bytes]]
    forwards: bool = False
    heavy: bool = False


def _raw(status: int, body: bytes = b"", headers: Mapping[str, str] = MappingProxyType({}), length: str = "") -> bytes:
    told = {"Content-Length": length or str(len(body)), "Connection": "close"} | dict(headers)
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in told.items() if value != "-")]
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body


def _plain(status: int, kind: str, body: bytes, **headers: str) -> Callable[[Exchange], Iterable[bytes]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    typed = {"Content-Type": kind} if kind else {}
    return lambda _: [_raw(status, body, typed | named)]


def _bodies() -> dict[str, tuple[str, bytes]]:
    """Bodies, by name: their type and their bytes."""
    javascript = "application/json"
    xml = "application/xml"
    bodies: dict[str, tuple[str, bytes]] = {
        "nothing": ("", b""),
        "page": ("text/html; charset=utf-8", _HTML),
        "page called JSON": (javascript, _HTML),
        "page called XML": (xml, _HTML),
        "text": ("text/plain", b"upstream connect error or disconnect/reset before headers\nreset reason: overflow"),
        "control characters": ("text/plain", b"\x1b[31mred\x1b[0m\x00\x07 \xe2\x80\xae reversed\r\nsecond line"),
        "not UTF-8": ("application/json; charset=utf-8", b'{"error": {"message": "caf\xe9 \xff\xfe"}}'),
        "unknown charset": ("application/json; charset=klingon", b'{"error": {"message": "no such charset"}}'),
        "UTF-16": ("application/xml; charset=utf-16", f"{_XML}<Error><Code>No</Code></Error>".encode("utf-16")),
        "NUL bytes": ("application/octet-stream", bytes(2000)),
        "long line": ("text/plain", b"long " * 20_000),
    }
    documents: dict[str, object] = {
        "null": None,
        "number": 42,
        "string": "no",
        "true": True,
        "list": [1, "two", None],
        "object": {},
        "error null": {"error": None},
        "error text": {"error": "no", "error_description": "not today"},
        "error number": {"error": 7, "message": 8, "code": []},
        "error list": {"error": [{"message": "in a list"}], "errors": "x"},
        "error nested": {"error": {"message": {"text": {"deep": ["er"]}}, "code": {}, "errors": 3, "status": [1]}},
        "items number": {"kind": 5, "items": 3, "prefixes": "abc", "nextPageToken": 9},
        "items null": {"items": [None], "prefixes": [None], "nextPageToken": None},
        "items of wrong types": {
            "items": [{"name": 5, "size": "many", "updated": 12, "generation": {}}],
            "prefixes": [{}, 7],
        },
        "object of wrong types": {
            "name": [],
            "size": "many",
            "crc32c": 7,
            "generation": None,
            "updated": "yesterday",
            "metadata": "x",
            "bindings": 4,
            "lifecycle": [],
            "iamConfiguration": "x",
            "retentionPolicy": 3,
            "access_token": 7,
            "expires_in": "soon",
            "AccessKeyId": 5,
            "SecretAccessKey": [],
            "Expiration": "tomorrow",
        },
        "same page for ever": {"items": [], "prefixes": [], "nextPageToken": "same"},
    }
    bodies |= {f"JSON {name}": (javascript, json.dumps(document).encode()) for name, document in documents.items()}
    bodies |= {
        "JSON cut": (javascript, b'{"error": {"message": "cut he'),
        "JSON deep": (javascript, b"[" * 100_000),
        "JSON with a large number": (javascript, b'{"size": ' + b"9" * 5000 + b', "error": 1e999}'),
        "JSON twice": (javascript, b'{"a": 1}{"b": 2}'),
    }
    elements = {
        "of nothing": "<a/>",
        "empty list": "<ListBucketResult/>",
        "empty enumeration": "<EnumerationResults/>",
        "empty error": "<Error/>",
        "error of elements": "<Error><Code><b>1</b></Code><Message><c><d/></c></Message></Error>",
        "error twice": "<Error><Code>A</Code><Code>B</Code><Message/><Message>x</Message></Error>",
        "error of another": "<ErrorResponse><Error><Type>S</Type><Code>Odd</Code></Error></ErrorResponse>",
        "wrong types": "<ListBucketResult><IsTruncated>perhaps</IsTruncated><MaxKeys>x</MaxKeys><Contents><Key/>"
        "<Size>many</Size><LastModified>yesterday</LastModified></Contents><CommonPrefixes/></ListBucketResult>",
        "wrong types of Azure": "<EnumerationResults><Blobs><Blob><Name/><Properties><Content-Length>many"
        "</Content-Length><Last-Modified>yesterday</Last-Modified></Properties></Blob><BlobPrefix/></Blobs>"
        "<NextMarker/></EnumerationResults>",
        "wrong uploads": "<ListMultipartUploadsResult><Upload><Initiated>yesterday</Initiated></Upload>"
        "<IsTruncated>true</IsTruncated></ListMultipartUploadsResult>",
        "upload without id": "<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>",
        "wrong blocks": "<BlockList><CommittedBlocks><Block><Size>x</Size></Block></CommittedBlocks></BlockList>",
        "same page for ever": "<ListBucketResult><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>same</NextContinuationToken></ListBucketResult>",
        "same enumeration for ever": "<EnumerationResults><Blobs/><NextMarker>same</NextMarker></EnumerationResults>",
        "truncated without a token": "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "odd credentials": "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        "<Expiration>never</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
        "</AssumeRoleWithWebIdentityResponse>",
        "success that is an error": "<Error><Code>InternalError</Code><Message>We are sorry.</Message></Error>",
    }
    bodies |= {f"XML {name}": (xml, f"{_XML}{text}".encode()) for name, text in elements.items()}
    bombs = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    bodies |= {
        "XML cut": (xml, f"{_XML}<Error><Code>Cut</Co".encode()),
        "XML deep": (xml, b"<a>" * 20_000),
        "XML bomb": (xml, f'<!DOCTYPE a [<!ENTITY e0 "ha">{bombs}]><Error><Code>&e9;</Code></Error>'.encode()),
        "XML of wrong encoding": (xml, b'<?xml version="1.0" encoding="utf-16"?><Error><Code>No</Code></Error>'),
        "XML with control characters": (xml, b"<Error><Code>A\x01B</Code><Message>\x1b[2J</Message></Error>"),
    }
    return bodies


def _statuses() -> list[int]:
    successes = [200, 201, 202, 203, 204, 205, 206, 207, 226]
    redirections = [300, 301, 302, 303, 304, 305, 306, 307, 308]
    refusals = [400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418]
    others = [421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 460, 499]
    failures = [500, 501, 502, 503, 504, 505, 506, 507, 508, 509, 510, 511, 520, 525, 530, 598, 599]
    return [100, 101, 102, 103, 199, *successes, *redirections, *refusals, *others, *failures, 600, 700, 999]


def _of_statuses() -> Iterable[Shape]:
    """Every status with a body of its own, and a few statuses with every body."""
    bodies = _bodies()
    cycle = itertools.cycle(["nothing", "page", "JSON error nested", "XML empty error", "text", "JSON list"])
    for status, name in zip(_statuses(), cycle, strict=False):
        yield Shape(f"{status} {name}", _plain(status, *bodies[name]))
    for name, (kind, body) in bodies.items():
        for status in (200, 400, 403, 404, 503):
            yield Shape(f"{status} with {name}", _plain(status, kind, body))
    for status in (206, 401, 409, 412, 500):
        for name in ("page", "JSON error number", "XML error of elements", "JSON deep"):
            yield Shape(f"{status} with {name}", _plain(status, *bodies[name]))


def _of_lines() -> Iterable[Shape]:
    """What is no HTTP, or wrong in its headers."""
    lines = {
        "nothing at all": b"",
        "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
        "a TLS alert": bytes.fromhex("15030100020246"),
        "ICY": b"ICY 200 OK\r\n\r\n",
        "HTTP/9.9": b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
        "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
        "a status below zero": b"HTTP/1.1 -1 OK\r\n\r\n",
        "a page without headers": _HTML,
        "half of the headers": b"HTTP/1.1 200 OK\r\nContent-Type: text/ht",
        "a header without colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n",
        "a header of NULs": b"HTTP/1.1 200 OK\r\nX-A: \x00\x00\r\nContent-Length: 0\r\n\r\n",
        "headers that are not ASCII": b"HTTP/1.1 500 \xff\xfe\r\nETag: \xe9\xff\r\nContent-Length: 0\r\n\r\n",
        "a folded header": b"HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        "a length below zero": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcde",
        "a length of letters": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabcde",
        "a length beyond all": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nabcde",
        "more length than body": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nabcde",
        "less length than body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcde",
        "no length": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde",
        "chunks of no size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
        "chunks that end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "chunks without end": b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "a chunk beyond all": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
        "another transfer encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, klingon\r\n\r\nabc",
        "a long header": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
        "a long status line": b"HTTP/1.1 500 " + b"a" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
        "for TLS alone": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><head>"
        b"<title>400 The plain HTTP request was sent to HTTPS port</title></head></html>",
    }
    for name, data in lines.items():
        yield Shape(name, lambda _, data=data: [data])  # type: ignore[misc]
    yield Shape("endless headers", _endless_headers)
    for encoding in ("gzip", "deflate", "br", "zstd", "klingon"):
        for status in (200, 500):
            make = _plain(status, "application/json", b'{"not": "compressed"}', Content_Encoding=encoding)
            yield Shape(f"{status} that is no {encoding}", make)
    for name, status, kind in (
        ("gzip of 100 MB", 200, "application/json"),
        ("gzip of 100 MB, 500", 500, "application/xml"),
    ):
        headers = {"Content-Type": kind, "Content-Encoding": "gzip"}
        yield Shape(name, lambda _, status=status, headers=headers: [_raw(status, _bomb(), headers)], heavy=True)  # type: ignore[misc]
    for status in (200, 206, 404, 500):
        yield Shape(f"{status} of 100 MB", lambda _, status=status: _huge(status), heavy=True)  # type: ignore[misc]


@functools.cache
def _bomb() -> bytes:
    """Made when it is first sent: it takes a third of a second, and most who import the table never send it."""
    return gzip.compress(bytes(HUGE), mtime=0)


def _endless_headers(_: Exchange) -> Iterable[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    for number in range(200_000):
        yield b"X-Header-%d: value\r\n" % number


def _huge(status: int) -> Iterable[bytes]:
    yield _raw(status, b"", {"Content-Type": "application/xml"}, str(HUGE))
    for _ in range(HUGE >> 20):
        yield _BLOCK


def _of_redirections() -> Iterable[Shape]:
    places = {
        "nowhere": "",
        "another host": "http://127.0.0.2:9/elsewhere",
        "https": "https://127.0.0.1:9/elsewhere",
        "a file": "file:///etc/passwd",
        "no address": "http://[half/",
        "a port beyond all": "http://127.0.0.1:99999/",
        "letters for a port": "http://127.0.0.1:port/",
        "a name that is none": "http://" + "a" * 300 + "/",
        "control characters": "http://127.0.0.1:9/\x1b[31m",
    }
    for name, place in places.items():
        for status in (301, 302, 307):
            headers = {"Location": place} if place else {}
            yield Shape(f"{status} to {name}", lambda _, s=status, h=headers: [_raw(s, b"", h)])  # type: ignore[misc]
    for status in (301, 303, 308):
        yield Shape(f"{status} to itself", lambda one, s=status: [_raw(s, b"", {"Location": one.path})])  # type: ignore[misc]
    portal = _plain(302, "text/html", _HTML, Location="http://127.0.0.2:9/login")
    yield Shape("302 to a captive portal", portal)


def _echoed(one: Exchange) -> str:
    return "\n".join([f"{one.method} {one.path}", *(f"{name}: {value}" for name, value in one.headers.items())])


def _of_echoes() -> Iterable[Shape]:
    """Answers that repeat the request, with all that it was signed with."""

    def text(status: int, one_line: str) -> Callable[[Exchange], Iterable[bytes]]:
        return lambda one: [
            _raw(status, f"No: {_echoed(one).replace(chr(10), one_line)}".encode(), {"Content-Type": "text/plain"})
        ]

    def document(status: int) -> Callable[[Exchange], Iterable[bytes]]:
        def make(one: Exchange) -> Iterable[bytes]:
            said = {"error": {"message": json.dumps(dict(one.headers)), "code": "Echo"}, "path": one.path}
            return [_raw(status, json.dumps(said).encode(), {"Content-Type": "application/json"})]

        return make

    def elements(status: int, code: str) -> Callable[[Exchange], Iterable[bytes]]:
        def make(one: Exchange) -> Iterable[bytes]:
            said = escape(_echoed(one).replace("\n", " "))
            details = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in one.headers.items())
            body = f"{_XML}<Error><Code>{code}</Code><Message>{said}</Message>{details}</Error>"
            return [_raw(status, body.encode(), {"Content-Type": "application/xml", "x-ms-request-id": "1"})]

        return make

    for status in (200, 400, 401, 403, 409, 500):
        yield Shape(f"{status} that repeats the request", text(status, " "))
        yield Shape(f"{status} that repeats the request in lines", text(status, "\n"))
        yield Shape(f"{status} that repeats the request in JSON", document(status))
        yield Shape(f"{status} that repeats the request in XML", elements(status, "SignatureDoesNotMatch"))
    yield Shape("400 InvalidToken with the request", elements(400, "InvalidToken"))
    yield Shape(
        "302 that repeats the request", lambda one: [_raw(302, b"", {"Location": f"http://127.0.0.2:9{one.path}"})]
    )


def _changed(
    change: Callable[[Exchange], tuple[int, bytes, dict[str, str]]],
) -> Callable[[Exchange], Iterable[bytes]]:
    def make(one: Exchange) -> Iterable[bytes]:
        status, body, headers = change(one)
        kept = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        lengths = [value for name, value in headers.items() if name.lower() == "content-length"]
        if one.method == "HEAD":
            return [_raw(status, b"", kept, lengths[0] if lengths else "0")]
        return [_raw(status, body, kept)]

    return make


def _without(header: str) -> Callable[[Exchange], Iterable[bytes]]:
    return _changed(
        lambda one: (
            one.status,
            one.body,
            {name: value for name, value in one.answer_headers.items() if name.lower() != header},
        )
    )


def _with(header: str, value: str) -> Callable[[Exchange], Iterable[bytes]]:
    def change(one: Exchange) -> tuple[int, bytes, dict[str, str]]:
        kept = {name: old for name, old in one.answer_headers.items() if name.lower() != header}
        return one.status, one.body, kept | {header: value}

    return _changed(change)


def _with_status(status: int) -> Callable[[Exchange], Iterable[bytes]]:
    return _changed(lambda one: (status, one.body, dict(one.answer_headers)))


def _with_body(change: Callable[[bytes], bytes]) -> Callable[[Exchange], Iterable[bytes]]:
    return _changed(lambda one: (one.status, change(one.body), dict(one.answer_headers)))


def _strings_for_numbers(body: bytes) -> bytes:
    return re.sub(rb"(?<=[>:\s\"])\d+(?=[<,}\"\s])", b"seven", body)


def _of_true_answers() -> Iterable[Shape]:
    """True answers, of which one thing is changed."""
    names = ("etag", "content-length", "content-type", "content-range", "last-modified", "date", "x-goog-hash")
    more = ("x-goog-generation", "x-ms-request-id", "x-ms-blob-type", "x-ms-version", "content-md5", "x-amz-request-id")
    for name in names + more:
        yield Shape(f"without {name}", _without(name), forwards=True)
    values = {
        "etag": ("", "no quotes", 'W/"weak"', '"' + "a" * 5000 + '"'),
        "content-range": (
            "bytes x-y/z",
            "bytes 0-0/*",
            "bytes 5-2/1",
            "apples 0-1/2",
            "bytes 0-99/99999999999999999999999",
        ),
        "content-length": ("7", "0"),
        "last-modified": ("yesterday", "0", "Thu, 99 Foo 2026 99:99:99 GMT"),
        "date": ("yesterday", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 99999 00:00:00 GMT"),
        "content-type": ("klingon/\xff", "application/xml; charset=klingon", "multipart/mixed; boundary="),
        "x-goog-hash": ("crc32c=AAAAAA==", "crc32c=!", "nonsense"),
        "x-goog-generation": ("x", "-1"),
        "content-md5": ("AAAAAAAAAAAAAAAAAAAAAA==", "!"),
        "x-ms-blob-type": ("Klingon",),
        "x-ms-error-code": ("Klingon",),
        "x-amz-checksum-sha256": ("nonsense",),
        "content-encoding": ("gzip",),
        "x-ms-request-server-encrypted": ("perhaps",),
        "x-ms-creation-time": ("yesterday",),
        "retry-after": ("soon", "-5", "99999999999999999999", "Thu, 01 Jan 99999 00:00:00 GMT"),
    }
    for name, some in values.items():
        for value in some:
            yield Shape(f"{name}: {value[:40]!r}", _with(name, value), forwards=True)
    for status in (200, 201, 202, 204, 205, 206, 207, 226, 299, 302, 304, 404, 412, 416, 500, 600):
        yield Shape(f"{status} for the true status", _with_status(status), forwards=True)
    changes: dict[str, Callable[[bytes], bytes]] = {
        "half of the body": lambda body: body[: len(body) // 2],
        "no body": lambda _: b"",
        "the body twice": lambda body: body * 2,
        "a body with one byte more": lambda body: body + b"x",
        "strings for numbers": _strings_for_numbers,
        "null for strings": lambda body: re.sub(rb'(?<=: )"[^"]*"', b"null", body),
        "numbers for strings": lambda body: re.sub(rb'(?<=:)\s*"[^"]*"', b"7", body),
        "a list around it": lambda body: b"[" + body + b"]",
        "empty elements": lambda body: re.sub(rb">[^<>]+<", b"><", body),
        "a page for the body": lambda _: _HTML,
        "another encoding": lambda body: body.decode("utf-8", "replace").encode("utf-16"),
        "bytes turned over": lambda body: bytes(byte ^ 0x55 for byte in body),
    }
    for name, change in changes.items():
        yield Shape(name, _with_body(change), forwards=True)
    yield Shape("more length than the body", lambda one: [_true(one, len(one.body) + 100)], forwards=True)
    yield Shape("a body that breaks off", lambda one: [_true(one)[: -(len(one.body) // 2) or None]], forwards=True)
    yield Shape("no answer after all was done", lambda _: [], forwards=True)


def _true(one: Exchange, length: int | None = None) -> bytes:
    kept = {name: value for name, value in one.answer_headers.items() if name.lower() != "content-length"}
    return _raw(one.status, one.body, kept, "" if length is None else str(length))


SHAPES = (*_of_statuses(), *_of_lines(), *_of_redirections(), *_of_echoes(), *_of_true_answers())
