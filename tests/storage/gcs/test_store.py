"""What is particular to Google Cloud Storage, against our own small server: see ``tests.servers.gcs_app``."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import google_crc32c
import pytest
from blake3 import blake3

from modeldrop.errors import (
    ConflictError,
    DiskError,
    IntegrityError,
    NotFoundError,
    RegistryError,
)
from modeldrop.storage.write.gcs import client as gcs_client
from modeldrop.storage.write.gcs.store import GCSBucketStore
from modeldrop.storage.write.headers import IMMUTABLE, NO_CACHE
from tests.helpers.builds import PIECE, as_store, describe
from tests.storage.gcs.stores import BUCKET, KMS_KEY, LARGE, MODEL_KEY, open_gcs, put, raw, sent, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.gcs import GCSServer

pytestmark = pytest.mark.usefixtures("short_pauses")


def test_is_a_store(store: GCSBucketStore) -> None:
    assert as_store(store).url.startswith("gs://bucket-")
    assert store.client.project is None


# --- conditions


def test_a_tag_is_the_generation_of_the_bytes_that_came_with_it(store: GCSBucketStore, server: GCSServer) -> None:
    store.create("embedder/current", b"1")
    server.reset()
    found = store.get("embedder/current")
    assert found is not None
    assert len(server.requests()) == 1
    assert found.tag == server.object(store.bucket.name, "team/models/embedder/current")["generation"]


def test_each_write_is_one_request(store: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    store.create("embedder/current", b"1")
    found = store.get("embedder/current")
    assert found is not None
    server.reset()
    store.swap("embedder/current", b"2", found.tag)
    store.swap("embedder/staging", b"2", None)
    put(store, tmp_path / "f", b"small")
    queries = [path.partition("?")[2] for _, path in server.requests()]
    assert queries == [
        f"uploadType=multipart&ifGenerationMatch={found.tag}",
        "uploadType=multipart&ifGenerationMatch=0",
        "uploadType=multipart&ifGenerationMatch=0",
    ]


def test_swapping_what_is_gone_is_a_conflict(store: GCSBucketStore) -> None:
    store.create("embedder/current", b"1")
    found = store.get("embedder/current")
    assert found is not None
    store.delete("embedder/current")
    with pytest.raises(ConflictError):
        store.swap("embedder/current", b"2", found.tag)
    assert stored(store, "embedder/current") is None


def test_a_document_too_large_to_be_one_is_not_read(store: GCSBucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("embedder/current", b"12345")
    monkeypatch.setattr("modeldrop.storage.write.gcs.store.MAX_DOCUMENT", 4)
    with pytest.raises(IntegrityError, match="more than 4 bytes"):
        store.get("embedder/current")


def test_a_document_beyond_one_request_is_written_on_the_same_condition(
    store: GCSBucketStore, server: GCSServer
) -> None:
    data = bytes(9 << 20)
    store.create("embedder/current", data)
    with pytest.raises(ConflictError):
        store.create("embedder/current", data)
    assert stored(store, "embedder/current") == data


# --- large files


def test_a_large_file_goes_in_parts(store: GCSBucketStore, server: GCSServer, tmp_path: Path, large: bytes) -> None:
    assert put(store, tmp_path / "f", large) == LARGE
    assert sorted(sent(server)) == ["GET", "GET", "POST", "POST", "PUT", "PUT"]
    copy = tmp_path / "copy"
    told: list[int] = []
    store.download(MODEL_KEY, copy, told.append)
    assert copy.read_bytes() == large
    assert sum(told) == LARGE
    assert store.unfinished("") == []
    crc32c = server.object(store.bucket.name, f"team/models/{MODEL_KEY}")["crc32c"]
    assert base64.b64decode(crc32c) == google_crc32c.value(large).to_bytes(4, "big")


def test_a_large_file_of_large_pieces(store: GCSBucketStore, tmp_path: Path, large: bytes) -> None:
    size = 16 << 20
    pieces = tuple(blake3(large[start : start + size]).hexdigest() for start in range(0, LARGE, size))
    (tmp_path / "f").write_bytes(large)
    store.upload(MODEL_KEY, tmp_path / "f", describe("f", large)._replace(pieces=pieces), size, lambda _: None)
    assert stored(store) == large


@pytest.mark.parametrize("size", [1 << 20, LARGE], ids=["small", "large"])
def test_a_file_that_is_there_already(store: GCSBucketStore, tmp_path: Path, large: bytes, size: int) -> None:
    data = large[:size]
    put(store, tmp_path / "f", data)
    assert put(store, tmp_path / "f", data) == size  # our own bytes
    with pytest.raises(ConflictError):
        put(store, tmp_path / "f", data[:-1] + b"?")
    assert stored(store) == data


@pytest.mark.parametrize("size", [1 << 20, LARGE], ids=["small", "large"])
def test_wrong_bytes_on_disk_never_become_an_object(
    store: GCSBucketStore, server: GCSServer, tmp_path: Path, large: bytes, size: int
) -> None:
    file = describe("f", large[:size])
    for wrong in (large[: size - 1] + b"?", large[: size - 1], b"?" + large[1:size]):
        (tmp_path / "f").write_bytes(wrong)
        with pytest.raises(IntegrityError, match="changed while it was published"):
            store.upload(MODEL_KEY, tmp_path / "f", file, PIECE, lambda _: None)
    assert stored(store) is None
    assert store.unfinished("") == []


@pytest.mark.parametrize(("size", "method"), [(1 << 20, "POST"), (9 << 20, "PUT"), (LARGE, "PUT")])
def test_bytes_changed_on_the_way_are_refused_by_the_service(
    store: GCSBucketStore, server: GCSServer, tmp_path: Path, large: bytes, size: int, method: str
) -> None:
    server.flip(method=method)
    with pytest.raises(IntegrityError, match="did not arrive as it was sent"):
        put(store, tmp_path / "f", large[:size])
    assert stored(store) is None
    assert store.unfinished("") == []


def test_bytes_changed_by_the_service_are_found(
    store: GCSBucketStore, server: GCSServer, tmp_path: Path, large: bytes
) -> None:
    server.spoil()
    with pytest.raises(IntegrityError, match="the service stored other bytes"):
        put(store, tmp_path / "f", large)


def test_lists_and_aborts_unfinished_uploads(store: GCSBucketStore, server: GCSServer) -> None:
    bucket = store.bucket.name
    for name in ("embedder/v1/a ü", "embedder/v2/b", "reranker/v1/c"):
        assert raw(server, "POST", f"/{bucket}/team/models/{name.replace(' ', '%20').replace('ü', '%C3%BC')}?uploads")
    server.page_size(1)
    found = store.unfinished("embedder")
    assert [upload.key for upload in found] == ["embedder/v1/a ü", "embedder/v2/b"]
    assert all(abs(upload.started - time.time()) < 3600 for upload in found)
    for upload in found * 2:
        store.abort(upload)
    assert [upload.key for upload in store.unfinished("")] == ["reranker/v1/c"]


# --- what objects carry


@pytest.mark.parametrize("size", [1 << 20, LARGE], ids=["small", "large"])
def test_every_write_carries_headers_tags_and_key(server: GCSServer, tmp_path: Path, large: bytes, size: int) -> None:
    tags = {"team": "search", "note": "größe"}
    store = open_gcs(server.registry(), tags=tags, encryption_key=KMS_KEY)
    put(store, tmp_path / "f", large[:size])
    store.create("embedder/current", b"{}")
    file = server.object(store.bucket.name, f"team/models/{MODEL_KEY}")
    channel = server.object(store.bucket.name, "team/models/embedder/current")
    assert (file["contentType"], file["cacheControl"]) == ("application/octet-stream", IMMUTABLE)
    assert (channel["contentType"], channel["cacheControl"]) == ("application/json", NO_CACHE)
    for written in (file, channel):
        assert written["metadata"] == tags
        assert written["kmsKeyName"].startswith(KMS_KEY)


def test_a_tag_that_cannot_be_a_header(server: GCSServer, tmp_path: Path, large: bytes) -> None:
    store = open_gcs(server.registry(), tags={"team": "search\nx: y"})
    with pytest.raises(RegistryError, match=r"Could not write .*header value"):
        put(store, tmp_path / "f", large)


def test_listings_of_many_pages(store: GCSBucketStore, server: GCSServer) -> None:
    keys = [f"embedder/v{number}/claim.json" for number in range(1, 8)] + ["embedder/current", "embedder2/current"]
    for key in keys:
        store.create(key, b"{}")
    server.page_size(2)
    assert store.names("embedder") == ["current", *(f"v{number}" for number in range(1, 8))]
    assert store.names("") == ["embedder", "embedder2"]
    assert [found.key for found in store.objects("")] == sorted(keys)
    assert [found.size for found in store.objects("embedder2")] == [2]


# --- faults that heal


def test_lost_replies(store: GCSBucketStore, server: GCSServer, tmp_path: Path, large: bytes) -> None:
    server.lose_reply(method="POST")
    with pytest.raises(ConflictError):  # the caller finds its own nonce
        store.create("embedder/current", b"1")
    assert stored(store, "embedder/current") == b"1"
    server.lose_reply(method="POST")
    assert put(store, tmp_path / "f", b"small", "embedder/v1/small.bin") == 5
    for method, match in (("PUT", "partNumber=2"), ("POST", "uploadId=")):
        server.reset()
        server.lose_reply(method=method, match=match)
        key = f"embedder/v1/{method}.bin"
        assert put(store, tmp_path / "f", large, key) == LARGE
        assert stored(store, key) == large
    assert store.unfinished("") == []


def test_busy_services_and_cut_connections_are_tried_again(
    store: GCSBucketStore, server: GCSServer, tmp_path: Path, large: bytes
) -> None:
    server.fail(429, "rateLimitExceeded", method="POST", match="uploadType")
    server.fail(503, "backendError", method="POST", match="uploadType")
    store.create("embedder/current", b"1")
    server.cut(method="GET")
    server.fail(500, "internalError", method="GET", match="alt=media")
    assert stored(store, "embedder/current") == b"1"
    server.fail(503, "ServiceUnavailable", method="PUT", times=4)
    server.cut(method="PUT", times=2)
    put(store, tmp_path / "f", large)
    assert stored(store) == large


def test_a_download_that_is_cut_goes_on(store: GCSBucketStore, server: GCSServer, tmp_path: Path) -> None:
    put(store, tmp_path / "f", b"model")
    server.cut(match="alt=media")
    store.download(MODEL_KEY, tmp_path / "copy", lambda _: None)
    assert (tmp_path / "copy").read_bytes() == b"model"


def test_a_service_that_stays_down(store: GCSBucketStore, server: GCSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcs_client, "QUICK_RETRY", replace(gcs_client.QUICK_RETRY, limit=0.5))
    server.fail(503, "backendError", message="We encountered an internal error", times=1000)
    with pytest.raises(RegistryError, match=r"Could not read .*/embedder/current: the service answered 503"):
        store.get("embedder/current")


# --- bad input


def test_no_right_is_said_once_and_not_tried_again(
    store: GCSBucketStore, server: GCSServer, tmp_path: Path, large: bytes
) -> None:
    reason = "ci@acme.iam.gserviceaccount.com does not have storage.objects access."
    actions: list[tuple[str, Callable[[], object]]] = [
        ("read", lambda: store.get("embedder/current")),
        ("write", lambda: store.create("embedder/current", b"1")),
        ("delete", lambda: store.delete("embedder/current")),
        ("list", lambda: store.names("embedder")),
        ("list", lambda: list(store.objects("embedder"))),
        ("list", lambda: store.unfinished("embedder")),
        ("write", lambda: store.check_writable(1)),
        ("write", lambda: put(store, tmp_path / "f", b"small")),
        ("read", lambda: put(store, tmp_path / "f", large)),
    ]
    for verb, action in actions:
        server.reset()
        server.fail(403, "forbidden", message=reason)
        with pytest.raises(RegistryError, match=rf"Not allowed to {verb} .*403 \(.*{reason[:-1]}\)") as caught:
            action()
        assert "modeldrop doctor gs://" in caught.value.hint
        assert len(server.requests()) == 1


def test_no_such_bucket(server: GCSServer, tmp_path: Path, large: bytes) -> None:
    store = open_gcs(f"gs://{BUCKET}/team")
    actions: list[Callable[[], object]] = [
        lambda: store.get("embedder/current"),
        lambda: store.exists("embedder/current"),
        lambda: store.create("embedder/current", b"1"),
        lambda: store.swap("embedder/current", b"1", "7"),
        lambda: store.delete("embedder/current"),
        lambda: store.names("embedder"),
        lambda: list(store.objects("embedder")),
        lambda: store.unfinished("embedder"),
        lambda: store.check_writable(1),
        lambda: store.download(MODEL_KEY, tmp_path / "copy", lambda _: None),
        lambda: put(store, tmp_path / "f", b"small"),
        lambda: put(store, tmp_path / "f", large),
    ]
    for action in actions:
        with pytest.raises(RegistryError, match=f"^gs://{BUCKET}/team: there is no bucket {BUCKET}"):
            action()


def test_no_such_bucket_on_a_service_that_says_no_more(foreign_gcs: str) -> None:
    url = f"{foreign_gcs.partition('/team')[0]}-misspelt/team"
    with pytest.raises(RegistryError, match=f"^{url}: there is no bucket "):
        open_gcs(url).create("embedder/v1/claim.json", b"1")


def test_a_service_without_generations_is_found(store: GCSBucketStore, server: GCSServer) -> None:
    server.answer(200, "1", method="GET", match="alt=media")
    found = store.get("embedder/current")
    assert found is not None
    with pytest.raises(RegistryError, match="cannot be a registry to publish to: it gives objects no generation"):
        store.swap("embedder/current", b"2", found.tag)


def test_a_web_server_is_not_taken_for_an_empty_registry(store: GCSBucketStore, server: GCSServer) -> None:
    server.fail(404, message="<!DOCTYPE html><title>Error 404 (Not Found)</title>")
    with pytest.raises(RegistryError, match="not as this service does: 404 with a web page"):
        store.get("embedder/current")


def test_a_key_that_cannot_be_used(server: GCSServer, tmp_path: Path, large: bytes) -> None:
    store = open_gcs(server.registry(), encryption_key=KMS_KEY)
    message = "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account is authorized."
    server.fail(403, "forbidden", message=message, method="POST")
    with pytest.raises(RegistryError, match=f"the key {KMS_KEY} cannot be used: Permission denied") as caught:
        store.create("embedder/current", b"1")
    assert "cryptoKeyEncrypterDecrypter" in caught.value.hint
    server.fail(400, "KmsDisabled", message="The Cloud KMS key version is not enabled", method="POST", match="uploads")
    with pytest.raises(RegistryError, match=f"the key {KMS_KEY} cannot be used: .*not enabled"):
        put(store, tmp_path / "f", large)


def test_asks_for_a_write_that_writes_nothing(store: GCSBucketStore, server: GCSServer) -> None:
    store.check_writable(1)
    assert len(server.requests()) == 1
    assert list(store.objects("")) == []


def test_a_look_alike_that_ignores_conditions_is_found(store: GCSBucketStore, server: GCSServer) -> None:
    server.ignore_conditions()
    with pytest.raises(RegistryError, match="cannot be a registry to publish to"):
        store.check_writable(1)
    assert list(store.objects("")) == []


def test_what_cannot_be_downloaded_leaves_no_file(store: GCSBucketStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not there"):
        store.download(MODEL_KEY, tmp_path / "copy", lambda _: None)
    assert not (tmp_path / "copy").exists()
    with pytest.raises(DiskError):
        store.download(MODEL_KEY, tmp_path / "no folder" / "copy", lambda _: None)


# --- signing in


# --- the server itself
