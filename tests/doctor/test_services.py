"""Services are recognised by their addresses, and by answers that they gave to others or give here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.doctor.checks import SERVICE, CheckResult, CheckState
from modeldrop.doctor.run import check_registry
from modeldrop.doctor.services import SERVICES, Evidence, Finding, recognise
from tests.helpers.clouds import sign_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.helpers.clouds import Servers


@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "Amazon S3"),
        ("https://s3.cn-north-1.amazonaws.com.cn", "Amazon S3"),
        ("https://0123456789abcdef.r2.cloudflarestorage.com", "Cloudflare R2"),
        ("https://0123456789abcdef.eu.r2.cloudflarestorage.com", "Cloudflare R2"),
        ("https://s3.us-west-004.backblazeb2.com", "Backblaze B2"),
        ("https://s3.wasabisys.com", "Wasabi"),
        ("https://s3.us-east-2.wasabisys.com", "Wasabi"),
        ("https://nyc3.digitaloceanspaces.com", "DigitalOcean Spaces"),
        ("https://s3.gra.io.cloud.ovh.net", "OVHcloud Object Storage"),
        ("https://s3.fr-par.scw.cloud", "Scaleway"),
        ("https://storage.googleapis.com", "Google Cloud Storage by S3's protocol"),
        ("https://fsn1.your-objectstorage.com", "Hetzner Object Storage"),
        ("https://storage.googleapis.com.evil.example", ""),
        ("https://minio.lab.example", ""),
    ],
)
def test_a_service_is_known_by_its_address(endpoint: str, name: str) -> None:
    found = recognise(endpoint, {})
    assert (found.name if found else "") == name


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        # github.com/minio/mc/issues/3370
        ({"server": "MinIO/RELEASE.2020-08-18T19-41-00Z", "x-amz-request-id": "162CFD0D431225B3"}, "MinIO"),
        # github.com/s3fs-fuse/s3fs-fuse/issues/1539
        (
            {"server": "WasabiS3/6.2.4304-2021-01-27-fdb95dc (head4)", "x-amz-request-id": "DBCD4EAF519C48E4"},
            "Wasabi",
        ),
        # curl -I of a gateway of Ceph Tentacle, in its users' notes
        (
            {
                "server": "Ceph Object Gateway (tentacle)",
                "x-amz-request-id": "tx00000527b0b424e55a3ec-006ab3b279-14295-default",
            },
            "Ceph",
        ),
        # a gateway of 2017
        ({"x-amz-request-id": "tx000000000000000000052-00599fb65c-3729-default"}, "Ceph"),
        # localstack 4.8.1
        ({"server": "TwistedWeb/26.4.0", "x-localstack": "true", "x-amz-request-id": "a7659e35"}, "LocalStack"),
        # Amazon's shape, which many others have too
        ({"server": "AmazonS3", "x-amz-request-id": "301498F0A024E98Q"}, ""),
        ({"server": "nginx"}, ""),
        ({}, ""),
    ],
)
def test_a_service_is_known_by_its_answers(headers: Mapping[str, str], name: str) -> None:
    found = recognise("https://storage.acme.example", headers)
    assert (found.name if found else "") == name


def line(servers: Servers, name: str, monkeypatch: pytest.MonkeyPatch) -> CheckResult:
    sign_in(monkeypatch, servers[name])
    (found,) = (result for result in check_registry(servers[name].registry()) if result.name == SERVICE)
    return found


def test_the_doctor_says_what_is_known_of_it(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    found = line(servers, "seaweedfs", monkeypatch)
    assert (found.state, found.text) == (
        CheckState.OK,
        "SeaweedFS. It was tested (4.48), and keeps every promise.",
    )


@pytest.mark.parametrize("name", ["s3", "s3rver"])
def test_the_doctor_says_that_it_does_not_know_a_service(
    name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = line(servers, name, monkeypatch)
    assert (found.state, found.text) == (
        CheckState.OK,
        "not one that is known here; what it does for publishing: --conformance",
    )


def test_what_is_said_has_a_source() -> None:
    """A link for all that was not tried here; and whoever may not be published to is not said to be fit."""
    for service in SERVICES:
        found = [getattr(service, name) for name in service.__slots__]
        for finding in (value for value in found if isinstance(value, Finding)):
            assert finding.link.startswith("https://") == (finding.source is not Evidence.TESTED), service.name
        writes = [finding.what for finding in (service.create_only, service.swap) if finding]
        assert service.publish or "yes" not in writes
        assert service.summary.endswith(".")
        assert service.hosts or service.headers or service.name == "Garage"
