"""A table of modeldrop.toml applies below its URL too: where requests really go, and with whose keys."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, NamedTuple

import pytest

from modeldrop.doctor.run import check_registry
from modeldrop.errors import ModeldropError
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_folder
from tests.helpers.clouds import Servers, sign_in, sign_out
from tests.helpers.command_line import answer, run_here
from tests.helpers.command_line import modeldrop as modeldrop_process
from tests.servers.recording_proxy import RecordingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

KEY = "embedder/current"
CLIENTS: Mapping[str, Callable[[str], object]] = {
    "publisher": lambda url: open_store(url).get(KEY),
    "doctor": check_registry,
    "fetcher": lambda url: open_reader(url).get(KEY, 100),
}


class Place(NamedTuple):
    """Where a registry is asked: the host, and what the signature begins with."""

    host: str
    signed: str = ""


S3_KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example", "AWS_REGION": "eu-west-1"}
LAB = Place("minio.lab.acme.dev", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE")
TEAM = Place("minio.team.acme.dev", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE")
S3 = """
[registries.lab]
url = "s3://models"
endpoint = "https://minio.lab.acme.dev"
[registries.team]
url = "s3://models/team"
endpoint = "https://minio.team.acme.dev"
"""
GCS = "[registries.lab]\nurl = 'gs://models'\nendpoint = 'https://gcs.lab.acme.dev'\nanonymous = true\n"
AZURE = "[registries.lab]\nurl = 'az://acme'\nendpoint = 'https://blobs.lab.acme.dev/acme'\n"
AZURE_KEYS = {"AZURE_STORAGE_KEY": "a2V5"}
CASES = [
    (S3, S3_KEYS, "s3://models", LAB),
    (S3, S3_KEYS, "s3://models/other/", LAB),
    (S3, S3_KEYS, "s3://models/team/of/dana", TEAM),
    (S3, S3_KEYS, "s3://models-eu/team", Place("models-eu.s3.eu-west-1.amazonaws.com", LAB.signed)),
    (GCS, {}, "gs://models/team", Place("gcs.lab.acme.dev")),
    (AZURE, AZURE_KEYS, "az://acme/models/team", Place("blobs.lab.acme.dev", "SharedKey acme:")),
    (AZURE, AZURE_KEYS, "az://acme2/models/team", Place("acme2.blob.core.windows.net", "SharedKey acme2:")),
]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordingProxy]:
    with RecordingProxy(tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(autouse=True)
def environment(proxy: RecordingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch)
    for name in ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.ca_file))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    proxy.reset()


def configure(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> None:
    (folder / "settings.toml").write_text(text)
    monkeypatch.setenv("MODELDROP_CONFIG", str(folder / "settings.toml"))


@pytest.mark.parametrize(("text", "keys", "url", "place"), CASES, ids=lambda value: str(value)[:30].strip())
def test_every_client_asks_where_the_table_says(
    text: str,
    keys: dict[str, str],
    url: str,
    place: Place,
    proxy: RecordingProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(monkeypatch, tmp_path, text)
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    for client, ask in CLIENTS.items():
        proxy.reset()
        with contextlib.suppress(ModeldropError):  # it is S3 that answers, whoever is asked
            ask(url)
        asked = [request for request in proxy.requests if not request.host.startswith("sts.")]  # doctor: who am I?
        assert {request.host for request in asked} == {place.host}, client
        signed = [said for request in asked if (said := request.headers.get("authorization", ""))]
        assert bool(signed) == bool(place.signed), client
        assert all(said.startswith(place.signed) for said in signed), client


@pytest.mark.parametrize("value", ["true", "1\n", "false"])
@pytest.mark.parametrize("cloud", ["AWS", "GOOGLE", "AZURE"])
def test_nobody_signs_where_a_variable_says_so(
    cloud: str, value: str, proxy: RecordingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    (tmp_path / "google.json").write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "google.json"))
    for name, text in (S3_KEYS | AZURE_KEYS | {f"{cloud}_SKIP_SIGNATURE": value}).items():
        monkeypatch.setenv(name, text)
    url = {"AWS": "s3://acme/m", "GOOGLE": "gs://acme/m", "AZURE": "az://acme/models"}[cloud]
    for client, ask in CLIENTS.items():
        proxy.reset()
        with contextlib.suppress(ModeldropError):
            ask(url)
        assert proxy.requests
        tokens = {"oauth2.googleapis.com", "accounts.google.com"} & {request.host for request in proxy.requests}
        signed = any("authorization" in request.headers for request in proxy.requests)
        assert (signed or bool(tokens)) == (value == "false"), client
    if value != "false":
        checks = {check.name: check.text for check in check_registry(url, reading=True)}
        assert checks["signed in"] == f"as nobody ({cloud}_SKIP_SIGNATURE)"


def test_every_command_finds_a_registry_below_the_url_of_a_table(
    servers: Servers, proxy: RecordingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers["s3"]
    sign_in(monkeypatch, server)
    endpoint = server.environment["AWS_ENDPOINT_URL_S3"]
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)  # all that would go to Amazon comes here
    registry = server.registry()
    bucket = registry.removesuffix("/team/models")
    table = f"[registries.lab]\nurl = '{bucket}'\nendpoint = '{endpoint}'\nregion = 'us-east-1'\n"
    configure(monkeypatch, tmp_path, f"{table}[registries.copy]\nurl = '{tmp_path}/copy'\n")
    make_build(tmp_path / "build", "a")
    publish_folder(open_store(registry), "embedder", tmp_path / "build")
    model, home = f"{registry}/embedder", tmp_path / "home"

    assert answer("promote", f"{model}@v1")["after"] == "v1"
    assert [one["model"] for one in answer("ls", registry)] == ["embedder"]
    assert answer("history", model)[0]["version"] == "v1"
    assert answer("fetch", model, "-d", home)[0]["version"] == "v1"
    monkeypatch.setenv("MODELDROP_REGISTRY", f"{registry}/")
    assert answer("fetch", "embedder", "-d", home)[0]["version"] == "v1"
    ran = modeldrop_process("run", "embedder", "-d", home, "--", "printenv", "MODELDROP_MODEL_EMBEDDER")
    assert ran.code == 0, ran.err
    assert answer("mirror", "embedder@v1", f"{bucket}/second", "--quiet")["copied"]
    assert answer("mirror", f"{bucket}/second/embedder@v1", "copy", "--quiet")["copied"]
    checks = {check["name"]: check["text"] for check in answer("doctor", registry)["checks"]}
    assert checks["settings"] == f"[registries.lab] of {tmp_path}/settings.toml, {bucket}: endpoint, region"
    assert checks["reachable"].startswith(endpoint)
    assert proxy.requests == []

    monkeypatch.setenv("AWS_REGION", "us-east-1")
    found = {check["name"]: check["text"] for check in answer("doctor", f"{bucket}/second")["checks"]}
    assert found["settings"] == f"{checks['settings']} (overridden by AWS_REGION)"
    configure(monkeypatch, tmp_path, table + table.replace("lab", "lob").replace("us-east-1", "eu-west-1"))
    code, _, err = run_here("ls", registry)
    assert (code, "[registries.lab] and [registries.lob] have the same url" in err) == (3, True), err


def test_what_lies_above_a_registry_of_the_file_is_not_asked(
    proxy: RecordingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in S3_KEYS.items():
        monkeypatch.setenv(name, value)
    configure(monkeypatch, tmp_path, S3[S3.index("[registries.team]") :])
    assert run_here("ls", "s3://models/team/")[0] == 0
    assert {request.host for request in proxy.requests} == {TEAM.host}
