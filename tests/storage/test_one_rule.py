"""One TLS server, one proxy, the same variables: publisher, doctor, fetcher, Hub client and hooks do the same."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.x509.oid import NameOID

from modeldrop.doctor.checks import CheckState
from modeldrop.doctor.run import check_registry
from modeldrop.errors import ModeldropError, RegistryError
from modeldrop.export.sources import hub_client
from modeldrop.export.sources.hub_api import ask_revision
from modeldrop.registry.kms import kms_key
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import open_store
from modeldrop.util import http
from tests.helpers.clouds import sign_out
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.https import HttpsAnswer, HttpsRequest, HttpsServer
from tests.servers.recording_proxy import RecordingProxy
from tests.servers.tls import ForwardProxy, pipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

KEY = "models/current"
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
PLACES = {"direct", "through the proxy"}


class CountingProxy:
    """proxy.py behind a port that counts who connects; a context manager."""

    def __init__(self, folder: Path) -> None:
        self._proxy = ForwardProxy(folder)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0

    def __enter__(self) -> Self:
        self._proxy.__enter__()
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._proxy.__exit__(kind, error, trace)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._proxy.port)) as server:
            back = threading.Thread(target=pipe, args=(server, client), daemon=True)
            back.start()
            pipe(client, server)
            back.join()


class Ground(NamedTuple):
    """The server, the proxy, and what the variables may name.

    Attributes:
        server: with a certificate that ``files["ca"]`` signed.
        proxy: before it.
        files: files and folders of certificates by what is in them.
    """

    server: HttpsServer
    proxy: CountingProxy
    files: Mapping[str, str]


def answer(request: HttpsRequest) -> HttpsAnswer:
    """What each client takes for its service: the Hub has a model, the stores have no object."""
    if "/api/models/" in request.path:
        body = b'{"id": "acme/m", "sha": "0123456789012345678901234567890123456789", "siblings": []}'
        return HttpsAnswer(200, body, {"Content-Type": "application/json"})
    return HttpsAnswer(404, headers={"x-ms-request-id": "1", "x-ms-error-code": "BlobNotFound"})


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("ground")
    for name in ("served", "hashed", "unhashed"):
        (folder / name).mkdir()
    with HttpsServer(folder / "served") as server, CountingProxy(folder) as proxy:
        server.answer = answer
        ca = server.ca_file.read_bytes()
        (folder / "hashed/0a1b2c3d.0").write_bytes(ca)
        (folder / "unhashed/ca.pem").write_bytes(ca)
        (folder / "empty.pem").touch()
        trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
        paths = {name: str(folder / f"{name}.pem") for name in ("empty", "other", "missing")}
        folders = {name: str(folder / name) for name in ("hashed", "unhashed")}
        yield Ground(server, proxy, {"ca": str(server.ca_file), **paths, **folders})


@pytest.fixture(autouse=True)
def environment(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*CA_VARIABLES, *PROXY_VARIABLES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
    point(monkeypatch, ground, "localhost")


def point(monkeypatch: pytest.MonkeyPatch, ground: Ground, host: str) -> None:
    """Let every client look for its service at this server."""
    url = f"https://{host}:{ground.server.port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"BlobEndpoint={url}/acme;AccountName=acme;AccountKey=a2V5")
    monkeypatch.setenv("HF_ENDPOINT", url)


def publish_to(registry: str) -> Callable[[str], object]:
    return lambda _: open_store(registry).get(KEY)


def diagnose(registry: str) -> Callable[[str], object]:
    def run(_: str) -> None:
        failures = [f"{check.text} {check.fix}" for check in check_registry(registry) if check.state.value == "failed"]
        raise ModeldropError(" ".join(failures))

    return run


def ask_the_hub(url: str) -> None:
    with hub_client.client("acme/m", "main") as hub:
        hub.HfApi(endpoint=url).model_info("acme/m")


def ask_the_hubs_api(url: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", url)
        ask_revision("acme/m", "main")


CLIENTS: Mapping[str, Callable[[str], object]] = {
    "publisher, S3": publish_to("s3://acme/models"),
    "publisher, GCS": publish_to("gs://acme/models"),
    "publisher, Azure": publish_to("az://acme/models/team"),
    "doctor, S3": diagnose("s3://acme/models"),
    "doctor, GCS": diagnose("gs://acme/models"),
    "fetcher, S3": lambda _: open_reader("s3://acme/models").get(KEY, 1 << 20),
    "fetcher, https": lambda url: open_reader(url).get(KEY, 1 << 20),
    "Hub": ask_the_hub,
    "Hub, API": ask_the_hubs_api,
    "hook": lambda url: http.opener(url).open(url, timeout=HANG_SECONDS),
}


SIGNERS: Mapping[str, Callable[[str], object]] = {
    "AWS KMS": lambda _: kms_key("awskms:///arn:aws:kms:eu-west-1:123456789012:key/1"),
    "Google KMS": lambda _: kms_key(
        "gcpkms://projects/acme/locations/global/keyRings/models/cryptoKeys/signing/cryptoKeyVersions/1"
    ),
}


def everybody(
    ground: Ground, host: str = "localhost", clients: Mapping[str, Callable[[str], object]] = CLIENTS
) -> dict[str, str]:
    """What becomes of one small request of each client: how it arrived, or why it did not."""
    found = {}
    for name, ask in clients.items():
        ground.server.requests.clear()
        before = ground.proxy.connections
        said = ""
        try:
            ask(f"https://{host}:{ground.server.port}")
        except (ModeldropError, OSError, ValueError) as error:
            said = str(error)
        place = "through the proxy" if ground.proxy.connections > before else "direct"
        found[name] = place if ground.server.requests else said
    return found


@pytest.mark.parametrize(
    "variables",
    [
        *({name: "hashed" if name == "SSL_CERT_DIR" else "ca"} for name in CA_VARIABLES),
        {"REQUESTS_CA_BUNDLE": "hashed"},
        {"SSL_CERT_FILE": "other", "AWS_CA_BUNDLE": "ca"},
        {"SSL_CERT_FILE": "ca", "REQUESTS_CA_BUNDLE": "other"},
    ],
    ids=str,
)
def test_what_all_trust(ground: Ground, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in variables.items():
        monkeypatch.setenv(name, ground.files[file])
    assert everybody(ground) == dict.fromkeys(CLIENTS, "direct")


PROFILES = {
    "the default profile's": ("[default]\nca_bundle = {ca}\n", {}, ".aws/config"),
    "as profile default": ("[profile default]\nca_bundle = ~/ca.pem\n", {}, ".aws/config"),
    "another profile's": (
        "[default]\nca_bundle = /nowhere\n[profile lab]\nca_bundle = {ca}\n", {"AWS_PROFILE": "lab"}, ".aws/config",
    ),
    "in another file": ("[default]\nca_bundle = {ca}\n", {"AWS_CONFIG_FILE": "{home}/own"}, "own"),
    "in the other file": ("[default]\nca_bundle = {ca}\n", {}, ".aws/credentials"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
def test_what_a_profile_names_is_trusted_for_s3(
    ground: Ground, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, variables, file = PROFILES[name]
    monkeypatch.setenv("SSL_CERT_FILE", ground.files["other"])
    (tmp_path / "ca.pem").write_text(Path(ground.files["ca"]).read_text())
    (tmp_path / ".aws").mkdir()
    (tmp_path / file).write_text(text.format(ca=ground.files["ca"]))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value.format(home=tmp_path))
    found = everybody(ground)
    assert {client for client, said in found.items() if said == "direct"} == {
        name for name in CLIENTS if ", S3" in name
    }
    checks = {check.name: check for check in check_registry("s3://acme/models", reading=True)}
    assert checks["clock"].state is CheckState.OK  # which a request of our own tells
    assert "trusting SSL_CERT_FILE, ca_bundle of the AWS profile" in checks["reachable"].text
    (tmp_path / file).write_text(text.format(ca="/gone").replace("~/ca.pem", "/gone"))
    for client, said in everybody(ground).items():
        if ", S3" in client:
            assert "ca_bundle of the AWS profile names /gone, which cannot be read" in said, (client, said)


SIGN_IN: Mapping[str, tuple[str, Callable[[], object]]] = {
    "publisher, STS": ("sts.eu-west-1.amazonaws.com", lambda: open_store("s3://acme/models").get(KEY)),
    "fetcher, STS": ("sts.eu-west-1.amazonaws.com", lambda: open_reader("s3://acme/models").get(KEY, 100)),
    "publisher, Google": ("oauth2.googleapis.com", lambda: open_store("gs://acme/models").get(KEY)),
    "fetcher, Google": ("accounts.google.com", lambda: open_reader("gs://acme/models").get(KEY, 100)),
    "publisher, Entra": ("login.microsoftonline.com", lambda: open_store("az://acme/models").get(KEY)),
    "fetcher, Entra": ("login.microsoftonline.com", lambda: open_reader("az://acme/models").get(KEY, 100)),
}


@pytest.mark.parametrize("source", ["SSL_CERT_FILE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE", "ca_bundle", "nothing"])
def test_the_same_holds_where_credentials_come_from(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_out(monkeypatch)
    (tmp_path / "token").write_text("e30.e30.")
    user = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    (tmp_path / "google.json").write_text(json.dumps(user))
    variables = {
        "AWS_REGION": "eu-west-1",
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "google.json"),
        "AZURE_CLIENT_ID": "a",
        "AZURE_TENANT_ID": "b",
        "AZURE_CLIENT_SECRET": "c",
    }
    with RecordingProxy(tmp_path) as proxy:
        if source == "ca_bundle":
            (tmp_path / ".aws").mkdir()
            (tmp_path / ".aws/config").write_text(f"[default]\nca_bundle = {proxy.ca_file}\n")
        elif source != "nothing":
            variables[source] = str(proxy.ca_file)
        for name, value in (variables | {"HTTPS_PROXY": proxy.url}).items():
            monkeypatch.setenv(name, value)
        for client, (host, ask) in SIGN_IN.items():
            proxy.reset()
            with contextlib.suppress(ModeldropError):  # only STS is answered as it should be
                ask()
            trusted = source != "nothing" and (source != "ca_bundle" or "STS" in client)
            assert (host in {request.host for request in proxy.requests}) == trusted, client


@pytest.mark.parametrize(
    "variables", [{}, *({name: "other"} for name in CA_VARIABLES if name != "SSL_CERT_DIR")], ids=str
)
def test_what_none_trusts(ground: Ground, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, file in variables.items():
        monkeypatch.setenv(name, ground.files[file])
    for client, said in everybody(ground).items():
        assert "is not trusted" in said or "CERTIFICATE_VERIFY_FAILED" in said, (client, said)


@pytest.mark.parametrize("authority", [False, True], ids=["a server's", "a CA's"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_a_self_signed_certificate_is_trusted_unless_it_is_a_ca_as_well(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, *, authority: bool
) -> None:
    (tmp_path / "served").mkdir()
    with HttpsServer(tmp_path / "served", certificate=self_signed(tmp_path, authority=authority)) as server:
        server.answer = answer
        own = ground._replace(server=server)
        point(monkeypatch, own, "localhost")
        monkeypatch.setenv(variable, str(tmp_path / "own.pem"))
        if not authority:
            assert everybody(own) == dict.fromkeys(CLIENTS, "direct")
            return
        for client, said in everybody(own).items():
            assert http.CA_AS_SERVER in said, (client, said)


def self_signed(folder: Path, *, authority: bool) -> Path:
    """A PEM file with a key and the certificate of localhost that it signs; ``own.pem`` has the certificate alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    pem = certificate.public_bytes(form)
    (folder / "own.pem").write_bytes(pem)
    both = folder / "both.pem"
    both.write_bytes(key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()) + pem)
    return both


@pytest.mark.parametrize(
    ("name", "file", "why"),
    [
        *((name, "missing", "which cannot be read: No such file or directory") for name in CA_VARIABLES),
        *((name, "empty", "which holds no PEM certificate") for name in CA_VARIABLES),
        ("SSL_CERT_DIR", "unhashed", "which holds no PEM certificate under a name that `openssl rehash` gives"),
    ],
)
def test_what_all_say_of_a_bad_file(
    ground: Ground, name: str, file: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ground.files[file])
    for client, said in everybody(ground).items():
        assert f"{name} names {ground.files[file]}, {why}" in said, (client, said)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HTTPS_PROXY": "{proxy}"}, "through the proxy"),
        ({"https_proxy": "{proxy}"}, "through the proxy"),
        ({"ALL_PROXY": "{proxy}"}, "through the proxy"),
        ({"HTTPS_PROXY": "{proxy}", "https_proxy": ""}, "direct"),
        ({"HTTP_PROXY": "{proxy}"}, "direct"),
    ],
    ids=str,
)
def test_which_proxy_all_use(
    ground: Ground, variables: dict[str, str], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ground.files["ca"])
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(proxy=ground.proxy.url))
    assert everybody(ground) == dict.fromkeys(CLIENTS, place)


@pytest.mark.parametrize(
    ("host", "no_proxy", "place"),
    [
        ("localhost", "localhost", "direct"),
        ("localhost", "example.com, LOCALHOST", "direct"),
        ("localhost", "localhost:{port}", "direct"),
        ("localhost", "localhost:1", "through the proxy"),
        ("localhost", ".localhost", "direct"),
        ("localhost", "ocalhost", "through the proxy"),
        ("localhost", "store.localhost", "through the proxy"),
        ("localhost", "127.0.0.0/8", "through the proxy"),
        ("localhost", "*", "direct"),
        ("127.0.0.1", "127.0.0.1", "direct"),
        ("127.0.0.1", "127.0.0.1:{port}", "direct"),
        ("127.0.0.1", "127.0.0.0/8", "direct"),
        ("127.0.0.1", "10.0.0.0/8", "through the proxy"),
        ("127.0.0.1", "*", "direct"),
    ],
)
def test_what_all_reach_without_the_proxy(
    ground: Ground, host: str, no_proxy: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    point(monkeypatch, ground, host)
    monkeypatch.setenv("SSL_CERT_FILE", ground.files["ca"])
    monkeypatch.setenv("HTTPS_PROXY", ground.proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy.format(port=ground.server.port))
    assert everybody(ground, host) == dict.fromkeys(CLIENTS, place)


@pytest.mark.parametrize(
    ("no_proxy", "proxied"),
    [("::1", False), ("[::1]:1", False), ("::/64", False), ("[::1]:2", True), ("fd00::/8", True)],
)
@pytest.mark.parametrize("client", ["fetcher, S3", "fetcher, https"])
def test_ipv6_addresses_without_the_proxy(
    ground: Ground, client: str, no_proxy: str, monkeypatch: pytest.MonkeyPatch, *, proxied: bool
) -> None:
    url = "https://[::1]:1"  # nobody is there
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
    monkeypatch.setenv("HTTPS_PROXY", ground.proxy.url)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    for token in ("", "token"):  # with it, a fetcher goes through a filter of its own
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
        before = ground.proxy.connections
        with pytest.raises(RegistryError):
            CLIENTS[client](url)
        assert (ground.proxy.connections > before) == proxied


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"AWS_CA_BUNDLE": "ca"}, "direct"),
        ({"SSL_CERT_FILE": "ca", "HTTPS_PROXY": "proxy"}, "through the proxy"),
        ({"SSL_CERT_FILE": "ca", "HTTPS_PROXY": "proxy", "NO_PROXY": "localhost"}, "direct"),
        ({"SSL_CERT_FILE": "other"}, "certificate verify failed"),
    ],
    ids=str,
)
def test_who_signs_with_a_kms_does_the_same(
    ground: Ground, tmp_path: Path, variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS is asked for its key, Google for a token to ask with."""
    url = f"https://localhost:{ground.server.port}"
    key = generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "client_email": "ci@acme.iam.gserviceaccount.com",
        "token_uri": f"{url}/token",
        "private_key": key.decode(),
    }
    (tmp_path / "account.json").write_text(json.dumps(account), "utf-8")
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    for name, value in variables.items():
        monkeypatch.setenv(name, ground.files.get(value, ground.proxy.url if value == "proxy" else value))
    found = everybody(ground, clients=SIGNERS)
    assert all(expected in said for said in found.values()), found
