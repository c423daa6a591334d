"""A reranker that is really trained keeps its order in 8 bits: the same ten of thirty passages come first.

It trains for two minutes: ``make soak``. What the figures of an order mean is counted in ``tests/inference``.
"""

from __future__ import annotations

from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from modeldrop.format.manifest import Manifest, parse_manifest
from tests.export.building import COLUMNS
from tests.export.trained import PASSAGES, TAUGHT, UNSEEN, belonging, train_reranker
from tests.helpers.command_line import modeldrop

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from modeldrop.format.manifest import Variant

pytestmark = [pytest.mark.heavy, pytest.mark.soak]

GRAPHS = {"int8": "model_quantized.onnx", "int8-accurate": "model_int8.onnx"}
# What the build is proven on: of every topic one question that was taught, and one that was not.
PROVEN = (*tuple(TAUGHT)[::10], *tuple(UNSEEN)[::2])


@pytest.fixture(scope="module")
def trained(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_reranker(minilm, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def original(trained: Path) -> dict[str, np.ndarray]:
    """PyTorch's scores of all passages, by question."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(trained).eval()
    scores = {}
    for question in (*TAUGHT, *UNSEEN):
        with torch.inference_mode():
            inputs = tokenizer([question] * len(PASSAGES), list(PASSAGES), padding=True, return_tensors="pt")
            scores[question] = model(**inputs).logits[:, 0].numpy()
    return scores


@pytest.fixture(scope="module")
def built(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built with the default thresholds."""
    folder = tmp_path_factory.mktemp("reranker")
    pairs = (f"{question}\t{passage}\n" for question in PROVEN for passage in PASSAGES)
    (folder / "pairs.txt").write_text("".join(pairs), "utf-8")
    (folder / "recipe.toml").write_text(f'texts = "pairs.txt"\nvariants = {["fp32", *GRAPHS]}\n')
    ran = modeldrop("build", trained, "-o", folder / "out", "--recipe", folder / "recipe.toml")
    assert ran.code == 0, ran.err
    return folder / "out"


@pytest.fixture(scope="module")
def manifest(built: Path) -> Manifest:
    return parse_manifest((built / "manifest.json").read_bytes())


class Reranker:
    """The built folder in a service that has onnxruntime and tokenizers alone."""

    def __init__(self, folder: Path, variant: str) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(folder / "onnx" / GRAPHS[variant])

    def scores(self, question: str) -> np.ndarray:
        """Of all passages, in one batch."""
        return self.run([(question, passage) for passage in PASSAGES])

    def run(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        self.tokenizer.enable_padding()
        encodings = self.tokenizer.encode_batch(list(pairs))
        feeds = {name: np.array([getattr(one, column) for one in encodings]) for name, column in COLUMNS.items()}
        return np.asarray(self.session.run(["logits"], feeds)[0])[:, 0]


@pytest.fixture(scope="module", params=GRAPHS)
def variant(request: pytest.FixtureRequest, manifest: Manifest) -> Variant:
    found = manifest.variant(request.param)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def reranker(built: Path, variant: Variant) -> Reranker:
    return Reranker(built, variant.name)


def best(scores: Any) -> set[int]:
    return set(sorted(range(len(scores)), key=lambda index: -scores[index])[:10])


def kept(one: Any, other: Any) -> float:
    return len(best(one) & best(other)) / 10


def kendall(one: Any, other: Any) -> float:
    """Counted pair by pair."""
    same = [(one[a] > one[b]) == (other[a] > other[b]) for a, b in combinations(range(len(one)), 2)]
    return 2 * fmean(same) - 1


def test_it_has_learned_what_it_was_taught(original: dict[str, np.ndarray]) -> None:
    """Scores of a model that knows nothing have an order, too; it would mean nothing."""
    for question, topic in TAUGHT.items():
        assert best(original[question]) == belonging(topic), question
    found = [len(best(original[question]) & belonging(topic)) for question, topic in UNSEEN.items()]
    assert fmean(found) > 8
    assert fmean(scores.std() for scores in original.values()) > 0.5


def test_the_same_ten_passages_come_first(reranker: Reranker, original: dict[str, np.ndarray]) -> None:
    assert [question for question in TAUGHT if kept(reranker.scores(question), original[question]) < 1] == []


def test_questions_that_it_never_saw_keep_their_passages(reranker: Reranker, original: dict[str, np.ndarray]) -> None:
    """Where the tenth and the eleventh are as good as equal, they may change places."""
    shares = [kept(reranker.scores(question), original[question]) for question in UNSEEN]
    assert min(shares) >= 0.9
    assert fmean(shares) >= 0.95


def test_the_manifest_has_what_anybody_can_count(
    variant: Variant, reranker: Reranker, original: dict[str, np.ndarray]
) -> None:
    """The worse of every pair alone, and of batches of eight of about one length."""
    pairs = [(question, passage) for question in PROVEN for passage in PASSAGES]
    reranker.tokenizer.no_padding()
    order = sorted(range(len(pairs)), key=lambda index: len(reranker.tokenizer.encode(*pairs[index])))
    batched = np.empty(len(pairs))
    for begin in range(0, len(pairs), 8):
        batched[order[begin : begin + 8]] = reranker.run([pairs[index] for index in order[begin : begin + 8]])
    alone = np.concatenate([reranker.run([pair]) for pair in pairs])
    counted = {"kendall_tau": kendall, "top10": kept}
    for name, count in counted.items():
        values = [
            fmean(
                count(scores, original[question])
                for question, scores in zip(PROVEN, np.split(run, len(PROVEN)), strict=True)
            )
            for run in (alone, batched)
        ]
        assert variant.fidelity.metrics[name] == pytest.approx(min(values), abs=1e-6), name
        assert name in variant.fidelity.thresholds
