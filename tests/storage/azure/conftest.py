from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3

from modeldrop.format.manifest import File
from modeldrop.storage.write.azure import store as azure
from tests.helpers.clouds import shorten_pauses, sign_in, sign_out
from tests.servers.azure import AzureServer
from tests.servers.tampering_proxy import TamperingProxy
from tests.storage.azure.stores import (
    BUNDLES,
    MIB,
    Large,
    go_through,
)
from tests.storage.cloud_addresses import DEAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.clouds import Servers


@pytest.fixture(autouse=True)
def small_parts_and_short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "_SMALLEST_PART", MIB)
    monkeypatch.setattr(azure, "_LARGE_PART", 0)
    shorten_pauses(monkeypatch, "azure")


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
    for name in BUNDLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://{DEAD}")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.fixture
def proxy(server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[TamperingProxy]:
    with TamperingProxy(server.port) as running:
        go_through(monkeypatch, server, running.port)
        yield running


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    data = bytes(range(251)) * (17 * MIB // 251)
    path.write_bytes(data)
    pieces = tuple(blake3(data[start : start + MIB]).hexdigest() for start in range(0, len(data), MIB))
    return Large(path, File("onnx/model.onnx", len(data), hashlib.sha256(data).hexdigest(), pieces))
