"""Behind a forward proxy and a private CA: publishing with every cloud's SDK, fetching with obstore."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import RegistryError
from modeldrop.fetcher.fetch import fetch
from modeldrop.registry.channels import move_forward
from modeldrop.storage.write import open_store
from modeldrop.util.retry import Deadline
from tests.helpers.builds import make_build, publish_folder
from tests.servers.tls import ForwardProxy, TlsServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.interface import CloudServer

OWN_BUNDLE = {"s3": "AWS_CA_BUNDLE", "gcs": "REQUESTS_CA_BUNDLE", "azure": "REQUESTS_CA_BUNDLE"}


@pytest.fixture
def secure(cloud: CloudServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
    """The cloud behind TLS with a certificate of a private CA, which nothing trusts yet."""
    for name in ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with TlsServer(cloud.port, tmp_path) as server:
        for name, value in cloud.environment.items():
            if "proxy" not in name.lower():
                secure = value.replace(f"http://127.0.0.1:{cloud.port}", f"https://localhost:{server.port}")
                monkeypatch.setenv(name, secure.replace("DefaultEndpointsProtocol=http;", ""))
            else:
                monkeypatch.delenv(name, raising=False)
        yield server


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForwardProxy]:
    with ForwardProxy(tmp_path_factory.mktemp("proxy")) as server:
        yield server


def test_a_certificate_that_nobody_trusts_is_refused_by_both_ways(
    secure: TlsServer, cloud_registry: str, tmp_path: Path
) -> None:
    for attempt in (
        lambda: open_store(cloud_registry).names(""),
        lambda: fetch(f"{cloud_registry}/embedder", tmp_path / "home"),
    ):
        with pytest.raises(RegistryError, match="is not trusted") as caught:
            attempt()
        assert "SSL_CERT_FILE" in caught.value.hint


@pytest.mark.parametrize("own", [False, True], ids=["SSL_CERT_FILE", "own variable"])
def test_publish_and_fetch_go_through_the_proxy_and_trust_the_ca(
    secure: TlsServer,
    proxy: ForwardProxy,
    cloud: CloudServer,
    cloud_registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    own: bool,
) -> None:
    monkeypatch.setenv(OWN_BUNDLE[cloud.name] if own else "SSL_CERT_FILE", secure.ca_file)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    if cloud.name == "s3":
        monkeypatch.setenv("AWS_SESSION_TOKEN", "token")  # the fetcher then goes through a filter of its own
    make_build(tmp_path / "build")
    store = open_store(cloud_registry)
    version = publish_folder(store, "embedder", tmp_path / "build").version
    move_forward(store, "embedder", version, "current", by="dana")
    assert fetch(f"{cloud_registry}/embedder", tmp_path / "home").version == 1

    if own:
        return
    # It was the proxy: one that is down is named, and NO_PROXY goes round it.
    if cloud.name == "gcs":
        monkeypatch.setattr("modeldrop.storage.write.gcs.client.Deadline", lambda _: Deadline(0.5))
    if cloud.name == "azure":
        monkeypatch.setattr("modeldrop.storage.write.azure.store._RetryLimits.seconds", lambda *_: 0.5)
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9")
    with pytest.raises(RegistryError, match="cannot be reached") as caught:
        open_store(cloud_registry).names("")
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "localhost")
    assert open_store(cloud_registry).names("") == ["embedder"]
    assert fetch(f"{cloud_registry}/embedder", tmp_path / "other").version == 1
