from __future__ import annotations

import pytest

from modeldrop.config import RegistrySettings, parse_config
from modeldrop.errors import RecipeError, UsageError
from modeldrop.format.reference import parse_registry

WHOLE = """
[registries.prod]
url = "s3://acme-models/team/"
endpoint = "https://minio.acme.example:9000/"
region = "eu-central-1"
encryption-key = "alias/models"
tags = { team = "search", cost-centre = "42" }

[registries.public]
url = "gs://acme-public"
anonymous = true

[registries.here]
url = "./models"
"""


def test_a_registry_is_found_by_its_name_its_url_and_any_spelling_of_it() -> None:
    settings = parse_config(WHOLE)
    prod = RegistrySettings(
        url="s3://acme-models/team",
        endpoint="https://minio.acme.example:9000",
        region="eu-central-1",
        encryption_key="alias/models",
        tags={"team": "search", "cost-centre": "42"},
        section="prod",
    )
    for spelling in ("prod", "s3://acme-models/team", "s3://acme-models/team/"):
        assert settings.registry(spelling) == prod
    assert settings.registry("public").anonymous
    assert settings.registry("s3://acme-models/other") == RegistrySettings("s3://acme-models/other")
    assert settings.registry("/srv/models") == RegistrySettings("/srv/models")


MANY = """
[registries.lab]
url = "s3://models"
endpoint = "https://minio.lab.acme.dev"
[registries.team]
url = "s3://models/team"
endpoint = "https://minio.team.acme.dev"
[registries.account]
url = "az://acmemodels"
endpoint = "https://blobs.acme.dev/acmemodels"
[registries.gcs]
url = "gs://models/a/"
anonymous = true
[registries.cdn]
url = "https://CDN.acme.dev/models"
anonymous = true
[registries.folder]
url = "file:///srv/models/"
[registries.point]
url = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/models"
region = "eu-west-1"
"""


@pytest.mark.parametrize(
    ("given", "section"),
    [
        ("s3://models", "lab"),
        ("s3://models/", "lab"),
        ("s3://models/tea", "lab"),
        ("s3://models/teams/embedder", "lab"),
        ("s3://models/team", "team"),
        ("s3://models/team/", "team"),
        ("s3://models/team/deep/er", "team"),
        ("s3://models-eu", ""),
        ("s3://model", ""),
        ("s3://models.eu/team", ""),
        ("gs://models", ""),
        ("gs://models/a", "gcs"),
        ("gs://models/a/b/", "gcs"),
        ("gs://models/ab", ""),
        ("az://acmemodels/models", "account"),
        ("az://acmemodels/other/team", "account"),
        ("az://acmemodels2/models", ""),
        ("https://cdn.acme.dev/models", "cdn"),
        ("https://CDN.ACME.DEV:443/models/team", "cdn"),
        ("https://cdn.acme.dev:8443/models", ""),
        ("https://cdn.acme.dev/Models", ""),
        ("/srv/models", "folder"),
        ("file:///srv/models/team", "folder"),
        ("/srv/models/../models", "folder"),
        ("/srv/models-eu", ""),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/models/team", "point"),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/models2", ""),
    ],
)
def test_the_table_with_the_longest_start_of_a_url_applies(given: str, section: str) -> None:
    settings = parse_config(MANY)
    found = settings.registry(given)
    assert found.section == section
    assert found.url == parse_registry(given)
    known = settings.registries.get(section, RegistrySettings(""))
    assert found._replace(url=known.url) == known


def test_two_tables_of_one_url_must_agree() -> None:
    same = "[registries.one]\nurl='s3://acme'\nregion='a'\n[registries.two]\nurl='s3://acme/'\nregion='{}'\n"
    assert parse_config(same.format("a")).registry("s3://acme/x").region == "a"
    words = r"\[registries.one\] and \[registries.two\] have the same url, s3://acme, and different settings: region"
    with pytest.raises(RecipeError, match=words):
        parse_config(same.format("b"))
    hosts = "[registries.a]\nurl='https://CDN.acme.dev/m'\n[registries.b]\nurl='https://cdn.acme.dev:443/m'\nanonymous=true\n"
    with pytest.raises(RecipeError, match=r"\[registries.a\] and \[registries.b\]"):
        parse_config(hosts)


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(UsageError, match="'staging' is not the name of a registry") as caught:
        parse_config(WHOLE).registry("staging")
    assert "here, prod, public" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[registries", "is not TOML"),
        ("[registry.prod]\nurl='s3://acme'", "registry: unknown key; the known ones are: models, registries"),
        ("registries = 3", "registries: must be an object"),
        ("[registries.prod]", "registries.prod.url: is missing"),
        ("[registries.Prod]\nurl='s3://acme'", "registries.Prod: a name has small letters"),
        ("[registries.prod]\nurl='s3://acme'\nacces_key='x'", "registries.prod.acces_key: unknown key"),
        ("[registries.prod]\nurl='ftp://acme'", "'ftp' is not a scheme"),
        ("[registries.prod]\nurl='s3://acme'\nendpoint='minio:9000'", "endpoint: must begin with https://"),
        ("[registries.prod]\nurl='s3://acme'\nendpoint='https://me:pw@minio'", "must not hold a user name"),
        ("[registries.prod]\nurl='s3://acme'\nanonymous='yes'", "anonymous: must be true or false"),
        ("[registries.prod]\nurl='s3://acme'\nencryption='aes'", "encryption: must be one of AES256, aws:kms"),
        ("[registries.prod]\nurl='s3://acme'\nacl='everybody'", "acl: must be one of private"),
        ("[registries.prod]\nurl='gs://acme'\nacl='private'", "acl: is for s3:// registries"),
        (
            "[registries.prod]\nurl='s3://acme'\nencryption='AES256'\nencryption-key='k'",
            "encryption: cannot be AES256 beside an encryption-key",
        ),
        ("[registries.prod]\nurl='s3://acme'\ntags={a=1}", "registries.prod.tags.a: must be a string"),
        (
            "[registries.prod]\nurl='s3://acme'\n[registries.prod.tags]\n" + "\n".join(f"t{n}='x'" for n in range(11)),
            "has 11 tags; at most 10",
        ),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_config(text, "team.toml")
    assert message in caught.value.message
    assert caught.value.message.startswith("team.toml")
    assert "pw" not in str(caught.value)
