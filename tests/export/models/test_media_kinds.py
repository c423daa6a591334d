"""More kinds of what sees and hears, each built from its configuration and asked as transformers asks it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from modeldrop.export.models.clip.worker import LABELS
from modeldrop.export.models.family import BOXES, CLASSES, FRAMES
from modeldrop.export.models.shared.media import pictures
from modeldrop.format.manifest import parse_manifest
from modeldrop.format.tasks import MULTI_LABEL
from tests.export.building import Built, build
from tests.export.media_checks import VECTORS, check_boxes, check_vectors, passes_its_self_test, seen, session_of
from tests.export.recipes import loosened
from tests.helpers.command_line import modeldrop
from tests.helpers.media_checkpoints import (
    RATE,
    audio_spectrogram_transformer,
    clip_vision,
    d_fine,
    hubert,
    rt_detr,
    siglip,
    swin,
    table_transformer,
    whisper_classifier,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.heavy, pytest.mark.soak]

ALL = ("fp16", "int8", "openvino-fp16", "openvino-int8")


def check_scores(built: Built, inputs: dict[str, np.ndarray], kind: Any) -> None:
    """A batch gets the scores that transformers gives."""
    with torch.inference_mode():
        its = kind.from_pretrained(built.source)(**{name: torch.tensor(one) for name, one in inputs.items()}).logits
    assert np.allclose(session_of(built).run(["logits"], inputs)[0], its.numpy(), atol=1e-4)


def test_pictures_are_compared_with_texts_of_one_length(tmp_path: Path) -> None:
    built = build(tmp_path, siglip(tmp_path / "source"), (*CLASSES, "top5"), ALL)
    assert (built.manifest.task, built.manifest.max_length) == ("zero-shot-image-classification", 64)
    # As a service without transformers does it: tokenizer.json pads by itself.
    encodings = Tokenizer.from_file(str(built.output / "tokenizer.json")).encode_batch(list(LABELS[:3]))
    ids = np.array([one.ids for one in encodings], np.int64)
    assert ids.shape == (3, 64)
    batch, _ = seen(built, 2)
    mine = session_of(built).run(["logits_per_image"], batch | {"input_ids": ids})[0]
    model = transformers.AutoModel.from_pretrained(built.source)
    tokenizer = transformers.AutoTokenizer.from_pretrained(built.source)
    read = tokenizer(list(LABELS[:3]), padding="max_length", max_length=64, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        its = model(input_ids=read["input_ids"], pixel_values=torch.tensor(batch["pixel_values"])).logits_per_image
    assert np.allclose(mine, its.numpy(), atol=1e-4)
    passes_its_self_test(built, "cosine_min")


def test_windows_that_are_shifted(tmp_path: Path) -> None:
    built = build(tmp_path, swin(tmp_path / "source"), (*CLASSES, "top5"), ALL)
    check_scores(built, seen(built)[0], transformers.AutoModelForImageClassification)
    passes_its_self_test(built, "cosine_min")


def test_the_part_of_clip_that_sees(tmp_path: Path) -> None:
    built = build(tmp_path, clip_vision(tmp_path / "source"), VECTORS, ALL)
    check_vectors(built, 64)
    passes_its_self_test(built, "cosine_min")


def test_tables_are_found(tmp_path: Path) -> None:
    built = build(tmp_path, table_transformer(tmp_path / "source"), BOXES, ALL)
    check_boxes(built)
    passes_its_self_test(built, "boxes")


@pytest.mark.parametrize("make", [rt_detr, d_fine])
def test_detectors_whose_labels_are_scored_alone(make: Callable[[Path], Path], tmp_path: Path) -> None:
    # So small, D-FINE has no weights that OpenVINO would make smaller.
    variants = ALL if make is rt_detr else ALL[:-1]
    built = build(tmp_path, make(tmp_path / "source"), BOXES, variants)
    assert built.manifest.problem == MULTI_LABEL
    assert built.manifest.variants[0].fidelity.metrics["boxes"] == 1.0
    passes_its_self_test(built, "boxes")


def test_another_model_that_hears_letters(tmp_path: Path) -> None:
    built = build(tmp_path, hubert(tmp_path / "source"), FRAMES, ALL)
    assert built.manifest.variants[0].fidelity.metrics["transcript"] == 1.0
    passes_its_self_test(built, "transcript")


@pytest.mark.parametrize("make", [audio_spectrogram_transformer, whisper_classifier])
def test_spectrograms_are_classified(make: Callable[[Path], Path], tmp_path: Path) -> None:
    built = build(tmp_path, make(tmp_path / "source"), CLASSES, ALL)
    assert (built.manifest.task, len(built.manifest.labels)) == ("audio-classification", 4)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(built.output)
    name = extractor.model_input_names[0]
    # Another length of sound, and another batch than was traced.
    sounds = [np.sin(np.arange(RATE * part // 2) * step) for part, step in ((1, 0.05), (3, 0.2), (2, 0.01))]
    heard = extractor(sounds, sampling_rate=RATE, return_tensors="np")
    check_scores(built, {name: np.asarray(heard[name], np.float32)}, transformers.AutoModelForAudioClassification)
    passes_its_self_test(built, "cosine_min")


@pytest.mark.parametrize(("make", "metrics"), [(rt_detr, BOXES), (swin, (*CLASSES, "top5"))])
def test_openvino_runs_what_static_int8_is(
    make: Callable[[Path], Path], metrics: tuple[str, ...], tmp_path: Path
) -> None:
    """The graph of fixed ranges is one that OpenVINO reads as it is, and answers as onnxruntime does."""
    source = make(tmp_path / "source")
    processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
    pixels = processor([picture for _, picture in pictures()], return_tensors="np")["pixel_values"]
    np.savez(tmp_path / "calibration.npz", pixel_values=pixels)
    recipe = loosened(tmp_path, metrics, ("int8-static", "openvino-fp16"))
    recipe.write_text(f'calibration = "calibration.npz"\n{recipe.read_text()}')
    ran = modeldrop("build", source, "-o", tmp_path / "out", "--recipe", recipe)
    assert ran.code == 0, ran.err
    built = Built(source, tmp_path / "out", parse_manifest((tmp_path / "out/manifest.json").read_bytes()))
    passes_its_self_test(built, "boxes" if metrics is BOXES else "cosine_min")
    static = built.manifest.variant("int8-static")
    assert static is not None
    path = built.output / static.model
    session = onnxruntime.InferenceSession(path)
    names = [tensor.name for tensor in session.get_outputs()]
    wanted = session.run(names, {"pixel_values": pixels[:2]})
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled({"pixel_values": pixels[:2]})
    for name, one in zip(names, wanted, strict=True):
        mine, its = (np.sort(side, axis=1) if metrics is BOXES else side for side in (found[name], one))
        # Where a number lies between two steps, one rounds up and the other down: the answers are near, not equal.
        assert np.corrcoef(mine.ravel(), its.ravel())[0, 1] > 0.95, name
