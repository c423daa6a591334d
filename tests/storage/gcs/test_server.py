"""The GCS server of the tests keeps GCS's own rules."""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING

from tests.storage.gcs.stores import raw

if TYPE_CHECKING:
    from tests.servers.gcs import GCSServer


def test_server_lets_one_of_many_create(server: GCSServer) -> None:
    bucket = server.make_bucket()

    def create(number: int) -> int:
        body = bytes([number]) * (1 << 20)
        return raw(server, "PUT", f"/{bucket}/current", body, x_goog_if_generation_match="0")[0]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = sorted(pool.map(create, range(16)))
    assert answers == [200] + [412] * 15


def test_server_lets_one_of_many_replace(server: GCSServer) -> None:
    bucket = server.make_bucket()
    raw(server, "PUT", f"/{bucket}/current", b"0")
    generation = server.object(bucket, "current")["generation"]
    path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name=current&ifGenerationMatch={generation}"
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = sorted(status for status, _ in pool.map(lambda _: raw(server, "POST", path, b"1"), range(16)))
    assert answers == [200] + [412] * 15


def test_server_refuses_wrong_checksums(server: GCSServer) -> None:
    bucket = server.make_bucket()
    for said in ("crc32c=AAAAAA==", "md5=AAAAAAAAAAAAAAAAAAAAAA=="):
        status, body = raw(server, "PUT", f"/{bucket}/current", b"1", x_goog_hash=said)
        assert (status, b"BadDigest" in body) == (400, True)
    assert raw(server, "GET", f"/{bucket}/current")[0] == 404


def test_server_refuses_what_it_does_not_know(server: GCSServer) -> None:
    bucket = server.make_bucket()
    raw(server, "PUT", f"/{bucket}/current", b"1")
    unknown = [
        raw(server, "GET", f"/storage/v1/b/{bucket}/o?versions=true"),
        raw(server, "PATCH", f"/storage/v1/b/{bucket}/o/current", b"{}"),
        raw(server, "POST", f"/storage/v1/b/{bucket}/o/current/compose", b"{}"),
        raw(server, "PUT", f"/{bucket}/current", b"1", x_goog_acl="public-read"),
        raw(server, "POST", f"/{bucket}/current?uploads", x_goog_if_generation_match="0"),
        raw(server, "POST", "/batch/storage/v1"),
    ]
    assert [status for status, _ in unknown] == [501] * len(unknown)
    assert all(b"does not know" in body for _, body in unknown)


def test_server_refuses_small_parts(server: GCSServer) -> None:
    path = f"/{server.make_bucket()}/model"
    started = raw(server, "POST", f"{path}?uploads")[1].decode()
    upload = started.partition("<UploadId>")[2].partition("</UploadId>")[0]
    for number in (1, 2):
        assert raw(server, "PUT", f"{path}?partNumber={number}&uploadId={upload}", b"small")[0] == 200
    etag = "eb5c1399a871211c7e7ed732d15e3a8b"  # MD5 of "small"
    parts = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number in (1, 2))
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    status, answer = raw(server, "POST", f"{path}?uploadId={upload}", body)
    assert (status, b"EntityTooSmall" in answer) == (400, True)
