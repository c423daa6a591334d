"""Models that compare pictures with texts for the worker: how they are loaded, exported and asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared.checkpoint import load_config, load_original
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun
from modeldrop.export.models.shared.media import coarse, open_picture, pictures
from modeldrop.export.models.shared.timing import BATCH
from modeldrop.export.models.shared.tokenizer import load_tokenizer
from modeldrop.export.models.vision.worker import load_processor
from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep

_ROLE = "model"
_GOLDEN = 2
_IDS, _MASK = "input_ids", "attention_mask"
_FILLED = ("siglip",)
"""The model_types whose texts are as long as they can be: their vector is the last token's, whatever that is."""
LABELS = (
    "a photo of a cat", "two dogs on a beach", "a map of the city", "a red circle on a blue ground",
    "waves of many colours", "a plate of food", "handwriting", "a night sky",
)  # fmt: skip


class ClipModel(LoadedModel):
    """One graph; compared on how well each of a few texts fits a picture."""

    source_files = ("preprocessor_config.json",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        config = load_config(checkpoint)
        self._tokenizer = load_tokenizer(checkpoint, config.text_config)
        self._model = load_original(checkpoint, transformers.AutoModelForZeroShotImageClassification)
        self._processor = load_processor(checkpoint)
        self.max_length = self._tokenizer.model_max_length
        if config.model_type in _FILLED:
            self._padded_to = self.max_length

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        for sample in samples:
            yield self._make_run(sample.shown, self._pixels(open_picture(sample)), sample.texts or LABELS)
        if not samples:
            for name, picture in pictures():
                yield self._make_run(name, self._pixels(picture))

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        shape = self._first().shape
        return [self._make_run(f"coarse noise {seed}", coarse(shape, seed)) for seed in range(_GOLDEN)]

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        return [self._timed(self._first().repeat(size, 0)) for size in (1, BATCH)]

    def _timed(self, pixels: Array) -> TimedRun:
        texts = self._read(LABELS)
        return TimedRun(self._make_run("", pixels), lambda: self._answer(texts, pixels))

    def _first(self) -> Array:
        return self._pixels(next(iter(pictures()))[1])

    def _pixels(self, picture: Any) -> Array:
        return np.asarray(self._processor(picture, return_tensors="np")["pixel_values"])

    def _read(self, labels: Sequence[str]) -> dict[str, Array]:
        filled = self._padded_to is not None
        read = self._tokenizer(list(labels), padding="max_length" if filled else True, truncation=True)
        return {name: np.array(read[name], np.int64) for name in (_IDS, *(() if filled else (_MASK,)))}

    def _make_run(self, name: str, pixels: Array, labels: Sequence[str] = LABELS) -> ModelRun:
        texts = self._read(labels)
        step = RunStep(_ROLE, texts | {"pixel_values": pixels})
        read = tuple((label,) for label in labels)
        return ModelRun(
            name, (step,), (StepOutput(0, "logits_per_image"),), ModelAnswer(self._answer(texts, pixels)[0]), read=read
        )

    def _answer(self, texts: Mapping[str, Array], pixels: Array) -> Array:
        inputs = {name: torch.tensor(array) for name, array in texts.items()}
        with torch.inference_mode():
            return np.asarray(self._model(**inputs, pixel_values=torch.tensor(pixels)).logits_per_image.numpy())


MODEL = ClipModel
