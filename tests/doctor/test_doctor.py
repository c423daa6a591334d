from __future__ import annotations

import json
import os
import shutil
import socket
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest

from modeldrop.config import RegistrySettings
from modeldrop.doctor.checks import LARGE_FILES, POLICY_CHECK, SERVICE, SETTINGS, CheckResult, CheckState
from modeldrop.doctor.policies import AccessPolicies, policies_for
from modeldrop.doctor.run import ORDER, check_registry
from modeldrop.errors import RegistryError
from modeldrop.format.policy import Policy
from modeldrop.registry.policy import write_policy
from modeldrop.storage.urls import parse_bucket
from modeldrop.storage.write import conditional, open_store
from modeldrop.storage.write.conditional import require_conditional_writes
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import NOBODY, open_to_all, read_only, run_python
from tests.helpers.clouds import Servers, sign_in, sign_out
from tests.helpers.fuzzing import shorten_waits
from tests.servers.fuzzed_answers import SHAPES
from tests.servers.fuzzing_proxy import FuzzingProxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.servers.azure import AzureServer
    from tests.servers.gcs import GCSServer
    from tests.servers.interface import CloudServer
    from tests.servers.s3 import S3Server


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch)


@pytest.fixture
def s3(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    server: Any = servers["s3"]
    server.reset()
    sign_in(monkeypatch, server)
    yield server
    server.reset()


@pytest.fixture
def gcs(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> Iterator[GCSServer]:
    server: Any = servers["gcs"]
    server.reset()
    sign_in(monkeypatch, server)
    yield server
    server.reset()


@pytest.fixture
def azure(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AzureServer:
    server: Any = servers["azure"]
    sign_in(monkeypatch, server)
    return server  # type: ignore[no-any-return]


def policies(url: str, **settings: Any) -> AccessPolicies:
    return policies_for(RegistrySettings(url, **settings))


def look(registry: str) -> dict[str, CheckResult]:
    return {result.name: result for result in check_registry(registry)}


def states(found: dict[str, CheckResult], *leave_out: str) -> set[CheckState]:
    return {result.state for name, result in found.items() if name not in leave_out}


def s3_client() -> Any:
    return botocore.session.Session().create_client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL_S3"])


def bucket_of(registry: str) -> str:
    return parse_bucket(registry).name


def test_a_cloud_that_is_well(cloud_registry: str) -> None:
    found = look(cloud_registry)
    scheme = cloud_registry[:2]
    left_out = {SETTINGS, POLICY_CHECK} if scheme == "s3" else {SETTINGS, SERVICE, POLICY_CHECK}
    assert tuple(found) == (
        *(name for name in ORDER if name not in left_out),
        *([LARGE_FILES] if scheme != "az" else []),
    )
    assert states(found, "lifecycle") == {CheckState.OK}, found
    lifecycle = CheckState.UNCHECKED if cloud_registry.startswith("az://") else CheckState.OK
    assert found["lifecycle"].state is lifecycle
    assert all(not result.fix for result in found.values())
    assert list(open_store(cloud_registry).objects("")) == []


def test_a_folder_that_is_well_is_left_as_it_was(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    found = look(str(registry))
    assert states(found) == {CheckState.OK}, found
    assert "not there yet" in found["reachable"].text
    assert not registry.exists()
    registry.mkdir()
    (registry / "embedder").mkdir()
    assert states(look(str(registry))) == {CheckState.OK}
    assert [path.name for path in registry.iterdir()] == ["embedder"]


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    open_to_all(registry)
    program = (
        "import sys; from modeldrop.doctor.run import check_registry;"
        "print({result.name: result.state.value for result in check_registry(sys.argv[1])})"
    )
    with read_only(registry):
        said = run_python(program, registry, user=NOBODY if os.geteuid() == 0 else None)
    assert "'read': 'ok', 'write': 'failed', 'delete': 'not checked', 'create-only': 'not checked'" in said


def test_a_folder_that_everybody_may_write_or_that_is_a_file(tmp_path: Path) -> None:
    registry = tmp_path / "registry"
    registry.mkdir()
    registry.chmod(0o777)
    exposure = look(str(registry))["exposure"]
    assert (exposure.state, exposure.fix) == (CheckState.WARNING, f"chmod o-w {registry}")
    (registry / "file").write_text("")
    found = look(str(registry / "file"))
    assert found["reachable"].state is CheckState.FAILED
    assert states(found, "registry", "reachable") == {CheckState.UNCHECKED}


def test_a_lookalike_that_ignores_conditions(lookalike: str) -> None:
    found = look(lookalike)
    assert found["create-only"].state is found["compare-and-swap"].state is CheckState.FAILED
    assert conditional.IGNORED_CREATE in found["create-only"].text
    assert conditional.IGNORED_SWAP in found["compare-and-swap"].text
    assert found["write"].state is found["delete"].state is CheckState.OK
    with pytest.raises(RegistryError, match="cannot be a registry to publish to: it accepted a create-only write"):
        require_conditional_writes(open_store(lookalike))


def test_conditions_are_proven_in_few_requests(s3: S3Server, gcs: GCSServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_in(monkeypatch, s3, gcs)
    # S3's store looks whether the tag was refused for its quotes: one more.
    for server, many in ((s3, (4, 3)), (gcs, (3, 2))):
        store = open_store(server.registry())
        for wanted in many:
            server.reset()
            require_conditional_writes(store)
            assert len(server.requests()) == wanted
        assert [listed.key for listed in store.objects("")] == [conditional.KEY]


def test_a_service_without_uploads_in_parts(s3: S3Server) -> None:
    s3.rule("answer", match="?uploads", method="POST", status=501, code="NotImplemented", times=-1)
    registry = s3.registry()
    found = look(registry)
    assert [name for name, result in found.items() if result.state is CheckState.FAILED] == [LARGE_FILES]
    assert "501" in found[LARGE_FILES].text
    s3.reset()
    assert look(registry)[LARGE_FILES].text == "in parallel parts"
    assert open_store(registry).unfinished("") == []


@pytest.mark.parametrize("kept", ["swap", "create"])
def test_a_store_that_honours_one_condition_alone_is_refused(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    store: Any = open_store(s3.registry())
    store.create(conditional.KEY, b"")
    put = store.client.put_object
    ignored = "IfNoneMatch" if kept == "swap" else "IfMatch"
    monkeypatch.setattr(
        store.client, "put_object", lambda **given: put(**{k: v for k, v in given.items() if k != ignored})
    )
    with pytest.raises(RegistryError, match="a create-only write" if kept == "swap" else "with a wrong tag"):
        require_conditional_writes(store)


@pytest.mark.parametrize("registry", ["ftp://there", "s3://UPPER/models", "nowhere", "az://a"])
def test_what_cannot_be_a_registry_is_the_first_check_that_fails(registry: str) -> None:
    found = look(registry)
    assert found["registry"].state is CheckState.FAILED
    assert states(found, "registry") == {CheckState.UNCHECKED}


def test_no_such_bucket(cloud: CloudServer) -> None:
    registry = cloud.registry()
    name = bucket_of(registry)
    found = look(registry.replace(name, "no-such-bucket-here"))
    assert found["reachable"].state is CheckState.FAILED
    assert "there is no" in found["reachable"].text
    assert "no-such-bucket-here" in found["reachable"].text
    assert states(found, "registry", "reachable") == {CheckState.UNCHECKED}


def test_nobody_listens(cloud: CloudServer, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = cloud.registry()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value.replace(str(cloud.port), str(port)))
        found = look(registry)
    assert found["reachable"].state is CheckState.FAILED
    assert "cannot be reached" in found["reachable"].text
    assert states(found, "registry", "reachable") == {CheckState.UNCHECKED}


@pytest.mark.parametrize("shape", ["nothing at all", "a TLS alert"])
def test_who_speaks_no_http_is_not_reached(shape: str, cloud: CloudServer, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_waits(monkeypatch)
    registry = cloud.registry()
    with FuzzingProxy() as nobody:
        nobody.begin(0, next(one for one in SHAPES if one.name == shape))
        for name, value in cloud.environment.items():
            monkeypatch.setenv(name, value.replace(str(cloud.port), str(nobody.port)))
        found = look(registry)
    assert found["reachable"].state is CheckState.FAILED
    assert states(found, "registry", "reachable") == {CheckState.UNCHECKED}


def test_no_credentials_for_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = look(s3.registry())
    assert found["reachable"].state is CheckState.UNCHECKED
    assert found["signed in"].state is CheckState.FAILED
    assert "no credentials were found" in found["signed in"].text
    assert "AWS_PROFILE" in found["signed in"].fix
    assert states(found, "registry", "reachable", "signed in") == {CheckState.UNCHECKED}


def test_no_credentials_for_gcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sign_out(monkeypatch)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    found = look("gs://acme-models")
    assert found["signed in"].state is CheckState.FAILED
    assert str(tmp_path / "missing.json") in found["signed in"].text
    assert found["list"].state is CheckState.UNCHECKED


def test_amazon_is_asked_who_is_signed_in(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from modeldrop.doctor.s3 import S3Probe, _caller

    store: Any = open_store(s3.registry())
    assert S3Probe(store).identity().text == "with the access key AKIA…ONLY"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3.environment["AWS_ENDPOINT_URL_S3"])
    assert _caller(store.client, store.address) == "arn:aws:sts::123456789012:user/moto"


def test_credentials_of_another_account(azure: AzureServer) -> None:
    found = look("az://otheraccount/models")
    assert found["registry"].state is CheckState.FAILED
    assert "otheraccount" in found["registry"].text


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (403, "InvalidAccessKeyId", "signed in"),
        (400, "ExpiredToken", "signed in"),
        (403, "RequestTimeTooSkewed", "clock"),
        (503, "SlowDown", "reachable"),
        (301, "PermanentRedirect", "reachable"),
    ],
)
def test_refusals_of_s3_are_failures_of_the_right_check(s3: S3Server, status: int, code: str, name: str) -> None:
    registry = s3.registry()
    s3.rule("answer", status=status, code=code, method="GET", match="list-type=2", times=9)
    found = look(registry)
    assert found[name].state is CheckState.FAILED
    assert found[name].fix
    assert found["list"].state is CheckState.UNCHECKED


def test_a_service_that_does_not_answer(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modeldrop.doctor.checks.ANSWER_SECONDS", 0.3)
    registry = s3.registry()
    s3.rule("silent", method="GET", match="list-type=2", times=9)
    found = look(registry)
    assert found["reachable"].state is CheckState.FAILED
    assert "does not answer" in found["reachable"].text


def test_missing_rights_come_with_the_policy(s3: S3Server) -> None:
    registry = s3.registry()
    for method in ("PUT", "DELETE"):
        s3.rule("answer", status=403, code="AccessDenied", method=method, times=9)
    found = look(registry)
    assert found["list"].state is found["read"].state is CheckState.OK
    assert found["write"].state is CheckState.FAILED
    policy = json.loads(found["write"].fix)
    assert any("s3:PutObject" in statement["Action"] for statement in policy["Statement"])
    assert found["create-only"].state is found["delete"].state is CheckState.UNCHECKED


def test_a_publisher_need_not_be_allowed_to_delete(s3: S3Server) -> None:
    registry = s3.registry()
    s3.rule("answer", status=403, code="AccessDenied", method="DELETE", times=9)
    found = look(registry)
    assert found["delete"].state is CheckState.WARNING
    assert "s3:DeleteObject" in found["delete"].fix
    assert found["create-only"].state is found["compare-and-swap"].state is CheckState.OK
    s3.reset()
    assert [listed.key for listed in open_store(registry).objects("")] == [conditional.KEY]


def test_missing_rights_on_gcs_come_with_the_role(gcs: GCSServer) -> None:
    registry = gcs.registry()
    gcs.fail(403, "forbidden", message="no storage.objects.create", method="POST", match="/upload/", times=9)
    found = look(registry)
    assert found["write"].state is CheckState.FAILED
    assert "roles/storage.objectUser" in found["write"].fix
    gcs.reset()
    gcs.fail(401, "authError", message="Invalid Credentials", method="GET", times=9)
    assert look(registry)["signed in"].state is CheckState.FAILED
    gcs.reset()
    gcs.fail(403, "forbidden", message="no storage.buckets.get", match="/iam", times=9)
    assert look(registry)["exposure"].state is CheckState.UNCHECKED


@pytest.mark.parametrize(
    ("minutes", "state"),
    [(0.5, CheckState.OK), (-2, CheckState.WARNING), (2, CheckState.WARNING), (-9, CheckState.FAILED)],
)
def test_a_clock_that_is_wrong(
    cloud: CloudServer, monkeypatch: pytest.MonkeyPatch, minutes: float, state: CheckState
) -> None:
    wrong = SimpleNamespace(time=lambda: time.time() + 60 * minutes)
    monkeypatch.setattr("modeldrop.doctor.checks.time", wrong)
    clock = look(cloud.registry())["clock"]
    assert clock.state is state
    assert ("ahead of" if minutes > 0 else "behind") in clock.text
    assert ("timedatectl" in clock.fix) == (state is not CheckState.OK)


RULES: dict[str, tuple[dict[str, Any], CheckState, str]] = {
    "nothing": ({"Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 7}}, CheckState.OK, "no rule"),
    "sweep": (
        {"Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}},
        CheckState.OK,
        "no rule touches versions",
    ),
    "below": (
        {"Filter": {"Prefix": "team/models/old/"}, "Expiration": {"Days": 30}},
        CheckState.WARNING,
        "after 30 days",
    ),
    "above": (
        {"Filter": {"Prefix": "team/"}, "Transitions": [{"Days": 9, "StorageClass": "GLACIER"}]},
        CheckState.WARNING,
        "to GLACIER after 9 days",
    ),
    "tagged": (
        {
            "Filter": {"And": {"Prefix": "team/", "Tags": [{"Key": "kind", "Value": "tmp"}]}},
            "Expiration": {"Days": 1},
        },
        CheckState.WARNING,
        "after 1 days",
    ),
    "old": ({"Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 7}}, CheckState.OK, "no rule"),
}


@pytest.mark.parametrize("name", RULES)
def test_lifecycle_rules_of_s3(s3: S3Server, name: str) -> None:
    rule, state, text = RULES[name]
    registry = s3.registry()
    document = {"Rules": [{"ID": name, "Status": "Enabled", **rule}]}
    s3_client().put_bucket_lifecycle_configuration(Bucket=bucket_of(registry), LifecycleConfiguration=document)
    lifecycle = look(registry)["lifecycle"]
    assert lifecycle.state is state
    assert text in lifecycle.text
    assert bool(lifecycle.fix) == (state is CheckState.WARNING)


@pytest.mark.parametrize(
    ("resource", "state", "text"),
    [
        ({}, CheckState.OK, "no rule"),
        ({"versioning": {"enabled": True}}, CheckState.OK, "versioning keeps"),
        ({"action": {"type": "Delete"}, "condition": {"age": 30}}, CheckState.WARNING, "deletes objects after 30 days"),
        (
            {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["logs/"]}},
            CheckState.OK,
            "no rule",
        ),
        ({"action": {"type": "Delete"}, "condition": {"numNewerVersions": 3}}, CheckState.OK, "no rule"),
        (
            {
                "action": {"type": "SetStorageClass", "storageClass": "ARCHIVE"},
                "condition": {"matchesPrefix": ["logs/", "team/models/"]},
            },
            CheckState.WARNING,
            "to ARCHIVE",
        ),
        ({"retentionPolicy": {"retentionPeriod": "86400"}}, CheckState.WARNING, "keeps channels from moving"),
    ],
)
def test_lifecycle_rules_of_gcs(gcs: GCSServer, resource: dict[str, Any], state: CheckState, text: str) -> None:
    bucket = gcs.make_bucket({"lifecycle": {"rule": [resource]}} if "action" in resource else resource)
    lifecycle = look(f"gs://{bucket}/team/models")["lifecycle"]
    assert lifecycle.state is state
    assert text in lifecycle.text


def test_a_public_bucket_of_s3(s3: S3Server) -> None:
    registry = s3.registry()
    bucket = bucket_of(registry)
    s3_client().put_bucket_acl(Bucket=bucket, ACL="public-read")
    exposure = look(registry)["exposure"]
    assert exposure.state is CheckState.WARNING
    assert "put-public-access-block" in exposure.fix
    blocked = {"BlockPublicAcls": True, "IgnorePublicAcls": True, "BlockPublicPolicy": True}
    blocked["RestrictPublicBuckets"] = True
    s3_client().put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=blocked)
    assert look(registry)["exposure"].state is CheckState.OK
    s3.rule("answer", status=403, code="AccessDenied", method="GET", match="policyStatus", times=9)
    assert look(registry)["exposure"].state is CheckState.UNCHECKED


def test_a_bucket_of_s3_with_a_public_policy(s3: S3Server) -> None:
    registry = s3.registry()
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
    policy = {
        "Version": "2012-10-17",
        "Statement": [{**statement, "Resource": f"arn:aws:s3:::{bucket_of(registry)}/*"}],
    }
    s3_client().put_bucket_policy(Bucket=bucket_of(registry), Policy=json.dumps(policy))
    exposure = look(registry)["exposure"]
    assert exposure.state is CheckState.WARNING
    assert "policy is public" in exposure.text


def test_a_public_bucket_of_gcs(gcs: GCSServer) -> None:
    public = {"bindings": [{"role": "roles/storage.objectViewer", "members": ["allUsers"]}], "version": 1}
    exposure = look(f"gs://{gcs.make_bucket({'_policy': public})}")["exposure"]
    assert (exposure.state, exposure.text) == (CheckState.WARNING, "everybody has roles/storage.objectViewer")
    prevented = {"_policy": public, "iamConfiguration": {"publicAccessPrevention": "enforced"}}
    assert look(f"gs://{gcs.make_bucket(prevented)}")["exposure"].state is CheckState.OK


def test_a_public_container_of_azure(azure: AzureServer) -> None:
    registry = azure.registry()
    with azure.container(bucket_of(registry)) as container:
        container.set_container_access_policy(signed_identifiers={}, public_access="container")
    exposure = look(registry)["exposure"]
    assert exposure.state is CheckState.WARNING
    assert "read and list" in exposure.text


@pytest.mark.parametrize("url", ["s3://acme-models/team/models", "s3://acme-models"])
def test_policies_of_s3_are_the_least_that_works(url: str) -> None:
    found = policies(url, tags={"team": "search"}, encryption_key="alias/models")
    documents = {who: json.loads(text)["Statement"] for who, text in found.to_json().items()}
    allowed = {
        who: {
            action
            for one in statements
            for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
        }
        for who, statements in documents.items()
    }
    assert allowed["fetcher"] == {"s3:GetObject", "s3:ListBucket", "kms:Decrypt"}
    assert "s3:DeleteObject" not in allowed["publisher"]
    assert {"s3:PutObject", "s3:PutObjectTagging", "kms:GenerateDataKey"} < allowed["publisher"]
    assert "s3:DeleteObject" in allowed["prune"]
    prefix = parse_bucket(url).prefix
    assert documents["fetcher"][0]["Resource"] == f"arn:aws:s3:::acme-models/{prefix}*"
    condition: dict[str, Any] = {"Condition": {"StringLike": {"s3:prefix": f"{prefix}*"}}} if prefix else {}
    assert documents["fetcher"][1] == {
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": "arn:aws:s3:::acme-models",
        **condition,
    }


@pytest.mark.parametrize("prefix", ["", "team/"])
def test_a_publisher_may_be_kept_from_setting_the_policy(prefix: str) -> None:
    found = {
        scheme: policies(f"{scheme}{prefix}".rstrip("/")).policy_guard
        for scheme in ("s3://acme/", "gs://acme/", "az://acme/models/")
    }
    [deny] = json.loads(found["s3://acme/"])["Statement"]
    assert deny == {
        "Effect": "Deny",
        "Action": ["s3:PutObject", "s3:DeleteObject"],
        "Resource": f"arn:aws:s3:::acme/{prefix}.settings/*",
    }
    assert f'!resource.name.startsWith(\\"projects/_/buckets/acme/objects/{prefix}.settings/\\")' in found["gs://acme/"]
    assert "--condition=None" not in found["gs://acme/"]
    assert f"blobs:path] StringNotLike '{prefix}.settings/*'" in found["az://acme/models/"]


def test_the_policy_is_shown(tmp_path: Path) -> None:
    assert "policy" not in look(str(tmp_path))
    policy = Policy(require=("test",), at="2026-11-29T20:00:00Z", by="dana", channels=("current",))
    write_policy(FolderStore(str(tmp_path)), policy)
    found = look(str(tmp_path))["policy"]
    assert (found.state, found.text.partition(",")[0]) == (CheckState.OK, "current requires a test that succeeded")
    shutil.rmtree(tmp_path / ".settings" / ".moves")
    (tmp_path / ".settings" / "policy.json").write_text("{}", "utf-8")
    found = look(str(tmp_path))["policy"]
    assert (found.state, "modeldrop policy" in found.fix) == (CheckState.FAILED, True)


@pytest.mark.parametrize("url", ["s3://acme-models", "gs://acme-models", "az://acme/models"])
def test_a_planner_may_what_a_fetcher_may(url: str) -> None:
    found = policies(url).to_json()
    assert found["planner"] == found["fetcher"]


@pytest.mark.parametrize(
    ("key", "resource"),
    [
        ("arn:aws:kms:eu-west-1:111122223333:key/1", "arn:aws:kms:eu-west-1:111122223333:key/1"),
        ("1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws-cn:kms:*:*:key/1234abcd-12ab-34cd-56ef-1234567890ab"),
        ("alias/models", "arn:aws-cn:kms:*:*:key/*"),
        ("arn:aws:kms:eu-west-1:111122223333:alias/models", "arn:aws-cn:kms:*:*:key/*"),
    ],
)
def test_a_key_of_kms_may_be_named_in_four_ways(key: str, resource: str) -> None:
    found = policies("s3://acme-models", region="cn-north-1", encryption_key=key)
    statement = json.loads(found.fetcher)["Statement"][-1]
    assert statement["Resource"] == resource
    assert ("Condition" in statement) == ("alias/" in key)


def test_policies_of_other_kinds_of_buckets() -> None:
    arn = "arn:aws:s3:eu-west-1:123456789012:accesspoint/models"
    point = json.loads(policies(f"s3://{arn}/team", acl="private").publisher)["Statement"]
    assert [statement["Resource"] for statement in point] == [f"{arn}/object/team/*", arn]
    assert "s3:PutObjectAcl" in point[0]["Action"]
    directory = policies("s3://acme--euw1-az1--x-s3", region="eu-west-1")
    [session] = json.loads(directory.fetcher)["Statement"]
    assert session["Action"] == ["s3express:CreateSession"]
    assert session["Resource"] == "arn:aws:s3express:eu-west-1:*:bucket/acme--euw1-az1--x-s3"
    assert "Condition" in session
    for region, partition in (("eusc-de-east-1", "aws-eusc"), ("us-isob-east-1", "aws-iso-b")):
        assert f"arn:{partition}:s3:::acme/*" in policies("s3://acme", region=region).fetcher


def test_how_large_files_go_to_gcs(gcs: GCSServer) -> None:
    registry = gcs.registry()
    assert look(registry)[LARGE_FILES].text == "in parallel parts"
    gcs.answer(501, "not implemented", method="POST", match="?uploads", times=9)
    found = look(registry)[LARGE_FILES]
    assert (found.state, found.text.partition(":")[0]) == (CheckState.WARNING, "in one stream each")
    assert "POST /BUCKET/OBJECT?uploads" in found.fix
    gcs.answer(501, "not implemented", method="POST", match="uploadType=resumable")
    found = look(registry)[LARGE_FILES]
    assert (found.state, "the service answered 501" in found.text) == (CheckState.FAILED, True)
    assert gcs.unfinished(registry.split("/")[2]) == []


def test_what_fake_gcs_server_lacks_is_said(foreign_gcs: str) -> None:
    results = {name: result for name, result in look(foreign_gcs).items() if result.state is not CheckState.OK}
    assert list(results) == ["exposure", LARGE_FILES]
    assert results["exposure"].text == "the service answers 404"
    assert results[LARGE_FILES].state is CheckState.WARNING


def test_policies_of_gcs_and_azure_name_their_place() -> None:
    google = policies("gs://acme-models/team", encryption_key="projects/p/key")
    assert 'startsWith(\\"projects/_/buckets/acme-models/objects/team/\\")' in google.publisher
    assert "--authorize-cmek=projects/p/key" in google.publisher
    assert "roles/storage.objectViewer" in google.fetcher
    assert "condition" not in policies("gs://acme-models").fetcher
    azure = policies("az://acme/models/team", tags={"team": "search"})
    assert "blobs/tags/write" in azure.publisher
    assert "/delete" not in azure.publisher
    assert "storageAccounts/acme/blobServices/default/containers/models" in azure.fetcher
