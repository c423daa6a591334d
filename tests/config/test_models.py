from __future__ import annotations

import pytest

from modeldrop.config import parse_config
from modeldrop.errors import RecipeError
from modeldrop.model_settings import ModelSettings, read_models

WHOLE = """
[registries.prod]
url = "s3://acme-models"

[models.embedder]
source = "sentence-transformers/all-MiniLM-L6-v2"
registry = ["prod", "./models"]
channel = "staging"
test = "python checks/embedder.py"
recipe = "recipes/embedder.toml"
task = "feature-extraction"
variants = ["fp32", "int8"]
texts = "texts.txt"
metric = "quality:accuracy"
[models.embedder.thresholds.int8]
cosine_mean = 0.98
[models.embedder.fetch]
variant = "int8"

[models.reranker]
source = "./checkpoints/reranker"
"""


def test_models_are_read_and_their_paths_are_relative_to_the_file() -> None:
    embedder, reranker = read_models(parse_config(WHOLE, folder="/srv/my models")).values()
    assert embedder == ModelSettings(
        name="embedder",
        source="sentence-transformers/all-MiniLM-L6-v2",
        registries=("prod", "/srv/my models/models"),
        channel="staging",
        test="python checks/embedder.py",
        recipe_file="/srv/my models/recipes/embedder.toml",
        recipe={
            "task": "feature-extraction",
            "variants": ["fp32", "int8"],
            "inputs": "/srv/my models/texts.txt",
            "metric": "/srv/my models/quality:accuracy",
            "thresholds": {"int8": {"cosine_mean": 0.98}},
        },
        variant="int8",
    )
    assert reranker == ModelSettings("reranker", "/srv/my models/checkpoints/reranker")
    assert read_models(parse_config(WHOLE))["reranker"].source == "./checkpoints/reranker"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[models]\nembedder = 3", "models.embedder: must be an object"),
        ("[models.Embedder]\nsource = 'a/b'", "models.Embedder: a name has small letters"),
        ("[models.e]", "models.e.source: is missing"),
        ("[models.e]\nsource = ' '", "models.e.source: must not be empty"),
        ("[models.e]\nsource = 'a/b'\nchanel = 'x'", "models.e.chanel: unknown key; the known ones are: "),
        ("[models.e]\nsource = 'a/b'\nchannel = 'v3'", "models.e.channel: 'v3' cannot name a channel"),
        ("[models.e]\nsource = 'a/b'\nregistry = 3", "models.e.registry: must be a list"),
        ("[models.e]\nsource = 'a/b'\nregistry = ''", "models.e.registry: must not be empty"),
        ("[models.e]\nsource = 'a/b'\nregistry = ['p', 'p']", "models.e.registry: 'p' is named twice"),
        ("[models.e]\nsource = 'a/b'\ntest = ['x']", "models.e.test: must be a string"),
        ("[models.e]\nsource = 'a/b'\ntest = ''", "models.e.test: must not be empty"),
        ("[models.e]\nsource = 'a/b'\nvariants = ['fp32', 'int7']", "models.e.variants[1]: 'int7'"),
        ("[models.e]\nsource = 'a/b'\n[models.e.thresholds.int8]\nx = 1", "models.e.thresholds.int8.x: "),
        ("[models.e]\nsource = 'a/b'\n[models.e.fetch]\nvariants = 'fp32'", "models.e.fetch.variants: unknown key"),
        ("[models.e]\nsource = 'a/b'\n[models.e.fetch]\nvariant = '../x'", "models.e.fetch.variant: '../x'"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    settings = parse_config(text, "team.toml")
    with pytest.raises(RecipeError) as caught:
        read_models(settings)
    assert caught.value.message.startswith(f"team.toml: {message}")


def test_who_needs_no_models_does_not_read_them() -> None:
    assert parse_config("[registries.p]\nurl = 's3://acme'\n[models.e]\nsorce = 'a/b'").registry("p").url == "s3://acme"
    with pytest.raises(RecipeError, match="models: must be an object"):
        parse_config("models = 3")
