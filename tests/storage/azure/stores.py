"""An Azure store, and what a proxy before its server changes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from modeldrop.config import RegistrySettings
from modeldrop.errors import ConflictError, ModeldropError, RegistryError
from modeldrop.format.manifest import File
from modeldrop.storage.urls import parse_bucket
from modeldrop.storage.write.azure.store import AzureContainerStore
from tests.servers.azure import ACCOUNT, KEY, AzureServer
from tests.servers.tampering_proxy import ProxyAnswer

if TYPE_CHECKING:
    from collections.abc import Callable


CHANNEL = "embedder/current"
WEIGHTS = "embedder/v1/onnx/model.onnx"
MIB = 1 << 20
SECRET = "c2VrcmV0IG9mIHRoZSBhY2NvdW50"
CONNECTION = "AZURE_STORAGE_CONNECTION_STRING"
REMOTE = "az://acmemodels/models/team"
TENANT = "11111111-2222-3333-4444-555555555555"
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "AWS_CA_BUNDLE")


def go_through(monkeypatch: pytest.MonkeyPatch, server: AzureServer, port: int) -> None:
    monkeypatch.setenv(CONNECTION, server.connection_string.replace(f":{server.port}/", f":{port}/"))


def open_azure(url: str, **settings: object) -> AzureContainerStore:
    return AzureContainerStore(parse_bucket(url), RegistrySettings(url)._replace(**settings))  # type: ignore[arg-type]


def blob(server: AzureServer, store: AzureContainerStore, key: str) -> Any:
    return server.container(store.bucket.name).get_blob_client(store.bucket.prefix + key)


def tag(store: AzureContainerStore, key: str = CHANNEL) -> str:
    stored = store.get(key)
    assert stored is not None
    return stored.tag


@dataclass(frozen=True)
class Large:
    """A file that goes up in blocks."""

    path: Path
    file: File

    def upload(self, store: AzureContainerStore, told: Callable[[int], None] = lambda _: None) -> None:
        store.upload(WEIGHTS, self.path, self.file, MIB, told)


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


def answer(status: int, code: str, message: str = "Text of the service.", detail: str = "") -> ProxyAnswer:
    more = f"<AuthenticationErrorDetail>{detail}</AuthenticationErrorDetail>"
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}\nTime:now</Message>{more}</Error>'
    headers = {"x-ms-request-id": "1", "x-ms-error-code": code, "Content-Type": "application/xml"}
    return ProxyAnswer(status, headers, body.encode())


def assert_matches(pattern: str, text: str) -> None:
    with pytest.raises(RegistryError, match=pattern):
        raise RegistryError(text)
