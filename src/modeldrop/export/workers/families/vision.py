"""Image classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import transformers

from modeldrop.export.workers import companions
from modeldrop.export.workers.checkpoint import Checkpoint, load_model, load_preprocessor
from modeldrop.export.workers.families.interface import Family, Timed, label_names
from modeldrop.export.workers.families.pictures import coarse, pictures, pictures_of
from modeldrop.export.workers.golden import narrowed
from modeldrop.export.workers.optimum_export import export
from modeldrop.export.workers.timing import BATCH
from modeldrop.format.golden import StepOutput
from modeldrop.inference.runs import Answer, Chain, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from modeldrop.export.samples import Sample
    from modeldrop.inference.runs import Array

_ROLE = "model"
_GOLDEN = 2


class ImageClassifier(Family):
    """One graph that takes ``pixel_values``, as the checkpoint's own image processor makes them."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._source = checkpoint.folder
        self._task = checkpoint.task
        self._model = load_model(checkpoint, transformers.AutoModelForImageClassification)
        self._processor = load_processor(checkpoint)
        self.labels = label_names(self._model.config)

    def export(self, output: Path) -> None:
        export(self._model, self._task, (_ROLE,), output)

    def save_companions(self, output: Path) -> None:
        companions.copy(self._source, output, (*companions.ALWAYS, "preprocessor_config.json"))

    def ask(self, samples: Sequence[Sample]) -> Iterator[Chain]:
        for name, picture in pictures_of(samples):
            yield self._chain(name, self._processor(picture, return_tensors="np")["pixel_values"])

    def golden(self, chains: Sequence[Chain], indices: Sequence[int]) -> list[Chain]:
        whole = chains[0].steps[0].inputs["pixel_values"]
        return [
            narrowed(self._chain(f"coarse noise {seed}", coarse(whole.shape, seed)))  # type: ignore[union-attr]
            for seed in range(_GOLDEN)
        ]

    def timed(self, samples: Sequence[Sample]) -> list[Timed]:
        _, picture = next(iter(pictures()))
        pixels = self._processor(picture, return_tensors="np")["pixel_values"]
        return [self._timed(pixels.repeat(size, 0)) for size in (1, BATCH)]

    def _timed(self, pixels: Array) -> Timed:
        tensor = torch.tensor(pixels)
        return Timed(self._chain("", pixels[:1], pixels), lambda: self._run(tensor))

    def _chain(self, name: str, pixels: Array, timed: Array | None = None) -> Chain:
        answer = self._run(torch.tensor(pixels))[0].numpy()
        step = Step(_ROLE, {"pixel_values": pixels if timed is None else timed})
        return Chain(name, (step,), (StepOutput(0, "logits"),), Answer(answer))

    def _run(self, pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self._model(pixel_values=pixels).logits  # type: ignore[no-any-return]


def load_processor(checkpoint: Checkpoint) -> Any:
    """What makes tensors of pictures.

    Raises:
        SourceError: it is missing or unknown.
    """
    return load_preprocessor(checkpoint, transformers.AutoImageProcessor, "image processor", use_fast=False)
