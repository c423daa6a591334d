"""How the GCS store signs in, and what it says when it cannot."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.auth.exceptions import TransportError
from google.auth.transport import requests as google_requests

from modeldrop.errors import (
    ModeldropError,
    RegistryError,
)
from modeldrop.storage.write import open_store
from modeldrop.storage.write.gcs import client as gcs_client
from modeldrop.storage.write.gcs.store import GCSBucketStore
from modeldrop.util.retry import Deadline
from tests.helpers.builds import run_python
from tests.storage.cloud_addresses import DEAD
from tests.storage.gcs.stores import BUCKET, SECRET, open_gcs, put, stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.servers.gcs import GCSServer

GIVES_UP = 60.0  # Google's library alone goes on for two minutes


class Clock:
    """A clock that goes on only by what is waited for, however long that takes here.

    Attributes:
        seconds: that were waited so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Pauses take no time; limits of requests for tokens are a hundredth as long. This clock counts them in full."""
    found = Clock()
    monkeypatch.setattr("time.sleep", found.sleep)
    monkeypatch.setattr("time.monotonic", lambda: 1000 + found.seconds)
    monkeypatch.setattr(gcs_client, "Deadline", Deadline)
    send: Any = google_requests.Request.__call__

    def asked(self: Any, url: str, method: str, body: Any, headers: Any, limits: tuple[float, float]) -> Any:
        try:
            return send(self, url, method, body, headers, tuple(limit / 100 for limit in limits))
        except TransportError:
            found.seconds += max(limits)
            raise

    monkeypatch.setattr(google_requests.Request, "__call__", asked)
    return found


@pytest.mark.usefixtures("server")
def test_endpoints_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    url = f"gs://{BUCKET}/team"
    cases = {
        f"http://{DEAD}": "connection refused",
        "http://storage.invalid": "its name does not resolve",
    }
    for endpoint, reason in cases.items():
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
        begun = clock.seconds
        with pytest.raises(RegistryError, match=rf"^{url}: .* cannot be reached: {reason}"):
            open_gcs(url).get("embedder/current")
        assert clock.seconds - begun < GIVES_UP
    assert clock.seconds


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"])
@pytest.mark.usefixtures("server")
def test_a_ca_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "ca.pem"))
    with pytest.raises(RegistryError, match=f"{variable} names .*/ca.pem, which cannot be read: No such file"):
        open_store(f"gs://{BUCKET}")


def test_signs_in_by_googles_own_chain(as_service_account: Callable[[], GCSBucketStore], tmp_path: Path) -> None:
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
    as_service_account: Callable[[], GCSBucketStore], server: GCSServer, error: str, description: str, words: str
) -> None:
    server.refuse_sign_in(error, description)
    with pytest.raises(RegistryError, match=words):
        as_service_account().get("embedder/current")


def test_a_token_that_the_service_does_not_take(
    as_service_account: Callable[[], GCSBucketStore], server: GCSServer, tmp_path: Path, large: bytes
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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock
) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("GCE_METADATA_IP", f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(RegistryError, match="no credentials were found") as caught:
            open_gcs(f"gs://{BUCKET}").names("")
    assert 3 <= clock.seconds < 10  # a second request is the last; Google's library alone goes on
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
