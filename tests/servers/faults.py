"""A folder served as an S3 bucket by a server that misbehaves on purpose, one request at a time."""

from __future__ import annotations

import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit

from tests.helpers.waiting import HANG_SECONDS

_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_RESET = struct.pack("ii", 1, 0)  # close() then sends RST instead of what is left
_BLOCK = 4096
BUCKET = "faulty"


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request: of a key, its bytes from ``start`` to before ``end``; the ``nth`` of exactly these, from 1 on."""

    key: str
    start: int
    end: int
    nth: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """How to misbehave.

    Attributes:
        after: bytes of the body that are sent before ``then``; None: not even the headers are.
        then: ``reset`` the connection, ``stall`` until the server stops, ``close`` it, or go on ("").
        status: answer this instead, with ``headers``.
        flips: offsets of bits in the body that are turned over.
        shift: by how many bytes the Content-Range is wrong.
        whole: answer 200 with the whole object, as if no range had been asked for.
        short: tell this Content-Length, and send no more than that.
        drip: after ``after`` bytes send one byte at a time, with so many seconds in between.
    """

    after: int | None = 1 << 60
    then: str = ""
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    flips: tuple[int, ...] = ()
    shift: int = 0
    whole: bool = False
    short: int | None = None
    drip: float = 0


_NONE = Fault()


class FaultyServer:
    """``s3://faulty`` at ``http://127.0.0.1:PORT``; a context manager. Serves GET, and HEAD without a body.

    Args:
        folder: what it serves.

    Attributes:
        rule: what to do with a request; None: behave.
        asks: all that was asked, in order.
        sent: bytes of bodies that were sent.
        stalled: requests that stall now.
        weak: whether its ETags are weak.
        rate: bytes a second that it sends at most, to all together; 0 for any number.
    """

    url = f"s3://{BUCKET}"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rule: Callable[[ReceivedRequest], Fault | None] = lambda _: None
        self.asks: list[ReceivedRequest] = []
        self.sent = 0
        self.stalled = 0
        self.weak = False
        self.rate = 0.0
        self._paid = 0.0
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self._counts: Counter[tuple[str, int, int]] = Counter()
        # The port stays ours while nobody listens. Several sockets may have one where all of them allow it.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.port = int(self._held.getsockname()[1])
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._close()
        self._held.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs."""
        return {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{self.port}",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @contextmanager
    def deaf(self) -> Iterator[None]:
        """Refuse connections, and cut those that there are."""
        self._close()
        try:
            yield
        finally:
            self._listen()

    def heard(self, key: str, start: int, end: int, headers: Mapping[str, str]) -> ReceivedRequest:
        """Note a request."""
        with self.lock:
            self._counts[key, start, end] += 1
            ask = ReceivedRequest(key=key, start=start, end=end, nth=self._counts[key, start, end], headers=headers)
            self.asks.append(ask)
        return ask

    def forget(self) -> None:
        """Forget the requests so far."""
        with self.lock:
            self.asks.clear()
            self._counts.clear()
            self.sent = 0

    def pay(self, count: int) -> None:
        """Wait for the time that so many bytes take."""
        with self.lock:
            self._paid = max(self._paid, time.monotonic()) + count / self.rate
            seconds = self._paid - time.monotonic()
        self.stopped.wait(max(0.0, seconds))

    def _listen(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), type("Handler", (_Handler,), {"faulty": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server.cut()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: object) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)  # type: ignore[arg-type]

    def process_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: object) -> None:
        assert isinstance(request, socket.socket)
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it was gone already

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that are cut hang up."""


class _Handler(BaseHTTPRequestHandler):
    faulty: FaultyServer  # set by the subclass that each server makes
    protocol_version = "HTTP/1.1"
    timeout = HANG_SECONDS
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def do_GET(self) -> None:
        faulty = self.faulty
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            file = (faulty.folder / key).open("rb")
        except OSError:
            faulty.heard(key, 0, 0, headers)
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
            return
        with file:
            self._serve(file, key, headers)

    def do_HEAD(self) -> None:
        """Nobody but whoever looks for Retry-After asks so: it is not noted, and answered as the rule says."""
        key = unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}/")
        fault = self.faulty.rule(ReceivedRequest(key=key, start=0, end=0, nth=0, headers={})) or _NONE
        self.send_response_only(fault.status or 200)
        for name, value in {**fault.headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _serve(self, file: BinaryIO, key: str, headers: Mapping[str, str]) -> None:
        faulty = self.faulty
        status = os.fstat(file.fileno())
        size = status.st_size
        etag = f'{"W/" if faulty.weak else ""}"{status.st_ino:x}-{status.st_mtime_ns:x}"'
        wanted = _RANGE.fullmatch(headers.get("range", ""))
        start, end = (int(wanted[1]), min(int(wanted[2]) + 1, size)) if wanted else (0, size)
        ask = faulty.heard(key, start, end, headers)
        fault = faulty.rule(ask) or _NONE
        if fault.after is None:
            self._then(fault)
        elif fault.status:
            self._answer(fault.status, b"<Error><Code>Told</Code></Error>", fault.headers)
        elif headers.get("if-match", etag) != etag:
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>", {})
        elif headers.get("if-none-match") == etag:
            self._answer(304, b"", {"ETag": etag})
        elif wanted and start >= size:
            self._answer(416, b"<Error><Code>InvalidRange</Code></Error>", {})
        else:
            told = {"ETag": etag, "Last-Modified": self.date_time_string(int(status.st_mtime))}
            if not wanted or fault.whole:
                self._answer(200, file.read(), told, fault)
                return
            told["Content-Range"] = f"bytes {start + fault.shift}-{end - 1 + fault.shift}/{size}"
            file.seek(start)
            self._answer(206, file.read(end - start), told, fault)

    def log_message(self, *_: object) -> None:
        """Say nothing: the tests read ``asks``."""

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str], fault: Fault = _NONE) -> None:
        if fault.flips:
            changed = bytearray(body)
            for bit in fault.flips:
                changed[bit // 8] ^= 1 << bit % 8
            body = bytes(changed)
        if fault.short is not None:
            body = body[: fault.short]
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        first = body[: fault.after]
        self._send(first)
        if len(first) < len(body) or fault.then:
            if fault.drip:
                for index in range(len(first), len(body)):
                    if self.faulty.stopped.wait(fault.drip):
                        return
                    self._send(body[index : index + 1])
            else:
                self._then(fault)

    def _send(self, data: bytes) -> None:
        block = _BLOCK if self.faulty.rate else len(data) or 1
        for start in range(0, len(data) or 1, block):
            part = data[start : start + block]
            self.wfile.write(part)
            self.wfile.flush()
            with self.faulty.lock:
                self.faulty.sent += len(part)
            if self.faulty.rate:
                self.faulty.pay(len(part))

    def _then(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.then == "stall":
            with self.faulty.lock:
                self.faulty.stalled += 1
            self.faulty.stopped.wait(HANG_SECONDS)
            with self.faulty.lock:
                self.faulty.stalled -= 1
        elif fault.then == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.close()
