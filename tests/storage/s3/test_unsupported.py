"""Services that do not know a header or an operation: what they say of it is what is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.doctor.checks import CheckState
from modeldrop.doctor.run import check_registry
from modeldrop.errors import RegistryError
from modeldrop.storage.write import open_store
from tests.storage.s3.stores import open_s3

if TYPE_CHECKING:
    from modeldrop.storage.write.s3.store import S3BucketStore
    from tests.servers.s3 import S3Server

GENERIC = "A header you provided implies functionality that is not implemented."
SETTINGS: dict[str, Any] = {"tags": {"team": "search"}, "acl": "bucket-owner-full-control"}
# The answer, as the service words it, and what must be told.
WRITES = {
    "R2, tags": (
        {"status": 501, "code": "NotImplemented", "message": "Header 'x-amz-tagging' with value 'a=b' not implemented"},
        ["does not know the header x-amz-tagging of PutObject", "Try without tags for this registry"],
    ),
    "Amazon's word, tags": (
        {
            "status": 501,
            "code": "NotImplemented",
            "message": GENERIC,
            "extra": "<Header>x-amz-tagging</Header>",
        },
        ["the header x-amz-tagging of PutObject", "Try without tags"],
    ),
    "an ACL": (
        {"status": 400, "code": "InvalidArgument", "message": "Unsupported value for canned acl 'x'"},
        ["the header x-amz-acl of PutObject", "Try without acl"],
    ),
    "B2, a checksum": (
        {
            "status": 400,
            "code": "InvalidArgument",
            "message": "Unsupported header 'x-amz-checksum-sha256' received for this API call.",
        },
        ["the header x-amz-checksum-sha256 of PutObject", "It answers 400: InvalidArgument: Unsupported header"],
    ),
    "LocalStack, a condition": (
        {"status": 501, "code": "NotImplemented", "message": GENERIC, "extra": "<Header>If-None-Match</Header>"},
        ["cannot be a registry to publish to: it answers write requests with a condition by 501"],
    ),
    "Swift, a condition": (
        {"status": 501, "code": "NotImplemented", "message": "Conditional object PUTs are not supported."},
        ["cannot be a registry to publish to: it answers write requests with a condition by 501"],
    ),
    "nothing is named": (
        {"status": 501, "code": "NotImplemented", "message": GENERIC},
        [
            "cannot be a registry to publish to: it answers write requests with a condition by 501: NotImplemented: A",
            "It does not say whether it lacks these or x-amz-acl, x-amz-tagging.",
            "Try without acl and tags for this registry in modeldrop.toml. Two publishers could",
        ],
    ),
}


@pytest.fixture
def store(server: S3Server) -> S3BucketStore:
    return open_s3(server.registry(), **SETTINGS)


@pytest.mark.parametrize("name", WRITES)
def test_what_a_service_does_not_know_is_named(name: str, store: S3BucketStore, server: S3Server) -> None:
    answer, told = WRITES[name]
    server.rule("answer", method="PUT", times=-1, **answer)
    with pytest.raises(RegistryError) as caught:
        store.create("embedder/current", b"{}")
    for text in told:
        assert text in str(caught.value)
    assert ("cannot be a registry" in str(caught.value)) == ("cannot be a registry" in told[0])


def test_a_service_that_lists_no_unfinished_uploads_is_pruned(server: S3Server) -> None:
    store = open_store(server.registry())
    server.rule("answer", method="GET", match="uploads", status=501, code="NotImplemented", message=GENERIC, times=-1)
    assert store.unfinished("embedder") == []


@pytest.mark.parametrize(("status", "code"), [(400, "InvalidArgument"), (501, "NotImplemented"), (400, "Odd")])
def test_doctor_prints_no_policy_for_what_is_no_refusal_of_rights(server: S3Server, status: int, code: str) -> None:
    message = "Unsupported header 'x-amz-checksum-sha256' received for this API call."
    registry = server.registry()
    server.rule("answer", method="PUT", status=status, code=code, message=message, times=-1)
    [write] = [one for one in check_registry(registry) if one.state is CheckState.FAILED]
    assert write.name == "write"
    assert "x-amz-checksum-sha256" in write.text
    assert "s3:" not in write.fix, write.fix
    assert "modeldrop doctor" not in write.fix
