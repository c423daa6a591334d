"""Where an S3 bucket and STS are asked: region, partition, FIPS, dual-stack, path or host; one rule for all clients.

The publisher's client, doctor's and the fetcher's are given what ``s3_address`` decides, so that the same settings
lead all of them to the same place. A test compares it with botocore's own rules in every region.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from modeldrop.errors import RegistryError
from modeldrop.storage.aws_profile import aws_profile
from modeldrop.storage.environment import check_address
from modeldrop.storage.urls import access_point, express_zone
from modeldrop.util.files import expand_user
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import is_true

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeldrop.config import RegistrySettings
    from modeldrop.storage.aws_profile import AwsProfile
    from modeldrop.storage.urls import Bucket

DEFAULT_REGION = "us-east-1"


class Partition(NamedTuple):
    """A part of Amazon's cloud with domains of its own.

    Attributes:
        name: as in ARNs.
        start: what the names of its regions begin with.
        domain: of its services.
        dual_stack: the domain of STS and others over IPv6 too, "" where there is none.
    """

    name: str
    start: str
    domain: str
    dual_stack: str


_PARTITIONS = (
    Partition("aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    Partition("aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"),
    Partition("aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    Partition("aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    Partition("aws-iso-e", "eu-isoe-", "cloud.adc-e.uk", ""),
    Partition("aws-iso-f", "us-isof-", "csp.hci.ic.gov", ""),
    Partition("aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    Partition("aws", "", "amazonaws.com", "api.aws"),
)
# Where AWS_STS_REGIONAL_ENDPOINTS=legacy means the one global address.
_STS_LEGACY = (
    "ap-northeast-1", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ca-central-1", "eu-central-1", "eu-north-1",
    "eu-west-1", "eu-west-2", "eu-west-3", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
)  # fmt: skip


class S3Address(NamedTuple):
    """Where a bucket is asked.

    Attributes:
        region: what requests are signed for.
        service: the service's address without the bucket.
        by_host: whether the bucket is in the host's name; else it is in the path.
        endpoint: the bucket's address if it is in the host's name, else the service's.
        express: whether it is a directory bucket (S3 Express One Zone), which signs by sessions.
        amazon: whether it is Amazon's own service.
        sts: the address of STS.
        fips: whether FIPS addresses are used.
        dual_stack: whether those are used that have IPv6 too.
        requester_pays: whether every request says that it pays for itself.
        anonymous: whether requests are not signed.
        certificates: one more file of CAs to trust, the AWS profile's ``ca_bundle``, or "".
    """

    region: str
    service: str
    by_host: bool
    endpoint: str
    express: bool
    amazon: bool
    sts: str
    fips: bool
    dual_stack: bool
    requester_pays: bool
    anonymous: bool
    certificates: str


class SignInPlace(NamedTuple):
    """Where a service of Amazon's without addresses of its own is asked; the fields as of ``S3Address``."""

    region: str
    fips: bool
    dual_stack: bool
    certificates: str


def partition_of(region: str) -> Partition:
    """The partition that a region is in; an unknown one is in Amazon's largest."""
    return next(partition for partition in _PARTITIONS if region.startswith(partition.start))


def s3_address(
    bucket: Bucket, settings: RegistrySettings, env: Mapping[str, str], profile: AwsProfile, region: str = ""
) -> S3Address:
    """Decide where a bucket is asked.

    Args:
        bucket: the bucket; its name may be an access point's ARN.
        settings: the registry's.
        env: the environment.
        profile: the AWS profile in use.
        region: the region that the bucket has turned out to be in, or "".

    Raises:
        RegistryError: settings that no address can fulfil together.
    """
    point = access_point(bucket.name)
    region = (
        (point.region if point else "")
        or region
        or env.get("AWS_REGION")
        or env.get("AWS_DEFAULT_REGION")
        or settings.region
        or profile.get("region")
        or DEFAULT_REGION
    )
    fips = _chosen("fips", env, profile)
    dual_stack = _chosen("dualstack", env, profile)
    custom, custom_sts = _custom_endpoints(settings, env, profile)
    partition = partition_of(region)
    _refuse_contradictions(bucket, partition, fips=fips, dual_stack=dual_stack, custom=custom or custom_sts)
    zone = express_zone(bucket.name)
    if zone and custom:
        raise RegistryError(
            f"{bucket.url}: a directory bucket (S3 Express) is reached at Amazon's own address only, not at {custom}.",
            "Remove the endpoint, from the environment or from modeldrop.toml, or use another kind of bucket.",
        )
    kind = f"s3express-{zone}" if zone else "s3-accesspoint" if point else "s3"
    name = f"{kind}{'-fips' if fips else ''}{'.dualstack' if dual_stack else ''}"
    service = custom or f"https://{name}.{region}.{partition.domain}"
    amazon = not custom or is_amazon(custom)
    by_host = bool(point or zone) or _style(bucket.name, profile.get("s3.addressing_style"), amazon=amazon)
    label = f"{point.name}-{point.account}" if point else bucket.name
    scheme, _, host = service.partition("://")
    return S3Address(
        region=region,
        service=service,
        by_host=by_host,
        endpoint=f"{scheme}://{label}.{host}" if by_host else service,
        express=bool(zone),
        amazon=amazon,
        sts=custom_sts or _sts(region, partition, env, profile, fips=fips, dual_stack=dual_stack),
        fips=fips,
        dual_stack=dual_stack,
        requester_pays=settings.requester_pays or env.get("AWS_REQUEST_PAYER", "").lower() in {"requester", "true"},
        anonymous=settings.anonymous,
        certificates=profile.get("ca_bundle"),
    )


def address_here(bucket: Bucket, settings: RegistrySettings, region: str = "") -> tuple[S3Address, AwsProfile]:
    """Where this process asks for a bucket, and the AWS profile in use.

    Raises:
        RegistryError: the settings contradict each other, or there is no such profile.
    """
    profile = aws_profile(os.environ, expand_user("~"))
    return s3_address(bucket, settings, os.environ, profile, region), profile


def sign_in_place(region: str) -> tuple[SignInPlace, AwsProfile]:
    """Where this process asks for something in a region, and the AWS profile in use.

    Raises:
        RegistryError: there is no such profile.
    """
    profile = aws_profile(os.environ, expand_user("~"))
    fips, dual_stack = (_chosen(kind, os.environ, profile) for kind in ("fips", "dualstack"))
    return SignInPlace(region, fips, dual_stack, profile.get("ca_bundle")), profile


def is_amazon(address: str) -> bool:
    """Whether an address is one of Amazon's services."""
    host = urlsplit(address).hostname or ""
    return host.endswith(tuple(f".{domain}" for _, _, *domains in _PARTITIONS for domain in domains if domain))


def _style(name: str, wanted: str, *, amazon: bool) -> bool:
    """Whether the bucket is part of the host's name."""
    if "." in name:
        return False  # it is no single label, so no certificate covers bucket.name.s3.….
    # Elsewhere a bucket's own host name rarely resolves.
    return wanted == "virtual" or (amazon and wanted != "path")


def _chosen(kind: str, env: Mapping[str, str], profile: AwsProfile) -> bool:
    key = f"use_{kind}_endpoint"
    return is_true(env.get(f"AWS_{key.upper()}") or profile.get(key) or profile.get(f"s3.{key}"))


def _custom_endpoints(settings: RegistrySettings, env: Mapping[str, str], profile: AwsProfile) -> tuple[str, str]:
    """The addresses of S3 and of STS that somebody has set, or ""."""
    ignored = env.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or profile.get("ignore_configured_endpoint_urls")
    if is_true(ignored):
        return settings.endpoint.rstrip("/"), ""
    everywhere = env.get("AWS_ENDPOINT_URL")
    s3 = env.get("AWS_ENDPOINT_URL_S3") or everywhere or settings.endpoint or _profiles(profile, "s3", settings.url)
    sts = env.get("AWS_ENDPOINT_URL_STS") or everywhere or _profiles(profile, "sts", settings.url)
    return s3.rstrip("/"), sts.rstrip("/")


def _profiles(profile: AwsProfile, service: str, url: str) -> str:
    found = profile.get(f"{service}.endpoint_url") or profile.get("endpoint_url")
    return check_address(found, "endpoint_url of the AWS profile", url)


def _refuse_contradictions(bucket: Bucket, partition: Partition, *, fips: bool, dual_stack: bool, custom: str) -> None:
    for wanted, variable in ((fips, "AWS_USE_FIPS_ENDPOINT"), (dual_stack, "AWS_USE_DUALSTACK_ENDPOINT")):
        if not wanted:
            continue
        why = ""
        if custom:
            why = f"chooses among Amazon's addresses, and an endpoint is set: {custom}"
        elif express_zone(bucket.name):
            why = "cannot be honoured for directory buckets (S3 Express): their sessions are made elsewhere"
        elif partition.name == "aws-cn" if variable == "AWS_USE_FIPS_ENDPOINT" else not partition.dual_stack:
            why = f"asks for addresses that the partition {partition.name} does not have"
        if why:
            raise RegistryError(
                f"{bucket.url}: {variable} (or its like in the AWS profile) {why}.", f"Unset {variable}, or the other."
            )


def _sts(
    region: str, partition: Partition, env: Mapping[str, str], profile: AwsProfile, *, fips: bool, dual_stack: bool
) -> str:
    wanted = env.get("AWS_STS_REGIONAL_ENDPOINTS") or profile.get("sts_regional_endpoints")
    if wanted == "legacy" and region in _STS_LEGACY and not (fips or dual_stack):
        return "https://sts.amazonaws.com"
    # The ordinary addresses of the US government's regions are validated already.
    validated = fips and (dual_stack or partition.name != "aws-us-gov")
    domain = partition.dual_stack if dual_stack else partition.domain
    return f"https://sts{'-fips' if validated else ''}.{region}.{domain}"
