from __future__ import annotations

import contextlib
import re
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import urlopen

import pytest

from modeldrop.errors import IntegrityError, NotFoundError, RegistryError, UsageError
from modeldrop.fetcher.fetch import fetch
from modeldrop.storage.read import obstore_client
from modeldrop.storage.read.interface import RegistryReader, open_reader
from modeldrop.storage.write import open_store
from tests.helpers.builds import contents, environment
from tests.helpers.clouds import sign_in
from tests.helpers.imported_packages import imported
from tests.helpers.waiting import GROWING_SECONDS, HANG_SECONDS, wait_until
from tests.servers.faults import BUCKET, Fault, FaultyServer
from tests.servers.https import HttpsAnswer, HttpsServer
from tests.servers.tls import ForwardProxy
from tests.storage.cloud_addresses import ACCOUNT, DEAD, models, nobody, point, server, trust, upload

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.helpers.clouds import Servers
    from tests.servers.https import HttpsRequest

__all__ = ["models", "nobody", "server"]

MARK = "mark-"
CLOUDS = ("s3", "gcs", "azure")


def asked(server: Any) -> list[tuple[str, str]]:
    """Method and path, decoded and without query, of the requests that a cloud's server has had."""
    if server.name == "azure":
        settle(server)
    pairs = (request if isinstance(request, tuple) else (request.method, request.path) for request in server.requests())
    return [(method, unquote(path.partition("?")[0])) for method, path in pairs if MARK not in path]


def forget(server: Any) -> None:
    """Forget the requests so far."""
    if server.name == "azure":
        settle(server)
    server.reset()


def settle(server: Any) -> None:
    """Wait until Azurite, which answers before it logs, has logged what it answered."""
    mark = f"{MARK}{secrets.token_hex(8)}"
    with contextlib.suppress(HTTPError):
        urlopen(f"{server.endpoint}/{mark}", timeout=HANG_SECONDS).close()
    wait_until(lambda: any(mark in path for _, path in server.requests()), "Azurite's log")


def check(path: Path) -> None:
    """A snapshot of the build ``a`` in int8 is complete."""
    wanted = {name: data for name, data in contents("a").items() if name != "onnx/model.onnx"}
    assert {name: (path / name).read_bytes() for name in wanted} == wanted
    assert not (path / "onnx/model.onnx").exists()


def xml(code: str, more: str = "", *, message: str = "No.") -> bytes:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message>{more}</Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_fetch_from_a_cloud(
    cloud: str, servers: Servers, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = servers[cloud]
    sign_in(monkeypatch, server)
    url = server.registry()
    upload(models, url)
    snapshot = fetch(f"{url}/embedder", tmp_path / "home")
    check(snapshot.path)
    forget(server)
    again = fetch(f"{url}/embedder", tmp_path / "home")
    assert (again.path, again.downloaded) == (snapshot.path, 0)
    [(method, path)] = asked(server)
    assert method == "GET"
    assert path.endswith("/team/models/embedder/current")
    assert again.registry == url


@pytest.mark.parametrize("cloud", CLOUDS)
def test_what_a_cloud_does_not_have(
    cloud: str, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = servers[cloud]
    sign_in(monkeypatch, server)
    url = server.registry()
    assert open_reader(url).get("embedder/current", 100) is None
    with pytest.raises(NotFoundError, match=f"{url} has no channel embedder/current"):
        fetch(f"{url}/embedder", tmp_path / "home")
    missing = url.replace("bucket-", "missing-").replace("container-", "missing-")
    assert missing != url
    with pytest.raises(RegistryError, match=f"{missing}: there is no (bucket|container) missing-"):
        fetch(f"{missing}/embedder", tmp_path / "home")
    with pytest.raises(RegistryError, match="there is no"):
        open_reader(missing).read("embedder/v1/config.json", 0, 10)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_parts_of_an_object(cloud: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server: Any = servers[cloud]
    sign_in(monkeypatch, server)
    url = server.registry()
    open_store(url).create("m/odd names/50%25 größe #1 [漢字]~.txt", b"0123456789")
    reader = open_reader(url)
    key = "m/odd names/50%25 größe #1 [漢字]~.txt"
    assert reader.get(key, 10) == b"0123456789"
    with pytest.raises(IntegrityError, match="has 10 bytes; at most 9 are read"):
        reader.get(key, 9)
    forget(server)
    assert reader.read(key, 2, 3) == b"234"
    assert len(asked(server)) == 1
    assert reader.read(key, 8, 5) == b"89"
    assert reader.read(key, 10, 5) == b""
    with pytest.raises(RegistryError, match="Could not read"):
        reader.read("m/missing", 0, 5)


def test_fetch_over_https(server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, server)
    reference = f"{server.url}/embedder"
    snapshot = fetch(reference, tmp_path / "home")
    check(snapshot.path)
    assert {request.method for request in server.requests} == {"GET"}
    assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}
    server.requests.clear()
    assert fetch(reference, tmp_path / "home").downloaded == 0
    assert [request.path for request in server.requests] == ["/acme/models/embedder/current"]
    assert snapshot.registry == server.url
    with pytest.raises(NotFoundError, match="has no channel embedder/staging"):
        fetch(f"{reference}@staging", tmp_path / "home")


def test_a_large_object_is_not_read(server: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, server)
    reader = open_reader(server.url)
    with pytest.raises(IntegrityError, match="at most 100 are read"):
        reader.get("embedder/v1/onnx/model.onnx", 100)
    assert reader.read("embedder/v1/config.json", 1, 12) == b'"model_type"'
    assert reader.read("embedder/v1/config.json", 1000, 12) == b""
    server.ranges = False
    with pytest.raises(RegistryError, match=f"https://localhost:{server.port} does not serve ranges"):
        reader.read("embedder/v1/config.json", 1, 12)


@pytest.mark.parametrize("url", ["https://user:word@host/models", "https://host/models?sig=abc", "https://host/#x"])
def test_an_https_registry_holds_no_secret(url: str) -> None:
    with pytest.raises(UsageError, match="host and a path"):
        open_reader(url)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_fetch_from_a_bucket_imports_obstore_and_blake3(
    scheme: str, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, scheme, f"https://localhost:{server.port}")
    program = """
from modeldrop.fetcher.fetch import fetch
fetch(sys.argv[1], sys.argv[2])
assert fetch(sys.argv[1], sys.argv[2]).downloaded == 0
"""
    assert imported(program, f"{url}/embedder", tmp_path / "home") == {"blake3", "modeldrop", "obstore"}


REFUSALS = [
    ("s3", 404, xml("NoSuchBucket"), "there is no bucket acme"),
    ("s3", 403, xml("AccessDenied"), "may not list the bucket"),
    ("s3", 403, xml("InvalidAccessKeyId"), "does not accept these credentials.*InvalidAccessKeyId"),
    ("s3", 403, xml("SignatureDoesNotMatch"), "does not accept these credentials"),
    ("s3", 400, xml("ExpiredToken"), "has expired"),
    ("s3", 400, xml("InvalidToken"), "does not accept these credentials"),
    ("s3", 403, xml("RequestTimeTooSkewed"), "clock is off"),
    ("s3", 503, xml("SlowDown"), "answered 503 SlowDown"),
    ("s3", 418, b"", "answered 418"),
    ("gs", 404, xml("NoSuchBucket"), "there is no bucket acme"),
    ("gs", 401, xml("AuthenticationRequired"), "does not accept these credentials"),
    ("gs", 403, xml("AccessDenied"), "Not allowed to read"),
    ("gs", 500, b"", "answered 500"),
    ("az", 404, xml("ContainerNotFound"), f"there is no container acme in the storage account {ACCOUNT}"),
    ("az", 403, xml("AuthenticationFailed"), "does not accept these credentials"),
    ("az", 403, xml("AuthenticationFailed", "Signature not valid in the specified time frame"), "has expired"),
    ("az", 403, xml("AuthorizationPermissionMismatch"), "Not allowed to read"),
    ("az", 503, xml("ServerBusy"), "answered 503 ServerBusy"),
    ("az", 400, b"what?", "answered 400 what"),
    ("https", 404, xml("NoSuchBucket"), "there is no bucket behind it"),
    ("https", 401, b"", "Not allowed to read"),
    ("https", 403, b"", "Not allowed to read"),
    ("https", 403, xml("AccessDenied"), "may not list the bucket"),
    ("https", 502, b"<html><head><title>Bad Gateway</title></head>", "answered 502 with a web page .Bad Gateway."),
    *((scheme, status, xml(code, message=message), sentence) for scheme, status, code, message, sentence in (
        ("s3", 403, "AccessDenied", ("User: arn:aws:sts::1:x/y is not authorized to perform: s3:GetObject on resource: "
         "&quot;arn:aws:s3:::acme/m&quot; with an explicit deny in a resource-based policy"),
         'Not allowed to read .* AccessDenied: User: arn:aws:sts::1:x/y is not .*"arn.* with an explicit deny'),
        ("s3", 403, "AccessDenied", "User: x is not authorized to perform: kms:Decrypt on resource: y",
         "is encrypted, and its key cannot be used: AccessDenied: User: x is not authorized to perform: kms:Decrypt"),
        ("s3", 400, "KMS.DisabledException", "k is disabled.", "cannot be used: KMS.DisabledException: k is"),
        ("s3", 403, "InvalidObjectState", "Not valid for the object's storage class",
         "is archived and cannot be read: InvalidObjectState: Not valid"),
        ("s3", 400, "Odd", "token=c2VjcmV0 what", "answered 400 Odd: token=.redacted. what"),
        ("s3", 500, "InternalError", "We failed.", "answered 500 InternalError: We failed"),
        ("az", 409, "BlobArchived", "Not on an archived blob.\nRequestId:1",
         "is archived and cannot be read: BlobArchived: Not on an archived blob[.]$"),
        ("az", 403, "AuthorizationFailure", "This request is not authorized.",
         "answered 403 AuthorizationFailure: This request is not authorized[.]$"),
        ("az", 403, "KeyBasedAuthenticationNotPermitted", "No.", "answered 403 KeyBasedAuthenticationNotPermitted: No"),
        ("gs", 403, "AccessDenied", ("Access denied.</Message><Details>Request is prohibited by organization's policy."
         "</Details><Message>"), "Access denied. Request is prohibited by organization's policy"),
        ("gs", 403, "UserProjectAccountProblem", "The billing is disabled", "UserProjectAccountProblem: The billing"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "status", "body", "sentence"),
    REFUSALS,
    ids=[f"{scheme}-{status}-{sentence[:24]}" for scheme, status, _, sentence in REFUSALS],
)
def test_what_the_service_says(
    scheme: str,
    status: int,
    body: bytes,
    sentence: str,
    server: HttpsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, scheme, f"https://localhost:{server.port}")
    server.answer = lambda _: HttpsAnswer(status, body)
    asks: list[Callable[[RegistryReader], object]] = [
        lambda reader: reader.get("m/current", 100),
        lambda reader: reader.read("m/v1/x", 0, 10),
    ]
    for ask in asks:
        with pytest.raises(RegistryError) as caught:
            ask(open_reader(url))
        assert re.search(sentence, caught.value.message), caught.value.message
        assert "\n" not in caught.value.message
        assert "Debug source" not in str(caught.value)
        assert "c2VjcmV0" not in str(caught.value)
    assert len(server.requests) == 2 * (1 if status < 500 else 3)  # what cannot heal is not tried again


@pytest.mark.parametrize("status", [403, 404, 412])
def test_of_a_large_refusal_little_is_kept(
    status: int, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error may be kept for as long as a watch runs, and with it what obstore says."""
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, "s3", f"https://localhost:{server.port}")
    server.answer = lambda _: HttpsAnswer(status, b"No. " * (1 << 20))
    with pytest.raises(RegistryError, match="No") as caught:
        open_reader(url).read("m/v1/x", 0, 10)
    assert len(str(caught.value.__cause__)) == 256 << 10


def test_who_signs_in_is_not_taken_for_the_store(
    models: Path, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, "s3", f"https://localhost:{server.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "token").write_text("token\n")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/reader")
    with HttpsServer(models) as sts:
        (tmp_path / "both.pem").write_text(server.ca_file.read_text() + sts.ca_file.read_text())
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "both.pem"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"https://localhost:{sts.port}")
        for status, code, sentence in (
            (
                503,
                "ServiceUnavailable",
                "localhost, which was asked for credentials, answered 503 ServiceUn",
            ),
            (403, "AccessDenied", r"does not accept these credentials .localhost answered 403 AccessDenied: No"),
        ):
            sts.answer = lambda _, status=status, code=code: HttpsAnswer(status, xml(code))  # type: ignore[misc]
            with pytest.raises(RegistryError, match=sentence):
                open_reader(url).get("m/current", 100)
    with pytest.raises(RegistryError, match=f"localhost:{sts.port}, which is asked for credentials, cannot be reached"):
        open_reader(url).get("m/current", 100)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{DEAD}")
    with pytest.raises(RegistryError, match=f"{DEAD}, which is asked .* its address must begin with https://"):
        open_reader(url).get("m/current", 100)
    assert not server.requests
    monkeypatch.delenv("AWS_WEB_IDENTITY_TOKEN_FILE")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{DEAD}/v1")
    with pytest.raises(RegistryError, match=r"could not sign in with AWS_CONTAINER_CREDENTIALS_FULL_URI: .*refused"):
        open_reader(url).get("m/current", 100)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_another_host_gets_no_token(scheme: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyServer(models) as here, FaultyServer(models) as other:
        there = f"http://localhost:{other.port}/{BUCKET}/embedder/current"
        here.rule = lambda _: Fault(status=307, headers={"Location": there})
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "secret")
        monkeypatch.setenv("AZURE_STORAGE_TOKEN", "secret")
        url = {"s3": f"s3://{BUCKET}", "gs": f"gs://{BUCKET}", "az": f"az://{ACCOUNT}/{BUCKET}"}[scheme]
        config = tmp_path / "settings.toml"
        config.write_text(f'[registries.acme]\nurl = "{url}"\nendpoint = "http://127.0.0.1:{here.port}"\n')
        monkeypatch.setenv("MODELDROP_CONFIG", str(config))
        reader = open_reader(url)
        if scheme == "s3":
            with pytest.raises(RegistryError, match=f"http://127.0.0.1:{here.port} redirects to another host"):
                reader.get("embedder/current", 1 << 20)
            assert not other.asks
            assert here.asks[0].headers["x-amz-security-token"] == "secret"
            monkeypatch.delenv("AWS_SESSION_TOKEN")
            reader = open_reader(url)
        assert reader.get("embedder/current", 1 << 20)
        for ask in other.asks:
            assert not {"authorization", "x-amz-security-token"} & set(ask.headers)
        assert len(other.asks) == 1


class BadGateway(BaseHTTPRequestHandler):
    """What a proxy answers whose own way out is blocked."""

    def do_GET(self) -> None:
        self.send_error(502, "Bad Gateway")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_an_answer_of_a_proxy_names_the_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = point(monkeypatch, tmp_path, "gs", "http://models.example")
    with ThreadingHTTPServer(("127.0.0.1", 0), BadGateway) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        port = proxy.server_address[1]
        monkeypatch.setenv("HTTP_PROXY", f"http://dana:pass-word@127.0.0.1:{port}")
        with pytest.raises(RegistryError, match=rf"the proxy 127.0.0.1:{port}, or .*, answered 502") as caught:
            open_reader(url).get("m/current", 100)
        proxy.shutdown()
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "https"])
def test_a_document_is_asked_for_again_where_that_may_help(
    scheme: str, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, scheme, f"https://localhost:{server.port}")
    answers = [HttpsAnswer(503), HttpsAnswer(429)]
    server.answer = lambda _: answers.pop() if answers else None
    assert open_reader(url).get("embedder/current", 1 << 20)
    assert len(server.requests) == 3


def test_a_bucket_in_another_region_is_followed(
    server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    url = point(monkeypatch, tmp_path, "s3", f"https://localhost:{server.port}")
    told = xml("AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>")

    def malformed(request: HttpsRequest) -> HttpsAnswer | None:
        return None if "/eu-central-1/s3/" in request.headers["authorization"] else HttpsAnswer(400, told)

    server.answer = malformed
    check(fetch(f"{url}/embedder", tmp_path / "home").path)

    def redirected(request: HttpsRequest) -> HttpsAnswer | None:
        if request.method == "HEAD":
            assert "authorization" not in request.headers
            return HttpsAnswer(301, headers={"x-amz-bucket-region": "eu-central-1"})
        if "/eu-central-1/s3/" in request.headers["authorization"]:
            return None
        return HttpsAnswer(301, xml("PermanentRedirect"), {"x-amz-bucket-region": "eu-central-1"})

    server.answer = redirected
    server.requests.clear()
    assert fetch(f"{url}/embedder", tmp_path / "home").downloaded == 0
    assert [request.method for request in server.requests] == ["GET", "HEAD", "GET"]


def test_a_bucket_in_a_region_that_is_not_told(
    server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, "s3", f"https://localhost:{server.port}")
    server.answer = lambda _: HttpsAnswer(301, xml("PermanentRedirect"))
    with pytest.raises(RegistryError, match="is in another region, not in us-east-1"):
        open_reader(url).get("m/current", 100)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_public_bucket_is_read_unsigned(
    scheme: str, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, scheme, f"https://localhost:{server.port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GOOGLE_BEARER_TOKEN", "AZURE_STORAGE_SAS_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    check(fetch(f"{url}/embedder", tmp_path / "home").path)
    assert {request.method for request in server.requests} == {"GET"}
    assert not [request for request in server.requests if "authorization" in request.headers or "sig=" in request.path]
    server.answer = lambda _: HttpsAnswer(403, xml("AccessDenied"))
    with pytest.raises(RegistryError, match="no credentials were found") as caught:
        fetch(f"{url}/embedder", tmp_path / "other")
    assert "Looked in" in caught.value.hint
    config = tmp_path / "settings.toml"
    config.write_text(config.read_text() + "anonymous = true\n")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nowhere"))  # nobody looks
    with pytest.raises(RegistryError, match="403"):
        fetch(f"{url}/embedder", tmp_path / "other")


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "https"])
def test_an_untrusted_certificate(
    scheme: str, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = point(monkeypatch, tmp_path, scheme, f"https://localhost:{server.port}")
    with pytest.raises(RegistryError, match=f"https://localhost:{server.port} is not trusted: its issuer is unknown"):
        open_reader(url).get("m/current", 100)


def test_a_certificate_for_another_host(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HttpsServer(models, host="models.example") as server:
        trust(monkeypatch, server)
        with pytest.raises(RegistryError, match="is not trusted: it is for another host"):
            open_reader(server.url).get("m/current", 100)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"])
def test_variables_that_name_a_private_ca(
    variable: str, server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = point(monkeypatch, tmp_path, "s3", f"https://localhost:{server.port}")
    monkeypatch.setenv(variable, str(server.ca_file))
    assert open_reader(url).get("embedder/current", 1 << 20)
    monkeypatch.setenv(variable, str(tmp_path / "nowhere.pem"))
    with pytest.raises(RegistryError, match=rf"{variable} names .*nowhere.pem, which cannot be read: No such file"):
        open_reader(url)
    monkeypatch.setenv(variable, str(server.folder / "embedder/v1/config.json"))
    with pytest.raises(RegistryError, match=f"{variable} names .*, which holds no PEM certificate"):
        open_reader(url)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    monkeypatch.setenv(variable, str(damaged))
    with pytest.raises(RegistryError, match=r"CA certificates holds one|has no CA certificates"):
        open_reader(url)


def test_proxies(server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, server)
    reference = f"{server.url}/embedder"
    with ForwardProxy(tmp_path) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        check(fetch(reference, tmp_path / "home").path)
    monkeypatch.setenv("HTTPS_PROXY", f"http://dana:pass-word@{DEAD}")
    for seconds in GROWING_SECONDS:
        with pytest.raises(RegistryError) as caught:
            fetch(reference, tmp_path / "other", timeout=seconds)
        if "cannot be reached" in str(caught.value):
            break
    assert f"localhost:{server.port} through the proxy {DEAD} cannot be reached" in str(caught.value)
    assert "connection refused" in str(caught.value)
    assert "pass-word" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert fetch(reference, tmp_path / "home").downloaded == 0


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [(f"https://{DEAD}", "connection refused"), ("https://models.invalid", "its name does not resolve")],
)
def test_unreachable(scheme: str, endpoint: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = point(monkeypatch, tmp_path, scheme, endpoint)
    with pytest.raises(RegistryError, match=f"{url}: {endpoint} cannot be reached: {reason}"):
        open_reader(url).get("m/current", 100)


@pytest.mark.slow
def test_black_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(obstore_client, "_CONNECT", "300ms")
    monkeypatch.setattr(obstore_client, "_READ", "300ms")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.create_server(("127.0.0.1", 0)) as dumb:
        waiting = []
        for _ in range(3):  # fill the queue: whoever comes next is not let in
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
            waiting.append(caller)
        for listener in (deaf, dumb):
            port = listener.getsockname()[1]
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
            with (
                ThreadPoolExecutor(1) as pool,
                pytest.raises(RegistryError, match=f"127.0.0.1:{port} cannot be reached: no answer in time"),
            ):
                pool.submit(open_reader("s3://acme/models").get, "m/current", 100).result(timeout=HANG_SECONDS)
        for caller in waiting:
            caller.close()


def test_the_command_says_it_in_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "modeldrop", "fetch", "s3://acme/models/embedder", "-d", str(tmp_path / "home")],
        env=environment(AWS_ACCESS_KEY_ID="AKIDEXAMPLE", AWS_ENDPOINT_URL=f"http://{DEAD}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 12
    assert "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not" in done.stderr
    assert "Traceback" not in done.stderr
