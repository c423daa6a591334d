"""Which exporter makes a model's graphs, and what neither of them knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modeldrop.errors import RecipeError, TaskError
from modeldrop.export.preflight.checks import check_request
from modeldrop.export.request import make_request
from modeldrop.export.sources import resolve_source
from modeldrop.format.recipe import Recipe, parse_recipe
from tests.export.source_folders import safetensors

TOKENIZER = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
EMBEDDER = [
    {"type": f"sentence_transformers.models.{kind}", "path": path}
    for kind, path in (("Transformer", ""), ("Pooling", "1_Pooling"))
]


def source(folder: Path, kind: str, architecture: str, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"model_type": kind, "architectures": [architecture], "vocab_size": 100} | more
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(b"one")} | TOKENIZER
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def chosen(folder: Path, recipe: Recipe = Recipe()) -> str:  # noqa: B008  it is immutable
    return make_request(resolve_source(str(folder)), recipe).exporter


@pytest.mark.parametrize(
    ("kind", "architecture", "saved_by", "exporter"),
    [
        ("bert", "BertModel", "4.57.6", "optimum"),
        ("bert", "BertModel", "5.24.0", "transformers"),
        ("bert", "BertForSequenceClassification", "5.1.0.dev0", "transformers"),
        ("eurobert", "EuroBertModel", "4.40.0", "transformers"),
        ("nomic_bert", "NomicBertModel", "", "transformers"),
        ("qwen3", "Qwen3Model", "4.51.0", "optimum"),
        # Not proven with transformers 5, or no encoder of texts.
        ("camembert", "CamembertModel", "5.24.0", "optimum"),
        ("qwen3", "Qwen3ForCausalLM", "5.24.0", "optimum"),
        ("vit", "ViTForImageClassification", "5.24.0", "optimum"),
    ],
)
def test_auto_takes_what_knows_the_model_as_it_was_saved(
    kind: str, architecture: str, saved_by: str, exporter: str, tmp_path: Path
) -> None:
    folder = source(tmp_path / "m", kind, architecture, transformers_version=saved_by)
    assert chosen(folder) == exporter
    assert chosen(folder, Recipe(exporter="optimum")) == "optimum"


def test_a_generator_that_embeds_is_an_encoder(tmp_path: Path) -> None:
    folder = source(tmp_path / "m", "qwen3", "Qwen3ForCausalLM", transformers_version="5.24.0")
    (folder / "modules.json").write_text(json.dumps(EMBEDDER))
    assert chosen(folder) == "transformers"


def test_the_key_counts_the_exporter_not_who_chose_it(tmp_path: Path) -> None:
    def key(folder: Path, exporter: str) -> str:
        return make_request(resolve_source(str(folder)), Recipe(exporter=exporter)).key

    old = source(tmp_path / "old", "bert", "BertModel")
    assert key(old, "auto") == key(old, "optimum") != key(old, "transformers")
    new = source(tmp_path / "new", "bert", "BertModel", transformers_version="5.24.0")
    assert key(new, "auto") == key(new, "transformers") != key(new, "optimum")


def test_a_recipe_names_an_exporter_that_there_is() -> None:
    assert parse_recipe({"exporter": "transformers"}).exporter == "transformers"
    assert "exporter" not in Recipe().to_json()
    with pytest.raises(RecipeError, match="'torch' is not an exporter"):
        parse_recipe({"exporter": "torch"})


def test_what_no_exporter_knows_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = source(tmp_path / "m", "hyperbert", "HyperBertModel")
    with pytest.raises(TaskError) as caught:
        check_request(make_request(resolve_source(str(folder)), Recipe()))
    assert "No exporter of this release knows a hyperbert model (HyperBertModel)" in caught.value.message
    assert 'exporter = "transformers"' in caught.value.hint
    assert "folder of ONNX" in caught.value.hint
    # Whoever wants to may try: what comes of it is compared.
    check_request(make_request(resolve_source(str(folder)), Recipe(exporter="transformers")))


def test_an_exporter_is_not_asked_for_what_it_does_not_make(tmp_path: Path) -> None:
    new = source(tmp_path / "new", "eurobert", "EuroBertModel")
    with pytest.raises(TaskError, match="optimum does not export a eurobert model"):
        check_request(make_request(resolve_source(str(new)), Recipe(exporter="optimum")))
    writer = source(tmp_path / "writer", "qwen3", "Qwen3ForCausalLM")
    with pytest.raises(
        TaskError, match="makes encoders of texts and pictures, and this qwen3 model is built for text-"
    ):
        check_request(make_request(resolve_source(str(writer)), Recipe(exporter="transformers")))
