"""Through real proxies: where a redirection leads gets no secret, and each address has its own proxy."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request

import pytest

from modeldrop.errors import ModeldropError, RegistryError
from modeldrop.export.sources import hub_client
from modeldrop.export.sources.hub_api import ask_revision
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import open_store
from modeldrop.util import http
from tests.helpers.clouds import sign_out
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.faults import BUCKET, Fault, FaultyServer
from tests.servers.https import HttpsAnswer, HttpsServer
from tests.servers.recording_proxy import RecordingProxy
from tests.servers.tls import ForwardProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

KEY = "embedder/current"
SECRET = "c2VjcmV0"
STS = "sts.eu-west-1.amazonaws.com"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForwardProxy]:
    with ForwardProxy(tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch)
    for name in ("SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")


class Client(NamedTuple):
    """Who asks, and with what.

    Attributes:
        ask: asks once, given the service's address.
        variables: its credentials.
        registry: its URL, for a table of modeldrop.toml; "" for none.
        refuses: whether it must say that it follows no redirection; the others may follow it without their secret.
    """

    ask: Callable[[str], object]
    variables: Mapping[str, str]
    registry: str = ""
    refuses: bool = False


def ask_the_hub(url: str) -> None:
    with hub_client.client("acme/m", "main") as hub:
        hub.HfApi(endpoint=url, token=SECRET).model_info("acme/m")


def post(url: str) -> None:
    with pytest.raises(HTTPError) as caught:
        http.opener(url).open(Request(url, b"{}", {"Authorization": SECRET}), timeout=HANG_SECONDS)
    caught.value.close()


TOKEN = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example", "AWS_SESSION_TOKEN": SECRET}
SAS = {"AZURE_STORAGE_SAS_TOKEN": f"sv=2024-11-04&sig={SECRET}"}
S3, GCS, AZURE = "s3://acme", "gs://acme", "az://acme/models"
CLIENTS = {
    "publisher, S3": Client(lambda _: open_store(S3).get(KEY), TOKEN, S3),
    "publisher, Azure": Client(lambda _: open_store(AZURE).get(KEY), SAS, AZURE),
    "fetcher, S3": Client(lambda _: open_reader(S3).get(KEY, 100), TOKEN, S3, refuses=True),
    "fetcher, Azure": Client(lambda _: open_reader(AZURE).get(KEY, 100), SAS, AZURE, refuses=True),
    "fetcher, Entra": Client(lambda _: open_reader(AZURE).get(KEY, 100), {"AZURE_STORAGE_TOKEN": SECRET}, AZURE),
    "fetcher, GCS": Client(lambda _: open_reader(GCS).get(KEY, 100), {"GOOGLE_BEARER_TOKEN": SECRET}, GCS),
    "Hub": Client(ask_the_hub, {}),
    "Hub, API": Client(lambda _: ask_revision("acme/m", "main"), {"HF_TOKEN": SECRET}),
    "hook": Client(post, {}),
}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"], ids=["another port", "another host"])
@pytest.mark.parametrize("name", CLIENTS)
def test_what_a_redirection_leads_to_gets_no_secret(
    name: str, host: str, proxy: ForwardProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = CLIENTS[name]
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    with HttpsServer(tmp_path / "here") as here, HttpsServer(tmp_path / "there") as there:
        (tmp_path / "both.pem").write_bytes(here.ca_file.read_bytes() + there.ca_file.read_bytes())
        here.answer = lambda _: HttpsAnswer(307, headers={"Location": f"https://{host}:{there.port}/elsewhere"})
        url = f"https://localhost:{here.port}"
        variables = {"SSL_CERT_FILE": str(tmp_path / "both.pem"), "HTTPS_PROXY": proxy.url, "HF_ENDPOINT": url}
        if client.registry:
            table = f"[registries.acme]\nurl = '{client.registry}'\nendpoint = '{url}'\n"
            (tmp_path / "settings.toml").write_text(table)
            variables["MODELDROP_CONFIG"] = str(tmp_path / "settings.toml")
        for variable, value in (variables | dict(client.variables)).items():
            monkeypatch.setenv(variable, value)
        said = ""
        try:
            client.ask(url)
        except ModeldropError as error:
            said = str(error)
        assert here.requests
        for request in there.requests:
            assert SECRET not in f"{request.path} {dict(request.headers)} {request.body!r}"
            assert "authorization" not in request.headers
        if client.refuses:
            assert f"{url}" in said
            assert "redirects to another host or port, which is not followed" in said
            assert there.requests == []


def test_nor_where_the_service_has_no_tls(tmp_path: Path, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "embedder").mkdir()
    (tmp_path / KEY).write_text("{}")
    with FaultyServer(tmp_path) as here, FaultyServer(tmp_path) as there:
        elsewhere = f"http://127.0.0.1:{there.port}/{BUCKET}/{KEY}"
        here.rule = lambda _: Fault(status=307, headers={"Location": elsewhere})
        endpoint = f"http://127.0.0.1:{here.port}"
        for variable, value in (TOKEN | {"HTTP_PROXY": proxy.url, "AWS_ENDPOINT_URL_S3": endpoint}).items():
            monkeypatch.setenv(variable, value)
        with pytest.raises(RegistryError, match=f"{endpoint} redirects to another host or port"):
            open_reader(f"s3://{BUCKET}").get(KEY, 100)
        assert here.asks[0].headers["x-amz-security-token"] == SECRET
        assert there.asks == []


READERS: Mapping[str, Callable[[], object]] = {
    "publisher": lambda: open_store("s3://acme/team").get(KEY),
    "fetcher": lambda: open_reader("s3://acme/team").get(KEY, 100),
}


@pytest.mark.parametrize("name", READERS)
def test_each_address_goes_through_the_proxy_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("e30.e30.")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    with RecordingProxy(tmp_path) as plain, RecordingProxy(tmp_path) as secure:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio.acme.dev")
        monkeypatch.setenv("HTTP_PROXY", plain.url.replace("://", "://dana:pass%20word@"))
        monkeypatch.setenv("HTTPS_PROXY", secure.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(secure.ca_file))
        READERS[name]()
        assert {request.host for request in plain.requests} == {"minio.acme.dev"}
        user = base64.b64encode(b"dana:pass word").decode()
        assert {request.headers["proxy-authorization"] for request in plain.requests} == {f"Basic {user}"}
        assert {request.host for request in secure.requests} == {STS}


def test_whoever_does_not_know_its_secret_cannot_use_the_filter(
    tmp_path: Path, proxy: ForwardProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeldrop.storage.read.proxy_filter import proxy_filter

    with FaultyServer(tmp_path) as server:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        address = proxy_filter(None, "")
        for user in ("", "modeldrop:guess@"):
            monkeypatch.setenv("HTTP_PROXY", f"http://{user}{address.rpartition('@')[2]}")
            with pytest.raises(HTTPError) as caught:
                http.opener(f"http://127.0.0.1:{server.port}").open(
                    f"http://127.0.0.1:{server.port}/", timeout=HANG_SECONDS
                )
            with caught.value as refusal:
                assert refusal.code == 421
        assert server.asks == []
