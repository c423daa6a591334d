"""Which addresses obstore asks, whatever else variables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import RegistryError
from modeldrop.storage.read.interface import open_reader
from tests.storage.cloud_addresses import DEAD, models, nobody, point, server, trust

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.https import HttpsServer

__all__ = ["models", "nobody", "server"]


def test_the_variables_of_s3_endpoints(server: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    trust(monkeypatch, server)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://{DEAD}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://localhost:{server.port}/")
    assert open_reader("s3://acme/models").get("embedder/current", 1 << 20)
    assert server.requests[0].path == "/acme/models/embedder/current"


@pytest.mark.parametrize(
    ("scheme", "variables"),
    [
        ("s3", {"AWS_ENDPOINT": f"https://{DEAD}", "AWS_S3_EXPRESS": "true"}),
        ("s3", {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true"}),
        ("gs", {"GOOGLE_BASE_URL": f"https://{DEAD}"}),
        ("az", {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURE_STORAGE_ENDPOINT": f"https://{DEAD}"}),
    ],
    ids=str,
)
def test_variables_that_obstore_alone_knows_lead_nowhere_else(
    scheme: str, variables: dict[str, str], server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(monkeypatch, server)
    url = point(monkeypatch, tmp_path, scheme, f"https://localhost:{server.port}")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert open_reader(url).get("embedder/current", 1 << 20)


@pytest.mark.parametrize(
    ("bucket", "region", "address"),
    [
        ("acme", "", "https://acme.s3.us-east-1.amazonaws.com"),
        ("acme", "eu-west-1", "https://acme.s3.eu-west-1.amazonaws.com"),
        ("acme", "cn-north-1", "https://acme.s3.cn-north-1.amazonaws.com.cn"),
        ("models.acme.example", "eu-west-1", "https://s3.eu-west-1.amazonaws.com"),
    ],
)
def test_amazons_own_addresses(bucket: str, region: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    if region:
        monkeypatch.setenv("AWS_REGION", region)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{DEAD}")
    with pytest.raises(RegistryError, match=f"{address} through the proxy {DEAD} cannot be reached"):
        open_reader(f"s3://{bucket}").get("m/current", 100)
