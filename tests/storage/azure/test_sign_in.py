"""How the Azure store signs in, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import functools
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.storage.write.azure import store as azure
from tests.helpers.builds import environment
from tests.helpers.clouds import sign_out
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.azure import ACCOUNT, KEY, AzureServer
from tests.servers.tampering_proxy import TamperingProxy
from tests.servers.tls import TlsServer
from tests.storage.azure.stores import (
    BUNDLES,
    CHANNEL,
    CONNECTION,
    REMOTE,
    SECRET,
    TENANT,
    answer,
    assert_matches,
    open_azure,
    refusal,
    signature,
)
from tests.storage.cloud_addresses import DEAD

if TYPE_CHECKING:
    from tests.helpers.clouds import Servers


def test_signatures_and_strangers_may_what_they_may(
    server: AzureServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_azure(url).create(CHANNEL, b"1")
    sign_out(monkeypatch)
    container = url.split("/")[3]
    reader = signature(container, read=True, list=True)
    for name, what, value in (
        ("AZURE_STORAGE_SAS_TOKEN", "shared access signature", f"?{reader}"),
        (CONNECTION, "connection string", f"BlobEndpoint={server.endpoint}/;SharedAccessSignature={reader}"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            store = open_azure(url, endpoint=server.endpoint)
            assert store.names("embedder") == ["current"]
            assert store.exists(CHANNEL)
            for ask in (
                functools.partial(store.check_writable, 1),
                functools.partial(store.create, "x/y", b""),
                functools.partial(store.delete, CHANNEL),
            ):
                assert f"the {what} in {name}" in refusal(ask)

    stranger = open_azure(url, endpoint=server.endpoint, anonymous=True)
    assert "Not allowed to read" in refusal(lambda: stranger.get(CHANNEL))
    server.container(container).set_container_access_policy({}, public_access="blob")
    assert stranger.exists(CHANNEL)
    assert stranger.get("embedder/v1/manifest.json") is None


def test_a_stranger_is_told_that_the_container_may_be_private(
    proxy: TamperingProxy, url: str, server: AzureServer
) -> None:
    proxy.tamper = lambda _: answer(404, "ResourceNotFound")
    store = open_azure(url, endpoint=server.endpoint.replace(str(server.port), str(proxy.port)), anonymous=True)
    for ask in (lambda: store.get(CHANNEL), lambda: store.exists(CHANNEL), lambda: store.names("")):
        assert "or it is private and nobody is signed in" in refusal(ask)


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "no credentials were found.*id-token: write.*az login"),
        ({"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": TENANT}, "AZURE_CLIENT_ID is set, but AZURE_CLIENT_SECRET or"),
        ({"AZURE_CLIENT_SECRET": SECRET}, "AZURE_CLIENT_SECRET is set, but AZURE_CLIENT_ID is not"),
        (
            {"AZURE_CLIENT_ID": "x", "AZURE_TENANT_ID": TENANT, "AZURE_FEDERATED_TOKEN_FILE": "/nowhere"},
            "signing in with WorkloadIdentity failed: .*No such file",
        ),
        ({"AZURE_STORAGE_KEY": f"{SECRET} "}, "AZURE_STORAGE_KEY cannot be an account key: it is not base64"),
        (
            {"AZURE_STORAGE_KEY": SECRET, "AZURE_STORAGE_ACCOUNT": "contoso"},
            "for the storage account contoso, not acme",
        ),
        ({CONNECTION: SECRET}, "is malformed: it is not a list"),
        ({CONNECTION: f"AccountKey={SECRET}"}, "has neither AccountName nor BlobEndpoint"),
        ({CONNECTION: "AccountName=acmemodels"}, "has neither AccountKey nor SharedAccessSignature"),
        ({CONNECTION: f"AccountName=acmemodels;AccountKey={SECRET}!"}, "AccountKey in AZURE_.* is not base64"),
        ({CONNECTION: f"AccountName=contoso;AccountKey={SECRET}"}, "for the storage account contoso, not acmemodels"),
        (
            {CONNECTION: f"BlobEndpoint=https://contoso.blob.core.windows.net;SharedAccessSignature=sig={SECRET}"},
            "for the storage account contoso, not acmemodels",
        ),
        ({CONNECTION: "UseDevelopmentStorage=true"}, "for the storage account devstoreaccount1, not acmemodels"),
        ({"AZURE_STORAGE_KEY": SECRET, "SSL_CERT_FILE": "/nowhere.pem"}, "SSL_CERT_FILE names /nowhere.pem"),
    ],
)
def test_each_lack_of_credentials_has_its_sentence(
    variables: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert_matches(said, refusal(lambda: open_azure(REMOTE).get(CHANNEL)))


@pytest.mark.usefixtures("nobody")
def test_a_connection_string_names_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for string, account, endpoint in (
        ("UseDevelopmentStorage=true", ACCOUNT, f"http://127.0.0.1:10000/{ACCOUNT}"),
        (f"AccountName=acme;AccountKey={SECRET}", "acme", "https://acme.blob.core.windows.net"),
        (
            f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={SECRET};EndpointSuffix=core.chinacloudapi.cn;",
            "acme",
            "https://acme.blob.core.chinacloudapi.cn",
        ),
        (f"BlobEndpoint=https://acme.blob.a.b/;SharedAccessSignature=?sig={SECRET}", "acme", "https://acme.blob.a.b"),
    ):
        monkeypatch.setenv(CONNECTION, string)
        store = open_azure(f"az://{account}/models")
        assert store.sign_in.endpoint == endpoint
        assert SECRET not in repr(store.sign_in)
        assert store.client.url == f"{endpoint}/models"


@pytest.mark.usefixtures("nobody")
def test_an_address_that_does_not_answer_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure._RetryLimits, "seconds", lambda *_: 0.5)
    monkeypatch.setenv("AZURE_STORAGE_KEY", SECRET)
    refused = open_azure(REMOTE, endpoint=f"http://{DEAD}")
    assert "cannot be reached: connection refused" in refusal(lambda: refused.get(CHANNEL))
    unknown = open_azure(REMOTE, endpoint="https://acmemodels.invalid")
    assert "Either there is no storage account acmemodels, or" in refusal(lambda: unknown.get(CHANNEL))
    monkeypatch.setattr(azure, "_FIRST_READ_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = open_azure(REMOTE, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "no answer in time" in refusal(lambda: store.get(CHANNEL))
    assert "only supported with HTTPS" in refusal(signed_in_over_http)


def signed_in_over_http() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AZURE_STORAGE_KEY")
        open_azure(REMOTE, endpoint="http://127.0.0.1:1")


@pytest.mark.usefixtures("nobody")
def test_a_private_ca_is_trusted_when_it_is_named(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers["azure"]
    assert isinstance(server, AzureServer)
    url = server.registry()
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    with TlsServer(server.port, tmp_path) as tls:
        endpoint = f"https://localhost:{tls.port}/{ACCOUNT}"
        said = refusal(lambda: open_azure(url, endpoint=endpoint).get(CHANNEL))
        assert f"the certificate of {endpoint} is not trusted: " in said
        for name in BUNDLES:
            with monkeypatch.context() as patch:
                patch.setenv(name, tls.ca_file)
                with contextlib.closing(open_azure(url, endpoint=endpoint).client) as client:
                    assert client.exists()


@pytest.mark.usefixtures("nobody")
def test_who_is_signed_in_with_az_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "AzureCliCredential")
    az = tmp_path / "bin" / "az"

    def prints(text: str, code: int) -> None:
        az.write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}' >&{1 if code == 0 else 2}\nexit {code}\n")
        az.chmod(az.stat().st_mode | stat.S_IXUSR)

    with TamperingProxy() as service, TlsServer(service.port, tmp_path) as tls:
        monkeypatch.setenv("SSL_CERT_FILE", tls.ca_file)
        endpoint = f"https://localhost:{tls.port}"
        prints('{"accessToken": "' + SECRET + '", "expiresOn": "2099-01-01 00:00:00.000000"}', 0)
        service.tamper = lambda _: answer(404, "BlobNotFound")
        assert open_azure(REMOTE, endpoint=endpoint).get(CHANNEL) is None
        assert service.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
        service.tamper = lambda _: answer(403, "AuthorizationPermissionMismatch")
        store = open_azure(REMOTE, endpoint=endpoint)
        assert "the role Storage Blob Data Reader on the container models" in refusal(lambda: store.get(CHANNEL))
        assert "the role Storage Blob Data Contributor" in refusal(lambda: store.create(CHANNEL, b""))
        tagging = open_azure(REMOTE, endpoint=endpoint, tags={"team": "search"})
        assert "the role Storage Blob Data Owner, because tags" in refusal(lambda: tagging.create(CHANNEL, b""))
    for printed, said in (
        ("ERROR: AADSTS70043: The refresh token has expired or is invalid due to x. Trace ID: y", "has expired"),
        (
            "ERROR: AADSTS700213: No matching federated identity record found for y. Trace ID: z",
            "No matching federated",
        ),
        ("Please run az login to setup account.", "no credentials were found"),
    ):
        prints(printed, 1)
        assert said in refusal(lambda: open_azure(REMOTE).get(CHANNEL))


def run(program: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, *arguments],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )


def test_a_process_ends_silently_and_loads_no_identity_that_it_does_not_need(server: AzureServer, url: str) -> None:
    program = """
import sys
from modeldrop.errors import ModeldropError
from modeldrop.storage.write import open_store
store = open_store(sys.argv[1])
store.create("m/current", b"1")
try:
    store.create("m/current", b"2")
except ModeldropError as error:
    print(error.exit_code, "azure.identity" in sys.modules, list(store.names("m")))
"""
    ran = run(program, url, **server.environment)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "13 False ['current']\n", "")


@pytest.mark.usefixtures("nobody")
def test_a_failed_sign_in_prints_nothing_of_its_own() -> None:
    program = """
import sys
from modeldrop.errors import ModeldropError
from modeldrop.storage.write import open_store
try:
    open_store(sys.argv[1]).get("m/current")
except ModeldropError as error:
    print(error.exit_code)
"""
    ran = run(program, REMOTE)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "12\n", "")


@pytest.mark.parametrize("module", ["azure.storage.blob", "azure.identity"])
@pytest.mark.usefixtures("nobody")
def test_without_the_sdk_it_names_the_extra(module: str) -> None:
    program = """
import sys
sys.modules[sys.argv[2]] = None
from modeldrop.errors import MissingExtraError
from modeldrop.storage.write import open_store
try:
    open_store(sys.argv[1])
except MissingExtraError as error:
    print(error)
"""
    ran = run(program, REMOTE, module)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "pip install 'modeldrop[azure]'" in ran.stdout
