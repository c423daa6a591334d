from __future__ import annotations

import pytest

from modeldrop.config import RegistrySettings, parse_config
from modeldrop.errors import RecipeError, UsageError

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
    )
    for spelling in ("prod", "s3://acme-models/team", "s3://acme-models/team/"):
        assert settings.registry(spelling) == prod
    assert settings.registry("public").anonymous
    assert settings.registry("s3://acme-models/other") == RegistrySettings("s3://acme-models/other")
    assert settings.registry("/srv/models") == RegistrySettings("/srv/models")


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
