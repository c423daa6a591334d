"""Models that compare pictures with texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from modeldrop.export.workers import companions
from modeldrop.export.workers.checkpoint import Checkpoint, load_config, load_model, load_tokenizer
from modeldrop.export.workers.families.interface import Family, Timed
from modeldrop.export.workers.families.pictures import coarse, open_picture, pictures
from modeldrop.export.workers.families.vision import load_processor
from modeldrop.export.workers.optimum_export import export
from modeldrop.export.workers.timing import BATCH
from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Answer, Chain, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from modeldrop.export.samples import Sample
    from modeldrop.inference.runs import Array

_ROLE = "model"
_GOLDEN = 2
LABELS = (
    "a photo of a cat", "two dogs on a beach", "a map of the city", "a red circle on a blue ground",
    "waves of many colours", "a plate of food", "handwriting", "a night sky",
)  # fmt: skip


class ClipModel(Family):
    """One graph; compared on how well each of a few texts fits a picture."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._source = checkpoint.folder
        self._task = checkpoint.task
        self._tokenizer = load_tokenizer(checkpoint, load_config(checkpoint).text_config)
        self._model = load_model(checkpoint, transformers.AutoModelForZeroShotImageClassification)
        self._processor = load_processor(checkpoint)
        self.max_length = self._tokenizer.model_max_length

    def export(self, output: Path) -> None:
        export(self._model, self._task, (_ROLE,), output)

    def save_companions(self, output: Path) -> None:
        companions.save_tokenizer(self._tokenizer, output)
        companions.copy(self._source, output, (*companions.ALWAYS, "preprocessor_config.json"))

    def ask(self, samples: Sequence[Sample]) -> Iterator[Chain]:
        for sample in samples:
            yield self._chain(sample.shown, self._pixels(open_picture(sample)), sample.texts or LABELS)
        if not samples:
            for name, picture in pictures():
                yield self._chain(name, self._pixels(picture))

    def golden(self, chains: Sequence[Chain], indices: Sequence[int]) -> list[Chain]:
        shape = self._first().shape
        return [self._chain(f"coarse noise {seed}", coarse(shape, seed)) for seed in range(_GOLDEN)]

    def timed(self, samples: Sequence[Sample]) -> list[Timed]:
        return [self._timed(self._first().repeat(size, 0)) for size in (1, BATCH)]

    def _timed(self, pixels: Array) -> Timed:
        texts = self._read(LABELS)
        return Timed(self._chain("", pixels), lambda: self._run(texts, pixels))

    def _first(self) -> Array:
        return self._pixels(next(iter(pictures()))[1])

    def _pixels(self, picture: Any) -> Array:
        return np.asarray(self._processor(picture, return_tensors="np")["pixel_values"])

    def _read(self, labels: Sequence[str]) -> dict[str, Array]:
        read = self._tokenizer(list(labels), padding=True, truncation=True)
        return {name: np.array(read[name], np.int64) for name in ("input_ids", "attention_mask")}

    def _chain(self, name: str, pixels: Array, labels: Sequence[str] = LABELS) -> Chain:
        texts = self._read(labels)
        step = Step(_ROLE, texts | {"pixel_values": pixels})
        read = tuple((label,) for label in labels)
        return Chain(
            name, (step,), (StepOutput(0, "logits_per_image"),), Answer(self._run(texts, pixels)[0]), read=read
        )

    def _run(self, texts: Mapping[str, Array], pixels: Array) -> Array:
        inputs = {name: torch.tensor(array) for name, array in texts.items()}
        with torch.inference_mode():
            return np.asarray(self._model(**inputs, pixel_values=torch.tensor(pixels)).logits_per_image.numpy())
