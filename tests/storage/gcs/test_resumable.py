"""Large files where the service has no multipart uploads of the XML API: one resumable upload each."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, cast

import pytest

from modeldrop.errors import ConflictError, IntegrityError, RegistryError
from modeldrop.storage.write.headers import IMMUTABLE
from tests.helpers.builds import PIECE, describe, start
from tests.helpers.waiting import HANG_SECONDS, wait_until
from tests.servers.reply_dropping_proxy import ReplyDroppingProxy
from tests.storage.gcs.stores import KMS_KEY, LARGE, MODEL_KEY, open_gcs, put, sent, stored

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.storage.write.gcs.store import GCSBucketStore
    from tests.helpers.clouds import Servers
    from tests.servers.fakegcs import FakeGCSServer
    from tests.servers.gcs import GCSServer

pytestmark = pytest.mark.usefixtures("short_pauses")

LACKING = {
    "the testbench": (501, '{"error": {"code": 501, "message": "Not implemented"}}'),
    "fake-gcs-server": (400, '{"error": {"code": 400, "message": "invalid uploadType"}}'),
    "fake-gcs-server, no public host": (404, '{"error": {"code": 404, "message": "Not Found"}}'),
    "a proxy": (403, "<html><title>Forbidden</title></html>"),
    "a gateway": (501, "<Error><Code>NotImplemented</Code><Message>A header is not implemented.</Message></Error>"),
    "a web server": (200, "<!DOCTYPE html><title>Welcome</title><p>to nginx"),
    "an emulator": (200, '{"kind": "storage#object"}'),
}
UPLOAD = "uploadType=resumable"
PART = 1 << 20
DATA = b"".join(bytes([number]) * PART for number in range(2)) + b"the end"
"""Three parts."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modeldrop.storage.write.gcs.store._SMALLEST_PART", PART)


@pytest.fixture
def lacking(store: GCSBucketStore, server: GCSServer) -> GCSBucketStore:
    """A store whose service has found out to lack XML multipart uploads."""
    _refuse_multipart(server)
    return store


def _refuse_multipart(server: GCSServer) -> None:
    server.answer(*LACKING["the testbench"], method="POST", match="?uploads", times=1000)


@pytest.mark.parametrize("what", LACKING)
def test_a_service_without_multipart_uploads_gets_one_stream(
    store: GCSBucketStore, server: GCSServer, tmp_path: Path, what: str
) -> None:
    server.answer(*LACKING[what], method="POST", match="?uploads", times=1000)
    assert put(store, tmp_path / "f", DATA) == len(DATA)
    assert sent(server) == ["GET", "POST", "POST", "PUT", "PUT", "PUT", "GET"]
    server.reset()
    assert put(store, tmp_path / "f", DATA, f"{MODEL_KEY}.2") == len(DATA)  # it is not asked again
    assert sent(server) == ["GET", "POST", "PUT", "PUT", "PUT", "GET"]
    assert stored(store) == stored(store, f"{MODEL_KEY}.2") == DATA
    assert server.unfinished(store.bucket.name) == []


@pytest.mark.parametrize("what", LACKING)
def test_where_there_are_no_multipart_uploads_none_is_unfinished(
    store: GCSBucketStore, server: GCSServer, what: str
) -> None:
    server.answer(*LACKING[what], method="GET", match="?uploads")
    assert store.unfinished("embedder") == []


def test_a_listing_of_objects_is_none_of_uploads(store: GCSBucketStore, server: GCSServer) -> None:
    server.answer(200, "<ListBucketResult><Name>b</Name></ListBucketResult>", method="GET", match="?uploads")
    assert store.unfinished("embedder") == []


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(403, "AccessDenied", "Not allowed to write"), (400, "InvalidArgument", "the service answered 400")],
)
def test_what_the_xml_api_itself_refuses_is_said(
    store: GCSBucketStore, server: GCSServer, tmp_path: Path, status: int, code: str, words: str
) -> None:
    server.fail(status, code, method="POST", match="?uploads")
    with pytest.raises(RegistryError, match=words):
        put(store, tmp_path / "f", DATA)
    assert sent(server) == ["GET", "POST"]


def test_it_carries_headers_tags_and_key(server: GCSServer, tmp_path: Path) -> None:
    tags = {"team": "search", "note": "größe"}
    store = open_gcs(server.registry(), tags=tags, encryption_key=KMS_KEY)
    _refuse_multipart(server)
    put(store, tmp_path / "f", DATA)
    written = server.object(store.bucket.name, f"team/models/{MODEL_KEY}")
    assert (written["contentType"], written["cacheControl"]) == ("application/octet-stream", IMMUTABLE)
    assert written["metadata"] == tags
    assert written["kmsKeyName"].startswith(KMS_KEY)


def test_pieces_of_any_size(lacking: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    """What is sent before the end must be a multiple of 256 KiB."""
    from blake3 import blake3

    size = 100_003
    pieces = tuple(blake3(DATA[start : start + size]).hexdigest() for start in range(0, len(DATA), size))
    (tmp_path / "f").write_bytes(DATA)
    lacking.upload(MODEL_KEY, tmp_path / "f", describe("f", DATA)._replace(pieces=pieces), size, lambda _: None)
    assert stored(lacking) == DATA


@pytest.mark.parametrize("match", ["PUT 1", "PUT 2"])
@pytest.mark.parametrize("how", ["halved", "cut", "reply lost", "503"])
def test_a_cut_connection_goes_on_where_it_was(
    lacking: GCSBucketStore, server: GCSServer, tmp_path: Path, how: str, match: str
) -> None:
    """The server refuses bytes that do not follow those it has."""
    if match == "PUT 2":
        server.answer(308, "", method="PUT", match=UPLOAD)  # it keeps nothing of the first attempt
    faults = {"halved": server.halve, "cut": server.cut, "reply lost": server.lose_reply}
    if how == "503":
        server.fail(503, "backendError", method="PUT", match=UPLOAD, times=3)
    else:
        faults[how](method="PUT", match=UPLOAD)
    assert put(lacking, tmp_path / "f", DATA) == len(DATA)
    assert stored(lacking) == DATA
    assert server.unfinished(lacking.bucket.name) == []


def test_the_last_reply_is_lost(lacking: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    """It is asked what became of the upload; the server does not remember one that has ended."""
    (tmp_path / "f").write_bytes(DATA)
    told: list[int] = []

    def lose_the_next(count: int) -> None:
        told.append(count)
        if len(told) == 2:
            server.lose_reply(method="PUT", match=UPLOAD)

    lacking.upload(MODEL_KEY, tmp_path / "f", describe("f", DATA), PIECE, lose_the_next)
    assert sum(told) == len(DATA)
    assert stored(lacking) == DATA
    assert server.unfinished(lacking.bucket.name) == []


def test_an_upload_that_the_service_forgets_begins_anew(
    lacking: GCSBucketStore, server: GCSServer, tmp_path: Path
) -> None:
    server.fail(410, "gone", method="PUT", match=UPLOAD)
    assert put(lacking, tmp_path / "f", DATA) == len(DATA)
    assert stored(lacking) == DATA
    server.fail(410, "gone", method="PUT", match=UPLOAD, times=3)
    with pytest.raises(RegistryError, match="the service gave up the upload 3 times before its end"):
        put(lacking, tmp_path / "f", DATA, f"{MODEL_KEY}.2")
    assert stored(lacking, f"{MODEL_KEY}.2") is None


def test_an_object_that_is_there_stays(lacking: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    """Nothing was there at the first look, and then somebody else was first."""
    put(lacking, tmp_path / "f", DATA)
    server.fail(404, "notFound", method="GET", match=MODEL_KEY)
    with pytest.raises(ConflictError):
        put(lacking, tmp_path / "f", DATA[:-1] + b"?")
    assert stored(lacking) == DATA
    server.fail(404, "notFound", method="GET", match=MODEL_KEY)
    assert put(lacking, tmp_path / "f", DATA) == len(DATA)  # our own bytes, after a lost reply


def test_an_object_that_comes_during_the_upload_stays(
    lacking: GCSBucketStore, server: GCSServer, tmp_path: Path
) -> None:
    def come_first(_: int) -> None:
        if not lacking.exists(MODEL_KEY):
            lacking.create(MODEL_KEY, b"theirs")

    (tmp_path / "f").write_bytes(DATA)
    with pytest.raises(ConflictError):
        lacking.upload(MODEL_KEY, tmp_path / "f", describe("f", DATA), PIECE, come_first)
    assert stored(lacking) == b"theirs"
    assert server.unfinished(lacking.bucket.name) == []


def test_bytes_changed_on_the_way_are_refused(lacking: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    server.flip(method="PUT", match=UPLOAD)
    with pytest.raises(IntegrityError, match="did not arrive as it was sent"):
        put(lacking, tmp_path / "f", DATA)
    assert stored(lacking) is None
    assert server.unfinished(lacking.bucket.name) == []


def test_wrong_bytes_on_disk_never_become_an_object(lacking: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    file = describe("f", DATA)
    for wrong in (DATA[:-1] + b"?", DATA[:-1], b"?" + DATA[1:]):
        (tmp_path / "f").write_bytes(wrong)
        with pytest.raises(IntegrityError, match="changed while it was published"):
            lacking.upload(MODEL_KEY, tmp_path / "f", file, PIECE, lambda _: None)
    assert stored(lacking) is None
    assert server.unfinished(lacking.bucket.name) == []


@pytest.mark.parametrize("reply", ["", "{}", "[1]", "<html>"])
def test_an_end_that_says_nothing_of_the_object(
    lacking: GCSBucketStore, server: GCSServer, tmp_path: Path, reply: str
) -> None:
    server.answer(200, reply, method="PUT", match=UPLOAD)
    with pytest.raises(RegistryError, match="ended the upload and did not say with what"):
        put(lacking, tmp_path / "f", DATA)


def test_a_service_that_has_neither_kind(lacking: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    server.answer(200, "{}", method="POST", match=UPLOAD)
    with pytest.raises(RegistryError, match="the service began no upload"):
        put(lacking, tmp_path / "f", DATA)
    server.answer(501, "no such thing", method="POST", match=UPLOAD)
    with pytest.raises(RegistryError, match=r"the service answered 501 \(no such thing\)"):
        put(lacking, tmp_path / "f", DATA)


_UPLOAD = """
import sys
from pathlib import Path
from tests.storage.gcs.stores import open_gcs, put
try:
    put(open_gcs(sys.argv[1]), Path(sys.argv[2]), b"x" * ((20 << 20) + 7))
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_leaves_nothing(server: GCSServer, tmp_path: Path) -> None:
    _refuse_multipart(server)
    server.hold(method="PUT", match=UPLOAD)
    url = server.registry()
    process = start(_UPLOAD, url, tmp_path / "f")
    wait_until(lambda: any(method == "PUT" for method, _ in server.requests()))
    assert server.unfinished(url.split("/")[2]) != []
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == 130
    assert server.unfinished(url.split("/")[2]) == []


# --- fake-gcs-server


@pytest.fixture
def foreign(servers: Servers, foreign_gcs: str) -> tuple[FakeGCSServer, str]:
    return cast("FakeGCSServer", servers["fakegcs"]), foreign_gcs


@pytest.mark.parametrize("size", [PART, PART + 1, 2 * PART - 1, 2 * PART, len(DATA), LARGE])
def test_fake_gcs_server_takes_large_files(
    foreign_gcs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bytes, size: int
) -> None:
    if size == LARGE:
        monkeypatch.setattr("modeldrop.storage.write.gcs.store._SMALLEST_PART", 16 << 20)
    store = open_gcs(foreign_gcs)
    data = large[:size]
    assert put(store, tmp_path / "f", data) == size
    assert stored(store) == data
    assert put(store, tmp_path / "f", data) == size
    with pytest.raises(ConflictError):
        put(store, tmp_path / "f", data[:-1] + b"?")
    assert [(found.key, found.size) for found in store.objects("")] == [(MODEL_KEY, size)]
    assert store.unfinished("") == []


@pytest.mark.parametrize("lost", [1, 2])
def test_fake_gcs_server_takes_a_question_for_the_end(
    foreign: tuple[FakeGCSServer, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """After a lost reply it makes an object of what has come: that goes, and all is sent again."""
    server, url = foreign
    with ReplyDroppingProxy(server.port) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{proxy.port}")
        store = open_gcs(url)
        proxy.drop("PUT", "upload_id=", times=lost)
        assert put(store, tmp_path / "f", DATA) == len(DATA)
        assert [method for method, _ in proxy.dropped] == ["PUT"] * lost
        assert stored(store) == DATA
