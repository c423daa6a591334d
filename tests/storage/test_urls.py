from __future__ import annotations

import pytest

from modeldrop.errors import UsageError
from modeldrop.format.reference import parse_reference
from modeldrop.storage.urls import AccessPoint, Bucket, access_point, parse_bucket

ARN = "arn:aws:s3:eu-west-1:123456789012:accesspoint/models"


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://acme-models", Bucket("s3", "", "acme-models", "")),
        ("s3://acme--models", Bucket("s3", "", "acme--models", "")),
        ("s3://acme--use1-az4--x-s3/a", Bucket("s3", "", "acme--use1-az4--x-s3", "a/")),
        ("s3://acme-0123456789abcdef-s3alias", Bucket("s3", "", "acme-0123456789abcdef-s3alias", "")),
        (f"s3://{ARN}", Bucket("s3", "", ARN, "")),
        (f"s3://{ARN}/team/a", Bucket("s3", "", ARN, "team/a/")),
        ("s3://acme.models/a/b", Bucket("s3", "", "acme.models", "a/b/")),
        ("gs://acme_models/team a", Bucket("gs", "", "acme_models", "team a/")),
        ("az://acmestore/models", Bucket("az", "acmestore", "models", "")),
        ("az://acmestore/models/größe/x", Bucket("az", "acmestore", "models", "größe/x/")),
    ],
)
def test_a_url_names_one_place_and_is_written_back(url: str, bucket: Bucket) -> None:
    assert parse_bucket(url) == bucket
    assert bucket.url == url
    assert parse_bucket(f"{url}/") == bucket


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://Acme", "'Acme' cannot be a bucket"),
        ("s3://ab", "'ab' cannot be a bucket"),
        ("s3://" + "a" * 64, "cannot be a bucket"),
        ("s3://a..b", "cannot be a bucket"),
        ("s3://10.0.0.1", "cannot be a bucket"),
        ("s3://acme_models", "cannot be a bucket"),
        ("s3://acme--table-s3", "is a table bucket, which cannot be a registry"),
        ("s3://acme.mrap", "is a multi-region access point, which"),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint", "is no ARN that can be a registry"),
        ("s3://arn:aws:s3::123456789012:accesspoint/acme", "is no ARN that can be a registry"),
        ("s3://arn:aws:s3-outposts:eu-west-1:123456789012:outpost/a", "is no ARN that can be a registry"),
        ("gs://-acme", "cannot be a bucket"),
        ("az://Acme/models", "'Acme' cannot be a storage account"),
        ("az://acmestore", "names no container"),
        ("az://acmestore/a--b", "'a--b' cannot be a container"),
        ("s3://acme//models", "'' in 's3://acme//models' cannot be part of a prefix"),
        ("s3://acme/../models", "'..' in"),
        ("s3://acme/a?b", "'a?b' in"),
        ("s3://acme/a\tb", "cannot be part of a prefix"),
        ("s3://acme/" + "a" * 201, "more than 200 bytes"),
    ],
)
def test_what_cannot_be_a_place_is_refused_before_anything_is_sent(url: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bucket(url)
    assert message in caught.value.message
    assert caught.value.hint


def test_an_access_point_in_a_reference() -> None:
    reference = parse_reference(f"s3://{ARN}/team/embedder@v3")
    assert (reference.registry, reference.model, reference.version) == (f"s3://{ARN}/team", "embedder", 3)
    found = access_point(parse_bucket(reference.registry).name)
    assert found == AccessPoint("aws", "eu-west-1", "123456789012", "models")
