"""Where a bucket and STS are asked: compared with botocore's own rules, in every region that it knows."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore
import pytest
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import EndpointProviderError
from botocore.loaders import Loader

from modeldrop.config import RegistrySettings
from modeldrop.errors import RegistryError
from modeldrop.storage.aws_profile import AwsProfile
from modeldrop.storage.s3_address import is_amazon, partition_of, s3_address
from modeldrop.storage.urls import parse_bucket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PARTITIONS = json.loads((Path(botocore.__file__).parent / "data/partitions.json").read_text())
NAMES = ("acme-models", "acme--models", "acme.models", "ab-0123456789abcdef-s3alias", "acme--use1-az4--x-s3", "{arn}")
NO_PROFILE = AwsProfile()
STYLES = ("", "path", "virtual")


def regions() -> Iterator[tuple[str, str]]:
    """Every region of every partition, but those of none in particular."""
    for partition in PARTITIONS["partitions"]:
        for region in partition["regions"]:
            if "global" not in region:
                yield partition["id"], region


class Oracle:
    """botocore's endpoint rules of a service."""

    def __init__(self, service: str) -> None:
        rules = Loader().load_service_model(service, "endpoint-rule-set-1")
        self._provider = EndpointProvider(rules, PARTITIONS)

    def __call__(self, **parameters: Any) -> str:
        """The address, "" where it refuses."""
        try:
            return str(self._provider.resolve_endpoint(**parameters).url)
        except EndpointProviderError:
            return ""


class Asked(NamedTuple):
    """What is decided: the bucket's address, and that of STS; "" where it is refused."""

    bucket: str
    sts: str


def ours(name: str, env: Mapping[str, str], profile: AwsProfile = NO_PROFILE, settings: str = "") -> Asked:
    bucket = parse_bucket(f"s3://{name}")
    try:
        address = s3_address(bucket, RegistrySettings(bucket.url, endpoint=settings), env, profile)
    except RegistryError:
        return Asked("", "")
    return Asked(address.endpoint if address.by_host else f"{address.endpoint}/{name}", address.sts)


def test_every_region_of_every_partition_is_asked_where_botocore_asks() -> None:
    s3, sts = Oracle("s3"), Oracle("sts")
    compared = 0
    for (partition, region), fips, dual, template, style in itertools.product(
        regions(), (False, True), (False, True), NAMES, STYLES
    ):
        name = template.format(arn=f"arn:{partition}:s3:{region}:123456789012:accesspoint/models")
        env = {"AWS_REGION": region, "AWS_USE_FIPS_ENDPOINT": str(fips), "AWS_USE_DUALSTACK_ENDPOINT": str(dual)}
        found = ours(name, env, AwsProfile(values={"s3.addressing_style": style}))
        express = name.endswith("--x-s3")
        if not found.bucket:
            # Refused: sessions of S3 Express elsewhere, no FIPS in China, no dual-stack in two secret partitions.
            assert fips or dual
            assert express or partition in {"aws-cn", "aws-iso-e", "aws-iso-f"}
            continue
        flags = {"Region": region, "UseFIPS": fips, "UseDualStack": dual}
        wanted = s3(Bucket=name, ForcePathStyle=style == "path" and not express and ":" not in name, **flags)
        assert found == (wanted, sts(UseGlobalEndpoint=False, **flags)), (region, name, style)
        compared += 1
    assert compared > 2000


def test_partitions() -> None:
    for partition, region in regions():
        assert partition_of(region).name == partition
        assert is_amazon(ours("acme", {"AWS_REGION": region}).bucket)
    assert partition_of("xx-new-9").name == "aws"
    assert not is_amazon("https://amazonaws.com.acme.dev")


@pytest.mark.parametrize("region", [region for partition, region in regions() if partition in {"aws", "aws-cn"}])
def test_the_global_address_of_sts(region: str) -> None:
    wanted = Oracle("sts")(Region=region, UseGlobalEndpoint=True, UseFIPS=False, UseDualStack=False)
    assert ours("acme", {"AWS_REGION": region, "AWS_STS_REGIONAL_ENDPOINTS": "legacy"}).sts == wanted
    profile = AwsProfile(values={"sts_regional_endpoints": "legacy", "region": region})
    assert ours("acme", {}, profile).sts == wanted


ENDPOINT, OTHER = "https://minio.acme.dev:9000", "https://other.acme.dev"
IGNORE, DUAL = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "AWS_USE_DUALSTACK_ENDPOINT"
STS = "https://sts.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("env", "profile", "settings", "asked"),
    [
        ({"AWS_ENDPOINT_URL_S3": ENDPOINT}, {}, OTHER, (f"{ENDPOINT}/acme", STS)),
        ({"AWS_ENDPOINT_URL": ENDPOINT}, {}, OTHER, (f"{ENDPOINT}/acme", ENDPOINT)),
        ({"AWS_ENDPOINT_URL_STS": ENDPOINT}, {}, OTHER, (f"{OTHER}/acme", ENDPOINT)),
        ({}, {"endpoint_url": OTHER}, ENDPOINT, (f"{ENDPOINT}/acme", OTHER)),
        ({}, {"endpoint_url": OTHER, "s3.endpoint_url": ENDPOINT}, "", (f"{ENDPOINT}/acme", OTHER)),
        ({}, {"endpoint_url": OTHER, "sts.endpoint_url": ENDPOINT}, "", (f"{OTHER}/acme", ENDPOINT)),
        ({IGNORE: "true", "AWS_ENDPOINT_URL": OTHER}, {}, ENDPOINT, (f"{ENDPOINT}/acme", STS)),
        ({"AWS_ENDPOINT_URL": OTHER}, {"ignore_configured_endpoint_urls": "true"}, ENDPOINT, (f"{ENDPOINT}/acme", STS)),
        ({}, {"s3.addressing_style": "virtual"}, ENDPOINT, ("https://acme.minio.acme.dev:9000", STS)),
        ({}, {}, "https://s3.us-east-1.amazonaws.com/", ("https://acme.s3.us-east-1.amazonaws.com", STS)),
        # What cannot be fulfilled together is refused and not dropped.
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, {}, ENDPOINT, ("", "")),
        ({"AWS_USE_FIPS_ENDPOINT": "true", "AWS_ENDPOINT_URL_STS": OTHER}, {}, "", ("", "")),
        ({}, {"use_dualstack_endpoint": "true"}, ENDPOINT, ("", "")),
        ({DUAL: "false"}, {"use_dualstack_endpoint": "true"}, ENDPOINT, (f"{ENDPOINT}/acme", STS)),
    ],
)  # fmt: skip
def test_addresses_that_somebody_has_set(
    env: dict[str, str], profile: dict[str, str], settings: str, asked: tuple[str, str]
) -> None:
    assert ours("acme", env, AwsProfile(values=profile), settings) == asked


def test_a_directory_bucket_is_at_no_other_address() -> None:
    assert ours("acme--use1-az4--x-s3", {}, settings=ENDPOINT).bucket == ""
    bucket = parse_bucket("s3://acme--use1-az4--x-s3")
    assert s3_address(bucket, RegistrySettings(bucket.url), {}, AwsProfile()).express


def test_the_region_of_an_access_point_is_its_arns() -> None:
    bucket = parse_bucket("s3://arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/models/team")
    found = s3_address(bucket, RegistrySettings(bucket.url, region="eu-west-1"), {"AWS_REGION": "x"}, AwsProfile())
    assert (found.region, found.endpoint) == (
        "cn-north-1", "https://models-123456789012.s3-accesspoint.cn-north-1.amazonaws.com.cn",
    )  # fmt: skip
