"""Long parts of files, read past obstore: the same bytes, and where anything else is answered, obstore's words."""

from __future__ import annotations

import random
import socket
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.storage.read import bucket, direct, obstore_client
from modeldrop.storage.read.interface import FaultKind, RegistryReader, Stream, open_reader
from modeldrop.storage.write import open_store
from modeldrop.util import http
from tests.helpers.clouds import sign_in, sign_out
from tests.helpers.waiting import GROWING_SECONDS, HANG_SECONDS
from tests.servers.faults import Fault, FaultyServer
from tests.servers.https import HttpsAnswer, HttpsServer
from tests.servers.tls import ForwardProxy
from tests.storage.cloud_addresses import models, nobody, point, server, trust

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modeldrop.storage.read.interface import Room
    from tests.helpers.clouds import Servers

__all__ = ["models", "nobody", "server"]

KEY = "m/v1/odd names/50%25 größe #1 [漢字]~.onnx"
DATA = random.Random(7).randbytes(300_000)
CHUNK = 10_000


@pytest.fixture(autouse=True)
def whatever_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first byte of a file, and a part of one byte, are reason enough to read it directly."""
    monkeypatch.setattr(bucket, "_DIRECT_AFTER", 0)
    monkeypatch.setattr(bucket, "_DIRECT_FROM", 1)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    path = tmp_path / "served" / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    with FaultyServer(tmp_path / "served") as running:
        sign_in(monkeypatch, running)
        yield running


def room(length: int) -> memoryview:
    """Memory of its own for whatever comes."""
    return memoryview(bytearray(length))


def stream(reader: RegistryReader, start: int, length: int, etag: str = "") -> Stream:
    return reader.stream(KEY, start, length, etag, CHUNK, room)


def body(streamed: Stream) -> bytes:
    return b"".join(bytes(part) for part in streamed.chunks)


def is_direct(headers: Any) -> bool:
    """Whether a request did not come from obstore, which names itself."""
    return "user-agent" not in headers


def asked_directly(faulty: FaultyServer) -> list[bool]:
    return [is_direct(ask.headers) for ask in faulty.asks]


def test_parts_come_in_chunks_over_one_connection(faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    connect = http.connect

    def noted(url: str, seconds: float, also: str) -> Any:
        opened.append(url)
        return connect(url, seconds, also)

    monkeypatch.setattr(http, "connect", noted)
    reader = open_reader(faulty.url)
    for start, length in [(0, 1), (5, 9_999), (100_000, 123_456), (0, len(DATA))]:
        streamed = stream(reader, start, length)
        assert streamed.size == len(DATA)
        assert streamed.etag.startswith('"')
        parts = [bytes(part) for part in streamed.chunks]
        assert b"".join(parts) == DATA[start : start + length]
        assert {len(part) for part in parts[:-1]} <= {CHUNK}
    assert asked_directly(faulty) == [True] * 4
    assert len(opened) == 1


def test_small_files_and_the_beginning_of_large_ones_are_obstores(
    faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_DIRECT_AFTER", 100_000)
    monkeypatch.setattr(bucket, "_DIRECT_FROM", 1000)
    reader = open_reader(faulty.url)
    for length in (60_000, 60_000, 60_000, 999, 1000):
        assert body(stream(reader, 0, length)) == DATA[:length]
    assert body(reader.stream(KEY, 0, None, "", CHUNK, room)) == DATA
    assert body(reader.stream(KEY, 0, 5000, "", CHUNK)) == DATA[:5000]
    assert asked_directly(faulty) == [False, False, True, False, True, False, False]


def test_a_signed_address(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    s3: Any = servers["s3"]
    sign_in(monkeypatch, s3)
    registry = s3.registry()
    open_store(registry).create(KEY, DATA)
    s3.reset()
    reader = open_reader(registry)
    assert body(stream(reader, 1000, 50_000)) == DATA[1000:51_000]
    (request,) = s3.requests()
    assert "X-Amz-Signature=" in request.path
    assert "authorization" not in request.headers
    assert request.headers["range"] == "bytes=1000-50999"


@pytest.mark.parametrize("scheme", ["s3", "https"])
def test_over_tls_with_a_private_ca(
    scheme: str, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    url = server.url
    if scheme == "s3":
        url = point(monkeypatch, tmp_path, "s3", f"https://localhost:{server.port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
    key = "embedder/v1/config.json"
    streamed = open_reader(url).stream(key, 1, 12, "", CHUNK, room)
    assert body(streamed) == b'"model_type"'
    (request,) = server.requests
    assert is_direct(request.headers)
    assert "authorization" not in request.headers


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=403), Fault(status=404), Fault(status=500), Fault(status=503), Fault(status=429),
        Fault(status=307, headers={"Location": "http://127.0.0.1:1/elsewhere"}), Fault(status=416), Fault(status=412),
        Fault(whole=True), Fault(shift=16), Fault(after=None, then="close"), Fault(after=None, then="reset"),
        Fault(status=206), Fault(status=204),
    ],
    ids=str,
)  # fmt: skip
def test_what_else_is_answered_is_what_obstore_says(fault: Fault, faulty: FaultyServer) -> None:
    def failure(reader: RegistryReader, given: Room | None) -> tuple[FaultKind, str]:
        with pytest.raises(reader.failures) as caught:
            body(reader.stream(KEY, 1000, 50_000, "", CHUNK, given))
        kind, error = reader.fault(KEY, caught.value)
        return kind, str(error)

    faulty.rule = lambda _: fault
    through_obstore = failure(open_reader(faulty.url), None)
    faulty.forget()
    reader = open_reader(faulty.url)
    assert failure(reader, room) == through_obstore
    assert asked_directly(faulty)[0]
    faulty.forget()
    assert failure(reader, room) == through_obstore
    assert not any(asked_directly(faulty))  # nobody is asked twice for everything


def test_a_compressed_answer_is_not_taken_for_the_bytes(server: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, server)

    def compressed(request: Any) -> HttpsAnswer | None:
        if not is_direct(request.headers):
            return None
        return HttpsAnswer(206, b"x" * 12, {"Content-Range": "bytes 1-12/26", "Content-Encoding": "gzip"})

    server.answer = compressed
    streamed = open_reader(server.url).stream("embedder/v1/config.json", 1, 12, "", CHUNK, room)
    assert body(streamed) == b'"model_type"'


@pytest.mark.parametrize(
    ("fault", "kind", "sentence"),
    [
        (Fault(after=25_000, then="reset"), FaultKind.OTHER, "it closes the connection"),
        (Fault(after=25_000, then="close"), FaultKind.OTHER, "it closes the connection"),
        (Fault(after=25_000, then="stall"), FaultKind.STALLED, "no answer in time"),
        (Fault(after=25_000, drip=0.05), FaultKind.STALLED, "no answer in time"),
    ],
)
def test_what_came_before_it_broke_off_is_handed_over(
    fault: Fault, kind: FaultKind, sentence: str, faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader: Any = open_reader(faulty.url)
    for seconds in GROWING_SECONDS if kind is FaultKind.STALLED else (HANG_SECONDS,):
        faulty.rule = lambda _: None
        assert body(stream(reader, 0, 10)) == DATA[:10]
        (kept,) = reader._direct._idle
        kept.sock.settimeout(seconds)  # of the next request alone
        monkeypatch.setattr(direct, "_REQUEST", 4 * seconds)
        faulty.rule = lambda _: fault
        came = bytearray()
        with pytest.raises(direct.CutOffError) as caught:  # noqa: PT012
            for part in stream(reader, 1000, 50_000).chunks:
                came += part
        if len(came) >= 25_000:
            break
    monkeypatch.setattr(direct, "_REQUEST", HANG_SECONDS)
    # A reset discards what the system had not handed over yet.
    assert came == DATA[1000 : 1000 + len(came)]
    assert len(came) >= 25_000 or fault.then == "reset"
    found = reader.fault(KEY, caught.value)
    assert found.kind is kind
    assert sentence in str(found.error)
    assert f"http://127.0.0.1:{faulty.port}" in str(found.error)
    faulty.rule = lambda _: None
    faulty.forget()
    assert body(stream(reader, 1000, 50_000)) == DATA[1000:51_000]
    assert asked_directly(faulty) == [True]  # a broken line is no reason to go another way


def test_silence_before_the_answer_is_a_stall(faulty: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_READ", 0.3)
    reader = open_reader(faulty.url)
    faulty.rule = lambda _: Fault(after=None, then="stall")
    with pytest.raises(direct.CutOffError) as caught:
        stream(reader, 0, 100)
    assert reader.fault(KEY, caught.value).kind is FaultKind.STALLED


def test_a_connection_that_was_closed_meanwhile_is_opened_anew(faulty: FaultyServer) -> None:
    reader = open_reader(faulty.url)
    for _ in range(2):
        assert body(stream(reader, 0, 1000)) == DATA[:1000]
        with faulty.deaf():
            pass  # all connections are cut
    assert body(stream(reader, 0, 1000)) == DATA[:1000]
    assert asked_directly(faulty) == [True] * 3


def test_no_connection_is_kept_when_a_transfer_has_ended(faulty: FaultyServer) -> None:
    reader: Any = open_reader(faulty.url)
    streams = [stream(reader, start, 1000) for start in (0, 5000)]
    assert [body(one) for one in streams] == [DATA[:1000], DATA[5000:6000]]
    opened = reader._direct._opened
    assert [bool(connection.sock) for connection in opened] == [True, True]
    reader.hang_up()
    assert [connection.sock for connection in opened] == [None, None]
    assert not reader._direct._opened
    assert body(stream(reader, 0, 1000)) == DATA[:1000]


def test_another_etag_is_refused(faulty: FaultyServer) -> None:
    reader = open_reader(faulty.url)
    etag = stream(reader, 0, 100).etag
    assert body(stream(reader, 0, 100, etag)) == DATA[:100]
    with pytest.raises(reader.failures) as caught:
        stream(reader, 0, 100, '"another"')
    assert reader.fault(KEY, caught.value).kind is FaultKind.CHANGED


def test_a_weak_etag_is_none(faulty: FaultyServer) -> None:
    faulty.weak = True
    assert not stream(open_reader(faulty.url), 0, 100).etag


def test_nobody_listens(faulty: FaultyServer) -> None:
    reader = open_reader(faulty.url)
    with faulty.deaf():
        with pytest.raises(reader.failures) as caught:
            stream(reader, 0, 100)
        assert "connection refused" in str(reader.fault(KEY, caught.value).error)


START, LENGTH = 5, 40
PARTS = st.sampled_from([f"bytes {START}-{START + LENGTH - 1}", "bytes 0-39", "bytes */100", "lines 5-44", ""])
SIZES = st.one_of(st.integers(-1, 1000).map(str), st.sampled_from(["*", "", "9" * 5000, "\u00b2"]))
LENGTHS = st.one_of(st.integers(-1, 2 * LENGTH), st.sampled_from(["40, 40", "0x28", "9" * 5000, ""]))
HEADERS = st.fixed_dictionaries(
    {"Content-Range": st.builds("{}/{}".format, PARTS, SIZES), "Content-Length": LENGTHS.map(str)},
    optional={
        "Transfer-Encoding": st.sampled_from(["chunked", "gzip, chunked"]),
        "Content-Encoding": st.sampled_from(["gzip", "identity"]),
        "Connection": st.sampled_from(["close", "keep-alive"]),
        "ETag": st.sampled_from(['"e"', 'W/"e"', "e"]),
        "Odd": st.text(st.characters(max_codepoint=255), max_size=20),
    },
)
HEADS = st.one_of(
    st.builds(
        lambda status, headers: f"HTTP/1.1 {status} Told\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items()),
        st.sampled_from([206, 206, 206, 200, 100, 302, 503, 999]),
        HEADERS,
    ).map(lambda head: head.encode("latin-1", "replace") + b"\r\n"),
    st.binary(max_size=200),
)


@given(HEADS, st.binary(max_size=2 * LENGTH))
def test_whatever_answers_is_read_whole_or_not_taken(head: bytes, sent: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(head + sent)

        thread = Thread(target=answer)
        thread.start()
        with pytest.MonkeyPatch.context() as patch:
            sign_out(patch)
            patch.setenv("AWS_SKIP_SIGNATURE", "true")
            patch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{listener.getsockname()[1]}")
            reader: Any = open_reader("s3://acme-models")
        past_obstore = direct.DirectReader(reader.client)
        came = b""
        try:
            streamed = past_obstore.stream(KEY, START, LENGTH, "", CHUNK, room)
            came = body(streamed) if streamed else b""
        except direct.CutOffError:
            streamed = None
        past_obstore.hang_up()
        thread.join(HANG_SECONDS)
    if streamed:
        assert head.startswith(b"HTTP/1.1 206 ")
        assert came == (head.partition(b"\r\n\r\n")[2] + sent)[:LENGTH]
        assert len(came) == LENGTH


def test_through_a_proxy_only_obstore_reads(
    server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    with ForwardProxy(tmp_path) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert body(open_reader(server.url).stream("embedder/v1/config.json", 1, 12, "", CHUNK, room))
    assert [is_direct(request.headers) for request in server.requests] == [False]


@pytest.mark.parametrize(
    ("url", "settings", "directly"),
    [
        ("s3://acme-models", {}, True),
        ("s3://acme-models", {"AWS_REQUEST_PAYER": "requester"}, False),
        ("s3://acme--use1-az4--x-s3", {}, False),
        ("https://models.example", {}, True),
        ("gs://acme-models", {"GOOGLE_BEARER_TOKEN": "t"}, False),
        ("az://acmemodels/models", {"AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=a"}, False),
    ],
)
def test_where_an_address_is_enough(
    url: str, settings: dict[str, str], directly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTONLYTESTONLY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    reader: Any = open_reader(url)
    assert direct._is_enough(reader.client) is directly


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, "https://acme-models.s3.us-east-1.amazonaws.com/team/models"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000/"}, "http://127.0.0.1:9000/acme-models/team/models"),
    ],
)
def test_the_address_of_a_public_bucket(
    environment: dict[str, str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    reader: Any = open_reader("s3://acme-models/team/models")
    assert direct._unsigned_address(reader.client) == address


def test_limits_are_obstores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # those that users have, not those that tests lift
    told = (obstore_client._CONNECT, obstore_client._READ, obstore_client._REQUEST)
    assert told == tuple(f"{seconds:g}s" for seconds in (direct._CONNECT, direct._READ, direct._REQUEST))
