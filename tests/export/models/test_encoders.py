"""The text encoders people use most: small checkpoints with their own tokenizers, asked as in a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import transformers

from modeldrop.export.models.family import CLASSES
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.self_test import self_test
from modeldrop.storage.write import open_store
from tests.export.building import answers, build
from tests.helpers import tei
from tests.helpers.builds import publish_folder
from tests.helpers.checkpoints import distilbert, make_embedder, mpnet, qwen, roberta, xlm_roberta

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.export.building import Built

pytestmark = pytest.mark.heavy

VECTORS = ("cosine_mean", "cosine_min", "neighbours")
SCORES = ("correlation", "kendall_tau", "top10")
TEXTS = ["the harbour at night", "Größe und 谢谢", "x"]
PAIRS = [("How do I bake bread?", "Fold the dough four times."), ("x", "Il treno notturno tra Vienna e Roma")]


EMBEDDERS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "MPNet": (mpnet, "mean_tokens"),
    "multilingual MiniLM": (xlm_roberta, "mean_tokens"),
    "Qwen": (lambda folder: qwen(folder, "Qwen3Model"), "lasttoken"),
}


@pytest.fixture(scope="module", params=EMBEDDERS)
def embedder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("embedder")
    checkpoint, pooling = EMBEDDERS[request.param]
    source = make_embedder(
        checkpoint(folder / "source"), {f"pooling_mode_{pooling}": True}, dense=False, normalize=True
    )
    return build(folder, source, VECTORS, ("int8",))


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("reranker")
    source = xlm_roberta(folder / "source", "XLMRobertaForSequenceClassification")
    return build(folder, source, SCORES, ("int8",))


@pytest.fixture(scope="module", params=[roberta, distilbert], ids=["RoBERTa", "DistilBERT"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("classifier")
    return build(folder, request.param(folder / "source"), CLASSES, ("int8",))


def asked(built: Built, inputs: list[str] | list[tuple[str, str]], output: str) -> np.ndarray:
    """What a service gets that knows of token ids and masks."""
    return answers(built.output, inputs, output, taken={"input_ids", "attention_mask"})


def original(built: Built, kind: type, texts: list[str], *others: list[str]) -> np.ndarray:
    tokenizer = transformers.AutoTokenizer.from_pretrained(built.source)
    inputs = tokenizer(texts, *others, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return np.asarray(kind.from_pretrained(built.source)(**inputs).logits.numpy())  # type: ignore[attr-defined]


def as_tei_opens_it(built: Built, folder: Path) -> tei.Tei:
    """The version in fp32, published and fetched for it."""
    version = publish_folder(open_store(str(folder / "registry")), "model", built.output).version
    reference = f"{folder / 'registry'}/model@v{version.number}"
    return tei.open_folder(fetch(reference, folder / "home", variant="fp32", consumer="tei").path)


def passes_its_self_test(built: Built) -> None:
    for variant in built.manifest.variants:
        assert self_test(built.output, built.manifest, variant).passed


def test_an_embedder_answers_as_sentence_transformers(embedder: Built) -> None:
    from sentence_transformers import SentenceTransformer

    manifest = embedder.manifest
    assert (manifest.task, manifest.max_length) == ("feature-extraction", 128)
    assert set(manifest.variants[0].fidelity.metrics) == {*VECTORS, "max_abs"}
    expected = SentenceTransformer(str(embedder.source), device="cpu").encode(TEXTS)
    assert np.allclose(asked(embedder, TEXTS, "sentence_embedding"), expected, atol=1e-5)
    passes_its_self_test(embedder)


def test_an_embedders_folder_is_one_that_sentence_transformers_loads(embedder: Built) -> None:
    from sentence_transformers import SentenceTransformer

    loaded = SentenceTransformer(
        str(embedder.output), device="cpu", backend="onnx", model_kwargs={"file_name": "onnx/model.onnx"}
    )
    assert np.allclose(loaded.encode(TEXTS), asked(embedder, TEXTS, "sentence_embedding"), atol=1e-5)


def test_a_reranker_is_asked_pairs(reranker: Built) -> None:
    manifest = reranker.manifest
    # Two positions are never used: they begin after the padding token's.
    assert (manifest.task, manifest.labels, manifest.max_length) == ("text-classification", ("LABEL_0",), 256)
    assert set(manifest.variants[0].fidelity.metrics) == {*SCORES, "max_abs"}
    questions, passages = ([pair[side] for pair in PAIRS] for side in (0, 1))
    expected = original(reranker, transformers.AutoModelForSequenceClassification, questions, passages)
    assert np.allclose(asked(reranker, PAIRS, "logits"), expected, atol=1e-4)
    passes_its_self_test(reranker)


def test_a_classifier_keeps_its_labels(classifier: Built) -> None:
    manifest = classifier.manifest
    assert manifest.task == "text-classification"
    assert [name.lower() for name in manifest.labels] in (
        ["negative", "neutral", "positive"],
        ["negative", "positive"],
    )
    expected = original(classifier, transformers.AutoModelForSequenceClassification, TEXTS)
    assert np.allclose(asked(classifier, TEXTS, "logits"), expected, atol=1e-4)
    passes_its_self_test(classifier)


def test_tei_embeds_as_sentence_transformers_does(embedder: Built, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    opened = as_tei_opens_it(embedder, tmp_path)
    assert (opened.kind in {"mean", "last-token"}, opened.longest) == (True, 128)
    expected = SentenceTransformer(str(embedder.source), device="cpu").encode(TEXTS)
    assert np.allclose(opened.embed(TEXTS), expected, atol=1e-5)


def test_tei_ranks_and_classifies_as_the_original_does(reranker: Built, classifier: Built, tmp_path: Path) -> None:
    opened = as_tei_opens_it(reranker, tmp_path / "reranker")
    assert opened.kind == "reranker"
    pairs = [[pair[side] for pair in PAIRS] for side in (0, 1)]
    kind = transformers.AutoModelForSequenceClassification
    assert np.allclose(opened.predict(PAIRS), original(reranker, kind, *pairs), atol=1e-4)
    opened = as_tei_opens_it(classifier, tmp_path / "classifier")
    assert opened.kind == "classifier"
    assert np.allclose(opened.predict(TEXTS), original(classifier, kind, TEXTS), atol=1e-4)
