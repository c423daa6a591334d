"""The same settings through publisher, doctor and fetcher: each asks the same address, signed and paid for alike."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest

from modeldrop.doctor.run import check_registry
from modeldrop.errors import ModeldropError, RegistryError
from modeldrop.storage.read.interface import open_reader
from modeldrop.storage.write import open_store
from tests.helpers.clouds import sign_out
from tests.helpers.rounds import rounds
from tests.servers.recording_proxy import ProxiedRequest, RecordingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/models"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
WEB = {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/reader", "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/token"}
KEY = "embedder/current"
_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/")


class Asked(NamedTuple):
    """What requests have in common.

    Attributes:
        address: the host, and the path up to the registry.
        region: that they are signed for.
        payer: who pays, as the header says.
        session: whether a session of a directory bucket signed them.
    """

    address: str
    region: str
    payer: str = ""
    session: bool = False


def publish(url: str) -> None:
    store = open_store(url)
    store.create(KEY, b"{}")
    store.get(KEY)


def diagnose(url: str) -> None:
    failures = [check for check in check_registry(url) if check.state.value == "failed"]
    if failures:
        raise RegistryError(failures[0].text, failures[0].fix)


CLIENTS: Mapping[str, Callable[[str], object]] = {
    "publisher": publish,
    "doctor": diagnose,
    "fetcher": lambda url: open_reader(url).get(KEY, 100),
}


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
    (tmp_path / "token").write_text("e30.e30.")


def configure(
    monkeypatch: pytest.MonkeyPatch, folder: Path, url: str, env: dict[str, str], settings: str, profile: str
) -> None:
    config = folder / "settings.toml"
    config.write_text(f'[registries.acme]\nurl = "{url}"\n{settings}\n')
    monkeypatch.setenv("MODELDROP_CONFIG", str(config))
    if profile:
        (folder / ".aws").mkdir()
        (folder / ".aws/config").write_text(profile.format(folder=folder))
    for name, value in env.items():
        monkeypatch.setenv(name, value.format(folder=folder))


def asked(request: ProxiedRequest) -> Asked:
    scope = _SCOPE.search(request.headers.get("authorization", ""))
    path = request.path.partition("?")[0].partition("/team/")[0].strip("/")
    return Asked(
        f"{request.host}/{path}".rstrip("/"),
        scope[1] if scope else "",
        request.headers.get("x-amz-request-payer", ""),
        "x-amz-s3session-token" in request.headers,
    )


def signing_hosts(proxy: RecordingProxy) -> set[str]:
    """Who was asked for credentials, or whose they are."""
    return {request.host for request in proxy.requests if request.method == "POST" and "/team/" not in request.path}


class Case(NamedTuple):
    """Settings, and what they make everybody ask."""

    host: str
    region: str = "eu-west-1"
    env: Mapping[str, str] = KEYS
    sts: str = ""
    bucket: str = "acme"
    settings: str = ""
    profile: str = ""
    payer: str = ""
    session: bool = False


def region(name: str) -> dict[str, str]:
    return {"AWS_REGION": name}


EU = region("eu-west-1")
FIPS, DUAL = {"AWS_USE_FIPS_ENDPOINT": "true"}, {"AWS_USE_DUALSTACK_ENDPOINT": "true"}
GOVERNMENT = "sts.us-gov-west-1.amazonaws.com"
STS = "sts.eu-west-1.amazonaws.com"
MINIO = 'endpoint = "https://minio.acme.dev"'
EXPRESS, ALIAS = "acme--euw1-az1--x-s3", "ab-0123456789-s3alias"
POINT = "models-123456789012.s3-accesspoint"
HOST, ONE = "acme.s3.eu-west-1.amazonaws.com", "both.acme.dev"
OWN_STS = "[default]\nservices = own\n[services own]\nsts =\n  endpoint_url = https://sts.acme.dev\n"
S3_SECTION = "[default]\ns3 =\n  use_dualstack_endpoint = true\n"
ROLE = """\
[default]
use_fips_endpoint = true
role_arn = arn:aws:iam::123456789012:role/reader
role_session_name = dana
web_identity_token_file = {folder}/token
"""
# What says most comes first: make test takes no more.
CASES = {
    "FIPS": Case("acme.s3-fips.eu-west-1.amazonaws.com", env=WEB | FIPS, sts="sts-fips.eu-west-1.amazonaws.com"),
    "China": Case("acme.s3.cn-north-1.amazonaws.com.cn", "cn-north-1", WEB, "sts.cn-north-1.amazonaws.com.cn"),
    "dual-stack": Case("acme.s3.dualstack.eu-west-1.amazonaws.com", env=WEB | DUAL, sts="sts.eu-west-1.api.aws"),
    "a directory bucket": Case(f"{EXPRESS}.s3express-euw1-az1.eu-west-1.amazonaws.com", bucket=EXPRESS, session=True),
    "an access point": Case(f"{POINT}.eu-west-1.amazonaws.com", env=KEYS | region("us-west-2"), bucket=ARN),
    "two hyphens": Case("acme--models.s3.eu-west-1.amazonaws.com", bucket="acme--models"),
    "requester pays": Case(HOST, settings="requester-pays = true", payer="requester"),
    "another STS": Case(HOST, env=WEB | {"AWS_ENDPOINT_URL_STS": "https://sts.acme.dev"}, sts="sts.acme.dev"),
    "a profile's role": Case("acme.s3-fips.eu-west-1.amazonaws.com", env={}, sts=f"sts-fips{STS[3:]}", profile=ROLE),
    "unsigned": Case("acme.s3.us-east-1.amazonaws.com", "", KEYS | {"AWS_SKIP_SIGNATURE": "true"}),
    "an endpoint": Case("minio.acme.dev/acme", settings=MINIO),
    "region": Case(HOST, env=KEYS | EU),
    "none": Case("acme.s3.us-east-1.amazonaws.com", "us-east-1"),
    "the file's": Case(HOST, settings='region = "eu-west-1"'),
    "government": Case("acme.s3-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", WEB | FIPS, GOVERNMENT),
    "secret": Case("acme.s3.us-iso-east-1.c2s.ic.gov", "us-iso-east-1", WEB, "sts.us-iso-east-1.c2s.ic.gov"),
    "sovereign": Case("acme.s3.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1", WEB, "sts.eusc-de-east-1.amazonaws.eu"),
    "both": Case("acme.s3-fips.dualstack.eu-west-1.amazonaws.com", env=KEYS | FIPS | DUAL),
    "a profile": Case("acme.s3-fips.eu-west-1.amazonaws.com", profile="[default]\nuse_fips_endpoint = true\n"),
    "of S3 alone": Case("acme.s3.dualstack.eu-west-1.amazonaws.com", profile=S3_SECTION),
    "path style": Case("s3.eu-west-1.amazonaws.com/acme", profile="[default]\ns3 =\n  addressing_style = path\n"),
    "dots": Case("s3.eu-west-1.amazonaws.com/acme.models", bucket="acme.models"),
    "an alias": Case(f"{ALIAS}.s3.eu-west-1.amazonaws.com", bucket=ALIAS),
    "its variable": Case(HOST, env=KEYS | {"AWS_REQUEST_PAYER": "requester"}, payer="requester"),
    "one for both": Case(f"{ONE}/acme", env=WEB | {"AWS_ENDPOINT_URL": f"https://{ONE}"}, sts=ONE),
    "S3 elsewhere": Case("minio.acme.dev/acme", env=WEB, sts=STS, settings=MINIO),
    "global STS": Case(HOST, env=WEB | {"AWS_STS_REGIONAL_ENDPOINTS": "legacy"}, sts="sts.amazonaws.com"),
    "services": Case(HOST, env=WEB, sts="sts.acme.dev", profile=OWN_STS),
}  # fmt: skip


@pytest.mark.rounds
@pytest.mark.parametrize("name", list(CASES)[: rounds(10, len(CASES))])
def test_all_ask_the_same_address(
    name: str, proxy: RecordingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    url = f"s3://{case.bucket}/team"
    told = {} if name in {"none", "the file's", "region", "an access point"} else region(case.region)
    configure(monkeypatch, tmp_path, url, told | dict(case.env), case.settings, case.profile)
    for client, ask in CLIENTS.items():
        proxy.reset()
        ask(url)
        found = {asked(request) for request in proxy.requests if "/team/" in request.path}
        assert found == {Asked(case.host, case.region, case.payer, case.session)}, client
        signing = signing_hosts(proxy)
        if case.sts or client != "doctor":  # which asks who is signed in
            assert signing == ({case.sts} if case.sts else set()), client


def test_s3_is_asked_directly_and_sts_through_the_proxy(
    proxy: RecordingProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "s3://acme/team"
    # It serves plain HTTP, too: a path that begins with / has not come through a proxy.
    configure(monkeypatch, tmp_path, url, WEB | EU | {"AWS_ENDPOINT_URL_S3": proxy.url}, "", "")
    for client, ask in CLIENTS.items():
        proxy.reset()
        ask(url)
        assert signing_hosts(proxy) == {STS}, client
        assert all(request.path.startswith("/") for request in proxy.requests), client


@pytest.mark.parametrize(
    ("bucket", "env", "settings", "sentence"),
    [
        ("acme", FIPS, MINIO, "AWS_USE_FIPS_ENDPOINT .* an endpoint is set: https://minio.acme.dev"),
        ("acme", DUAL | {"AWS_ENDPOINT_URL": "https://minio.acme.dev"}, "", "AWS_USE_DUALSTACK_ENDPOINT .* is set"),
        ("acme", FIPS | {"AWS_REGION": "cn-north-1"}, "", "the partition aws-cn does not have"),
        ("acme--euw1-az1--x-s3", FIPS | EU, "", "cannot be honoured for directory buckets"),
        ("acme--euw1-az1--x-s3", EU, MINIO, "is reached at Amazon's own address only"),
        ("acme--xa-s3", EU, "", "is an access point of a directory bucket, which cannot be a registry"),
        ("arn:aws:s3::123456789012:accesspoint/models", EU, "", "is no ARN that can be a registry"),
    ],
)
def test_all_refuse_the_same_settings(
    bucket: str,
    env: dict[str, str],
    settings: str,
    sentence: str,
    proxy: RecordingProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"s3://{bucket}/team"
    configure(monkeypatch, tmp_path, url, KEYS | env, settings, "")
    proxy.reset()
    said = set()
    for client in CLIENTS.values():
        with pytest.raises(ModeldropError, match=sentence) as caught:
            client(url)
        said.add((caught.value.message, caught.value.hint))
    assert len(said) == 1
    assert proxy.requests == []
