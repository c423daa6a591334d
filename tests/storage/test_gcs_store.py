"""What is particular to Google Cloud Storage, against our own small server: see ``tests.servers.gcs_app``."""

from __future__ import annotations

import base64
import concurrent.futures
import http.client
import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import google_crc32c
import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from modeldrop.config import RegistrySettings
from modeldrop.errors import (
    ConflictError,
    DiskError,
    IntegrityError,
    ModeldropError,
    NotFoundError,
    RegistryError,
)
from modeldrop.storage.urls import parse_bucket
from modeldrop.storage.write import open_store
from modeldrop.storage.write.gcs.store import GCSStore
from modeldrop.storage.write.headers import IMMUTABLE, NO_CACHE
from tests.helpers.builds import PIECE, as_store, describe, run_python
from tests.helpers.clouds import sign_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.clouds import Servers
    from tests.servers.gcs import GCSServer

KMS_KEY = "projects/acme/locations/eu/keyRings/models/cryptoKeys/publisher"
FILE = "embedder/v1/onnx/model.onnx"
SECRET = "c2VjcmV0LW9mLXRoZS10ZXN0"
LARGE = (20 << 20) + 7
BUCKET = "acme-models"


@pytest.fixture
def server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> GCSServer:
    server = servers["gcs"]
    sign_in(monkeypatch, server)
    found = cast("GCSServer", server)
    found.reset()
    return found


@pytest.fixture
def store(server: GCSServer) -> GCSStore:
    return open_gcs(server.registry())


@pytest.fixture(scope="module")
def large() -> bytes:
    """Three parts of different bytes, the last one short."""
    return b"".join(bytes([number]) * (1 << 20) for number in range(20)) + b"the end"


def open_gcs(url: str, **settings: Any) -> GCSStore:
    return GCSStore(parse_bucket(url), RegistrySettings(url, **settings))


def put(store: GCSStore, path: Path, data: bytes, key: str = FILE) -> int:
    """Upload ``data`` and return how many bytes progress was told of."""
    path.write_bytes(data)
    told: list[int] = []
    store.upload(key, path, describe("f", data), PIECE, told.append)
    return sum(told)


def stored(store: GCSStore, key: str = FILE) -> bytes | None:
    found = store.get(key)
    return None if found is None else found.data


def sent(server: GCSServer) -> list[str]:
    """The methods of the requests since the last reset."""
    return [method for method, _ in server.requests()]


def test_is_a_store(store: GCSStore) -> None:
    assert as_store(store).url.startswith("gs://bucket-")
    assert store.client.project is None


# --- conditions


def test_a_tag_is_the_generation_of_the_bytes_that_came_with_it(store: GCSStore, server: GCSServer) -> None:
    store.create("embedder/current", b"1")
    server.reset()
    found = store.get("embedder/current")
    assert found is not None
    assert len(server.requests()) == 1
    assert found.tag == server.object(store.bucket.name, "team/models/embedder/current")["generation"]


def test_each_write_is_one_request(store: GCSStore, server: GCSServer, tmp_path: Path) -> None:
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


def test_swapping_what_is_gone_is_a_conflict(store: GCSStore) -> None:
    store.create("embedder/current", b"1")
    found = store.get("embedder/current")
    assert found is not None
    store.delete("embedder/current")
    with pytest.raises(ConflictError):
        store.swap("embedder/current", b"2", found.tag)
    assert stored(store, "embedder/current") is None


def test_deletes_only_the_generation_that_was_named(store: GCSStore) -> None:
    store.create("embedder/current", b"1")
    old = store.get("embedder/current")
    assert old is not None
    store.swap("embedder/current", b"2", old.tag)
    with pytest.raises(ConflictError):
        store.delete("embedder/current", old.tag)
    new = store.get("embedder/current")
    assert new is not None
    store.delete("embedder/current", new.tag)
    store.delete("embedder/current", new.tag)
    assert stored(store, "embedder/current") is None


def test_a_document_too_large_to_be_one_is_not_read(store: GCSStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("embedder/current", b"12345")
    monkeypatch.setattr("modeldrop.storage.write.gcs.store.MAX_DOCUMENT", 4)
    with pytest.raises(IntegrityError, match="more than 4 bytes"):
        store.get("embedder/current")


def test_a_document_beyond_one_request_is_written_on_the_same_condition(store: GCSStore, server: GCSServer) -> None:
    data = bytes(9 << 20)
    store.create("embedder/current", data)
    with pytest.raises(ConflictError):
        store.create("embedder/current", data)
    assert stored(store, "embedder/current") == data


# --- large files


def test_a_large_file_goes_in_parts(store: GCSStore, server: GCSServer, tmp_path: Path, large: bytes) -> None:
    assert put(store, tmp_path / "f", large) == LARGE
    assert sorted(sent(server)) == ["GET", "GET", "POST", "POST", "PUT", "PUT"]
    copy = tmp_path / "copy"
    told: list[int] = []
    store.download(FILE, copy, told.append)
    assert copy.read_bytes() == large
    assert sum(told) == LARGE
    assert store.unfinished("") == []
    crc32c = server.object(store.bucket.name, f"team/models/{FILE}")["crc32c"]
    assert base64.b64decode(crc32c) == google_crc32c.value(large).to_bytes(4, "big")


def test_a_large_file_of_large_pieces(store: GCSStore, tmp_path: Path, large: bytes) -> None:
    size = 16 << 20
    pieces = tuple(blake3(large[start : start + size]).hexdigest() for start in range(0, LARGE, size))
    (tmp_path / "f").write_bytes(large)
    store.upload(FILE, tmp_path / "f", describe("f", large)._replace(pieces=pieces), size, lambda _: None)
    assert stored(store) == large


@pytest.mark.parametrize("size", [1 << 20, LARGE], ids=["small", "large"])
def test_a_file_that_is_there_already(store: GCSStore, tmp_path: Path, large: bytes, size: int) -> None:
    data = large[:size]
    put(store, tmp_path / "f", data)
    assert put(store, tmp_path / "f", data) == size  # our own bytes
    with pytest.raises(ConflictError):
        put(store, tmp_path / "f", data[:-1] + b"?")
    assert stored(store) == data


@pytest.mark.parametrize("size", [1 << 20, LARGE], ids=["small", "large"])
def test_wrong_bytes_on_disk_never_become_an_object(
    store: GCSStore, server: GCSServer, tmp_path: Path, large: bytes, size: int
) -> None:
    file = describe("f", large[:size])
    for wrong in (large[: size - 1] + b"?", large[: size - 1], b"?" + large[1:size]):
        (tmp_path / "f").write_bytes(wrong)
        with pytest.raises(IntegrityError, match="changed while it was published"):
            store.upload(FILE, tmp_path / "f", file, PIECE, lambda _: None)
    assert stored(store) is None
    assert store.unfinished("") == []


@pytest.mark.parametrize(("size", "method"), [(1 << 20, "POST"), (9 << 20, "PUT"), (LARGE, "PUT")])
def test_bytes_changed_on_the_way_are_refused_by_the_service(
    store: GCSStore, server: GCSServer, tmp_path: Path, large: bytes, size: int, method: str
) -> None:
    server.flip(method=method)
    with pytest.raises(IntegrityError, match="did not arrive as it was sent"):
        put(store, tmp_path / "f", large[:size])
    assert stored(store) is None
    assert store.unfinished("") == []


def test_bytes_changed_by_the_service_are_found(
    store: GCSStore, server: GCSServer, tmp_path: Path, large: bytes
) -> None:
    server.spoil()
    with pytest.raises(IntegrityError, match="the service stored other bytes"):
        put(store, tmp_path / "f", large)


def test_lists_and_aborts_unfinished_uploads(store: GCSStore, server: GCSServer) -> None:
    bucket = store.bucket.name
    for name in ("embedder/v1/a ü", "embedder/v2/b", "reranker/v1/c"):
        assert raw(server, "POST", f"/{bucket}/team/models/{name.replace(' ', '%20').replace('ü', '%C3%BC')}?uploads")
    server.page_size(1)
    found = store.unfinished("embedder")
    assert [upload.key for upload in found] == ["embedder/v1/a ü", "embedder/v2/b"]
    assert all(abs(upload.started - time.time()) < 60 for upload in found)
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
    file = server.object(store.bucket.name, f"team/models/{FILE}")
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


def test_listings_of_many_pages(store: GCSStore, server: GCSServer) -> None:
    keys = [f"embedder/v{number}/claim.json" for number in range(1, 8)] + ["embedder/current", "embedder2/current"]
    for key in keys:
        store.create(key, b"{}")
    server.page_size(2)
    assert store.names("embedder") == ["current", *(f"v{number}" for number in range(1, 8))]
    assert store.names("") == ["embedder", "embedder2"]
    assert [found.key for found in store.objects("")] == sorted(keys)
    assert [found.size for found in store.objects("embedder2")] == [2]


# --- faults that heal


def test_lost_replies(store: GCSStore, server: GCSServer, tmp_path: Path, large: bytes) -> None:
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
    store: GCSStore, server: GCSServer, tmp_path: Path, large: bytes
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


def test_a_download_that_is_cut_goes_on(store: GCSStore, server: GCSServer, tmp_path: Path) -> None:
    put(store, tmp_path / "f", b"model")
    server.cut(match="alt=media")
    store.download(FILE, tmp_path / "copy", lambda _: None)
    assert (tmp_path / "copy").read_bytes() == b"model"


def test_a_service_that_stays_down(store: GCSStore, server: GCSServer) -> None:
    server.fail(503, "backendError", message="We encountered an internal error", times=1000)
    with pytest.raises(RegistryError, match=r"Could not read .*/embedder/current: the service answered 503"):
        store.get("embedder/current")


# --- bad input


def test_no_right_is_said_once_and_not_tried_again(
    store: GCSStore, server: GCSServer, tmp_path: Path, large: bytes
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
        lambda: store.download(FILE, tmp_path / "copy", lambda _: None),
        lambda: put(store, tmp_path / "f", b"small"),
        lambda: put(store, tmp_path / "f", large),
    ]
    for action in actions:
        with pytest.raises(RegistryError, match=f"^gs://{BUCKET}/team: there is no bucket {BUCKET}"):
            action()


def test_a_web_server_is_not_taken_for_an_empty_registry(store: GCSStore, server: GCSServer) -> None:
    server.fail(404, message="<!DOCTYPE html><title>Error 404 (Not Found)</title>")
    with pytest.raises(RegistryError, match="the service answered 404"):
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


def test_asks_for_a_write_that_writes_nothing(store: GCSStore, server: GCSServer) -> None:
    store.check_writable(1)
    assert len(server.requests()) == 1
    assert list(store.objects("")) == []


def test_a_look_alike_that_ignores_conditions_is_found(store: GCSStore, server: GCSServer) -> None:
    server.ignore_conditions()
    with pytest.raises(RegistryError, match="cannot be a registry to publish to"):
        store.check_writable(1)
    assert list(store.objects("")) == []


def test_what_cannot_be_downloaded_leaves_no_file(store: GCSStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not there"):
        store.download(FILE, tmp_path / "copy", lambda _: None)
    assert not (tmp_path / "copy").exists()
    with pytest.raises(DiskError):
        store.download(FILE, tmp_path / "no folder" / "copy", lambda _: None)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.usefixtures("server")
def test_endpoints_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    url = f"gs://{BUCKET}/team"
    cases = {
        f"http://127.0.0.1:{closed_port}": "connection refused",
        "http://storage.invalid": "its name does not resolve",
    }
    for endpoint, reason in cases.items():
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        begun = time.monotonic()
        with pytest.raises(RegistryError, match=rf"^{url}: .* cannot be reached: {reason}"):
            open_gcs(url).get("embedder/current")
        assert time.monotonic() - begun < 10  # what is promised, not how fast it is


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"])
@pytest.mark.usefixtures("server")
def test_a_ca_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    with pytest.raises(RegistryError, match=f"{variable} names .*/ca.pem, which cannot be read: No such file"):
        open_store(f"gs://{BUCKET}")


# --- signing in


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def as_service_account(
    server: GCSServer, private_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], GCSStore]:
    """Open a registry, signed in by a service account's file."""
    account = {"type": "service_account", "client_email": "ci@acme.iam.gserviceaccount.com", "private_key_id": "1"}
    account |= {"private_key": private_key, "token_uri": server.token_uri}
    (tmp_path / "account.json").write_text(json.dumps(account), "utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    return lambda: open_gcs(server.registry(), endpoint=server.endpoint)


def test_signs_in_by_googles_own_chain(as_service_account: Callable[[], GCSStore], tmp_path: Path) -> None:
    store = as_service_account()
    store.create("embedder/current", b"1")
    put(store, tmp_path / "f", b"small")
    assert stored(store, "embedder/current") == b"1"
    assert store.client._credentials.token == "ya29.token-of-the-test"


@pytest.mark.parametrize(
    ("error", "description", "words"),
    [
        ("invalid_grant", "Token has been expired or revoked.", "has expired"),
        ("invalid_grant", "Invalid JWT Signature.", "does not accept these credentials"),
        ("invalid_grant", "Invalid grant: account not found", "does not accept these credentials"),
        ("access_denied", "Account restricted", "Could not sign in to gs://"),
    ],
)
def test_tokens_that_are_not_given(
    as_service_account: Callable[[], GCSStore], server: GCSServer, error: str, description: str, words: str
) -> None:
    server.refuse_sign_in(error, description)
    with pytest.raises(RegistryError, match=words):
        as_service_account().get("embedder/current")


def test_a_token_that_the_service_does_not_take(
    as_service_account: Callable[[], GCSStore], server: GCSServer, tmp_path: Path, large: bytes
) -> None:
    store = as_service_account()
    message = f"Invalid Credentials: Authorization: Bearer {SECRET}"
    for action in (lambda: store.get("embedder/current"), lambda: put(store, tmp_path / "f", large)):
        server.fail(401, "authError", message=message, match="/b", times=50)
        with pytest.raises(RegistryError, match="does not accept these credentials") as caught:
            action()
        assert SECRET not in str(caught.value)
        server.reset()
    server.fail(401, "authError", message="Invalid Credentials", match="/o/")
    assert store.get("embedder/current") is None  # with a new token


def test_strangers_in_a_bucket_that_is_not_public(server: GCSServer) -> None:
    message = "Anonymous caller does not have storage.objects.get access to the Google Cloud Storage object."
    server.fail(401, "required", message=message, times=9)
    with pytest.raises(RegistryError, match="no credentials were found"):
        open_gcs(server.registry(), anonymous=True).get("embedder/current")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "it is not there"),
        (f"-----BEGIN {SECRET}", "it is not a JSON object"),
        ("[]", "it is not a JSON object"),
        ("{}", "it has no type"),
        (json.dumps({"type": "service_account", "private_key": SECRET}), "it lacks client_email, token_uri"),
        (
            json.dumps({"type": "service_account", "private_key": SECRET, "client_email": "ci@x", "token_uri": "x"}),
            "its private key cannot be read",
        ),
        (
            json.dumps({"type": "authorized_user", "refresh_token": SECRET, "client_id": "x"}),
            "it lacks client_secret",
        ),
    ],
    ids=["missing", "no-json", "list", "no-type", "half", "bad-key", "half-user"],
)
@pytest.mark.usefixtures("server")
def test_credentials_that_are_broken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "credentials.json"
    if text is not None:
        path.write_text(text, "utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    with pytest.raises(ModeldropError, match=words) as caught:
        open_gcs(f"gs://{BUCKET}").get("embedder/current")
    assert str(path) in caught.value.message
    assert SECRET not in str(caught.value)


@pytest.mark.usefixtures("server")
def test_nobody_signed_in_where_the_metadata_address_swallows_everything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(RegistryError, match="no credentials were found") as caught:
            open_gcs(f"gs://{BUCKET}").names("")
        assert time.monotonic() - begun < 10  # what is promised, not how fast it is
    assert "id-token: write" in caught.value.hint
    assert "gcloud auth application-default login" in caught.value.hint


def test_says_which_extra_is_missing() -> None:
    program = """
import sys
sys.modules["google.cloud.storage"] = None
from modeldrop.errors import MissingExtraError
from modeldrop.storage.write import open_store
try:
    open_store("gs://acme-models/team")
except MissingExtraError as error:
    print(error)
"""
    assert "pip install 'modeldrop[gcs]'" in run_python(program)


# --- the server itself


def raw(server: GCSServer, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


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
