"""Image classifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers

from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared.checkpoint import load_model, load_preprocessor
from modeldrop.export.models.shared.golden import narrowed
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun, label_names
from modeldrop.export.models.shared.media import coarse, pictures, pictures_of
from modeldrop.export.models.shared.timing import BATCH
from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep

_ROLE = "model"
_GOLDEN = 2


class ImageClassifier(LoadedModel):
    """One graph that takes ``pixel_values``, as the checkpoint's own image processor makes them."""

    source_files = ("preprocessor_config.json",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self._model = load_model(checkpoint, transformers.AutoModelForImageClassification)
        self._processor = load_processor(checkpoint)
        self.labels = label_names(self._model.config)

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        for name, picture in pictures_of(samples):
            yield self._make_run(name, self._processor(picture, return_tensors="np")["pixel_values"])

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        whole = runs[0].steps[0].inputs["pixel_values"]
        return [
            narrowed(self._make_run(f"coarse noise {seed}", coarse(whole.shape, seed)))  # type: ignore[union-attr]
            for seed in range(_GOLDEN)
        ]

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        _, picture = next(iter(pictures()))
        pixels = self._processor(picture, return_tensors="np")["pixel_values"]
        return [self._timed(pixels.repeat(size, 0)) for size in (1, BATCH)]

    def _timed(self, pixels: Array) -> TimedRun:
        tensor = torch.tensor(pixels)
        return TimedRun(self._make_run("", pixels[:1], pixels), lambda: self._answer(tensor))

    def _make_run(self, name: str, pixels: Array, timed: Array | None = None) -> ModelRun:
        answer = self._answer(torch.tensor(pixels))[0].numpy()
        step = RunStep(_ROLE, {"pixel_values": pixels if timed is None else timed})
        return ModelRun(name, (step,), (StepOutput(0, "logits"),), ModelAnswer(answer))

    def _answer(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self._model(pixel_values=pixels).logits  # type: ignore[no-any-return]


def load_processor(checkpoint: Checkpoint) -> Any:
    """What makes tensors of pictures.

    Raises:
        SourceError: it is missing or unknown.
    """
    return load_preprocessor(checkpoint, transformers.AutoImageProcessor, "image processor", use_fast=False)


MODEL = ImageClassifier
