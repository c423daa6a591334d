"""Where the S3 store finds its settings and credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.storage.botocore_session import Session
from modeldrop.storage.write.s3.store import S3BucketStore
from tests.servers.s3 import KEY_ID, SECRET, S3Server
from tests.servers.tls import TlsServer
from tests.storage.s3.stores import CHANNEL, SSO, open_s3, profile, refusal

if TYPE_CHECKING:
    from pathlib import Path


def test_the_environment_overrides_modeldrop_toml(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(**settings: Any) -> tuple[str, str]:
        meta = open_s3("s3://acme-models", **settings).client.meta
        return meta.region_name, meta.endpoint_url

    here = f"http://127.0.0.1:{server.port}"
    given = {"region": "eu-north-1", "endpoint": "https://s3.example.org"}
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert asked(**given) == ("eu-west-1", here)
    monkeypatch.delenv("AWS_REGION")
    assert asked(**given) == ("us-east-1", here)  # from AWS_DEFAULT_REGION
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert asked(**given) == ("eu-north-1", "https://s3.example.org")
    assert asked() == ("us-east-1", "https://s3.us-east-1.amazonaws.com")


def test_what_botocore_knows_of_services_is_read_once(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def data() -> Any:
        return Session(open_s3("s3://acme-models").address).get_component("data_loader")

    known = data()
    assert data() is known
    monkeypatch.setenv("AWS_DATA_PATH", "/elsewhere")
    assert "/elsewhere" in data().search_paths
    assert "/elsewhere" not in known.search_paths


def test_elsewhere_the_bucket_is_in_the_path_unless_the_profile_says_no(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def address(**settings: Any) -> str:
        seen: list[str] = []

        def stop(request: Any, **_: Any) -> None:
            seen.append(request.url)
            raise ConnectionAbortedError

        client = open_s3("s3://acme-models", **settings).client
        client.meta.events.register("before-send.s3", stop)
        with pytest.raises(ConnectionAbortedError):
            client.head_bucket(Bucket="acme-models")
        return seen[0].rstrip("/")

    for name in ("AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert address(endpoint="https://s3.example.org") == "https://s3.example.org/acme-models"
    assert address(region="eu-west-1") == "https://acme-models.s3.eu-west-1.amazonaws.com"
    config = tmp_path / "config"
    config.write_text("[default]\nendpoint_url = https://oss.example.org\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert address() == "https://oss.example.org/acme-models"
    config.write_text("[default]\nendpoint_url = https://oss.example.org\ns3 =\n  addressing_style = virtual\n")
    assert address() == "https://acme-models.oss.example.org"
    config.write_text("[default]\nservices = own\n[services own]\ns3 =\n  endpoint_url = https://minio.example.org\n")
    assert address(endpoint="") == "https://minio.example.org/acme-models"


def test_anonymous_requests_are_not_signed(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = server.registry()
    open_s3(registry).create(CHANNEL, b"{}")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    server.reset()
    assert "answered 403" in refusal(lambda: open_s3(registry, anonymous=True).exists(CHANNEL))
    assert "authorization" not in server.requests()[0].headers


def test_a_private_ca_is_trusted_from_any_of_the_usual_variables(
    store: S3BucketStore, server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with TlsServer(server.port, tmp_path) as tls:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://localhost:{tls.port}")
        monkeypatch.setenv("NO_PROXY", "localhost")
        text = refusal(lambda: open_s3(store.url).get(CHANNEL))
        assert f"certificate of https://localhost:{tls.port} is not trusted" in text
        names = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name in names:
            with monkeypatch.context() as patched:
                patched.setenv(name, tls.ca_file)
                assert open_s3(store.url).get(CHANNEL) is None


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_half_a_credential_in_the_environment(server: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(name)
    assert f"but {name} is not" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[profile team]\naws_access_key_id = AKIAHALF\n", "aws_secret_access_key is not"),
        ("[profile other]\nregion = eu-west-1\n", "AWS_PROFILE is team, but there is no such profile"),
        ("[profile team\n", "cannot be read as an AWS profile file"),
        (SSO, "the session of `aws sso login`"),
        ("[profile team]\ncredential_process = sh -c 'echo no token >&2; exit 3'\n", "no token"),
        ("[profile team]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = gone\n", "gone"),
        ("[profile team]\nregion = eu-west-1\n", "no credentials were found"),
    ],
    ids=["half", "no such profile", "no profile file", "sso", "process", "source", "nothing"],
)
def test_a_profile_that_does_not_sign_in(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, sentence: str
) -> None:
    profile(monkeypatch, tmp_path, text)
    assert sentence in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_a_profile_signs_in(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    registry = server.registry()
    profile(monkeypatch, tmp_path, f"[profile team]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
    open_s3(registry).create(CHANNEL, b"{}")


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("ExpiredTokenException", "the identity token of these credentials has expired"),
        ("InvalidIdentityToken", "the role cannot be taken on (InvalidIdentityToken)"),
        ("AccessDenied", "the role cannot be taken on (AccessDenied)"),
    ],
)
def test_a_workflow_whose_role_is_refused(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, sentence: str
) -> None:
    (tmp_path / "token").write_text("eyJhbGciOiJub25lIn0.e30.")
    profile(
        monkeypatch,
        tmp_path,
        f"[profile team]\nrole_arn = arn:aws:iam::111122223333:role/publisher\nrole_session_name = ci\n"
        f"web_identity_token_file = {tmp_path / 'token'}\n",
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.port}")
    error = f"<ErrorResponse><Error><Code>{code}</Code><Message>No.</Message></Error></ErrorResponse>"
    server.rule("answer", status=400, body=error, times=-1)
    assert sentence in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))


def test_in_a_workflow_without_credentials_it_says_how_to_get_them(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile(monkeypatch, tmp_path, "[profile team]\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    text = refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))
    assert "id-token: write" in text
    assert "aws-actions/configure-aws-credentials" in text
    monkeypatch.delenv("GITHUB_ACTIONS")
    assert "aws sso login" in refusal(lambda: open_s3("s3://acme-models").get(CHANNEL))
