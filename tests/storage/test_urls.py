from __future__ import annotations

import pytest

from modeldrop.errors import UsageError
from modeldrop.storage.urls import Bucket, parse_bucket


@pytest.mark.parametrize(
    ("url", "bucket"),
    [
        ("s3://acme-models", Bucket("s3", "", "acme-models", "")),
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
