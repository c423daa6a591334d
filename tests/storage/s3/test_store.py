"""What is particular to S3. What every store does is in test_conformance.py."""

from __future__ import annotations

import hashlib
import os
import resource
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import ConflictError, DiskError, IntegrityError, NotFoundError
from modeldrop.storage.write.s3 import store as s3
from modeldrop.storage.write.s3.store import S3BucketStore
from modeldrop.storage.write.store import UnfinishedUpload
from tests.helpers.builds import as_store, run_python
from tests.servers.s3 import S3Server
from tests.storage.s3.stores import CHANNEL, LARGE, MODEL, open_s3, refusal, sent, upload

if TYPE_CHECKING:
    from pathlib import Path


def test_is_a_store_that_sends_nothing_before_it_is_asked(server: S3Server) -> None:
    registry = server.registry()
    server.reset()
    as_store(open_s3(registry))
    assert sent(server) == []


def test_imports_no_second_http_client(server: S3Server) -> None:
    program = """
import sys
from modeldrop.storage.write import open_store
store = open_store(sys.argv[1])
store.check_writable(1)
print([name for name in ("awscrt", "requests") if name in sys.modules])
"""
    assert run_python(program, server.registry()) == "[]"


def test_says_which_extra_is_missing() -> None:
    program = """
import sys
sys.modules["botocore"] = None
from modeldrop.errors import MissingExtraError
from modeldrop.storage.write import open_store
try:
    open_store("s3://acme-models")
except MissingExtraError as error:
    print(error.hint)
"""
    assert run_python(program) == "pip install 'modeldrop[s3]'"


# What is written


def test_every_write_says_how_it_is_served_encrypted_and_tagged(server: S3Server, tmp_path: Path) -> None:
    key = "arn:aws:kms:us-east-1:111122223333:key/models"
    store = open_s3(server.registry(), encryption_key=key, tags={"team": "search @ home", "cost": "42"})
    server.reset()
    store.create(CHANNEL, b"{}")
    upload(store, tmp_path, b"small", "embedder/v1/config.json")
    upload(store, tmp_path, os.urandom(LARGE))
    document, small, *_ = begun = [
        request.headers
        for request in server.requests()
        if request.method in {"PUT", "POST"} and "uploadId" not in request.path
    ]
    assert len(begun) == 3
    for headers in begun:
        assert headers["x-amz-server-side-encryption"] == "aws:kms"
        assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == key
        assert headers["x-amz-tagging"] == "team=search+%40+home&cost=42"
    assert (document["content-type"], document["cache-control"]) == ("application/json", "no-cache")
    assert small["cache-control"].endswith("immutable")
    stored = store.client.head_object(Bucket=store.bucket.name, Key=f"{store.bucket.prefix}{MODEL}")
    assert (stored["ServerSideEncryption"], stored["SSEKMSKeyId"]) == ("aws:kms", key)
    assert stored["ContentType"] == "application/octet-stream"
    assert stored["CacheControl"].endswith("immutable")


def test_large_files_go_in_parts_each_with_its_checksum(store: S3BucketStore, server: S3Server, tmp_path: Path) -> None:
    data = os.urandom(LARGE)
    told = upload(store, tmp_path, data)
    parts = [request for request in server.requests() if "partNumber" in request.path]
    assert len(parts) == len(told) == 3  # pieces of 64 KiB are grouped: S3 refuses parts below 5 MiB
    assert sum(told) == LARGE
    assert all("x-amz-checksum-sha256" in request.headers for request in parts)
    assert "GET" not in sent(server)  # the checksums prove it
    assert store.unfinished("") == []
    target = tmp_path / "download"
    told.clear()
    store.download(MODEL, target, told.append)
    assert target.read_bytes() == data
    assert sum(told) == LARGE


def test_a_service_without_checksums_is_checked_by_its_etags(
    store: S3BucketStore, server: S3Server, tmp_path: Path
) -> None:
    server.rule("plain", times=-1)
    store.create(CHANNEL, b"{}")
    upload(store, tmp_path, b"small", "embedder/v1/config.json")
    upload(store, tmp_path, os.urandom(LARGE))
    assert "GET" not in sent(server)
    parts = [request.headers for request in server.requests() if "partNumber" in request.path]
    assert all("content-md5" in headers and "x-amz-checksum-sha256" not in headers for headers in parts)


def test_what_nothing_proves_is_read_back(store: S3BucketStore, server: S3Server, tmp_path: Path) -> None:
    server.rule("plain", method="PUT", match="config.json", headers={"ETag": '"opaque"'})
    upload(store, tmp_path, b"small", "embedder/v1/config.json")
    assert sent(server) == ["PUT", "GET"]


@pytest.mark.parametrize("size", [5, LARGE], ids=["one request", "parts"])
def test_bytes_that_change_on_the_way_are_noticed_and_removed(
    store: S3BucketStore, server: S3Server, tmp_path: Path, size: int
) -> None:
    server.rule("corrupt", method="PUT")
    with pytest.raises(IntegrityError, match=r"does not hold what was sent\. It was removed again"):
        upload(store, tmp_path, os.urandom(size))
    assert not store.exists(MODEL)
    assert store.unfinished("") == []


def test_a_damaged_document_is_noticed(store: S3BucketStore, server: S3Server) -> None:
    server.rule("corrupt", method="PUT")
    with pytest.raises(IntegrityError):
        store.create(CHANNEL, b"one")
    assert store.get(CHANNEL) is None
    store.create(CHANNEL, b"one")
    stored = store.get(CHANNEL)
    assert stored
    server.rule("corrupt", method="PUT")
    with pytest.raises(IntegrityError, match="still there"):
        store.swap(CHANNEL, b"two", stored.tag)
    assert store.exists(CHANNEL)  # a channel is never taken away


# Lost replies, and what heals


def test_after_a_lost_reply_a_document_is_a_conflict(store: S3BucketStore, server: S3Server) -> None:
    server.rule("landed", method="PUT")
    with pytest.raises(ConflictError):
        store.create(CHANNEL, b"one")
    stored = store.get(CHANNEL)
    assert stored
    assert stored.data == b"one"
    server.rule("landed", method="PUT")
    with pytest.raises(ConflictError):
        store.swap(CHANNEL, b"two", stored.tag)
    again = store.get(CHANNEL)
    assert again
    assert again.data == b"two"


@pytest.mark.parametrize(
    ("size", "rule"),
    [
        (5, {"method": "PUT"}),
        (LARGE, {"method": "PUT", "match": "partNumber=2"}),
        (LARGE, {"method": "POST", "match": "uploadId"}),
    ],
    ids=["one request", "a part", "the completion"],
)
def test_after_a_lost_reply_a_file_is_found_to_be_ours(
    store: S3BucketStore, server: S3Server, tmp_path: Path, size: int, rule: dict[str, str]
) -> None:
    server.rule("landed", **rule)
    assert sum(upload(store, tmp_path, os.urandom(size))) == size
    assert [listed.size for listed in store.objects("")] == [size]
    assert store.unfinished("") == []


@pytest.mark.parametrize("size", [5, LARGE], ids=["one request", "parts"])
def test_the_file_of_another_is_a_conflict(store: S3BucketStore, tmp_path: Path, size: int) -> None:
    upload(store, tmp_path, b"x" * size)
    with pytest.raises(ConflictError):
        upload(store, tmp_path, b"y" * size)
    assert store.unfinished("") == []


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "answer", "status": 503, "code": "SlowDown", "times": 3},
        {"kind": "answer", "status": 500, "code": "InternalError"},
        {"kind": "answer", "status": 409, "code": "ConditionalRequestConflict", "times": 2},
        {"kind": "answer", "status": 400, "code": "RequestTimeout"},
        {"kind": "answer", "status": 400, "code": "BadDigest"},
        {"kind": "cut", "times": 2},
    ],
    ids=lambda fault: fault.get("code", "cut"),
)
def test_what_can_heal_is_tried_again(
    store: S3BucketStore, server: S3Server, tmp_path: Path, fault: dict[str, Any]
) -> None:
    server.rule(**fault)
    store.create(CHANNEL, b"{}")
    server.rule(**fault, match="partNumber")
    upload(store, tmp_path, os.urandom(LARGE))
    assert [listed.size for listed in store.objects("")] == [2, LARGE]


def test_a_download_goes_on_where_it_broke_off(store: S3BucketStore, server: S3Server, tmp_path: Path) -> None:
    upload(store, tmp_path, os.urandom(LARGE))
    server.rule("cut", method="GET")
    target = tmp_path / "download"
    told: list[int] = []
    store.download(MODEL, target, told.append)
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256((tmp_path / "upload").read_bytes()).digest()
    assert sum(told) == LARGE


def test_a_conflict_that_stays_is_a_conflict(
    store: S3BucketStore, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rule("answer", status=409, code="ConditionalRequestConflict", times=-1)
    with pytest.raises(ConflictError):
        store.create(CHANNEL, b"{}")


def test_an_upload_that_fails_leaves_no_parts(store: S3BucketStore, server: S3Server, tmp_path: Path) -> None:
    server.rule("answer", status=403, code="AccessDenied", match="partNumber=2")
    assert "write" in refusal(lambda: upload(store, tmp_path, os.urandom(LARGE)))
    assert store.unfinished("") == []
    assert list(store.objects("")) == []


def test_an_upload_given_up_by_another_says_so(store: S3BucketStore, server: S3Server, tmp_path: Path) -> None:
    server.rule("answer", status=404, code="NoSuchUpload", method="POST", match="uploadId")
    assert "given up by somebody else" in refusal(lambda: upload(store, tmp_path, os.urandom(LARGE)))


def test_unfinished_uploads_are_listed_and_can_be_given_up(store: S3BucketStore) -> None:
    for key in (MODEL, "embedder/v2/onnx/model.onnx", "other/v1/onnx/model.onnx"):
        store.client.create_multipart_upload(Bucket=store.bucket.name, Key=f"{store.bucket.prefix}{key}")
    found = store.unfinished("embedder")
    assert [upload.key for upload in found] == [MODEL, "embedder/v2/onnx/model.onnx"]
    for one in found:
        store.abort(one)
        store.abort(one)
    assert [upload.key for upload in store.unfinished("")] == ["other/v1/onnx/model.onnx"]
    store.abort(UnfinishedUpload(MODEL, "never-begun", 0))


# Services that differ


def test_a_tag_is_honoured_where_only_a_bare_one_counts(store: S3BucketStore, server: S3Server) -> None:
    store.create(CHANNEL, b"0")
    server.rule("unquoted", times=-1)
    tags = []
    for data in (b"1", b"2"):
        stored = store.get(CHANNEL)
        assert stored
        tags.append(stored.tag)
        server_saw = len(server.requests())
        store.swap(CHANNEL, data, stored.tag)
    assert sent(server)[server_saw:] == ["PUT"]  # it was learned
    for tag in tags:
        with pytest.raises(ConflictError):
            store.swap(CHANNEL, b"3", tag)
    stored = store.get(CHANNEL)
    assert stored
    assert stored.data == b"2"


def test_a_service_that_refuses_conditions_cannot_be_published_to(store: S3BucketStore, server: S3Server) -> None:
    server.rule("answer", status=501, code="NotImplemented", method="PUT", times=-1)
    assert "cannot be a registry to publish to" in refusal(lambda: store.create(CHANNEL, b"{}"))
    assert sent(server) == ["PUT"]


def test_a_416_to_a_read_without_a_range_is_a_refusal(server: S3Server, store: S3BucketStore) -> None:
    store.create(CHANNEL, b"one")
    server.rule("answer", status=416, code="InvalidRange", method="GET", message="Odd.")
    assert "read s3://" in (said := refusal(lambda: store.get(CHANNEL)))
    assert "InvalidRange: Odd" in said


def test_the_empty_objects_that_a_console_calls_folders_are_not_there(store: S3BucketStore) -> None:
    for folder in ("", "embedder/", "embedder/v1/"):
        store.client.put_object(Bucket=store.bucket.name, Key=f"{store.bucket.prefix}{folder}", Body=b"")
    assert store.names("") == ["embedder"]
    assert store.names("embedder") == ["v1"]
    assert list(store.objects("")) == []


def test_a_document_of_any_size_is_not_read(store: S3BucketStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(CHANNEL, b"12345")
    monkeypatch.setattr(s3, "MAX_DOCUMENT", 4)
    with pytest.raises(IntegrityError, match="more than 4 bytes"):
        store.get(CHANNEL)


def test_a_download_that_fails_leaves_nothing(store: S3BucketStore, tmp_path: Path) -> None:
    target = tmp_path / "download"
    with pytest.raises(NotFoundError):
        store.download(MODEL, target, lambda _: None)
    upload(store, tmp_path, os.urandom(2 << 20))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(DiskError):
            store.download(MODEL, target, lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not target.exists()
    target.write_bytes(b"mine")
    with pytest.raises(DiskError):
        store.download(MODEL, target, lambda _: None)
    assert target.read_bytes() == b"mine"


# Whom it asks, and as whom


# Bad input


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"encryption": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        ({"encryption": "aws:kms"}, {"x-amz-server-side-encryption": "aws:kms"}),
        (
            {"encryption": "aws:kms:dsse", "encryption_key": "alias/models"},
            {
                "x-amz-server-side-encryption": "aws:kms:dsse",
                "x-amz-server-side-encryption-aws-kms-key-id": "alias/models",
            },
        ),
        ({"acl": "bucket-owner-full-control"}, {"x-amz-acl": "bucket-owner-full-control"}),
    ],
)
def test_uploads_say_what_a_bucket_policy_demands(
    server: S3Server, tmp_path: Path, settings: dict[str, str], wanted: dict[str, str]
) -> None:
    store = open_s3(server.registry(), **settings, requester_pays=True)
    server.reset()
    store.create(CHANNEL, b"{}")
    store.get(CHANNEL)
    upload(store, tmp_path, b"x" * LARGE)
    requests = server.requests()
    assert all(request.headers["x-amz-request-payer"] == "requester" for request in requests)
    new = [request for request in requests if request.method == "PUT" and "partNumber" not in request.path]
    new += [request for request in requests if request.path.endswith("?uploads")]
    assert len(new) == 2
    for request in new:
        assert {name: request.headers.get(name) for name in wanted} == wanted
