from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import UsageError
from modeldrop.format.reference import Reference, parse_reference, parse_registry
from tests.format.strategies import references

DIGEST = "sha256:" + "0f" * 32


@given(references())
def test_round_trip(reference: Reference) -> None:
    assert parse_reference(str(reference)) == reference


@given(st.text(), st.text(max_size=5))
def test_arbitrary_text_raises_nothing_else(text: str, tail: str) -> None:
    for attempt in (text, f"s3://bucket/{text}", f"./models/{text}@{tail}", f"{text}://{tail}/embedder"):
        try:
            reference = parse_reference(attempt)
        except UsageError:
            continue
        assert parse_reference(str(reference)) == reference


@given(st.text())
def test_registries_have_one_spelling(text: str) -> None:
    try:
        registry = parse_registry(text)
    except UsageError:
        return
    assert parse_registry(registry) == registry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("embedder", Reference("", "embedder")),
        ("embedder@current", Reference("", "embedder")),
        ("embedder@staging", Reference("", "embedder", "staging")),
        ("s3://acme/embedder", Reference("s3://acme", "embedder")),
        ("s3://acme/a/b/embedder@v3", Reference("s3://acme/a/b", "embedder", None, 3)),
        (
            f"gs://acme/embedder@v3@{DIGEST}",
            Reference(registry="gs://acme", model="embedder", channel=None, version=3, digest=DIGEST),
        ),
        (
            f"embedder@{DIGEST}",
            Reference(registry="", model="embedder", channel="current", version=None, digest=DIGEST),
        ),
        (
            f"embedder@pr-17@{DIGEST}",
            Reference(registry="", model="embedder", channel="pr-17", version=None, digest=DIGEST),
        ),
        ("az://account/container/embedder", Reference("az://account/container", "embedder")),
        ("https://models.example/x/embedder", Reference("https://models.example/x", "embedder")),
        ("file:///srv/models/embedder", Reference("/srv/models", "embedder")),
        ("file:///embedder", Reference("/", "embedder")),
        ("/srv/models/embedder", Reference("/srv/models", "embedder")),
        ("/embedder", Reference("/", "embedder")),
        ("./embedder", Reference(".", "embedder")),
        ("../models//embedder", Reference("../models", "embedder")),
        ("~/embedder", Reference("~", "embedder")),
        ("./a@b/embedder@v1", Reference("./a@b", "embedder", None, 1)),
    ],
)
def test_spellings(text: str, expected: Reference) -> None:
    assert parse_reference(text) == expected


def test_a_bare_name_lives_in_the_default_registry() -> None:
    assert parse_reference("embedder@v2", "s3://acme").registry == "s3://acme"
    assert parse_reference("./embedder@v2", "s3://acme").registry == "."


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "@v1",
        "s3://",
        "s3:///embedder",
        "s3://embedder",
        "s3://acme/",
        "ftp://acme/embedder",
        "http://acme/embedder",
        "file://models/embedder",
        "models/embedder",
        "Embedder",
        "embedder@",
        "embedder@v0",
        "embedder@v1@v2",
        "embedder@v1@staging",
        "embedder@v1@sha256:abc",
        f"embedder@{DIGEST}@v1",
        f"embedder@v1@{DIGEST.upper()}",
        f"embedder@v1@{DIGEST}@x",
        "embedder@builds",
        "s3://a\0b/embedder",
        "s3://a\nb/embedder",
        "./embedder\n",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


def test_a_bucket_without_a_model_is_said_to_lack_one() -> None:
    with pytest.raises(UsageError, match="names no model"):
        parse_reference("s3://acme-models")
