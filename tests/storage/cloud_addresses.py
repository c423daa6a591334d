"""Registries at addresses of the test's choosing, for a process that is signed in to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.storage.read.interface import RegistryReader, open_reader
from modeldrop.storage.write import open_store
from tests.helpers.builds import publish_build
from tests.helpers.clouds import sign_out
from tests.helpers.time_limits import METADATA, lift_limits
from tests.servers.https import HttpsServer
from tests.servers.metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator


ACCOUNT = "acmemodels"
SAS = "sv=2024-11-04&sig=c2VjcmV0c2VjcmV0"
DEAD = "127.0.0.1:1"
"""Nothing listens there: the port is reserved."""


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is signed in: no variables, no files, no metadata services."""
    sign_out(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{DEAD}")
    monkeypatch.setenv("GCE_METADATA_HOST", DEAD)
    monkeypatch.setenv("GCE_METADATA_IP", DEAD)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://{DEAD}")
    # Named as above they should be here, and would be waited for.
    monkeypatch.setattr("modeldrop.storage.read.obstore_client.may_come", lambda _: False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def models(registry: Path) -> Path:
    """A folder registry with one version."""
    publish_build(registry)
    return registry


@pytest.fixture
def server(models: Path) -> Iterator[HttpsServer]:
    with HttpsServer(models, "acme/models") as running:
        yield running


def upload(folder: Path, url: str) -> None:
    """Copy a folder registry into a bucket, object by object."""
    store = open_store(url)
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder).as_posix()
        if path.is_file() and "/." not in f"/{key}":
            store.create(key, path.read_bytes())


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """Metadata services that have an identity; no client looks there yet."""
    lift_limits(METADATA, monkeypatch.setattr)
    with Metadata() as running:
        yield running


def configure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str, server: HttpsServer) -> RegistryReader:
    """A reader of a registry that the server serves, with whatever credentials there are."""
    config = tmp_path / "settings.toml"
    config.write_text(f'[registries.acme]\nurl = "{url}"\nendpoint = "https://localhost:{server.port}"\n')
    monkeypatch.setenv("MODELDROP_CONFIG", str(config))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
    return open_reader("acme")


def authorizations(server: HttpsServer) -> list[str]:
    """How the requests that came were signed."""
    return [request.headers.get("authorization", "") for request in server.requests if request.method == "GET"]


def trust(monkeypatch: pytest.MonkeyPatch, server: HttpsServer) -> None:
    """Trust the CA of a server."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))


def point(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str, endpoint: str) -> str:
    """Let a registry in this scheme be served from an endpoint, and sign in to it; return its URL."""
    url = {"s3": "s3://acme/models", "gs": "gs://acme/models", "az": f"az://{ACCOUNT}/acme/models"}.get(scheme, "")
    if scheme == "https":
        return f"{endpoint}/acme/models"
    config = tmp_path / "settings.toml"
    config.write_text(f'[registries.acme]\nurl = "{url}"\nendpoint = "{endpoint}"\n')
    monkeypatch.setenv("MODELDROP_CONFIG", str(config))
    for name, value in {
        "s3": {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"},
        "gs": {"GOOGLE_BEARER_TOKEN": "example"},
        "az": {"AZURE_STORAGE_SAS_TOKEN": SAS},
    }[scheme].items():
        monkeypatch.setenv(name, value)
    return url
