from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas
from blake3 import blake3

from modeldrop.config import RegistrySettings
from modeldrop.errors import ConflictError, IntegrityError, ModeldropError, RegistryError
from modeldrop.format.manifest import File
from modeldrop.storage.urls import parse_bucket
from modeldrop.storage.write.azure import store as azure
from modeldrop.storage.write.azure.store import AzureStore
from tests.helpers.builds import as_store, describe, environment
from tests.helpers.clouds import sign_in, sign_out
from tests.servers.azure import ACCOUNT, KEY, AzureServer
from tests.servers.reply_dropping_proxy import ReplyDroppingProxy
from tests.servers.tampering_proxy import Answer, Request, TamperingProxy
from tests.servers.tls import TlsServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.clouds import Servers

CHANNEL = "embedder/current"
WEIGHTS = "embedder/v1/onnx/model.onnx"
MIB = 1 << 20
SECRET = "c2VrcmV0IG9mIHRoZSBhY2NvdW50"
CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
REMOTE = "az://acmemodels/models/team"
TENANT = "11111111-2222-3333-4444-555555555555"
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "_SMALLEST_PART", MIB)


@pytest.fixture
def server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AzureServer:
    running = servers["azure"]
    assert isinstance(running, AzureServer)
    sign_in(monkeypatch, running)
    return running


@pytest.fixture
def url(server: AzureServer) -> str:
    return server.registry()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is signed in, and this machine is none of Azure's."""
    sign_out(monkeypatch)
    for name in _BUNDLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def proxy(server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TamperingProxy]:
    with TamperingProxy(server.port) as running:
        go_through(monkeypatch, server, running.port)
        yield running


def go_through(monkeypatch: pytest.MonkeyPatch, server: AzureServer, port: int) -> None:
    monkeypatch.setenv(CONNECTION, server.connection_string.replace(f":{server.port}/", f":{port}/"))


def open_azure(url: str, **settings: object) -> AzureStore:
    return AzureStore(parse_bucket(url), RegistrySettings(url)._replace(**settings))  # type: ignore[arg-type]


def blob(server: AzureServer, store: AzureStore, key: str) -> Any:
    return server.container(store.bucket.name).get_blob_client(store.bucket.prefix + key)


def tag(store: AzureStore, key: str = CHANNEL) -> str:
    stored = store.get(key)
    assert stored is not None
    return stored.tag


@dataclass(frozen=True)
class Large:
    """A file that goes up in blocks."""

    path: Path
    file: File

    def upload(self, store: AzureStore, told: Callable[[int], None] = lambda _: None) -> None:
        store.upload(WEIGHTS, self.path, self.file, MIB, told)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    data = bytes(range(251)) * (17 * MIB // 251)
    path.write_bytes(data)
    pieces = tuple(blake3(data[start : start + MIB]).hexdigest() for start in range(0, len(data), MIB))
    return Large(path, File("onnx/model.onnx", len(data), hashlib.sha256(data).hexdigest(), pieces))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def signature(container: str, minutes: int = 5, **rights: bool) -> str:
    until = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes)
    rights_of = ContainerSasPermissions(**rights)
    return str(generate_container_sas(ACCOUNT, container, account_key=KEY, permission=rights_of, expiry=until))


def refusal(ask: Callable[[], object]) -> str:
    """What a reader is told: the message and the hint, of one sentence or two each."""
    with pytest.raises(ModeldropError) as caught:
        ask()
    assert type(caught.value) in {RegistryError, ConflictError}
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert caught.value.hint
    said = f"{caught.value.message} {caught.value.hint}"
    assert "\n" not in said
    assert SECRET not in said
    assert KEY not in said
    assert "sig=" not in said
    return said


def answer(status: int, code: str, message: str = "Text of the service.", detail: str = "") -> Answer:
    more = f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>"
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}\nTime:now</Message>{more}</Error>'
    headers = {"x-ms-request-id": "1", "x-ms-error-code": code, "Content-Type": "application/xml"}
    return Answer(status, headers, body.encode())


def test_it_is_a_store(url: str) -> None:
    store = open_azure(url)
    assert as_store(store) is store
    assert (store.url, store.bucket.account, store.settings.url) == (url, ACCOUNT, url)
    assert store.client.container_name == store.bucket.name


def test_every_small_thing_is_one_request(server: AzureServer, url: str, tmp_path: Path) -> None:
    store = open_azure(url)
    (tmp_path / "config.json").write_bytes(b"{}")
    file = describe("config.json", b"{}")
    for ask in (
        lambda: store.create(CHANNEL, b"1"),
        lambda: store.get(CHANNEL),
        lambda: store.exists(CHANNEL),
        lambda: store.names("embedder"),
        lambda: list(store.objects("embedder")),
        lambda: store.upload("embedder/v1/config.json", tmp_path / "config.json", file, MIB, lambda _: None),
        lambda: store.download(CHANNEL, tmp_path / "current", lambda _: None),
        lambda: store.check_writable(1),
        lambda: store.delete(CHANNEL),
    ):
        server.reset()
        ask()
        assert len(server.requests()) == 1
    assert store.names("") == ["embedder"]


def test_asking_whether_it_is_writable_writes_nothing(url: str) -> None:
    store = open_azure(url)
    store.check_writable(1 << 40)
    assert list(store.objects("")) == []


def test_a_leased_blob_is_a_conflict_that_says_so(server: AzureServer, url: str) -> None:
    store = open_azure(url)
    store.create(CHANNEL, b"1")
    before = tag(store)
    lease = blob(server, store, CHANNEL).acquire_lease(15)
    writes: list[Callable[[], object]] = [lambda: store.swap(CHANNEL, b"2", before), lambda: store.delete(CHANNEL)]
    for ask in writes:
        with pytest.raises(ConflictError, match=r"team/models/embedder/current is leased") as caught:
            ask()
        assert "az storage blob lease break" in caught.value.hint
    with pytest.raises(ConflictError, match="written by somebody else"):
        store.create(CHANNEL, b"2")
    lease.release()
    store.swap(CHANNEL, b"2", before)


def test_headers_tags_and_checksum_are_stored(server: AzureServer, url: str, large: Large) -> None:
    store = open_azure(url, tags={"team": "search", "stage": "live now"})
    store.create("embedder/v1/manifest.json", b"{}")
    store.create(CHANNEL, b"{}")
    large.upload(store)
    for key, kind, cache in (
        ("embedder/v1/manifest.json", "application/json", "no-cache"),
        (CHANNEL, "application/json", "no-cache"),
        (WEIGHTS, "application/octet-stream", "public, max-age=31536000, immutable"),
    ):
        client = blob(server, store, key)
        headers = client.get_blob_properties().content_settings
        assert (headers.content_type, headers.cache_control) == (kind, cache)
        assert (headers.content_md5 is None) == (key == WEIGHTS)
        assert client.get_blob_tags() == {"team": "search", "stage": "live now"}


def test_every_write_names_the_encryption_scope(proxy: TamperingProxy, url: str, large: Large) -> None:
    store = open_azure(url, encryption_key="models-scope")
    store.create(CHANNEL, b"1")
    large.upload(store)
    scopes = {request.headers.get("x-ms-encryption-scope") for request in proxy.requests if request.method == "PUT"}
    assert scopes == {"models-scope"}


def test_blocks_go_up_and_come_down_side_by_side(server: AzureServer, url: str, large: Large, tmp_path: Path) -> None:
    store = open_azure(url)
    sent, threads = [], set()

    def told(count: int) -> None:
        sent.append(count)
        threads.add(threading.get_ident())

    server.reset()
    large.upload(store, told)
    asked = [(method, path.partition("?")[2].partition("&")[0]) for method, path in server.requests()]
    assert asked == [("PUT", "comp=block")] * len(large.file.pieces) + [
        ("PUT", "comp=blocklist"),
        ("GET", "comp=blocklist"),
    ]
    assert (sum(sent), len(sent)) == (large.file.size, len(large.file.pieces))
    assert len(threads) > 1
    got: list[int] = []
    store.download(WEIGHTS, tmp_path / "copy", got.append)
    assert (tmp_path / "copy").read_bytes() == large.path.read_bytes()
    assert sum(got) == large.file.size


def test_a_file_that_changed_on_disk_is_never_committed(url: str, large: Large, tmp_path: Path) -> None:
    store = open_azure(url)
    data = bytearray(large.path.read_bytes())
    data[9 * MIB] ^= 1
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(IntegrityError, match="changed while it was published"):
        store.upload(WEIGHTS, tmp_path / "model.onnx", large.file, MIB, lambda _: None)
    assert not store.exists(WEIGHTS)


def test_what_is_damaged_on_the_way_is_sent_again(proxy: TamperingProxy, url: str, large: Large) -> None:
    damaged: list[str] = []

    def flip(request: Request) -> bytes | None:
        kind = next((kind for kind in ("current", "comp=block&") if kind in request.path), None)
        if request.method != "PUT" or kind is None or kind in damaged:
            return None
        damaged.append(kind)
        return request.body[:-1] + bytes([request.body[-1] ^ 1])

    store = open_azure(url)
    proxy.tamper = flip
    store.create(CHANNEL, b"what was meant")
    large.upload(store)
    assert sorted(damaged) == ["comp=block&", "current"]
    stored = store.get(CHANNEL)
    assert stored is not None
    assert stored.data == b"what was meant"


def test_blocks_that_are_not_the_ones_sent_are_noticed(proxy: TamperingProxy, url: str, large: Large) -> None:
    def other_list(request: Request) -> Answer | None:
        if request.method == "GET" and "comp=blocklist" in request.path:
            blocks = "<CommittedBlocks><Block><Name>eA==</Name><Size>1</Size></Block></CommittedBlocks>"
            headers = {"x-ms-request-id": "1", "Content-Type": "application/xml"}
            return Answer(200, headers, f"<BlockList>{blocks}</BlockList>".encode())
        return None

    proxy.tamper = other_list
    with pytest.raises(IntegrityError, match="not stored as it was sent"):
        large.upload(open_azure(url))


def test_our_own_bytes_after_a_lost_reply_are_no_conflict(
    server: AzureServer, url: str, large: Large, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_bytes(b"{}")
    key, file = "embedder/v1/config.json", describe("config.json", b"{}")
    with ReplyDroppingProxy(server.port) as cutting:
        go_through(monkeypatch, server, cutting.port)
        store = open_azure(url)
        for match in ("comp=blocklist", "comp=block&", "config.json"):
            cutting.drop("PUT", match)
        large.upload(store)
        store.upload(key, tmp_path / "config.json", file, MIB, lambda _: None)
        assert len(cutting.dropped) == 3
    go_through(monkeypatch, server, server.port)
    store = open_azure(url)
    store.delete(WEIGHTS)
    store.create(WEIGHTS, bytes(large.file.size))
    with pytest.raises(ConflictError):
        large.upload(store)


def test_a_busy_service_is_asked_again_and_a_refusing_one_is_not(proxy: TamperingProxy, url: str, large: Large) -> None:
    left = {"PUT": 6, "GET": 2}

    def busy(request: Request) -> Answer | None:
        left[request.method] -= 1
        return answer(503, "ServerBusy") if left[request.method] >= 0 else None

    store = open_azure(url)
    proxy.tamper = busy
    large.upload(store)
    assert store.names("embedder") == ["v1"]
    assert max(left.values()) < 0

    proxy.tamper = lambda _: answer(403, "AuthorizationPermissionMismatch")
    proxy.requests.clear()
    refusal(lambda: store.create(CHANNEL, b"1"))
    proxy.tamper = lambda _: None
    assert store.get(CHANNEL) is None
    assert len(proxy.requests) == 2


def test_a_service_that_stays_busy_is_said_to_be(
    proxy: TamperingProxy, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure._Patience, "seconds", lambda *_: 0.5)
    proxy.tamper = lambda _: answer(503, "ServerBusy")
    said = refusal(lambda: open_azure(url).get(CHANNEL))
    assert said.startswith(f"Could not read {url}/{CHANNEL}: the service answered 503 ServerBusy.")
    assert "again later" in said
    assert len(proxy.requests) > 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (answer(403, "AuthorizationPermissionMismatch"), "Not allowed to write .*the right to write"),
        (answer(403, "AuthorizationFailure"), "does not accept these credentials .*firewall"),
        (answer(403, "KeyBasedAuthenticationNotPermitted"), "the account allows no keys"),
        (answer(403, "AccountIsDisabled"), "storage account devstoreaccount1 is disabled"),
        (
            answer(403, "AuthenticationFailed", detail="The MAC signature found in the HTTP request is not the same."),
            "does not accept these credentials .the connection string",
        ),
        (
            answer(403, "AuthenticationFailed", detail="Signature not valid in the specified time frame: Start [x]"),
            "has expired",
        ),
        (
            answer(403, "AuthenticationFailed", detail="Request date header too old: yesterday"),
            "the clock of this machine is wrong",
        ),
        (
            answer(401, "InvalidAuthenticationInfo", "Lifetime validation failed. The token is expired."),
            "the token of these credentials has expired",
        ),
        (answer(401, "InvalidAuthenticationInfo", "Issuer validation failed."), "does not accept these credentials"),
        (answer(401, "NoAuthenticationInformation"), "no credentials were found"),
        (answer(404, "ContainerNotFound"), "there is no container container-"),
        (answer(409, "BlobImmutableDueToPolicy"), "an immutability policy"),
        (answer(400, "InvalidHeaderValue", "The value for one header is wrong."), "The value for one header is wrong"),
        (Answer(404, {"Content-Type": "text/html"}, b"<h1>Welcome to nginx"), "what answers there .404. is not Azure"),
        (Answer(407), "what answers there .407. is not Azure"),
    ],
)
def test_each_refusal_has_its_sentence(proxy: TamperingProxy, url: str, given: Answer, said: str) -> None:
    proxy.tamper = lambda _: given
    with pytest.raises(RegistryError, match=url):
        open_azure(url).create(CHANNEL, b"1")
    told = refusal(lambda: open_azure(url).create(CHANNEL, b"1"))
    assert_matches(said, told)
    assert len(proxy.requests) == 2


def assert_matches(pattern: str, text: str) -> None:
    with pytest.raises(RegistryError, match=pattern):
        raise RegistryError(text)


def test_every_method_says_that_there_is_no_container(url: str, large: Large, tmp_path: Path) -> None:
    store = open_azure(url.replace("container-", "contoso-"))
    for ask in (
        lambda: store.get(CHANNEL),
        lambda: store.exists(CHANNEL),
        lambda: store.names(""),
        lambda: list(store.objects("")),
        lambda: store.create(CHANNEL, b""),
        lambda: store.swap(CHANNEL, b"", '"0x1"'),
        lambda: large.upload(store),
        lambda: store.download(CHANNEL, tmp_path / "x", lambda _: None),
        lambda: store.delete(CHANNEL),
        lambda: store.check_writable(1),
    ):
        assert "there is no container contoso-" in refusal(ask)


def test_signatures_and_strangers_may_what_they_may(
    server: AzureServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_azure(url).create(CHANNEL, b"1")
    sign_out(monkeypatch)
    container = url.split("/")[3]
    reader = signature(container, read=True, list=True)
    for name, what, value in (
        ("AZURE_STORAGE_SAS_TOKEN", "shared access signature", f"?{reader}"),
        (CONNECTION, "connection string", f"BlobEndpoint={server.endpoint}/;SharedAccessSignature={reader}"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            store = open_azure(url, endpoint=server.endpoint)
            assert store.names("embedder") == ["current"]
            assert store.exists(CHANNEL)
            for ask in (
                functools.partial(store.check_writable, 1),
                functools.partial(store.create, "x/y", b""),
                functools.partial(store.delete, CHANNEL),
            ):
                assert f"the {what} in {name}" in refusal(ask)

    stranger = open_azure(url, endpoint=server.endpoint, anonymous=True)
    assert "Not allowed to read" in refusal(lambda: stranger.get(CHANNEL))
    server.container(container).set_container_access_policy({}, public_access="blob")
    assert stranger.exists(CHANNEL)
    assert stranger.get("embedder/v1/manifest.json") is None


def test_a_stranger_is_told_that_the_container_may_be_private(
    proxy: TamperingProxy, url: str, server: AzureServer
) -> None:
    proxy.tamper = lambda _: answer(404, "ResourceNotFound")
    store = open_azure(url, endpoint=server.endpoint.replace(str(server.port), str(proxy.port)), anonymous=True)
    for ask in (lambda: store.get(CHANNEL), lambda: store.exists(CHANNEL), lambda: store.names("")):
        assert "or it is private and nobody is signed in" in refusal(ask)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "no credentials were found.*id-token: write.*az login"),
        ({"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": TENANT}, "AZURE_CLIENT_ID is set, but AZURE_CLIENT_SECRET or"),
        ({"AZURE_CLIENT_SECRET": SECRET}, "AZURE_CLIENT_SECRET is set, but AZURE_CLIENT_ID is not"),
        (
            {"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": TENANT, "AZURE_FEDERATED_TOKEN_FILE": "/nowhere"},
            "signing in with WorkloadIdentity failed: .*No such file",
        ),
        ({"AZURE_STORAGE_KEY": f"{SECRET} "}, "AZURE_STORAGE_KEY cannot be an account key: it is not base64"),
        (
            {"AZURE_STORAGE_KEY": SECRET, "AZURE_STORAGE_ACCOUNT": "contoso"},
            "for the storage account contoso, not acme",
        ),
        ({CONNECTION: SECRET}, "is malformed: it is not a list"),
        ({CONNECTION: f"AccountKey={SECRET}"}, "has neither AccountName nor BlobEndpoint"),
        ({CONNECTION: "AccountName=acmemodels"}, "has neither AccountKey nor SharedAccessSignature"),
        ({CONNECTION: f"AccountName=acmemodels;AccountKey={SECRET}!"}, "AccountKey in AZURE_.* is not base64"),
        ({CONNECTION: f"AccountName=contoso;AccountKey={SECRET}"}, "for the storage account contoso, not acmemodels"),
        (
            {CONNECTION: f"BlobEndpoint=https://contoso.blob.core.windows.net;SharedAccessSignature=sig={SECRET}"},
            "for the storage account contoso, not acmemodels",
        ),
        ({CONNECTION: "UseDevelopmentStorage=true"}, "for the storage account devstoreaccount1, not acmemodels"),
        ({"AZURE_STORAGE_KEY": SECRET, "SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE names /nowhere.pem"),
    ],
)
def test_each_lack_of_credentials_has_its_sentence(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_matches(said, refusal(lambda: open_azure(REMOTE).get(CHANNEL)))


@pytest.mark.usefixtures("nobody")
def test_a_connection_string_names_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for string, account, endpoint in (
        ("UseDevelopmentStorage=true", ACCOUNT, f"http://127.0.0.1:10000/{ACCOUNT}"),
        (f"AccountName=acme;AccountKey={SECRET}", "acme", "https://acme.blob.core.windows.net"),
        (
            f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={SECRET};EndpointSuffix=core.chinacloudapi.cn;",
            "acme",
            "https://acme.blob.core.chinacloudapi.cn",
        ),
        (f"BlobEndpoint=https://acme.blob.a.b/;SharedAccessSignature=?sig={SECRET}", "acme", "https://acme.blob.a.b"),
    ):
        monkeypatch.setenv(CONNECTION, string)
        store = open_azure(f"az://{account}/models")
        assert store.sign_in.endpoint == endpoint
        assert SECRET not in repr(store.sign_in)
        assert store.client.url == f"{endpoint}/models"


@pytest.mark.usefixtures("nobody")
def test_an_address_that_does_not_answer_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure._Patience, "seconds", lambda *_: 0.5)
    monkeypatch.setenv("AZURE_STORAGE_KEY", SECRET)
    refused = open_azure(REMOTE, endpoint=f"http://127.0.0.1:{closed_port()}")
    assert "cannot be reached: connection refused" in refusal(lambda: refused.get(CHANNEL))
    unknown = open_azure(REMOTE, endpoint="https://acmemodels.invalid")
    assert "Either there is no storage account acmemodels, or" in refusal(lambda: unknown.get(CHANNEL))
    monkeypatch.setattr(azure, "_FIRST_READ_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = open_azure(REMOTE, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "no answer in time" in refusal(lambda: store.get(CHANNEL))
    assert "only supported with HTTPS" in refusal(signed_in_over_http)


def signed_in_over_http() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AZURE_STORAGE_KEY")
        open_azure(REMOTE, endpoint="http://127.0.0.1:1")


@pytest.mark.usefixtures("nobody")
def test_a_private_ca_is_trusted_when_it_is_named(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers["azure"]
    assert isinstance(server, AzureServer)
    url = server.registry()
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    with TlsServer(server.port, tmp_path) as tls:
        endpoint = f"https://localhost:{tls.port}/{ACCOUNT}"
        said = refusal(lambda: open_azure(url, endpoint=endpoint).get(CHANNEL))
        assert f"the certificate of {endpoint} is not trusted: " in said
        for name in _BUNDLES:
            with monkeypatch.context() as patch:
                patch.setenv(name, tls.ca_file)
                with contextlib.closing(open_azure(url, endpoint=endpoint).client) as client:
                    assert client.exists()


@pytest.mark.usefixtures("nobody")
def test_who_is_signed_in_with_az_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    az = tmp_path / "bin" / "az"

    def prints(text: str, code: int) -> None:
        az.write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}' >&{1 if code == 0 else 2}\nexit {code}\n")
        az.chmod(az.stat().st_mode | stat.S_IXUSR)

    with TamperingProxy() as service, TlsServer(service.port, tmp_path) as tls:
        monkeypatch.setenv("SSL_CERT_FILE", tls.ca_file)
        endpoint = f"https://localhost:{tls.port}"
        prints('{"accessToken": "' + SECRET + '", "expiresOn": "2099-01-01 00:00:00.000000"}', 0)
        service.tamper = lambda _: answer(404, "BlobNotFound")
        assert open_azure(REMOTE, endpoint=endpoint).get(CHANNEL) is None
        assert service.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
        service.tamper = lambda _: answer(403, "AuthorizationPermissionMismatch")
        store = open_azure(REMOTE, endpoint=endpoint)
        assert "the role Storage Blob Data Reader on the container models" in refusal(lambda: store.get(CHANNEL))
        assert "the role Storage Blob Data Contributor" in refusal(lambda: store.create(CHANNEL, b""))
        tagging = open_azure(REMOTE, endpoint=endpoint, tags={"team": "search"})
        assert "the role Storage Blob Data Owner, because tags" in refusal(lambda: tagging.create(CHANNEL, b""))
    for printed, said in (
        ("ERROR: AADSTS70043: The refresh token has expired or is invalid due to x. Trace ID: y", "has expired"),
        (
            "ERROR: AADSTS700213: No matching federated identity record found for y. Trace ID: z",
            "No matching federated",
        ),
        ("Please run az login to setup account.", "no credentials were found"),
    ):
        prints(printed, 1)
        assert said in refusal(lambda: open_azure(REMOTE).get(CHANNEL))


def run(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_ends_silently_and_loads_no_identity_that_it_does_not_need(server: AzureServer, url: str) -> None:
    program = """
import sys
from modeldrop.errors import ModeldropError
from modeldrop.storage.write import open_store
store = open_store(sys.argv[1])
store.create("m/current", b"1")
try:
    store.create("m/current", b"2")
except ModeldropError as error:
    print(error.exit_code, "azure.identity" in sys.modules, list(store.names("m")))
"""
    ran = run(program, url, **server.environment)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "13 False ['current']\n", "")


@pytest.mark.usefixtures("nobody")
def test_a_failed_sign_in_prints_nothing_of_its_own() -> None:
    program = """
import sys
from modeldrop.errors import ModeldropError
from modeldrop.storage.write import open_store
try:
    open_store(sys.argv[1]).get("m/current")
except ModeldropError as error:
    print(error.exit_code)
"""
    ran = run(program, REMOTE)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "12\n", "")


@pytest.mark.parametrize("module", ["azure.storage.blob", "azure.identity"])
@pytest.mark.usefixtures("nobody")
def test_without_the_sdk_it_names_the_extra(module: str) -> None:
    program = """
import sys
sys.modules[sys.argv[2]] = None
from modeldrop.errors import MissingExtraError
from modeldrop.storage.write import open_store
try:
    open_store(sys.argv[1])
except MissingExtraError as error:
    print(error)
"""
    ran = run(program, REMOTE, module)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "pip install 'modeldrop[azure]'" in ran.stdout
