"""Variants proven on the recipe's own pictures and recordings, by its own metric, as a user would."""

from __future__ import annotations

import json
import wave
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from modeldrop.errors import RecipeError
from modeldrop.export.inputs import Sample
from modeldrop.export.models.family import CLASSES, TOKENS
from modeldrop.export.models.shared.media import open_picture, read_sound
from modeldrop.export.report import render
from modeldrop.format.manifest import Manifest, parse_manifest
from tests.export.recipes import loosened
from tests.helpers.checkpoints import clip, vit, whisper
from tests.helpers.command_line import build_here, modeldrop

pytestmark = pytest.mark.heavy

RATE = 16_000
RANDOM = np.random.default_rng(11)
QUALITY = """
    import numpy as np

    def figures(original, variant, samples):
        labels = [sample.get("label", 0) for sample in samples]
        right = [int(answer.argmax()) == label for answer, label in zip(variant, labels, strict=True)]
        far = max(float(np.abs(a - b).max()) for a, b in zip(original, variant, strict=True))
        return {"accuracy": np.mean(right), "far": far, "first": variant[0].ravel()[0], "size": variant[1].size}
"""


@dataclass(frozen=True)
class Proven:
    """A checkpoint, its inputs, the version that was proven on them, and what people were told of it."""

    source: Path
    inputs: list[Path]
    manifest: Manifest
    told: str

    @property
    def original(self) -> dict[str, float]:
        """What the own metric gives of the original."""
        return dict(self.manifest.original.metrics)


def prove(
    folder: Path,
    source: Path,
    inputs: list[Path],
    lines: list[dict[str, Any]],
    metrics: tuple[str, ...],
    asked: str = "",
    variants: tuple[str, ...] = ("int8",),
) -> Proven:
    """Build fp32 and ``variants``, of which only ``asked`` is asked."""
    (folder / "inputs.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (folder / "quality.py").write_text(dedent(QUALITY), "utf-8")
    recipe = loosened(folder, metrics, variants)
    own = 'inputs = "inputs.jsonl"\nmetric = "quality:figures"\n'
    recipe.write_text(f"{own}{recipe.read_text()}\n{asked}", "utf-8")
    ran = build_here(source, folder / "out", "--recipe", recipe)
    assert ran.code == 0, ran.err
    return Proven(source, inputs, parse_manifest((folder / "out" / "manifest.json").read_bytes()), ran.out)


def picture(path: Path, *, seed: int) -> Path:
    coarse = np.random.default_rng(seed).integers(0, 256, (5 + seed, 7, 3)).astype(np.uint8)
    Image.fromarray(coarse).resize((90, 70)).save(path)
    return path


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    """A classifier of labelled pictures; one label is wrong, so that the original is not perfect."""
    folder = tmp_path_factory.mktemp("seer")
    source = vit(folder / "source")
    (folder / "pictures").mkdir()
    paths = [picture(folder / "pictures" / f"p{n}.{'png' if n % 2 else 'jpg'}", seed=n) for n in range(6)]
    best = [int(looked(source, path).argmax()) for path in paths]
    best[5] += 1
    lines = [
        {"image": f"pictures/{path.name}", "label": label, "who": "me"} for path, label in zip(paths, best, strict=True)
    ]
    asked = 'accuracy = ">= 60%"\nfar = "<= 50"\n[options.int8]\nauto = true'
    return prove(folder, source, paths, lines, (*CLASSES, "top5"), asked)


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    folder = tmp_path_factory.mktemp("matcher")
    source = clip(folder / "source")
    paths = [picture(folder / f"p{n}.png", seed=n) for n in range(3)]
    texts = [["a cat", "a dog asleep in the sun"], ["a boat", "a b", "abc"], ["x", "y"]]
    lines = [{"image": path.name, "texts": few} for path, few in zip(paths, texts, strict=True)]
    return prove(folder, source, paths, lines, CLASSES)


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Proven:
    folder = tmp_path_factory.mktemp("listener")
    source = whisper(folder / "source")
    paths = [record(folder / f"s{n}.wav", (np.sin(np.arange(RATE) / (9 + n)) * 20_000).astype("<i2")) for n in range(2)]
    return prove(folder, source, paths, [{"audio": path.name} for path in paths], TOKENS, variants=())


def looked(source: Path, path: Path) -> torch.Tensor:
    """What PyTorch makes of a picture."""
    processor = transformers.AutoImageProcessor.from_pretrained(source, use_fast=False)
    with Image.open(path) as image, torch.inference_mode():
        pixels = processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
        logits = transformers.AutoModelForImageClassification.from_pretrained(source)(pixel_values=pixels).logits
    return logits[0]  # type: ignore[no-any-return]


def record(path: Path, samples: Any, *, channels: int = 1, width: int = 2, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


def test_pictures_are_seen_as_the_model_s_own_processor_makes_them(seer: Proven) -> None:
    assert seer.original["first"] == pytest.approx(float(looked(seer.source, seer.inputs[0])[0]), abs=1e-4)
    for variant in seer.manifest.variants:
        assert variant.fidelity.texts == 6
        assert {worst.text for worst in variant.fidelity.worst.values()} <= {path.name for path in seer.inputs}


def test_an_own_metric_measures_the_original_and_every_variant(seer: Proven) -> None:
    fp32, int8 = seer.manifest.variants
    assert seer.original["accuracy"] == pytest.approx(5 / 6)
    assert seer.original["far"] == 0
    assert fp32.fidelity.metrics["accuracy"] == pytest.approx(5 / 6)
    assert int8.fidelity.metrics["far"] == pytest.approx(int8.fidelity.metrics["max_abs"], abs=1e-6)
    assert not {"accuracy", "far"} & set(fp32.fidelity.thresholds)
    assert int8.fidelity.thresholds["accuracy"] == pytest.approx(0.5)
    assert int8.fidelity.thresholds["far"] == 50


def test_a_search_meets_its_thresholds(seer: Proven) -> None:
    tries = seer.manifest.variants[1].search
    assert tries
    for one in tries:
        assert one.holds == (one.metrics["accuracy"] >= 0.5 and one.metrics["far"] <= 50)


def test_people_are_told_of_it(seer: Proven) -> None:
    assert "accuracy 0.8333 (original 0.8333)" in seer.told


def test_the_report_judges_by_it(seer: Proven) -> None:
    rows = render(seer.manifest).decode().split("<tr>")
    judged = [row for row in rows if ">accuracy<" in row and "✓ pass" in row]
    assert len(judged) == 1
    assert ">int8<" in judged[0]
    assert "≥ 0.5<" in judged[0]


def test_every_picture_has_its_own_texts(matcher: Proven) -> None:
    metrics = matcher.manifest.variants[0].fidelity.metrics
    assert set(CLASSES) <= set(metrics)
    assert "top5" not in metrics
    assert matcher.original["size"] == 3
    processor = transformers.AutoImageProcessor.from_pretrained(matcher.source, use_fast=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(matcher.source)
    with Image.open(matcher.inputs[0]) as image, torch.inference_mode():
        pixels = processor(image.convert("RGB"), return_tensors="pt")
        texts = tokenizer(["a cat", "a dog asleep in the sun"], padding=True, return_tensors="pt")
        inputs = {"input_ids": texts["input_ids"], "attention_mask": texts["attention_mask"]}
        logits = transformers.CLIPModel.from_pretrained(matcher.source)(**inputs, **pixels).logits_per_image
    assert matcher.original["first"] == pytest.approx(float(logits[0, 0]), abs=1e-3)


def test_recordings_are_heard_as_the_model_s_own_extractor_hears_them(listener: Proven) -> None:
    assert listener.manifest.variants[0].fidelity.texts == 2
    with wave.open(str(listener.inputs[0]), "rb") as file:
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    extractor = transformers.AutoFeatureExtractor.from_pretrained(listener.source)
    heard = extractor(sound, sampling_rate=RATE, return_tensors="pt")["input_features"]
    model = transformers.WhisperForConditionalGeneration.from_pretrained(listener.source)
    begin = torch.tensor([[model.config.decoder_start_token_id]])
    with torch.inference_mode():
        logits = model(input_features=heard, decoder_input_ids=begin).logits
    assert listener.original["first"] == pytest.approx(float(logits[0, 0, 0]), abs=1e-3)


def test_a_metric_that_cannot_be_loaded_is_said_first_with_its_traceback_under_debug(
    seer: Proven, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("import nowhere\ndef figures(a, b, c): ...\n")
    asked = ("build", seer.source, "-o", tmp_path / "out", "--metric", f"{tmp_path}/broken:figures")
    ran = modeldrop(*asked)
    assert ran.code == 3
    assert "broken:figures cannot be loaded: ModuleNotFoundError: No module named 'nowhere'" in ran.err
    assert "Traceback" not in ran.err
    assert "export" not in ran.err
    assert 'broken.py", line 1' in modeldrop(*asked, "--debug").err


def test_a_damaged_picture_is_refused_before_the_export(seer: Proven, tmp_path: Path) -> None:
    whole = seer.inputs[1].read_bytes()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "cut.png").write_bytes(whole[: len(whole) // 2])
    ran = modeldrop("build", seer.source, "-o", tmp_path / "out", "--inputs", tmp_path / "pictures")
    assert ran.code == 3
    assert "cut.png is a picture that cannot be read" in ran.err
    assert not (tmp_path / "out").exists()


def test_pictures_without_colours_or_too_large_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(RecipeError, match="here has values of I;16"):
        open_picture(Sample(image=str(tmp_path / "deep.png"), where="here"))
    Image.new("1", (10_000, 5_001)).save(tmp_path / "large.png")
    with pytest.raises(RecipeError, match="here has 10000 x 5001 pixels"):
        open_picture(Sample(image=str(tmp_path / "large.png"), where="here"))
    Image.new("P", (4, 4)).save(tmp_path / "palette.png")
    assert open_picture(Sample(image=str(tmp_path / "palette.png"))).mode == "RGB"


@pytest.mark.parametrize(("width", "dtype", "zero"), [(1, np.uint8, 128), (2, "<i2", 0), (3, "<i4", 0), (4, "<i4", 0)])
def test_sounds_of_every_width_are_read(width: int, dtype: Any, zero: int, tmp_path: Path) -> None:
    most = 1 << 8 * width - 1
    left = np.array([0, most // 2, -most, most - 1], np.int64)
    both = np.stack([left, np.zeros_like(left)], 1) + zero
    raw = both.astype(dtype).view(np.uint8).reshape(both.size, -1)[:, :width]
    path = record(tmp_path / "a.wav", np.ascontiguousarray(raw), channels=2, width=width)
    heard = read_sound(str(path))
    assert heard.dtype == np.float32
    assert heard == pytest.approx(left / most / 2, abs=1e-6)
