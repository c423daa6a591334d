"""What is told of an answer: its first line, without secrets, whoever gave it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import RegistryError
from modeldrop.storage.answer_text import asks_for_tls, describe, read_body
from modeldrop.storage.errors import detail, redact
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import open_store
from tests.helpers.clouds import sign_out
from tests.servers.recording_proxy import RecordingProxy
from tests.servers.tampering_proxy import ProxyAnswer, TamperingProxy

if TYPE_CHECKING:
    from pathlib import Path

PAGE = b"<!DOCTYPE html><html><head><title>Sign in to Acme Guest Wi-Fi</title></head></html>"
OUTAGES = [(503, PAGE), (500, b"upstream connect error"), (200, PAGE), (429, b"")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", ""),
        ("null", "null"),
        ('[1, "two"]', '[1, "two"]'),
        ('{"error": {"message": {"text": 1}}}', '{"error": {"message": {"text": 1}}}'),
        ('{"error": {"message": "no such bucket", "status": "NOT_FOUND"}}', "NOT_FOUND: no such bucket"),
        ('{"error": "invalid_grant", "error_description": "Bad."}', "invalid_grant: Bad."),
        ('{"a": ' + "[" * 30_000, '{"a": ' + "[" * 193 + "…"),
        ("<Error><Code>Busy</Code><Message>Slow &amp; down</Message></Error>", "Busy: Slow & down"),
        ('<?xml version="1.0"?>\n<Error/>', "<Error/>"),
        ("first\nsecond", "first"),
        ("\x1b[31mred\x00", "?[31mred?"),
    ],
)
def test_the_first_line_of_any_body(body: str, told: str) -> None:
    assert detail(read_body(body)[1] or "-") == (told or "-")


def test_a_page_is_called_one() -> None:
    assert describe(302, PAGE.decode()) == "302 with a web page “Sign in to Acme Guest Wi-Fi”"
    assert describe(404, "<h1>Welcome") == "404 with a web page"
    assert describe(204, "") == "204"


@pytest.mark.parametrize(
    "text",
    [
        "<title>400 The plain HTTP request was sent to HTTPS port</title>",
        "Client sent an HTTP request to an HTTPS server.",
        "BadStatusLine('\\x15\\x03\\x01\\x00\\x02')",
    ],
)
def test_a_port_for_tls_alone_is_known_by_its_answer(text: str) -> None:
    assert asks_for_tls(text)
    assert not asks_for_tls("Bad request")


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("x-amz-security-token: IQoJb3JpZ2luX2Vj", "IQoJ"),
        ('{\\"X-Amz-Security-Token\\": \\"IQoJb3JpZ2lu\\"}', "IQoJ"),
        ("<SignatureProvided>deadbeef</SignatureProvided>", "deadbeef"),
        ("<StringToSign>AWS4-HMAC-SHA256 2026</StringToSign>", "2026"),
        ("SignedHeaders=host, Signature=deadbeef", "deadbeef"),
        ("SharedKey acme:c2VjcmV0LXNpZ25hdHVyZQ==", "c2Vj"),
        ("got ya29.token-of-a-test instead", "ya29.token"),
        ("the assertion eyJhbGciOiJSUzI1NiJ9.eyJpc3Mi.sig is odd", "eyJhbG"),
        ("it was wJalrXUtnFEMIK7MDENG", "wJalr"),
    ],
)
def test_no_secret_is_repeated(text: str, secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMIK7MDENG")
    assert secret in text
    assert secret not in redact(text)
    assert redact("ExpiredToken: The token has expired") == "ExpiredToken: The token has expired"


@pytest.mark.parametrize(("status", "body"), OUTAGES)
def test_entra_that_is_down_is_no_lack_of_credentials(
    status: int, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_out(monkeypatch)
    with RecordingProxy(tmp_path) as entra:
        entra.refusal = (status, body)
        monkeypatch.setenv("SSL_CERT_FILE", str(entra.ca_file))
        monkeypatch.setenv("HTTPS_PROXY", entra.url)
        for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"):
            monkeypatch.setenv(name, "11111111-2222-3333-4444-555555555555")
        with pytest.raises(RegistryError) as caught:
            open_store("az://acme/models/team").get("embedder/current")
    assert "https://login.microsoftonline.com answer" in caught.value.message
    assert str(status) in caught.value.message
    assert "no credentials" not in str(caught.value)
    assert "11111111" not in str(caught.value)


@pytest.mark.parametrize(("status", "body"), OUTAGES)
def test_sts_that_is_down_is_no_refusal_of_the_role(
    status: int, body: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_out(monkeypatch)
    token = tmp_path / "token"
    token.write_text("eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJtZSJ9.c2ln")
    with TamperingProxy() as sts:
        sts.tamper = lambda _: ProxyAnswer(status, {"Content-Type": "text/html"}, body)
        there = f"http://127.0.0.1:{sts.port}"
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", there)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/publisher")
        with pytest.raises(RegistryError) as caught:
            open_store("s3://acme-models/team").get("embedder/current")
    assert there in caught.value.message
    assert str(status) in caught.value.message
    for never in ("no credentials", "role cannot be taken on", "eyJhbG"):
        assert never not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://acme-models/team", "gs://acme-models/team", "az://acme/models/team"])
def test_https_to_a_port_for_http_is_no_untrusted_certificate(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch)
    with TamperingProxy() as plain:
        there = f"https://127.0.0.1:{plain.port}"
        _point_to(there, url, monkeypatch)
        with pytest.raises(RegistryError) as caught:
            open_store(url).get("embedder/current")
        assert there in caught.value.message
        assert "does not speak TLS there" in caught.value.message
        with pytest.raises(RegistryError) as caught:
            open_reader(url).get("embedder/current", 100)
        assert "does not speak TLS there" in caught.value.message


@pytest.mark.parametrize("url", ["s3://acme-models/team", "gs://acme-models/team", "az://acme/models/team"])
def test_http_to_a_port_for_https_is_said_to_be(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch)
    said = b"<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>"
    with TamperingProxy() as strict:
        strict.tamper = lambda _: ProxyAnswer(400, {"Content-Type": "text/html"}, said)
        there = f"http://127.0.0.1:{strict.port}"
        _point_to(there, url, monkeypatch)
        for ask in (lambda: open_store(url).get("m/current"), lambda: open_reader(url).get("m/current", 100)):
            with pytest.raises(RegistryError, match=f"{there}.* speaks TLS only"):
                ask()


def _point_to(there: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the registry be asked at this address, signed in by secrets that are none."""
    scheme = url.partition("://")[0]
    if scheme == "s3":
        variables = {
            "AWS_ENDPOINT_URL_S3": there,
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "x" * 20,
        }
        variables |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_REGION": "eu-west-1", "AWS_ALLOW_HTTP": "true"}
    elif scheme == "gs":
        variables = {"STORAGE_EMULATOR_HOST": there, "GOOGLE_SKIP_SIGNATURE": "true"}
    else:
        parts = {"AccountName": "acme", "AccountKey": "c2VjcmV0", "BlobEndpoint": f"{there}/acme"}
        text = ";".join(f"{name}={value}" for name, value in parts.items())
        variables = {"AZURE_STORAGE_CONNECTION_STRING": text}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
