"""Signing with keys in AWS KMS and Google Cloud KMS: their real SDKs, and a stand-in for the services.

No emulator at hand has keys of Ed25519 (moto's KMS knows RSA and ECDSA alone), so the stand-in speaks the two protocols
as they are documented.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from modeldrop.cli import main
from modeldrop.errors import RegistryError, UsageError
from modeldrop.fetcher.fetch import fetch
from modeldrop.registry.kms import kms_key
from modeldrop.registry.signing import signing_keys
from tests.helpers.builds import publish_build
from tests.helpers.signing import private, public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AWS = "awskms:///arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
GOOGLE = "gcpkms://projects/acme/locations/global/keyRings/models/cryptoKeys/signing/cryptoKeyVersions/1"


class KmsServer:
    """Answers for both services, with key 7."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refuses = False
        self.lies = False
        self.key: Any = private(7).public_key()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _answer(self, body: bytes) -> None:
                what = self.headers.get("X-Amz-Target") or self.path
                server.asked.append((what, self.headers.get("Authorization", "")))
                status, answer = server.answer(what, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def answer(self, what: str, body: bytes) -> tuple[int, dict[str, Any]]:
        if what == "/token":
            return 200, {"access_token": "a token", "expires_in": 3600, "token_type": "Bearer"}
        if self.refuses:
            return 403, {"__type": "AccessDeniedException", "message": "not allowed"}
        spki = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if what == "TrentService.GetPublicKey":
            return 200, {"KeyId": AWS, "PublicKey": base64.b64encode(spki).decode()}
        if what.endswith("/publicKey"):
            pem = self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            return 200, {"pem": pem.decode(), "algorithm": "EC_SIGN_ED25519"}
        asked = json.loads(body)
        if what == "TrentService.Sign":
            assert (asked["MessageType"], asked["SigningAlgorithm"]) == ("RAW", "ED25519_SHA_512")
            return 200, {"Signature": self._sign(asked["Message"])}
        assert what.endswith("/cryptoKeyVersions/1:asymmetricSign")
        return 200, {"signature": self._sign(asked["data"])}

    def _sign(self, message: str) -> str:
        return base64.b64encode(private(8 if self.lies else 7).sign(base64.b64decode(message))).decode()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[KmsServer]:
    kms_key.cache_clear()
    for name in ("MODELDROP_TRUST", "MODELDROP_CONFIG", "MODELDROP_EXPIRES_IN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with KmsServer() as server, contextlib.ExitStack() as stack:
        stack.callback(kms_key.cache_clear)
        for name, value in (("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")):
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", server.url)
        account = {
            "type": "service_account",
            "client_email": "ci@acme.iam.gserviceaccount.com",
            "token_uri": f"{server.url}/token",
            "private_key_id": "1",
            "private_key": generate_rsa(65537, 2048)
            .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            .decode(),
        }
        (tmp_path / "account.json").write_text(json.dumps(account), "utf-8")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS", f"{server.url}/")
        yield server


@pytest.mark.parametrize("url", [AWS, GOOGLE])
def test_what_a_kms_signs_is_believed(
    kms: KmsServer, registry: Path, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", url)
    assert main(["key", "show"]) == 0
    assert capsys.readouterr().out.strip() == public(7)
    publish_build(registry, "a")
    assert fetch(f"{registry}/embedder", tmp_path / "home", trust=[public(7)]).version == 1
    signed = [who for what, who in kms.asked if "ign" in what.rpartition("/")[2].rpartition(".")[2].rpartition(":")[2]]
    assert len(signed) == 2  # the version and the channel; the public key was asked for once
    assert len([what for what, _ in kms.asked if "ublicKey" in what]) == 1
    assert all(who.startswith(("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/", "Bearer a token")) for who in signed)


@pytest.mark.parametrize("url", [AWS, GOOGLE])
def test_what_cannot_be_used_is_said(kms: KmsServer, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", url)
    kms.refuses = True
    with pytest.raises(RegistryError, match="cannot be used to sign: ") as error:
        signing_keys()
    assert "403" in str(error.value) or "not allowed" in str(error.value)
    kms.refuses, kms.lies = False, True
    (key,) = signing_keys()
    with pytest.raises(RegistryError, match="has signed something else"):
        key.sign(b"message")
    kms_key.cache_clear()
    kms.key = generate_private_key(SECP256R1()).public_key()
    with pytest.raises(UsageError, match="is no key of Ed25519"):
        signing_keys()


@pytest.mark.parametrize("url", ["awskms:///alias/models", "awskms://x", "gcpkms://projects/acme", "gcpkms://"])
def test_a_url_of_no_key_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", url)
    with pytest.raises(UsageError, match="names no key"):
        signing_keys()
