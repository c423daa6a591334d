from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from modeldrop.storage.write.gcs.store import GCSBucketStore
from tests.helpers.clouds import shorten_pauses, sign_in
from tests.storage.gcs.stores import open_gcs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.helpers.clouds import Servers
    from tests.servers.gcs import GCSServer


@pytest.fixture
def server(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[GCSServer]:
    server = servers["gcs"]
    sign_in(monkeypatch, server)
    found = cast("GCSServer", server)
    found.reset()
    yield found
    found.reset()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch, "gcs")


@pytest.fixture
def store(server: GCSServer) -> GCSBucketStore:
    return open_gcs(server.registry())


@pytest.fixture(scope="module")
def large() -> bytes:
    """Three parts of different bytes, the last one short."""
    return b"".join(bytes([number]) * (1 << 20) for number in range(20)) + b"the end"


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(65537, 2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@pytest.fixture
def as_service_account(
    server: GCSServer, private_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], GCSBucketStore]:
    """Open a registry, signed in by a service account's file."""
    account = {"type": "service_account", "client_email": "ci@acme.iam.gserviceaccount.com", "private_key_id": "1"}
    account |= {"private_key": private_key, "token_uri": server.token_uri}
    (tmp_path / "account.json").write_text(json.dumps(account), "utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    return lambda: open_gcs(server.registry(), endpoint=server.endpoint)
