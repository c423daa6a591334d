"""What is particular to S3. What every store does is in test_conformance.py."""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import socket
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.config import RegistrySettings
from modeldrop.errors import ConflictError, DiskError, IntegrityError, ModeldropError, NotFoundError, RegistryError
from modeldrop.storage.urls import parse_bucket
from modeldrop.storage.write.s3 import store as s3
from modeldrop.storage.write.s3.store import S3Store
from modeldrop.storage.write.store import Unfinished
from tests.helpers.builds import PIECE, as_store, describe, run_python
from tests.helpers.clouds import Servers, sign_in
from tests.servers.s3 import KEY_ID, SECRET, S3Server
from tests.servers.tls import TlsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODEL = "embedder/v1/onnx/model.onnx"
CHANNEL = "embedder/current"
PART = 5 << 20  # the least that S3 takes
LARGE = 2 * PART + 4321
SSO = """\
[profile team]
sso_session = team
sso_account_id = 111122223333
sso_role_name = publisher
region = eu-west-1
[sso-session team]
sso_start_url = https://team.awsapps.com/start
sso_region = eu-west-1
"""


@pytest.fixture(autouse=True)
def small_parts_and_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SINGLE", "MIN_PART", "_RANGE"):
        monkeypatch.setattr(s3, name, PART)
    monkeypatch.setattr(s3, "_MAX_PAUSE", 0.05)


@pytest.fixture
def server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    found = servers["s3"]
    assert isinstance(found, S3Server)
    found.reset()
    sign_in(monkeypatch, found)
    return found


@pytest.fixture
def store(server: S3Server) -> Iterator[S3Store]:
    made = open_s3(server.registry())
    server.reset()
    yield made
    server.reset()


def open_s3(url: str, **settings: Any) -> S3Store:
    return S3Store(parse_bucket(url), RegistrySettings(url, **settings))


def sent(server: S3Server) -> list[str]:
    """The methods of the requests that came, and what kind they were."""
    return [request.method for request in server.requests()]


def upload(store: S3Store, folder: Path, data: bytes, key: str = MODEL) -> list[int]:
    path = folder / "upload"
    path.write_bytes(data)
    told: list[int] = []
    store.upload(key, path, describe("upload", data), PIECE, told.append)
    return told


def refusal(call: Callable[[], object]) -> str:
    """The whole message of the RegistryError that ``call`` raises, which names no secret and no class of an SDK."""
    with pytest.raises(RegistryError) as caught:
        call()
    text = str(caught.value)
    for never in (SECRET, KEY_ID, "boto", "Exception", "Traceback", "Told to."):
        assert never not in text
    return text


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


def test_large_files_go_in_parts_each_with_its_checksum(store: S3Store, server: S3Server, tmp_path: Path) -> None:
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


def test_a_service_without_checksums_is_checked_by_its_etags(store: S3Store, server: S3Server, tmp_path: Path) -> None:
    server.rule("plain", times=-1)
    store.create(CHANNEL, b"{}")
    upload(store, tmp_path, b"small", "embedder/v1/config.json")
    upload(store, tmp_path, os.urandom(LARGE))
    assert "GET" not in sent(server)
    parts = [request.headers for request in server.requests() if "partNumber" in request.path]
    assert all("content-md5" in headers and "x-amz-checksum-sha256" not in headers for headers in parts)


def test_what_nothing_proves_is_read_back(store: S3Store, server: S3Server, tmp_path: Path) -> None:
    server.rule("plain", method="PUT", match="config.json", headers={"ETag": '"opaque"'})
    upload(store, tmp_path, b"small", "embedder/v1/config.json")
    assert sent(server) == ["PUT", "GET"]


@pytest.mark.parametrize("size", [5, LARGE], ids=["one request", "parts"])
def test_bytes_that_change_on_the_way_are_noticed_and_removed(
    store: S3Store, server: S3Server, tmp_path: Path, size: int
) -> None:
    server.rule("corrupt", method="PUT")
    with pytest.raises(IntegrityError, match=r"does not hold what was sent\. It was removed again"):
        upload(store, tmp_path, os.urandom(size))
    assert not store.exists(MODEL)
    assert store.unfinished("") == []


def test_a_damaged_document_is_noticed(store: S3Store, server: S3Server) -> None:
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


def test_after_a_lost_reply_a_document_is_a_conflict(store: S3Store, server: S3Server) -> None:
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
    store: S3Store, server: S3Server, tmp_path: Path, size: int, rule: dict[str, str]
) -> None:
    server.rule("landed", **rule)
    assert sum(upload(store, tmp_path, os.urandom(size))) == size
    assert [listed.size for listed in store.objects("")] == [size]
    assert store.unfinished("") == []


@pytest.mark.parametrize("size", [5, LARGE], ids=["one request", "parts"])
def test_the_file_of_another_is_a_conflict(store: S3Store, tmp_path: Path, size: int) -> None:
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
def test_what_can_heal_is_tried_again(store: S3Store, server: S3Server, tmp_path: Path, fault: dict[str, Any]) -> None:
    server.rule(**fault)
    store.create(CHANNEL, b"{}")
    server.rule(**fault, match="partNumber")
    upload(store, tmp_path, os.urandom(LARGE))
    assert [listed.size for listed in store.objects("")] == [2, LARGE]


def test_a_download_goes_on_where_it_broke_off(store: S3Store, server: S3Server, tmp_path: Path) -> None:
    upload(store, tmp_path, os.urandom(LARGE))
    server.rule("cut", method="GET")
    target = tmp_path / "download"
    told: list[int] = []
    store.download(MODEL, target, told.append)
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256((tmp_path / "upload").read_bytes()).digest()
    assert sum(told) == LARGE


def test_a_conflict_that_stays_is_a_conflict(store: S3Store, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.rule("answer", status=409, code="ConditionalRequestConflict", times=-1)
    with pytest.raises(ConflictError):
        store.create(CHANNEL, b"{}")


def test_an_upload_that_fails_leaves_no_parts(store: S3Store, server: S3Server, tmp_path: Path) -> None:
    server.rule("answer", status=403, code="AccessDenied", match="partNumber=2")
    assert "write" in refusal(lambda: upload(store, tmp_path, os.urandom(LARGE)))
    assert store.unfinished("") == []
    assert list(store.objects("")) == []


def test_an_upload_given_up_by_another_says_so(store: S3Store, server: S3Server, tmp_path: Path) -> None:
    server.rule("answer", status=404, code="NoSuchUpload", method="POST", match="uploadId")
    assert "given up by somebody else" in refusal(lambda: upload(store, tmp_path, os.urandom(LARGE)))


def test_unfinished_uploads_are_listed_and_can_be_given_up(store: S3Store) -> None:
    for key in (MODEL, "embedder/v2/onnx/model.onnx", "other/v1/onnx/model.onnx"):
        store.client.create_multipart_upload(Bucket=store.bucket.name, Key=f"{store.bucket.prefix}{key}")
    found = store.unfinished("embedder")
    assert [upload.key for upload in found] == [MODEL, "embedder/v2/onnx/model.onnx"]
    for upload in found:
        store.abort(upload)
        store.abort(upload)
    assert [upload.key for upload in store.unfinished("")] == ["other/v1/onnx/model.onnx"]
    store.abort(Unfinished(MODEL, "never-begun", 0))


# Services that differ


def test_a_tag_is_honoured_where_only_a_bare_one_counts(store: S3Store, server: S3Server) -> None:
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
        with pytest.raises(ConflictError):
            store.delete(CHANNEL, tag)
    stored = store.get(CHANNEL)
    assert stored
    assert stored.data == b"2"
    store.delete(CHANNEL, stored.tag)
    assert not store.exists(CHANNEL)


def test_a_service_that_refuses_conditions_cannot_be_published_to(store: S3Store, server: S3Server) -> None:
    server.rule("answer", status=501, code="NotImplemented", method="PUT", times=-1)
    assert "cannot be a registry to publish to" in refusal(lambda: store.create(CHANNEL, b"{}"))
    assert sent(server) == ["PUT"]


def test_the_empty_objects_that_a_console_calls_folders_are_not_there(store: S3Store) -> None:
    for folder in ("", "embedder/", "embedder/v1/"):
        store.client.put_object(Bucket=store.bucket.name, Key=f"{store.bucket.prefix}{folder}", Body=b"")
    assert store.names("") == ["embedder"]
    assert store.names("embedder") == ["v1"]
    assert list(store.objects("")) == []


def test_a_document_of_any_size_is_not_read(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(CHANNEL, b"12345")
    monkeypatch.setattr(s3, "MAX_DOCUMENT", 4)
    with pytest.raises(IntegrityError, match="more than 4 bytes"):
        store.get(CHANNEL)


def test_a_download_that_fails_leaves_nothing(store: S3Store, tmp_path: Path) -> None:
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


def test_the_environment_overrides_modeldrop_toml(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(**settings: Any) -> tuple[str, str]:
        meta = open_s3("s3://acme-models", **settings).client.meta
        return meta.region_name, meta.endpoint_url

    here = f"http://127.0.0.1:{server.port}"
    given = {"region": "eu-north-1", "endpoint": "https://s3.example.org"}
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert asked(**given) == ("eu-west-1", here)
    monkeypatch.delenv("AWS_REGION")
    assert asked(**given) == ("us-east-1", here)  # from AWS_DEFAULT_REGION
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert asked(**given) == ("eu-north-1", "https://s3.example.org")
    assert asked() == ("us-east-1", "https://s3.amazonaws.com")


def test_elsewhere_the_bucket_is_in_the_path_unless_the_profile_says_no(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def address(**settings: Any) -> str:
        seen: list[str] = []

        def stop(request: Any, **_: Any) -> None:
            seen.append(request.url)
            raise ConnectionAbortedError

        client = open_s3("s3://acme-models", **settings).client
        client.meta.events.register("before-send.s3", stop)
        with pytest.raises(ConnectionAbortedError):
            client.head_bucket(Bucket="acme-models")
        return seen[0].rstrip("/")

    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert address(endpoint="https://s3.example.org") == "https://s3.example.org/acme-models"
    assert address(region="eu-west-1") == "https://acme-models.s3.eu-west-1.amazonaws.com"
    config = tmp_path / "config"
    config.write_text("[default]\nendpoint_url = https://oss.example.org\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert address() == "https://oss.example.org/acme-models"
    config.write_text("[default]\nendpoint_url = https://oss.example.org\ns3 =\n  addressing_style = virtual\n")
    assert address() == "https://acme-models.oss.example.org"
    config.write_text("[default]\nservices = own\n[services own]\ns3 =\n  endpoint_url = https://minio.example.org\n")
    assert address(endpoint="") == "https://minio.example.org/acme-models"


def test_anonymous_requests_are_not_signed(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = server.registry()
    open_s3(registry).create(CHANNEL, b"{}")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    server.reset()
    assert "answered 403" in refusal(lambda: open_s3(registry, anonymous=True).exists(CHANNEL))
    assert "authorization" not in server.requests()[0].headers


def test_a_private_ca_is_trusted_from_any_of_the_usual_variables(
    store: S3Store, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with TlsServer(server.port, tmp_path) as tls:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://localhost:{tls.port}")
        monkeypatch.setenv("NO_PROXY", "localhost")
        text = refusal(lambda: open_s3(store.url).get(CHANNEL))
        assert f"certificate of https://localhost:{tls.port} is not trusted" in text
        names = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name in names:
            with monkeypatch.context() as patched:
                patched.setenv(name, tls.ca_file)
                assert open_s3(store.url).get(CHANNEL) is None


# Bad input


REFUSALS = {
    "bucket": ({"status": 404, "code": "NoSuchBucket"}, "there is no bucket bucket-"),
    "permission": ({"status": 403, "code": "AccessDenied"}, "or it is not there and the identity may not list"),
    "key": ({"status": 403, "code": "InvalidAccessKeyId"}, "does not accept these credentials"),
    "signature": ({"status": 403, "code": "SignatureDoesNotMatch"}, "does not accept these credentials"),
    "token": ({"status": 400, "code": "InvalidToken"}, "does not accept these credentials"),
    "expired token": ({"status": 400, "code": "ExpiredToken"}, "has expired"),
    "expired request": ({"status": 403, "code": "RequestExpired"}, "has expired"),
    "clock": ({"status": 403, "code": "RequestTimeTooSkewed"}, "clock is wrong"),
    "redirect": (
        {"status": 301, "code": "PermanentRedirect", "headers": {"x-amz-bucket-region": "eu-west-3"}},
        "the bucket is in the region eu-west-3, not in us-east-1.\n  Set AWS_REGION=eu-west-3",
    ),
    "malformed": (
        {"status": 400, "code": "AuthorizationHeaderMalformed", "extra": "<Region>eu-west-3</Region>"},
        "the bucket is in the region eu-west-3, not in us-east-1",
    ),
    "location": ({"status": 400, "code": "IllegalLocationConstraintException"}, "is in another region"),
    "a new bucket": (
        {"status": 307, "code": "TemporaryRedirect", "headers": {"x-amz-bucket-region": "us-east-1"}},
        "the bucket is new",
    ),
    "encryption key": ({"status": 400, "code": "KMS.DisabledException"}, "its encryption key cannot be used"),
    "anything": ({"status": 400, "code": "MetadataTooLarge"}, "answers 400 MetadataTooLarge"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_refusal_is_one_sentence_after_one_request(store: S3Store, server: S3Server, case: str) -> None:
    answer, sentence = REFUSALS[case]
    server.rule("answer", times=-1, **answer)
    with pytest.raises(RegistryError) as caught:
        store.get(CHANNEL)
    assert sentence in str(caught.value)
    assert SECRET not in str(caught.value)
    assert sent(server) == ["GET"]


def test_a_refused_write_is_not_said_to_be_missing(store: S3Store, server: S3Server) -> None:
    server.rule("answer", status=403, code="AccessDenied", times=-1)
    assert refusal(lambda: store.create(CHANNEL, b"{}")).startswith(f"Not allowed to write {store.url}/{CHANNEL}")
    assert refusal(lambda: store.check_writable(1)).startswith(f"Not allowed to list {store.url}")


def test_a_token_that_expires_before_a_large_file(store: S3Store, server: S3Server, tmp_path: Path) -> None:
    server.rule("answer", status=400, method="HEAD", headers={"Content-Length": "0"}, times=-1)
    server.rule("answer", status=400, code="ExpiredToken", times=-1)
    assert "has expired" in refusal(lambda: upload(store, tmp_path, os.urandom(LARGE)))


def test_a_bucket_that_is_not_there(server: S3Server) -> None:
    store = open_s3("s3://not-there/team")
    for call in (
        lambda: store.get(CHANNEL),
        lambda: store.exists(CHANNEL),
        lambda: store.names(""),
        lambda: store.create(CHANNEL, b"{}"),
        lambda: store.swap(CHANNEL, b"{}", '"0"'),
        lambda: store.check_writable(1),
    ):
        assert "there is no bucket not-there" in refusal(call)


def test_what_answers_and_is_no_s3(store: S3Store, server: S3Server) -> None:
    page = {"body": "<html><body>Welcome<br></html>", "headers": {"Content-Type": "text/html"}}
    server.rule("answer", status=200, method="GET", match="list-type", **page)
    server.rule("answer", status=404, method="GET", **page)
    server.rule("answer", status=404, method="GET", match="list-type", body="404 page not found")
    server.rule("answer", status=405, method="PUT", **page)
    for call in (
        lambda: store.check_writable(1),
        lambda: store.get(CHANNEL),
        lambda: store.names(""),
        lambda: store.create(CHANNEL, b"{}"),
    ):
        assert "answers, but not as S3 does" in refusal(call)
    assert sent(server) == ["GET", "GET", "GET", "PUT"]


def test_a_service_that_is_down_is_said_to_be(
    store: S3Store, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rule("answer", status=503, code="ServiceUnavailable", times=-1)
    assert "the service answers 503" in refusal(lambda: store.get(CHANNEL))
    server.reset()
    server.rule("cut", times=-1)
    assert "broke the connection off" in refusal(lambda: store.get(CHANNEL))


def test_a_service_that_says_nothing_is_given_up(
    store: S3Store, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_FIRST_ANSWER_SECONDS", 0.3)
    server.rule("silent", times=-1)
    assert "cannot be reached: it does not answer within" in refusal(lambda: store.get(CHANNEL))


def test_an_endpoint_where_nobody_listens(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_CONNECT_PATIENCE", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    text = refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))
    assert f"http://127.0.0.1:{port} cannot be reached: connection refused" in text


def test_an_endpoint_whose_backlog_is_full_is_given_up(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest to a firewall that drops packets: connecting gets no answer at all."""
    monkeypatch.setattr(s3, "_FIRST_ANSWER_SECONDS", 0.5)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        assert f"{endpoint} cannot be reached" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_a_name_that_does_not_resolve(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_CONNECT_PATIENCE", 0.0)

    def no_such_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)  # a real name server is not ours to wait for
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.invalid:9000")
    text = refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))
    assert "http://s3.invalid:9000 cannot be reached: its name does not resolve" in text


def test_an_endpoint_that_cannot_be_one(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "not an address")
    assert "not an address" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_credential_in_the_environment(server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    assert f"but {name} is not" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def profile(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str, name: str = "team") -> None:
    """Be signed in by a profile and nothing else."""
    config = folder / "config"
    config.write_text(text)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", name)
    monkeypatch.setenv("HOME", str(folder))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[profile team]\naws_access_key_id = AKIAHALF\n", "aws_secret_access_key is not"),
        ("[profile other]\nregion = eu-west-1\n", "there is no AWS profile called 'team'"),
        ("[profile team\n", "Unable to parse config file"),
        (SSO, "the session of `aws sso login`"),
        ("[profile team]\ncredential_process = sh -c 'echo no token >&2; exit 3'\n", "no token"),
        ("[profile team]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = gone\n", "gone"),
        ("[profile team]\nregion = eu-west-1\n", "no credentials were found"),
    ],
    ids=["half", "no such profile", "no profile file", "sso", "process", "source", "nothing"],
)
def test_a_profile_that_does_not_sign_in(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, sentence: str
) -> None:
    profile(monkeypatch, tmp_path, text)
    assert sentence in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_a_profile_signs_in(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = server.registry()
    profile(monkeypatch, tmp_path, f"[profile team]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    open_s3(registry).create(CHANNEL, b"{}")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("ExpiredTokenException", "the identity token of these credentials has expired"),
        ("InvalidIdentityToken", "the role cannot be taken on (InvalidIdentityToken)"),
        ("AccessDenied", "the role cannot be taken on (AccessDenied)"),
    ],
)
def test_a_workflow_whose_role_is_refused(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, sentence: str
) -> None:
    (tmp_path / "token").write_text("eyJhbGciOiJub25lIn0.e30.")
    profile(
        monkeypatch,
        tmp_path,
        f"[profile team]\nrole_arn = arn:aws:iam::111122223333:role/publisher\nrole_session_name = ci\n"
        f"web_identity_token_file = {tmp_path / 'token'}\n",
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.port}")
    error = f"<ErrorResponse><Error><Code>{code}</Code><Message>No.</Message></Error></ErrorResponse>"
    server.rule("answer", status=400, body=error, times=-1)
    assert sentence in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_in_a_workflow_without_credentials_it_says_how_to_get_them(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile(monkeypatch, tmp_path, "[profile team]\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    text = refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))
    assert "id-token: write" in text
    assert "aws-actions/configure-aws-credentials" in text
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert "aws sso login" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_no_message_holds_a_signed_address(store: S3Store, server: S3Server) -> None:
    server.rule("answer", status=400, code="Odd", extra="", headers={"Location": "https://x/?X-Amz-Signature=abc"})
    with pytest.raises(ModeldropError) as caught:
        store.get(CHANNEL)
    assert "Signature" not in str(caught.value)
