"""A generic model for the worker: ONNX graphs as they are, asked by onnxruntime; or another's, converted."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from modeldrop.errors import ExportError, RecipeError, SourceError
from modeldrop.export.inputs import Sample
from modeldrop.export.messages import ExportRequest
from modeldrop.export.models.generic.inputs import NamedInput, read_inputs
from modeldrop.export.models.generic.original import Original, open_original
from modeldrop.export.models.generic.random_inputs import draw_steps
from modeldrop.export.models.shared.golden import literal_size
from modeldrop.export.models.shared.loaded_model import LoadedModel, TimedRun
from modeldrop.export.models.shared.timing import BATCH
from modeldrop.export.onnx_files import describe_onnx, external_files
from modeldrop.export.onnx_weights import save
from modeldrop.format.manifest import Tensor
from modeldrop.format.variants import VARIANTS
from modeldrop.inference.runs import Array, ModelAnswer, ModelRun, RunStep, thinned
from modeldrop.util.text import first_line

_DRAWN = 8
_GOLDEN = 4
_GOLDEN_ROWS = 4
_MOST_KEPT = 4096
"""Elements of a known input that a manifest holds at most; of larger ones, drawn inputs take the place."""
_KEPT_OUTPUTS = 512
_LARGEST_BATCH = 64 << 20
"""Bytes of inputs that are timed in one run at most: 32 large pictures at once fill the memory."""


class GenericModel(LoadedModel):
    """Graphs whose signature is all that is known of them.

    Raises:
        SourceError: a graph does not check, is another variant than was told, or does not open; or a framework's model
            cannot be converted.
        RecipeError: the inputs do not fit, or nothing that is drawn does; or OpenVINO cannot read a graph of which a
            variant is asked for.
    """

    def __init__(self, request: ExportRequest) -> None:
        super().__init__(request.checkpoint)
        assert request.generic is not None  # noqa: S101  the worker is for these alone
        self._generic = request.generic
        self._original: Original = open_original(request)
        self.labels = self._original.labels
        self.columns = self._original.columns
        self.libraries, self.extras = self._original.libraries, self._original.extras
        self.weight_bytes = self._original.weight_bytes
        self._described = {role: describe_onnx(path) for role, path in self._original.graphs.items()}
        self._signatures: Mapping[str, Sequence[Tensor]] = {
            role: [tensor._replace(columns=self.columns) for tensor in description.inputs]
            for role, description in self._described.items()
        }
        if request.openvino:
            from modeldrop.export.quantizers.openvino_check import check_convertible  # which few ask for

            check_convertible(self._original.graphs)
        inputs = self._generic.inputs
        if inputs is None:
            steps = self._original.draw(self._signatures, _DRAWN)
            self._inputs = [NamedInput(f"drawn {number}", own, {}) for number, own in enumerate(steps, 1)]
        else:
            self._inputs = read_inputs(inputs, self._signatures, further=self._generic.further)

    @property
    def framework(self) -> str:
        """By what the original is asked; after ``runs``, with the ties that were found."""
        return self._original.framework

    def export(self, output: Path) -> None:
        spec = VARIANTS[self._generic.variant]
        for role, source in self._original.graphs.items():
            target = output / spec.path(role)
            target.parent.mkdir(parents=True, exist_ok=True)
            graph = onnx.load(source, load_external_data=False)
            if external_files(graph):
                save(onnx.load(source), target, beside=True)
            else:
                shutil.copyfile(source, target)

    def save_side_files(self, output: Path) -> None:
        for path in sorted(self._source.rglob("*")):
            name = path.relative_to(self._source)
            if path.is_file() and name not in self._original.models:
                (output / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, output / name)

    def runs(self, samples: Sequence[Sample]) -> Iterator[ModelRun]:
        answers = self._answers([one.steps for one in self._inputs])
        for index, (one, named) in enumerate(zip(self._inputs, answers, strict=True)):
            shown = f"{one.shown} (a tie in float32)" if index in self._original.ties else one.shown
            yield replace(_run(shown, one.steps, named), fields=one.fields)

    def golden_runs(self, runs: Sequence[ModelRun], indices: Sequence[int]) -> list[ModelRun]:
        chosen = [NamedInput(one.shown, _fewer_rows(one.steps, self._signatures), {}) for one in self._inputs[:_GOLDEN]]
        if any(
            literal_size(array) > _MOST_KEPT for one in chosen for step in one.steps for array in step.inputs.values()
        ):
            try:
                steps = draw_steps(self._signatures, _GOLDEN, self._original.run)
                chosen = [NamedInput(f"drawn {number}", own, {}) for number, own in enumerate(steps, 1)]
            except RecipeError:  # it takes nothing that can be drawn: one input that it takes must do
                chosen = chosen[:1]
        answers = self._answers([one.steps for one in chosen])
        return [_thinned(_run(one.shown, one.steps, named)) for one, named in zip(chosen, answers, strict=True)]

    def timed_runs(self, samples: Sequence[Sample]) -> list[TimedRun]:
        one = self._inputs[0].steps
        batch = _repeated(one, self._signatures)
        return [
            TimedRun(_run("", steps, {}), lambda steps=steps: self._original.run(steps))  # type: ignore[misc]
            for steps in (one, batch)
        ]

    def _answers(self, inputs: Sequence[Sequence[RunStep]]) -> list[dict[str, Array]]:
        try:
            return self._original.answers(inputs)
        except Exception as error:
            if isinstance(error, RecipeError | SourceError | ExportError):
                raise
            framework = self.framework.partition(" ")[0]
            raise RecipeError(
                f"inputs: {framework} itself fails on {self._failing(inputs)}: {first_line(error)}",
                "Name inputs that the model was made for.",
            ) from error

    def _failing(self, inputs: Sequence[Sequence[RunStep]]) -> str:
        """Which of the inputs the original does not take, as people are shown it."""
        for number, steps in enumerate(inputs, 1):
            try:
                self._original.answers([steps])
            except Exception:  # noqa: BLE001  the libraries' errors have no common class
                return f"input {number}"
        return "them together"


def _run(shown: str, steps: Sequence[RunStep], named: Mapping[str, Array]) -> ModelRun:
    return ModelRun(shown, tuple(steps), (), ModelAnswer(np.zeros(0), named=named))


def _fewer_rows(steps: Sequence[RunStep], signatures: Mapping[str, Sequence[Tensor]]) -> tuple[RunStep, ...]:
    """The first rows of a batch, where its size is free."""
    return tuple(
        _rows_of(step, np.arange(_GOLDEN_ROWS)) if _batch_of(step, signatures[step.graph]) > _GOLDEN_ROWS else step
        for step in steps
    )


def _rows_of(step: RunStep, index: Array) -> RunStep:
    return RunStep(step.graph, {name: np.asarray(array)[index] for name, array in step.inputs.items()})


def _batch_of(step: RunStep, tensors: Sequence[Tensor]) -> int:
    """The size of the batch; 0 where it is not free, or no dimension is one."""
    free = [tensor for tensor in tensors if tensor.shape and not tensor.shape[0].isdecimal()]
    sizes = {len(array) for array in step.inputs.values() if isinstance(array, np.ndarray) and array.ndim}
    return sizes.pop() if len(free) == len(tensors) and len(sizes) == 1 else 0


def _repeated(steps: Sequence[RunStep], signatures: Mapping[str, Sequence[Tensor]]) -> tuple[RunStep, ...]:
    """A batch of 32: in one run where the batch's size is free and its inputs are not too large, else in as many."""
    repeated: list[RunStep] = []
    for step in steps:
        size = _batch_of(step, signatures[step.graph])
        if size and sum(np.asarray(array).nbytes for array in step.inputs.values()) // size * BATCH <= _LARGEST_BATCH:
            repeated.append(_rows_of(step, np.arange(BATCH) % size))
        else:
            repeated += [step] * BATCH
    return tuple(repeated)


def _thinned(run: ModelRun) -> ModelRun:
    """The run with so much of its answer as a manifest should hold."""
    named = run.answer.named
    every = {name: math.ceil(array.size / _KEPT_OUTPUTS) for name, array in named.items() if array.size > _KEPT_OUTPUTS}
    kept = ModelAnswer(run.answer.values, named=thinned(named, every))
    return replace(run, answer=kept, every=every, whole={name: named[name].shape for name in every})
