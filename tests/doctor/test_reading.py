"""What doctor checks where there is no SDK: what a fetcher needs, with obstore alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.doctor.checks import CheckResult, CheckState
from modeldrop.doctor.run import check_registry
from modeldrop.fetcher.fetch import fetch
from tests.helpers.builds import publish_build
from tests.helpers.clouds import sign_in, sign_out
from tests.helpers.command_line import RUNTIME_PYTHON, modeldrop
from tests.servers.https import HttpsAnswer, HttpsServer
from tests.storage.cloud_addresses import upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.helpers.clouds import Servers

WRITING = {"list", "write", "delete", "create-only", "compare-and-swap", "lifecycle", "exposure"}
MODEL = "embedder@current"


def states(checks: list[dict[str, str]]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in checks}


def read_checks(registry: str, *models: str) -> dict[str, CheckResult]:
    wanted = dict.fromkeys(models, False)
    return {result.name: result for result in check_registry(registry, wanted, reading=True)}


@pytest.mark.parametrize(("cloud", "extra"), [("s3", "s3"), ("gcs", "gcs"), ("azure", "azure")])
def test_in_a_container_without_an_sdk(
    cloud: str, extra: str, servers: Servers, registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = servers[cloud]
    server.reset()
    sign_in(monkeypatch, server)
    publish_build(registry)
    url = server.registry()
    upload(registry, url)
    fetch(f"{url}/embedder", tmp_path / "home")
    monkeypatch.setenv("MODELDROP_HOME", str(tmp_path / "home"))
    ran = modeldrop("doctor", url, "--json", python=RUNTIME_PYTHON)
    assert ran.code == 0, ran.out
    found = states(ran.json["checks"])
    assert {name for name, state in found.items() if state == "not checked"} == WRITING
    well = {"registry", "reachable", "signed in", "read", MODEL, "last good"}
    assert {name for name, state in found.items() if state == "ok"} >= well
    left_out = [check["text"] for check in ran.json["checks"] if check["name"] in WRITING]
    assert all(f"pip install 'modeldrop[{extra}]'" in text for text in left_out)


REFUSALS = [
    (403, "AccessDenied", "read"),
    (403, "InvalidAccessKeyId", "signed in"),
    (400, "ExpiredToken", "signed in"),
    (403, "RequestTimeTooSkewed", "clock"),
    (503, "SlowDown", "reachable"),
    (404, "NoSuchBucket", "reachable"),
]


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpsServer]:
    """A service for ``s3://acme/models``, whose CA is trusted."""
    sign_out(monkeypatch)
    (tmp_path / "served").mkdir()
    with HttpsServer(tmp_path / "served") as server:
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.ca_file))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://localhost:{server.port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "example")
        yield server


@pytest.mark.parametrize(("status", "code", "name"), REFUSALS)
def test_refusals_are_failures_of_the_right_check(bucket: HttpsServer, status: int, code: str, name: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    bucket.answer = lambda _: HttpsAnswer(status, body, {"Date": "Sun, 01 Nov 2026 00:00:00 GMT"})
    found = read_checks("s3://acme/models")
    assert {check for check, result in found.items() if result.state is CheckState.FAILED} >= {name}
    assert found[name].fix
    assert ("s3:GetObject" in found[name].fix) == (name == "read")
    assert found["write"].state is CheckState.UNCHECKED


def test_how_a_bucket_is_reached_and_by_whom(bucket: HttpsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_checks("s3://acme/models", "embedder")
    assert found["reachable"].text == f"https://localhost:{bucket.port}, trusting REQUESTS_CA_BUNDLE"
    assert found["signed in"].text == "with AWS_ACCESS_KEY_ID"
    assert found["clock"].state is CheckState.OK
    assert found[MODEL].state is CheckState.UNCHECKED
    assert found[MODEL].text == "s3://acme/models has no embedder/current"
    monkeypatch.setenv("HTTPS_PROXY", "http://dana:hunter2@127.0.0.1:1")
    dead = read_checks("s3://acme/models")["reachable"]
    assert "through the proxy 127.0.0.1:1 cannot be reached" in dead.text
    assert "hunter2" not in f"{dead}"


def test_what_is_read_only_is_read(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_build(registry)
    with HttpsServer(registry, "acme/models") as server:
        assert read_checks(server.url)["reachable"].state is CheckState.FAILED  # nobody trusts it yet
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca_file))
        found = {
            result.name: result for result in check_registry(server.url, {"embedder": True, "embedder@staging": False})
        }
        assert {result.state for name, result in found.items() if name not in WRITING | {"embedder@staging"}} == {
            CheckState.OK
        }
        assert found[MODEL].text == "v1, generation 1: fp32, int8"
        assert found["write"].text == "it is read-only"
        manifest = registry / "embedder/v1/manifest.json"
        manifest.write_bytes(manifest.read_bytes() + b" ")
        assert "has not the digest" in read_checks(server.url, "embedder")[MODEL].text
        (registry / "embedder/current").write_text("<html>")
        assert read_checks(server.url, "embedder")[MODEL].state is CheckState.FAILED


def test_a_folder_is_read_as_well(registry: Path) -> None:
    publish_build(registry)
    found = {result.name: result.state for result in check_registry(str(registry), {"embedder": True})}
    assert found[MODEL] is CheckState.OK
    assert read_checks(str(registry), "embedder")[MODEL].state is CheckState.OK
    assert read_checks(str(registry / "gone"))["registry"].state is CheckState.FAILED
