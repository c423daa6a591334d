"""Models of pictures for the worker: how they are loaded, exported and asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers

from modeldrop.errors import ExportError
from modeldrop.export.environments.exporters import TRANSFORMERS
from modeldrop.export.inputs import Sample
from modeldrop.export.messages import Checkpoint
from modeldrop.export.models.shared.checkpoint import load_original, load_preprocessor
from modeldrop.export.models.shared.golden import narrowed, narrowed_boxes
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun, label_names
from modeldrop.export.models.shared.media import coarse, pictures, pictures_of
from modeldrop.export.models.shared.timing import BATCH
from modeldrop.format.golden import StepOutput
from modeldrop.format.manifest import Embedding
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import FP32
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep, answer_of
from modeldrop.util.text import first_line

_EMBED, _DETECT = "image-feature-extraction", "object-detection"
_CLASSES = {
    "image-classification": transformers.AutoModelForImageClassification,
    _EMBED: transformers.AutoModel,
    _DETECT: transformers.AutoModelForObjectDetection,
}
_BODY = "feature-extraction"
"""optimum's task of a model without a head."""
_HIDDEN, _POOLED = "last_hidden_state", "pooler_output"
_PIXELS = "pixel_values"
_ROLE = "model"
_GOLDEN = 2
_GOLDEN_ROWS = 4
_FEW = 3
_CLOSE = 1e-3


class PictureModel(LoadedModel):
    """One graph that takes ``pixel_values``, as the checkpoint's own image processor makes them.

    Embedders answer hidden states, and a vector for the picture (``pooler_output``) where the checkpoint has learned
    how one is made of them.
    """

    source_files = ("preprocessor_config.json",)

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        embeds, self._exporter = self._task == _EMBED, checkpoint.exporter
        self._model = load_original(checkpoint, _CLASSES[self._task], may_lack=".pooler." if embeds else "")
        self._processor = load_processor(checkpoint)
        self.labels = [] if embeds else label_names(self._model.config)
        self._outputs = TASKS[self._task].outputs
        if embeds:
            pooled = getattr(self._ask(self._first()), _POOLED, None) is not None
            self._outputs = (_POOLED if pooled and not getattr(self._model, "made_up", ()) else _HIDDEN,)

    def export(self, output: Path) -> None:
        if self._exporter == TRANSFORMERS.name:
            from modeldrop.export.models.shared.transformers_export import export as by_transformers

            kept = tuple(dict.fromkeys((*((_HIDDEN,) if self._task == _EMBED else ()), *self._outputs)))
            by_transformers(self._model, {_PIXELS: torch.tensor(self._first())}, kept, None, output)
            return  # it has looked at other batches itself
        from modeldrop.export.models.shared.optimum_export import export  # the other's environment has none

        if self._task == _EMBED:
            export(self._model, _BODY, (_ROLE,), output, outputs=tuple(dict.fromkeys((_HIDDEN, *self._outputs))))
        else:
            # Detectors count places in a picture of the size that their processor makes.
            height, width = self._first().shape[2:]
            export(self._model, self._task, (_ROLE,), output, sizes={"height": height, "width": width})
        path = output / FP32.path(_ROLE)
        if path.is_file():  # of ready graphs for OpenVINO there is none
            self._check_shapes(path)

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        for name, picture in pictures_of(samples):
            yield self._make_run(name, self._pixels(picture))

    def embedding(self, runs: Sequence[ModelRun]) -> Embedding | None:
        return Embedding(len(runs[0].answer.values)) if self._outputs == (_POOLED,) else None

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        shape = runs[0].steps[0].inputs[_PIXELS].shape  # type: ignore[union-attr]
        made = (self._make_run(f"coarse noise {seed}", coarse(shape, seed)) for seed in range(_GOLDEN))
        if self._task == _DETECT:
            return [narrowed_boxes(run) for run in made]
        if self._task == _EMBED:
            return [_first_rows(run) for run in made]
        return [narrowed(run) for run in made]

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        return [self._timed(self._first().repeat(size, 0)) for size in (1, BATCH)]

    def _timed(self, pixels: Array) -> TimedRun:
        return TimedRun(self._run("", pixels), lambda: self._ask(pixels))

    def _first(self) -> Array:
        return self._pixels(next(iter(pictures()))[1])

    def _pixels(self, picture: Any) -> Array:
        return np.asarray(self._processor(picture, return_tensors="np")[_PIXELS])

    def _make_run(self, name: str, pixels: Array) -> ModelRun:
        run, result = self._run(name, pixels), self._ask(pixels)
        return replace(
            run, answer=ModelAnswer(answer_of([getattr(result, one)[0].numpy() for one in self._outputs], run))
        )

    def _run(self, name: str, pixels: Array) -> ModelRun:
        """A run whose answer nobody has asked for."""
        outputs = tuple(StepOutput(0, one) for one in self._outputs)
        return ModelRun(name, (RunStep(_ROLE, {_PIXELS: pixels}),), outputs, ModelAnswer(np.zeros(0)))

    def _ask(self, pixels: Array) -> Any:
        with torch.inference_mode():
            return self._model(pixel_values=torch.tensor(pixels))

    def _check_shapes(self, path: Path) -> None:
        """Refuse a graph that answers otherwise for a batch or a picture that was not traced, whatever it declares.

        Raises:
            ExportError: names the dimension.
        """
        _, picture = next(iter(pictures()))
        first, long = self._pixels(picture), self._pixels(picture.crop((0, 0, picture.width, picture.height // 2)))
        several = np.concatenate([first[..., ::-1], *[first * (1 - 0.1 * number) for number in range(1, _FEW)]])
        cases = {"batch_size": several} | ({} if long.shape == first.shape else {"height": long})
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for axis, pixels in cases.items():
            shape = f"a batch of {len(pixels)} pictures of {pixels.shape[3]} x {pixels.shape[2]}"
            try:
                found = session.run(list(self._outputs), {_PIXELS: pixels})
            except Exception as error:
                raise self._frozen(axis, f"{shape} fails: {first_line(error)}") from error
            result = self._ask(pixels)
            for name, mine in zip(self._outputs, found, strict=True):
                its = getattr(result, name).numpy()
                if mine.shape != its.shape:
                    raise self._frozen(axis, f"of {shape}, {name} has the shape {mine.shape}, not {its.shape}")
                if self._task == _DETECT:  # what it finds has no order
                    mine, its = np.sort(mine, axis=1), np.sort(its, axis=1)  # noqa: PLW2901
                difference = np.abs(mine - its).max()
                if not difference <= _CLOSE * max(1.0, np.abs(its).max()):
                    raise self._frozen(axis, f"of {shape}, answers differ by {difference:.2g}")

    def _frozen(self, axis: str, why: str) -> ExportError:
        return ExportError(
            f"The dimension {axis} of this {self._model.config.model_type} model does not stay free when it is "
            f"exported: {why[:300].rstrip('.')}.",
            "A graph of one size would answer wrongly, or not at all. Export it with a program that leaves it free, "
            "and give the folder of ONNX as the source.",
        )


def _first_rows(run: ModelRun) -> ModelRun:
    """Of hidden states the first few, which are enough to show a broken CPU path; a vector whole."""
    values = run.answer.values
    if values.ndim == 1:
        return run
    rows = tuple(range(min(_GOLDEN_ROWS, len(values))))
    return replace(run, answer=ModelAnswer(values[: len(rows)]), rows=rows)


def load_processor(checkpoint: Checkpoint) -> Any:
    """What makes tensors of pictures.

    Raises:
        SourceError: it is missing or unknown.
    """
    return load_preprocessor(checkpoint, transformers.AutoImageProcessor, "image processor", use_fast=False)


MODEL = PictureModel
