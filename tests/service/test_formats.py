"""The example service on a model that writes, without transformers; and on a graph of OpenVINO."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from examples.service.modelservice.classifying import prompt
from modeldrop.export.builtin_texts import BUILT_IN
from tests.export.recipes import loosened
from tests.helpers.checkpoints import edit_weights, t5
from tests.helpers.command_line import modeldrop
from tests.service.running import Service

pytestmark = pytest.mark.heavy

LABELS = ["positive", "negative"]
TEXTS = [text[: 7 * (number + 1)] for number, text in enumerate(BUILT_IN[:8])]
OPENVINO = {"SERVICE_RERANK_VARIANT": "openvino-int8", "SERVICE_EMBED": "", "SERVICE_VARIANT": "auto"}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that writes sometimes more, sometimes less."""
    return edit_weights(t5(tmp_path_factory.mktemp("writer") / "source"), _end_sooner)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, published: Path, writer: Path) -> Path:
    """``writer`` in fp32; ``reranker`` in fp32, and in OpenVINO's int8 among others."""
    folder = tmp_path_factory.mktemp("formats") / "registry"
    shutil.copytree(published / "reranker", folder / "reranker", copy_function=os.link)
    ran = modeldrop("publish", writer, folder / "writer", "--recipe", loosened(writer, (), ()))
    assert ran.code == 0, ran.err
    return folder


def _end_sooner(tensors: dict[str, torch.Tensor]) -> None:
    tensors["lm_head.weight"][1] *= 2
    tensors["lm_head.weight"] *= 0.02  # no longer sure of every token: its probabilities can be compared


def _written(checkpoint: Path, texts: list[str]) -> list[tuple[str, float]]:
    """What transformers writes to each text on its own, and how probable that is."""
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    found = []
    for text in texts:
        inputs = tokenizer(text, return_tensors="pt", return_token_type_ids=False)
        plain: dict[str, Any] = {"do_sample": False, "num_beams": 1, "max_new_tokens": 16}
        done = model.generate(**inputs, **plain, output_scores=True, return_dict_in_generate=True)
        scores = model.compute_transition_scores(done.sequences, done.scores, normalize_logits=True)
        words = tokenizer.decode(done.sequences[0], skip_special_tokens=True).strip()
        found.append((words, float(scores.sum().exp())))
    return found


def test_it_writes_what_transformers_writes(tmp_path: Path, registry: Path, writer: Path) -> None:
    expected = _written(writer, [prompt(text, LABELS) for text in TEXTS])
    assert len({len(words) for words, _ in expected}) > 3, "they end at different steps"
    # Where onnxruntime's telemetry is on, it complains that it cannot keep the number of this device.
    settings = OPENVINO | {"SERVICE_CLASSIFY": "writer", "HOME": os.devnull}
    with Service(tmp_path, registry, settings=settings) as service:
        results = service.ask("classify", texts=TEXTS, labels=LABELS)["results"]
        assert [one["text"] for one in results] == [words for words, _ in expected]
        assert [one["score"] for one in results] == pytest.approx([chance for _, chance in expected], rel=0.02)
        assert all(0 < one["score"] < 0.999 for one in results)
        assert {one["label"] for one in results} == {None}, "it says something else than it was asked for"
        # This environment has no openvino, and the variant was asked for by name.
        rerank = service.models["rerank"]
        assert (rerank["kind"], rerank["degraded"]) == ("rules", True)
        assert "pip install openvino" in rerank["error"]
        assert "telemetry" not in service.log


def test_a_graph_of_openvino_is_run_by_openvino(tmp_path: Path, registry: Path) -> None:
    scores = {}
    for variant in ("fp32", "openvino-int8"):
        settings = OPENVINO | {"SERVICE_RERANK_VARIANT": variant, "SERVICE_CLASSIFY": ""}
        with Service(tmp_path, registry, settings=settings, python=Path(sys.executable)) as service:
            model = service.models["rerank"]
            assert (model["kind"], model["variant"]) == ("model", variant)
            assert model["backend"].startswith("openvino/CPU") == variant.startswith("openvino")
            answer = service.ask("rerank")
            assert answer["served_by"]["variant"] == variant
            scores[variant] = {one["index"]: one["score"] for one in answer["results"]}
    assert scores["fp32"] != scores["openvino-int8"]
    near = [scores["openvino-int8"][index] for index in scores["fp32"]]
    assert np.allclose(list(scores["fp32"].values()), near, atol=0.05)
