"""A registry in a real Ceph: what moto only imitates, signatures, checksums and races included.

Ceph's S3 gateway (16.2, Debian 12) differs from Amazon's in three ways that matter here. It honours If-Match only
with an ETag without its quotes: the store finds that out. It ignores If-None-Match when an upload in parts is
completed: the store looks first, and nobody but the owner of a claim writes below its number. And it knows no
checksum but MD5, which then proves every part.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from botocore.exceptions import ClientError

from modeldrop.conformance.checks import CHECKS, Check
from modeldrop.conformance.run import run_check
from modeldrop.conformance.sample import describe_bytes
from modeldrop.errors import RegistryError
from modeldrop.fetcher.fetch import fetch
from modeldrop.registry.versions import claimed_numbers, version_numbers
from modeldrop.storage.write import open_store
from modeldrop.storage.write.conditional import require_conditional_writes
from tests.helpers import concurrent_publishers
from tests.helpers.builds import contents
from tests.helpers.command_line import modeldrop
from tests.helpers.concurrent_publishers import race
from tests.registry.scenarios import (
    kill_publishers_at_every_step,
    lose_the_reply_to_every_write,
    one_line,
    publish_after_a_rollback,
    stop_publishers_and_resume_them_later,
)
from tests.servers import s3
from tests.servers.ceph import CephServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.soak

PUBLISHERS = 16
ROUNDS = 3


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_ceph_conforms(check: Check, ceph: str) -> None:
    store = open_store(ceph)
    outcome = run_check(check, store)
    assert outcome.fault == outcome.skipped == ""
    assert bool(outcome.lack) == (check.name == "completion_over_another"), outcome.lack
    assert list(store.objects("")) == []


def test_its_gaps_are_those_that_are_known(ceph: str, ceph_server: CephServer) -> None:
    """If this fails, Ceph was mended: what leans on the gap can go."""
    bucket = ceph.split("/")[2]
    client = s3.client(ceph_server.environment)
    tag = client.put_object(Bucket=bucket, Key="key", Body=b"one")["ETag"]
    assert tag == f'"{tag.strip(chr(34))}"'
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="key", Body=b"two", IfMatch=tag)
    client.put_object(Bucket=bucket, Key="key", Body=b"two", IfMatch=tag.strip('"'))
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=bucket, Key="key", Body=b"three", IfMatch=tag.strip('"'))

    upload = {"Bucket": bucket, "Key": "key"}
    upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
    part = client.upload_part(**upload, PartNumber=1, Body=b"parts")
    assert "ChecksumSHA256" not in part
    parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
    client.complete_multipart_upload(**upload, IfNoneMatch="*", MultipartUpload={"Parts": parts})
    assert client.get_object(Bucket=bucket, Key="key")["Body"].read() == b"parts"
    client.delete_object(Bucket=bucket, Key="key", IfMatch="0" * 32)
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)


def test_without_its_packages_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeError, match=r"apt-get install .* ceph-mon ceph-osd radosgw"):
        CephServer()


def test_it_can_be_a_registry(ceph: str) -> None:
    store = open_store(ceph)
    for _ in range(2):
        require_conditional_writes(store)


def test_doctor_finds_nothing_wrong(ceph: str) -> None:
    ran = modeldrop("doctor", ceph, "--json")
    assert ran.code == 0, ran.out + ran.err
    assert [check for check in ran.json["checks"] if check["state"] == "failed"] == []


@pytest.mark.parametrize("secret", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_a_wrong_key_is_refused_in_a_sentence(secret: str, ceph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceph checks signatures, which the small test servers do not."""
    monkeypatch.setenv(secret, "x" * 20)
    with pytest.raises(RegistryError, match="does not accept these credentials") as error:
        open_store(ceph).names("")
    assert "x" * 20 not in str(error.value)
    ran = modeldrop("fetch", f"{ceph}/embedder")
    assert ran.code == 12
    assert "Traceback" not in ran.err


def test_a_bucket_that_is_not_there_is_named(ceph: str) -> None:
    with pytest.raises(RegistryError, match="there is no bucket no-such-bucket"):
        open_store("s3://no-such-bucket/models").names("")
    ran = modeldrop("fetch", "s3://no-such-bucket/models/embedder")
    assert ran.code == 12
    assert "no-such-bucket" in ran.err
    assert "Traceback" not in ran.err


def test_a_large_file_in_odd_pieces_arrives(ceph: str, tmp_path: Path) -> None:
    """Many parts at once, with a last one that is small; Ceph says of none that it knows its SHA-256."""
    data = blake3(b"large").digest((200 << 20) + 12345)
    (tmp_path / "model.onnx").write_bytes(data)
    store = open_store(ceph)
    done: list[int] = []
    file = describe_bytes("model.onnx", data, 16 << 20)
    store.upload("embedder/v1/model.onnx", tmp_path / "model.onnx", file, 16 << 20, done.append)
    assert sum(done) == file.size
    store.download("embedder/v1/model.onnx", tmp_path / "back", lambda _: None)
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == file.sha256
    assert store.unfinished("embedder") == []


@pytest.mark.parametrize("number", range(ROUNDS))
def test_sixteen_builds_at_once_are_sixteen_versions(number: int, ceph: str, tmp_path: Path) -> None:
    results = race(concurrent_publishers.publish_one, PUBLISHERS, ceph, tmp_path, f"round {number} seed {{}}")
    every = list(range(1, PUBLISHERS + 1))
    assert sorted(version for version, _, _ in results) == every
    assert not any(adopted for _, adopted, _ in results)
    store = open_store(ceph)
    assert version_numbers(store, "embedder") == claimed_numbers(store, "embedder") == every
    channel = one_line(store)
    assert channel.version == results[PUBLISHERS - 1][0]  # of the last run, whichever number it got
    assert channel.generation == sum(moved for _, _, moved in results)
    for publisher, (version, _, _) in enumerate(results):
        snapshot = fetch(f"{ceph}/embedder@v{version}", tmp_path / "home", variant="fp32")
        model = contents(f"round {number} seed {publisher}")["onnx/model.onnx"]
        assert snapshot.model_file.read_bytes() == model


@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_recipe_sixteen_times_at_once_is_one_version(number: int, ceph: str, tmp_path: Path) -> None:
    results = race(concurrent_publishers.publish_one, PUBLISHERS, ceph, tmp_path, f"the same, round {number}")
    store = open_store(ceph)
    (version,) = version_numbers(store, "embedder")
    assert {found for found, _, _ in results} == {version}
    assert sorted(adopted for _, adopted, _ in results) == [False] + [True] * (PUBLISHERS - 1)
    assert one_line(store).generation == 1


def test_thirty_two_promoters_and_rollbackers_make_one_line(ceph: str, tmp_path: Path) -> None:
    race(concurrent_publishers.publish_one, 4, ceph, tmp_path, "seed {}")
    store = open_store(ceph)
    before = one_line(store).generation
    moved = sum(race(concurrent_publishers.move_one, 32, ceph, tmp_path, 3))
    assert one_line(store).generation == before + moved
    assert moved >= 3  # whoever finds its version named already was not the first to name it


@pytest.mark.parametrize(
    "scenario",
    [
        kill_publishers_at_every_step,
        stop_publishers_and_resume_them_later,
        publish_after_a_rollback,
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_what_holds_on_the_small_servers_holds_here(
    scenario: Callable[[str, Path], None], ceph: str, tmp_path: Path
) -> None:
    scenario(ceph, tmp_path)


def test_a_lost_reply_does_nothing_twice(
    ceph: str, ceph_server: CephServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_reply_to_every_write(ceph_server, ceph, tmp_path, monkeypatch)
