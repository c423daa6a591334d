from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import MissingExtraError, RegistryError
from modeldrop.storage.aws_profile import AwsProfile, aws_profile
from modeldrop.storage.read import credentials
from modeldrop.storage.read.credentials import (
    Signer,
    choose_azure,
    choose_gcs,
    choose_s3,
)
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.urls import parse_bucket
from tests.helpers.clouds import sign_in
from tests.servers.https import HttpsAnswer, HttpsServer
from tests.servers.metadata import Metadata
from tests.storage.cloud_addresses import (
    ACCOUNT,
    DEAD,
    authorizations,
    configure,
    metadata,
    models,
    nobody,
    server,
    upload,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.helpers.clouds import Servers
    from tests.servers.https import HttpsRequest

__all__ = ["metadata", "models", "nobody", "server"]

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
WEB = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn:aws:iam::1:role/reader"}
RELATIVE = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials"}
FULL = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"}
TOKEN_FILE = {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "token"}
LINE_FILE = {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "line"}
NAMED, DEFAULT = AwsProfile("acme", signs_in=True), AwsProfile(signs_in=True)
IDLE = AwsProfile(values={"region": "eu-west-1"})


@pytest.mark.parametrize(
    ("env", "profile", "way", "source"),
    [
        ({}, AwsProfile(), Signer.METADATA, "instance metadata"),
        ({}, IDLE, Signer.METADATA, "instance metadata"),
        ({"AWS_EC2_METADATA_DISABLED": "true"}, IDLE, Signer.UNSIGNED, "nothing"),
        (KEYS, AwsProfile(), Signer.OBSTORE, "AWS_ACCESS_KEY_ID"),
        (KEYS | WEB, NAMED, Signer.OBSTORE, "AWS_ACCESS_KEY_ID"),
        (WEB | RELATIVE, NAMED, Signer.OBSTORE, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        ({"AWS_ROLE_ARN": "arn"}, AwsProfile(), Signer.METADATA, "instance metadata"),
        (RELATIVE, NAMED, Signer.SDK, "the AWS profile acme"),
        (RELATIVE, DEFAULT, Signer.OBSTORE, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        (FULL | TOKEN_FILE, AwsProfile(), Signer.OBSTORE, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        (FULL | LINE_FILE, AwsProfile(), Signer.CONTAINER, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        (FULL, AwsProfile(), Signer.CONTAINER, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({}, DEFAULT, Signer.SDK, "the default AWS profile"),
    ],
)
def test_who_signs_in_to_s3(
    env: dict[str, str],
    profile: AwsProfile,
    way: Signer,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("token").write_text("secret")
    Path("line").write_text("secret\n")
    chosen = choose_s3(env, profile, "s3://acme")
    assert (chosen.signer, chosen.name) == (way, source)
    assert choose_s3(env, profile, "s3://acme", anonymous=True).signer is Signer.UNSIGNED


@pytest.mark.parametrize(
    ("have", "missing"),
    [
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ],
)
def test_half_a_credential_of_s3(have: str, missing: str) -> None:
    with pytest.raises(RegistryError, match=f"s3://acme: {have} is set, but {missing} is not") as caught:
        choose_s3({have: "half-a-secret"}, AwsProfile(), "s3://acme")
    assert "half-a-secret" not in str(caught.value)


def test_profiles(tmp_path: Path) -> None:
    assert aws_profile({}, tmp_path) == AwsProfile()
    aws = tmp_path / ".aws"
    aws.mkdir()
    (aws / "config").write_text(
        "[default]\nregion = eu-west-1\noutput = json\n"
        "[profile sso]\nsso_session = acme\nregion = eu-central-1\n"
        "[profile local]\nendpoint_url = http://localhost:9000\ns3 =\n  addressing_style = path\nservices = own\n"
        "[services own]\nsts =\n  endpoint_url = http://localhost:9001\n"
    )
    (aws / "credentials").write_text("[local]\naws_access_key_id = AKID\naws_secret_access_key = 50%off\n")
    default = aws_profile({}, tmp_path)
    assert (default.name, default.signs_in, default.get("region")) == ("", False, "eu-west-1")
    sso = aws_profile({"AWS_PROFILE": "sso"}, tmp_path)
    assert (sso.name, sso.signs_in, sso.get("region")) == ("sso", True, "eu-central-1")
    local = aws_profile({"AWS_DEFAULT_PROFILE": "local"}, tmp_path)
    assert (local.name, local.signs_in) == ("local", True)
    assert local.get("endpoint_url") == "http://localhost:9000"
    assert local.get("s3.addressing_style") == "path"
    assert local.get("sts.endpoint_url") == "http://localhost:9001"
    with pytest.raises(RegistryError, match="AWS_PROFILE is typo, but there is no such profile"):
        aws_profile({"AWS_PROFILE": "typo"}, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("no section at all")
    with pytest.raises(RegistryError, match="elsewhere cannot be read as an AWS profile file"):
        aws_profile({"AWS_CONFIG_FILE": str(elsewhere)}, tmp_path)


def test_who_signs_in_to_gcs(tmp_path: Path) -> None:
    assert choose_gcs({}, tmp_path).signer is Signer.METADATA
    assert choose_gcs({"NO_GCE_CHECK": "true"}, tmp_path).signer is Signer.UNSIGNED
    assert choose_gcs({"GOOGLE_BEARER_TOKEN": "x"}, tmp_path, anonymous=True).signer is Signer.UNSIGNED
    assert choose_gcs({"GOOGLE_SERVICE_ACCOUNT": "/file"}, tmp_path).name == "GOOGLE_SERVICE_ACCOUNT"
    file = tmp_path / "credentials.json"
    env = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    with pytest.raises(RegistryError, match=r"names .*credentials.json, which cannot be read: No such file"):
        choose_gcs(env, tmp_path)
    for kind, way in [
        ("service_account", Signer.OBSTORE),
        ("authorized_user", Signer.OBSTORE),
        ("external_account", Signer.SDK),
        ("impersonated_service_account", Signer.SDK),
    ]:
        file.write_text(json.dumps({"type": kind}))
        assert choose_gcs(env, tmp_path).signer is way
    for text in ("{", "[]", "{}"):
        file.write_text(text)
        with pytest.raises(RegistryError, match=r"credentials.json is not a Google credentials file"):
            choose_gcs(env, tmp_path)
    default = tmp_path / ".config/gcloud/application_default_credentials.json"
    default.parent.mkdir(parents=True)
    default.write_text('{"type": "authorized_user"}')
    assert choose_gcs({}, tmp_path).config == {"application_credentials": str(default)}
    assert choose_gcs({"CLOUDSDK_CONFIG": str(tmp_path)}, tmp_path).signer is Signer.METADATA


CLIENT = {"AZURE_CLIENT_ID": "id", "AZURE_TENANT_ID": "tenant"}
BUCKET = parse_bucket(f"az://{ACCOUNT}/acme/models")
KEY = "a2V5"


@pytest.mark.parametrize(
    ("env", "way", "kind"),
    [
        ({}, Signer.METADATA, "managed_identity"),
        ({"AZURE_STORAGE_KEY": KEY} | CLIENT, Signer.OBSTORE, "access_key"),
        ({"AZURE_STORAGE_KEY": KEY, "AZURE_STORAGE_ACCOUNT": ACCOUNT}, Signer.OBSTORE, "access_key"),
        ({"AZURE_STORAGE_SAS_TOKEN": "?sv=1"}, Signer.OBSTORE, "sas_token"),
        ({"AZURE_STORAGE_TOKEN": "x"}, Signer.OBSTORE, "bearer_token"),
        (CLIENT | {"AZURE_CLIENT_SECRET": "x"}, Signer.OBSTORE, "client_secret"),
        (CLIENT | {"AZURE_FEDERATED_TOKEN_FILE": "/token"}, Signer.OBSTORE, "workload_identity"),
        (CLIENT | {"AZURE_CLIENT_CERTIFICATE_PATH": "/pem"}, Signer.SDK, None),
        ({"IDENTITY_ENDPOINT": "http://localhost:42356/msi"}, Signer.OBSTORE, "managed_identity"),
        ({"AZURE_USE_AZURE_CLI": "true"}, Signer.OBSTORE, "azure_cli"),
    ],
)
def test_who_signs_in_to_azure(env: dict[str, str], way: Signer, kind: str | None, tmp_path: Path) -> None:
    chosen = choose_azure(env, tmp_path, BUCKET)
    assert (chosen.signer, chosen.config.get("credential_type")) == (way, kind)
    assert choose_azure(env, tmp_path, BUCKET, anonymous=True).signer is Signer.UNSIGNED


def test_az_login(tmp_path: Path) -> None:
    program = tmp_path / "bin/az"
    program.parent.mkdir()
    program.touch(0o755)
    env = {"PATH": str(program.parent)}
    assert choose_azure(env, tmp_path, BUCKET).signer is Signer.METADATA
    (tmp_path / ".azure").mkdir()
    (tmp_path / ".azure/azureProfile.json").write_text("{}")
    assert choose_azure(env, tmp_path, BUCKET).name == "az login"
    assert choose_azure({}, tmp_path, BUCKET).signer is Signer.METADATA


def test_connection_strings(tmp_path: Path) -> None:
    def choose(text: str) -> dict[str, str]:
        return dict(choose_azure({"AZURE_STORAGE_CONNECTION_STRING": text}, tmp_path, BUCKET).config)

    key = f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey=a2V5;EndpointSuffix=core.windows.net"
    address = f"https://{ACCOUNT}.blob.core.windows.net"
    assert choose(key) == {"credential_type": "access_key", "account_key": "a2V5", "endpoint": address}
    signed = f"BlobEndpoint={address}/?sv=1&sig=s;SharedAccessSignature=sv=1&sig=s%3D"
    assert choose(signed) == {"credential_type": "sas_token", "sas_key": "sv=1&sig=s%3D", "endpoint": address}
    assert choose(f"AccountName={ACCOUNT};AccountKey=a2V5;") == choose(key)
    for other in (key.replace(ACCOUNT, "other"), signed.replace(ACCOUNT, "other"), "UseDevelopmentStorage=true"):
        with pytest.raises(RegistryError, match=rf"for the storage account \w+, not {ACCOUNT}"):
            choose(other)
    for text, fault in (
        (f"AccountName={ACCOUNT}", "it has neither AccountKey nor SharedAccessSignature"),
        ("AccountKey=a-secret-key", "it has neither AccountName nor BlobEndpoint"),
        ("a-secret-key", "it is not a list of NAME=VALUE"),
        (f"AccountName={ACCOUNT};AccountKey=a-secret-key!", "cannot be an account key: it is not base64"),
    ):
        with pytest.raises(RegistryError, match=fault) as caught:
            choose(text)
        assert "a-secret-key" not in str(caught.value)


def test_another_account_or_half_a_credential_of_azure(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=f"for the storage account other, not {ACCOUNT}"):
        choose_azure({"AZURE_STORAGE_KEY": KEY, "AZURE_STORAGE_ACCOUNT": "other"}, tmp_path, BUCKET)
    with pytest.raises(RegistryError, match="AZURE_CLIENT_SECRET is set, but AZURE_TENANT_ID is not"):
        choose_azure({"AZURE_CLIENT_SECRET": "x", "AZURE_CLIENT_ID": "id"}, tmp_path, BUCKET)
    with pytest.raises(RegistryError, match="AZURE_CLIENT_ID is set, but AZURE_CLIENT_SECRET, AZURE_CLIENT_CERT"):
        choose_azure({"AZURE_TENANT_ID": "x", "AZURE_CLIENT_ID": "id"}, tmp_path, BUCKET)


@pytest.mark.parametrize(
    ("url", "first", "second"),
    [
        ("s3://acme/models", "Credential=AKIDMETA1/", "Credential=AKIDMETA2/"),
        ("gs://acme/models", "Bearer meta1", "Bearer meta2"),
        (f"az://{ACCOUNT}/acme/models", "Bearer meta1", "Bearer meta2"),
    ],
)
def test_metadata_services_are_found_and_asked_again(
    url: str,
    first: str,
    second: str,
    server: HttpsServer,
    metadata: Metadata,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.host}")
    monkeypatch.setenv("GCE_METADATA_HOST", metadata.host)
    monkeypatch.setenv("GCE_METADATA_IP", metadata.host)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://{metadata.host}")
    reader = configure(monkeypatch, tmp_path, url, server)
    assert reader.get("embedder/current", 1 << 20)
    time.sleep(0.15)  # obstore asks for new credentials at most ten times a second
    assert reader.get("embedder/current", 1 << 20)
    one, two = authorizations(server)
    assert first in one
    assert second in two
    for status, sentence in (
        (403, "does not accept these credentials .127.0.0.1"),
        (500, "127.0.0.1, which was asked for credentials, answered 500"),
    ):
        metadata.refusal = status
        time.sleep(0.15)
        with pytest.raises(RegistryError, match=sentence):
            reader.get("embedder/current", 1 << 20)


def test_metadata_services_are_not_asked_through_a_proxy(
    server: HttpsServer, metadata: Metadata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{metadata.host}")
    monkeypatch.setenv("HTTP_PROXY", f"http://{DEAD}")
    reader = configure(monkeypatch, tmp_path, "s3://acme/models", server)
    assert reader.get("embedder/current", 1 << 20)
    assert "Credential=AKIDMETA1/" in authorizations(server)[0]
    assert metadata.given == 1
    monkeypatch.setenv("HTTPS_PROXY", f"http://{DEAD}")
    with pytest.raises(RegistryError, match=f"https://localhost:{server.port} through the proxy {DEAD}"):
        open_reader("acme").get("embedder/current", 1 << 20)
    assert metadata.given > 1  # at each attempt, for what it gives has expired


def write_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    file = tmp_path / "aws-config"
    file.write_text(text)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "acme")


def test_a_profile_is_read_by_boto3(
    servers: Servers, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server: Any = servers["s3"]
    sign_in(monkeypatch, server)
    url = server.registry()
    upload(models, url)
    for name in KEYS:
        monkeypatch.delenv(name)
    write_profile(monkeypatch, tmp_path, "[profile acme]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = x\n")
    server.reset()
    assert open_reader(url).get("embedder/current", 1 << 20)
    [request] = server.requests()
    assert "Credential=AKIDPROFILE/" in request.headers["authorization"]


@pytest.mark.slow
def test_what_boto3_gives_is_renewed(server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_SDK_VALID_SECONDS", 1)
    program = tmp_path / "give.py"
    program.write_text(
        "import json, pathlib, datetime\n"
        "count = pathlib.Path(__file__).with_suffix('.count')\n"
        "count.write_text(count.read_text() + 'x' if count.exists() else 'x')\n"
        "soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'AKID{len(count.read_text())}', 'SecretAccessKey': 'x',\n"
        "    'SessionToken': 't', 'Expiration': soon.isoformat()}))\n"
    )
    write_profile(monkeypatch, tmp_path, f"[profile acme]\ncredential_process = '{sys.executable}' '{program}'\n")
    reader = configure(monkeypatch, tmp_path, "s3://acme/models", server)
    assert reader.get("embedder/current", 1 << 20)
    time.sleep(0.15)
    assert reader.get("embedder/current", 1 << 20)
    keys = [text.partition("Credential=")[2].partition("/")[0] for text in authorizations(server)]
    assert len(set(keys)) == 2
    program.write_text("import sys; sys.exit('The session has expired. Run: acme login')\n")
    time.sleep(0.15)
    with pytest.raises(
        RegistryError, match=r"s3://acme/models: the sign-in by the AWS profile acme .* has expired"
    ) as e:
        reader.get("embedder/current", 1 << 20)
    assert "Traceback" not in str(e.value)


def test_a_profile_that_cannot_sign_in(server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(
        monkeypatch,
        tmp_path,
        "[profile acme]\nsso_start_url = https://acme.example/start\nsso_region = eu-west-1\n"
        "sso_account_id = 123456789012\nsso_role_name = reader\n",
    )
    with pytest.raises(RegistryError, match=r"could not sign in with the AWS profile acme: .*SSO"):
        configure(monkeypatch, tmp_path, "s3://acme/models", server).get("embedder/current", 1 << 20)


@pytest.mark.parametrize(
    ("url", "env", "module", "extra"),
    [
        ("s3://acme", {"AWS_CONFIG_FILE": "config"}, "boto3", "s3"),
        ("gs://acme", {"GOOGLE_APPLICATION_CREDENTIALS": "external.json"}, "google.auth", "gcs"),
        (f"az://{ACCOUNT}/acme", {"AZURE_CLIENT_CERTIFICATE_PATH": "/pem"}, "azure.identity", "azure"),
    ],
)
def test_an_sdk_that_is_not_installed(
    url: str, env: dict[str, str], module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config").write_text("[default]\ncredential_process = acme\n")
    Path("external.json").write_text('{"type": "external_account"}')
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for auth in ("boto3", "google", "azure"):
        monkeypatch.delitem(sys.modules, f"obstore.auth.{auth}", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{url}: signing in with .* needs the extra \[{extra}\]") as caught:
        open_reader(url)
    assert caught.value.hint == f"pip install 'modeldrop[{extra}]'"


def test_an_external_account_of_google_is_read_by_its_sdk(
    server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "subject").write_text("subject-token")
    (tmp_path / "external.json").write_text(
        json.dumps(
            {
                "type": "external_account",
                "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "token_url": f"https://localhost:{server.port}/token",
                "credential_source": {"file": str(tmp_path / "subject")},
            }
        )
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "external.json"))
    token = {"access_token": "exchanged", "token_type": "Bearer", "expires_in": 3600}
    server.answer = answering(
        "/token", HttpsAnswer(200, json.dumps(token).encode(), {"Content-Type": "application/json"})
    )
    reader = configure(monkeypatch, tmp_path, "gs://acme/models", server)
    assert reader.get("embedder/current", 1 << 20)
    assert authorizations(server) == ["Bearer exchanged"]
    server.answer = answering("/token", HttpsAnswer(400, b'{"error": "invalid_grant", "error_description": "No."}'))
    with pytest.raises(RegistryError, match="could not sign in with GOOGLE_APPLICATION_CREDENTIALS"):
        open_reader("acme").get("embedder/current", 1 << 20)


def test_a_service_principal_of_azure(server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLIENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "a-secret-word")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"https://localhost:{server.port}")
    token = json.dumps({"access_token": "principal", "token_type": "Bearer", "expires_in": 3600}).encode()
    server.answer = answering("/tenant/", HttpsAnswer(200, token))
    reader = configure(monkeypatch, tmp_path, f"az://{ACCOUNT}/acme/models", server)
    assert reader.get("embedder/current", 1 << 20)
    assert authorizations(server) == ["Bearer principal"]


def test_a_web_identity_of_aws(
    server: HttpsServer, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("jwt")
    (tmp_path / "sts").mkdir()
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/reader")
    keys = "<AccessKeyId>AKIDROLE</AccessKeyId><SecretAccessKey>x</SecretAccessKey><SessionToken>t</SessionToken>"
    body = (
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>"
        f"{keys}<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
        "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
    )
    with HttpsServer(tmp_path / "sts") as sts:
        monkeypatch.setenv("SSL_CERT_FILE", str(sts.ca_file))  # both private CAs are trusted
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"https://localhost:{sts.port}")
        sts.answer = lambda _: HttpsAnswer(200, body.encode())
        reader = configure(monkeypatch, tmp_path, "s3://acme/models", server)
        assert reader.get("embedder/current", 1 << 20)
        assert "Credential=AKIDROLE/" in authorizations(server)[0]
        refused = "<ErrorResponse><Error><Code>{}</Code><Message>No.</Message></Error></ErrorResponse>"
        for code, sentence in (
            (
                "InvalidIdentityToken",
                "does not accept these credentials .localhost answered 400 InvalidIdentityToken: No",
            ),
            ("ExpiredTokenException", "has expired"),
        ):
            sts.answer = answering("/", HttpsAnswer(400, refused.format(code).encode()))
            with pytest.raises(RegistryError, match=sentence):
                open_reader("acme").get("embedder/current", 1 << 20)


def answering(start: str, answer: HttpsAnswer) -> Callable[[HttpsRequest], HttpsAnswer | None]:
    """Answer the requests whose path begins so; leave the others to the folder."""
    return lambda request: answer if request.path.startswith(start) else None
