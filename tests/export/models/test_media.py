"""What sees and hears, built from small checkpoints: embedders of pictures, detectors, letters and kinds of sounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from modeldrop.export.models.family import BOXES, CLASSES, FRAMES
from modeldrop.export.models.shared.media import sounds
from tests.export.building import Built, build
from tests.export.media_checks import VECTORS, check_boxes, check_vectors, passes_its_self_test, session_of
from tests.helpers.media_checkpoints import RATE, detr, dinov2, resnet_body, siglip_vision, wav2vec2, yolos

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.heavy


def test_pictures_are_embedded_as_transformers_does(tmp_path: Path) -> None:
    built = build(tmp_path, dinov2(tmp_path / "source"), VECTORS, ("int8",))
    check_vectors(built, 64)
    passes_its_self_test(built, "cosine_min")


@pytest.mark.soak
@pytest.mark.parametrize(("make", "width"), [(siglip_vision, 64), (resnet_body, 32)])
def test_other_bodies_embed_too(make: Callable[[Path], Path], width: int, tmp_path: Path) -> None:
    built = build(tmp_path, make(tmp_path / "source"), VECTORS, ("fp16", "openvino-fp16"))
    check_vectors(built, width)
    passes_its_self_test(built, "cosine_min")


def test_things_are_found_where_transformers_finds_them(tmp_path: Path) -> None:
    built = build(tmp_path, yolos(tmp_path / "source"), BOXES, ("int8",))
    check_boxes(built)
    passes_its_self_test(built, "boxes")


@pytest.mark.soak
def test_a_detector_of_convolutions_is_halved(tmp_path: Path) -> None:
    built = build(tmp_path, detr(tmp_path / "source"), BOXES, ("fp16", "openvino-fp16"))
    check_boxes(built)
    passes_its_self_test(built, "boxes")


def heard(built: Built, count: int = 3) -> dict[str, np.ndarray]:
    """A batch of recordings, as the version's own files make it."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(built.output)
    batch = extractor([sound for _, sound in sounds(RATE)][:count], sampling_rate=RATE, return_tensors="np")
    return {"input_values": np.asarray(batch["input_values"], np.float32)}


def test_letters_are_heard_as_transformers_hears_them(tmp_path: Path) -> None:
    built = build(tmp_path, wav2vec2(tmp_path / "source"), FRAMES, ("int8",))
    manifest = built.manifest
    assert (manifest.task, manifest.problem) == ("automatic-speech-recognition", "ctc")
    for variant in manifest.variants:
        assert list(variant.graphs) == ["model"]
        assert set(variant.fidelity.metrics) == set(FRAMES)
    assert manifest.variants[0].fidelity.metrics["transcript"] == 1.0
    batch = heard(built)
    mine = session_of(built).run(["logits"], batch)[0].argmax(-1)
    with torch.inference_mode():
        its = transformers.AutoModelForCTC.from_pretrained(built.source)(torch.tensor(batch["input_values"])).logits
    theirs = transformers.AutoTokenizer.from_pretrained(built.output).batch_decode(its.argmax(-1))
    # Without transformers, and as a service would do it.
    backend = Tokenizer.from_file(str(built.output / "tokenizer.json"))
    assert [backend.decode(row.tolist()).strip() for row in mine] == theirs
    assert any(len(text) > 5 for text in theirs)
    passes_its_self_test(built, "transcript")


@pytest.mark.soak
def test_sounds_are_classified_as_transformers_does(tmp_path: Path) -> None:
    source = wav2vec2(tmp_path / "source", "Wav2Vec2ForSequenceClassification")
    built = build(tmp_path, source, CLASSES, ("fp16", "int8", "openvino-fp16"))
    manifest = built.manifest
    assert (manifest.task, len(manifest.labels)) == ("audio-classification", 4)
    assert set(manifest.variants[0].fidelity.metrics) == set(CLASSES)
    batch = heard(built)
    with torch.inference_mode():
        model = transformers.AutoModelForAudioClassification.from_pretrained(source)
        its = model(torch.tensor(batch["input_values"])).logits
    assert np.allclose(session_of(built).run(["logits"], batch)[0], its.numpy(), atol=1e-4)
    passes_its_self_test(built, "cosine_min")
