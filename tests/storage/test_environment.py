"""What the clouds' variables hold in the field: line breaks, blanks, quotes, addresses without a scheme, nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from obstore.exceptions import BaseError

from modeldrop.doctor.checks import CheckState
from modeldrop.doctor.run import check_registry
from modeldrop.errors import RegistryError
from modeldrop.fetcher.fetch import fetch
from modeldrop.storage.environment import clean_environment
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import open_store
from tests.helpers.clouds import sign_in
from tests.servers.metadata import Metadata
from tests.storage.cloud_addresses import configure, metadata, models, nobody, server, upload

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers
    from tests.servers.https import HttpsServer

__all__ = ["metadata", "models", "nobody", "server"]

LIMIT = 1 << 20


@pytest.mark.parametrize("cloud", ["s3", "gcs", "azure"])
def test_white_space_around_a_value_goes(
    cloud: str, servers: Servers, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers[cloud]
    sign_in(monkeypatch, server)
    url = server.registry()
    upload(models, url)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, f" {value}\r\n")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "\n")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", " ")
    monkeypatch.setenv("MODELDROP_REGISTRY", f"{url}\n")
    monkeypatch.setenv("HTTPS_PROXY", "\n")
    assert fetch("embedder", tmp_path / "home").version == 1
    assert open_store(url).get("embedder/current")
    assert not [check for check in check_registry(url) if check.state is CheckState.FAILED]
    assert os.environ["MODELDROP_REGISTRY"] != url  # ours are read trimmed, and left alone


BROKEN = [
    ("s3://acme", "AWS_ACCESS_KEY_ID", "hush\nhush", "has a line break"),
    ("s3://acme", "AWS_SECRET_ACCESS_KEY", "hush hush", "has a blank in it"),
    ("s3://acme", "AWS_SESSION_TOKEN", '"hush"', "has quotes around it"),
    ("s3://acme", "AWS_REGION", "'hush'", "has quotes around it"),
    ("s3://acme", "AWS_ROLE_ARN", "hush\thush", "has a line break or another control character"),
    ("s3://acme", "AWS_ENDPOINT_URL_S3", "127.0.0.1:5611", r"no http:// or https:// address.\s+.*S3=https://127.0.0.1:"),
    ("s3://acme", "AWS_ENDPOINT_URL", "ftp://hush", "is no http:// or https:// address"),
    ("s3://acme", "AWS_ENDPOINT_URL", "http://hush:port", "is no http:// or https:// address"),
    ("s3://acme", "AWS_ENDPOINT_URL", "https://dana:hush@localhost", "must hold no user name, password"),
    ("s3://acme", "AWS_ENDPOINT_URL_STS", "http://hu sh", "has a blank in it"),
    ("s3://acme", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v1\n/hush", "has a line break"),
    ("s3://acme", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "hush", "is no http:// or https:// address"),
    ("gs://acme", "GOOGLE_BEARER_TOKEN", "hush\nhush", "has a line break"),
    ("gs://acme", "STORAGE_EMULATOR_HOST", "http://hu sh", "has a blank in it"),
    ("gs://acme", "GCE_METADATA_HOST", "hush:port", "is no host, with a port or without"),
    ("az://acmemodels/acme", "AZURE_STORAGE_TOKEN", "hush\nhush", "has a line break"),
    ("az://acmemodels/acme", "AZURE_TENANT_ID", "hush hush", "has a blank in it"),
    ("az://acmemodels/acme", "IDENTITY_HEADER", "hush\nhush", "has a line break"),
    ("az://acmemodels/acme", "IDENTITY_ENDPOINT", "hush", "is no http:// or https:// address"),
    ("az://acmemodels/acme", "AZURE_STORAGE_CONNECTION_STRING",
     "AccountName=acmemodels;AccountKey=aHVzaA==;BlobEndpoint=acmemodels.blob",
     "the endpoint in AZURE_STORAGE_CONNECTION_STRING is no http"),
]  # fmt: skip


@pytest.mark.parametrize(("url", "name", "value", "fault"), BROKEN)
def test_what_cannot_be_right_is_refused_by_its_name(
    url: str, name: str, value: str, fault: str, nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    for open_registry in (open_reader, open_store):
        with pytest.raises(RegistryError, match=rf"{name} {fault}|{fault}") as caught:
            open_registry(url)
        assert name in str(caught.value)
        if "127" not in value:
            assert value not in str(caught.value)
            assert "aHVzaA" not in str(caught.value)
    assert check_registry(url)[0].state is CheckState.FAILED


def test_an_empty_value_is_none(
    nobody: None, server: HttpsServer, metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.host}\n")
    assert configure(monkeypatch, tmp_path, "s3://acme/models", server).get("embedder/current", LIMIT)
    assert "Credential=AKIDMETA1/" in server.requests[0].headers["authorization"]


def test_a_broken_value_does_not_take_a_model_away(
    servers: Servers, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers["s3"]
    sign_in(monkeypatch, server)
    url = server.registry()
    upload(models, url)

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "modeldrop", "fetch", f"{url}/embedder", "-d", str(tmp_path / "home")]
        return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)

    key = os.environ["AWS_ACCESS_KEY_ID"]
    assert run(AWS_ACCESS_KEY_ID=f"{key}\n").returncode == 0
    done = run(AWS_ACCESS_KEY_ID="two\nlines")
    assert done.returncode == 0
    assert "AWS_ACCESS_KEY_ID has a line break" in done.stderr
    assert "Using v1" in done.stderr


@pytest.mark.parametrize("token", ["secret", "secret\n"])
def test_the_token_of_a_container(
    token: str, nobody: None, server: HttpsServer, metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{metadata.host}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(file))
    reader = configure(monkeypatch, tmp_path, "s3://acme/models", server)
    assert reader.get("embedder/current", LIMIT)
    assert "Credential=AKIDMETA1/" in server.requests[-1].headers["authorization"]
    monkeypatch.delenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", token)
    assert open_reader("acme").get("embedder/current", LIMIT)
    assert "Credential=AKIDMETA2/" in server.requests[-1].headers["authorization"]
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another")
    with pytest.raises(RegistryError, match=rf"does not accept these credentials \({metadata.host} answered 401"):
        open_reader("acme").get("embedder/current", LIMIT)
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(file))
    for content, fault in (("two\nlines\n", "holds no token in one line"), ("", "holds no token")):
        file.write_text(content)
        with pytest.raises(RegistryError, match=f"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names .*, which {fault}"):
            open_reader("acme")


def test_what_obstore_panics_at(nobody: None, monkeypatch: pytest.MonkeyPatch, models: Path) -> None:
    """A variable that is not known to us, set in a way that nobody has thought of."""
    monkeypatch.setattr("modeldrop.storage.read.obstore_client.clean_environment", lambda *_: None)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "two\nlines")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    reader = open_reader("s3://acme/models")
    with pytest.raises(RegistryError, match="s3://acme/models cannot be read: obstore panicked"):
        reader.get("embedder/current", LIMIT)
    with pytest.raises(BaseError) as caught:
        list(reader.stream("embedder/current", 0, 5, "", 1).chunks)
    assert "obstore panicked" in str(reader.fault("embedder/current", caught.value).error)


def test_values_that_are_right_are_not_touched() -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "a+/b=", "AWS_PROFILE": "my profile",
        "AWS_ENDPOINT_URL_S3": "http://[::1]:9000/minio", "AWS_CONFIG_FILE": "/a b/config",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/creds?role=x", "AWS_REGION": "eu-west-1",
    }  # fmt: skip
    before = dict(environment)
    clean_environment("s3", "s3://acme", environment)
    assert environment == before
    google = {"GOOGLE_SERVICE_ACCOUNT_KEY": '{\n"type": 1}', "STORAGE_EMULATOR_HOST": "localhost:9023"}
    before = dict(google)
    clean_environment("gs", "gs://acme", google)
    assert google == before
    azure = {"AZURE_AUTHORITY_HOST": "login.microsoftonline.com"}
    clean_environment("az", "az://acme/acme", azure)
    assert azure == {"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com"}
