"""What is known of services that speak S3, and how: one table, which the doctor and the page about them both show.

``SERVICES`` names them; ``recognise`` finds the one that answered. What nobody has proven is left unsaid.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


WITHOUT_CONDITIONS = (
    "How to serve models from it all the same: Services without conditional writes, in docs/storage/s3-compatible.md."
)


class Evidence(enum.Enum):
    """How something is known."""

    TESTED = "tested"
    """The conformance checks of this project ran on the real server."""

    DOCUMENTED = "documented"
    """Its maker says so, at the link."""

    SOURCE = "its source"
    """Its published source does so, at the link."""

    REPORTED = "reported"
    """Somebody has met it and said so in public, at the link."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a service: what, how that is known, and where one can read it."""

    what: str
    source: Evidence
    link: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and what is known of it. None: nothing is.

    Attributes:
        name: as people call it.
        summary: the sentence or two that the doctor says.
        endpoint: what its address looks like; "" where its owner chooses.
        style: ``path`` or ``host``: where it takes the bucket's name.
        region: which region requests are signed for.
        hosts: a pattern of its hosts' names, "" where its owner chooses.
        headers: patterns of headers that all of its answers have, by their small-letter names.
        publish: whether it may be published to, as far as is known.
        create_only: a write that replaces nothing.
        swap: a write over one known object.
        completion: create-only where an upload in parts is completed.
        deletion: a deletion with a condition.
        checksums: SHA-256 of what is sent.
        tags: tags of objects.
        uploads: whether unfinished uploads are listed.
    """

    name: str
    summary: str
    endpoint: str = ""
    style: Finding | None = None
    region: Finding | None = None
    hosts: str = ""
    headers: Mapping[str, str] | None = None
    publish: bool = True
    create_only: Finding | None = None
    swap: Finding | None = None
    completion: Finding | None = None
    deletion: Finding | None = None
    checksums: Finding | None = None
    tags: Finding | None = None
    uploads: Finding | None = None


def _documented(what: str, link: str) -> Finding:
    return Finding(what, Evidence.DOCUMENTED, link)


def _tested(what: str) -> Finding:
    return Finding(what, Evidence.TESTED)


_AMAZON = "https://docs.aws.amazon.com/AmazonS3/latest"
_AMAZON_WRITES = f"{_AMAZON}/userguide/conditional-writes.html"
_R2_CONDITIONS = "https://developers.cloudflare.com/r2/api/s3/conditional-operations/"
_R2_API = "https://developers.cloudflare.com/r2/api/s3/api/"
_B2_CALLS = "https://www.backblaze.com/docs/cloud-storage-call-the-s3-compatible-api"
_B2_REPORT = "https://github.com/sathinduga/obsidian-s3-sync-and-backup/issues/78"
_AISTOR = "https://docs.min.io/enterprise/aistor-object-store/developers/s3-api-compatibility"
_GARAGE_CODE = "https://github.com/deuxfleurs-org/garage/tree/3f4ab3a4a38e382fc54c15580862af55b0257848/src/api/s3"
_GARAGE = "https://garagehq.deuxfleurs.fr/documentation/reference-manual/s3-compatibility/"
_SPACES = "https://docs.digitalocean.com/reference/api/spaces/"
_OVH = "https://docs.ovhcloud.com/it/guides/storage-and-backup/object-storage/s3-conditional-writes"
_SCALEWAY = "https://github.com/scaleway/docs-content/pull/6644"
_SCALEWAY_STYLE = "https://www.scaleway.com/en/docs/storage/object/concepts/"
_GCS = "https://cloud.google.com/storage/docs/request-preconditions"
_HETZNER = "https://docs.hetzner.com/storage/object-storage/supported-actions/"
_HETZNER_REPORT = "https://github.com/opentofu/opentofu/issues/2605"

SERVICES = (
    Service(
        name="Amazon S3",
        summary="Its maker documents every condition that is used here.",
        endpoint="none to set",
        style=_documented("host", f"{_AMAZON}/userguide/VirtualHosting.html"),
        region=_documented("the bucket's", f"{_AMAZON}/userguide/VirtualHosting.html"),
        hosts=r".*\.(amazonaws\.(com|com\.cn|eu)|api\.aws|c2s\.ic\.gov|sc2s\.sgov\.gov)",
        create_only=_documented("yes", _AMAZON_WRITES),
        swap=_documented("yes", _AMAZON_WRITES),
        completion=_documented("yes", _AMAZON_WRITES),
        deletion=_documented("yes", f"{_AMAZON}/userguide/conditional-deletes.html"),
        checksums=_documented("yes", f"{_AMAZON}/userguide/checking-object-integrity.html"),
        tags=_documented("yes", f"{_AMAZON}/userguide/object-tagging.html"),
        uploads=_documented("yes", f"{_AMAZON}/API/API_ListMultipartUploads.html"),
    ),
    Service(
        name="Cloudflare R2",
        summary="Its maker documents conditional writes; it has no tags: set none for this registry.",
        endpoint="https://ACCOUNT_ID.r2.cloudflarestorage.com",
        region=_documented("auto", _R2_API),
        hosts=r".*\.r2\.cloudflarestorage\.com",
        create_only=_documented("yes", _R2_CONDITIONS),
        swap=_documented("yes", _R2_CONDITIONS),
        completion=_documented("yes", _R2_CONDITIONS),
        checksums=_documented("yes", _R2_API),
        tags=_documented("no", _R2_API),
    ),
    Service(
        name="Backblaze B2",
        summary="By public reports it answers conditional writes by 501: fetch from it, and publish elsewhere.",
        endpoint="https://s3.REGION.backblazeb2.com",
        style=_documented("path or host", _B2_CALLS),
        region=_documented("in the endpoint", _B2_CALLS),
        hosts=r"(.*\.)?s3\.[a-z0-9-]+\.backblazeb2\.com",
        publish=False,
        create_only=Finding("501", Evidence.REPORTED, _B2_REPORT),
        swap=Finding("501", Evidence.REPORTED, _B2_REPORT),
        uploads=_documented("yes", _B2_CALLS),
    ),
    Service(
        name="MinIO",
        summary="Its maker documents conditional writes. It lists unfinished uploads by their whole key only, so that "
        "prune does not find what a killed publisher left.",
        headers={"server": r"MinIO(/.*)?"},
        create_only=_documented("yes", _AISTOR),
        swap=_documented("yes", _AISTOR),
        deletion=_documented("AIStor", _AISTOR),
        uploads=_documented("by whole key", _AISTOR),
    ),
    Service(
        name="Ceph",
        summary="Conditional writes were tested (16.2), and hold; it ignores the conditions of deletions and of "
        "completing an upload in parts, which modeldrop does not rely on.",
        style=_tested("path"),
        region=_tested("any"),
        headers={"x-amz-request-id": r"tx[0-9a-f]{21}-[0-9a-f]{10}-[0-9a-f]+-[^/]+"},
        create_only=_tested("yes"),
        swap=_tested("bare ETag only (handled)"),
        completion=_tested("ignored"),
        deletion=_tested("ignored"),
        checksums=_tested("MD5 only"),
        uploads=_tested("yes"),
    ),
    Service(
        name="SeaweedFS",
        summary="It was tested (4.48), and keeps every promise.",
        style=_tested("path"),
        region=_tested("any"),
        headers={"server": r"SeaweedFS\b.*"},
        create_only=_tested("yes"),
        swap=_tested("yes"),
        completion=_tested("yes"),
        deletion=_tested("yes"),
        uploads=_tested("yes"),
    ),
    Service(
        name="LocalStack",
        summary="It was tested (4.8.1), and keeps every promise; it answers conditional deletions by 501, which "
        "modeldrop does not rely on.",
        style=_tested("path"),
        region=_tested("any"),
        headers={"x-localstack": "true"},
        create_only=_tested("yes"),
        swap=_tested("yes"),
        completion=_tested("yes"),
        deletion=_tested("501"),
        checksums=_tested("yes"),
        tags=_tested("yes"),
        uploads=_tested("yes"),
    ),
    Service(
        name="Garage",
        summary="Its source looks at no condition of a write: it cannot be published to; fetch from it, and publish "
        "elsewhere.",
        style=_documented("path or host", _GARAGE),
        region=_documented("s3_region of its configuration", _GARAGE),
        publish=False,
        create_only=Finding("ignored", Evidence.SOURCE, _GARAGE_CODE),
        swap=Finding("ignored", Evidence.SOURCE, _GARAGE_CODE),
        tags=_documented("no", _GARAGE),
        uploads=_documented("yes", _GARAGE),
    ),
    Service(
        name="Wasabi",
        summary="Nothing is proven of its conditional writes: create-only and compare-and-swap below tell.",
        endpoint="https://s3.REGION.wasabisys.com",
        hosts=r"(.*\.)?s3(\.[a-z0-9-]+)?\.wasabisys\.com",
        headers={"server": r"WasabiS3/.*"},
    ),
    Service(
        name="DigitalOcean Spaces",
        summary="Its maker documents nothing of conditional writes: create-only and compare-and-swap below tell.",
        endpoint="https://REGION.digitaloceanspaces.com",
        region=_documented("in the endpoint", _SPACES),
        hosts=r".*\.digitaloceanspaces\.com",
        tags=_documented("yes", "https://docs.digitalocean.com/reference/api/spaces-api/"),
    ),
    Service(
        name="OVHcloud Object Storage",
        summary="Its maker documents conditional writes, since June 2026.",
        endpoint="https://s3.REGION.io.cloud.ovh.net",
        hosts=r"(.*\.)?s3\.[a-z0-9-]+\.((io|perf)\.)?cloud\.ovh\.(net|us)",
        create_only=_documented("yes", _OVH),
        swap=_documented("yes", _OVH),
        completion=_documented("yes", _OVH),
        deletion=_documented("yes", _OVH),
    ),
    Service(
        name="Scaleway",
        summary="Its maker documents conditional writes, since July 2026.",
        endpoint="https://s3.REGION.scw.cloud",
        style=_documented("path or host", _SCALEWAY_STYLE),
        region=_documented("in the endpoint", _SCALEWAY_STYLE),
        hosts=r"(.*\.)?s3\.[a-z0-9-]+\.scw\.cloud",
        create_only=_documented("yes", _SCALEWAY),
        swap=_documented("yes", _SCALEWAY),
        completion=_documented("yes", _SCALEWAY),
    ),
    Service(
        name="Google Cloud Storage by S3's protocol",
        summary="Writes there have conditions on generations, which S3's protocol cannot name: use gs:// for this "
        "bucket.",
        endpoint="https://storage.googleapis.com",
        hosts=r"(.*\.)?storage\.googleapis\.com",
        publish=False,
        create_only=_documented("by generation only", _GCS),
        swap=_documented("by generation only", _GCS),
    ),
    Service(
        name="Hetzner Object Storage",
        summary="Its maker documents nothing of conditional writes, and locks by create-only were reported to work: "
        "create-only and compare-and-swap below tell.",
        endpoint="https://LOCATION.your-objectstorage.com",
        hosts=r".*\.your-objectstorage\.com",
        create_only=Finding("accepted", Evidence.REPORTED, _HETZNER_REPORT),
        tags=_documented("not of buckets", _HETZNER),
    ),
    Service(
        name="OpenStack Swift's s3api",
        summary="It answers conditional writes by 501, as was tested: fetch from it, and publish elsewhere.",
        headers={"x-openstack-request-id": ".+"},
        publish=False,
        create_only=_tested("501"),
        swap=_tested("501"),
    ),
)


def recognise(endpoint: str, headers: Mapping[str, str]) -> Service | None:
    """The service that answers at an address, None where it is not known.

    Args:
        endpoint: the service's address.
        headers: of one of its answers, by their small-letter names.
    """
    host = urlsplit(endpoint).hostname or ""
    for service in SERVICES:
        if service.hosts and re.fullmatch(service.hosts, host):
            return service
    for service in SERVICES:
        wanted = (service.headers or {}).items()
        if wanted and all(re.fullmatch(pattern, headers.get(name, "")) for name, pattern in wanted):
            return service
    return None
