"""A torch module of somebody's own, exported to one graph; the module's own answers are the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from modeldrop.errors import RecipeError
from modeldrop.export.messages import ExportRequest
from modeldrop.export.models.generic.module_export import (
    check_shapes,
    export_module,
    largest,
    own_answer,
    resized,
    sizes_of,
)
from modeldrop.export.models.generic.original import Original
from modeldrop.export.models.generic.own_module import load_own_module
from modeldrop.format.dynamic_shapes import dimensions
from modeldrop.format.manifest import MODEL, Tensor
from modeldrop.inference.runs import Array, RunStep
from modeldrop.util.text import first_line


class TorchOriginal(Original):
    """The module, and the graph that was made of it.

    Raises:
        SourceError: its code fails or gives something else, or the weights do not fit.
        RecipeError: a free dimension is none of its inputs'.
        ExportError: it cannot be exported so that they stay free.
    """

    libraries = ("torch", "onnxscript", "onnx-ir", "onnx", "onnxruntime", "numpy")
    extras = ("torch",)

    def __init__(self, request: ExportRequest) -> None:
        generic, folder = request.generic, request.checkpoint.folder
        assert generic is not None  # noqa: S101  the worker is for these alone
        self.models = frozenset(path.relative_to(folder) for path in folder.rglob("*.py"))
        self._own = load_own_module(
            folder,
            generic.file,
            generic.function,
            state_dict=generic.state_dict,
            inputs=generic.inputs,
            allow_pickle=request.checkpoint.allow_pickle,
        )
        self._shapes = dimensions(generic.dynamic_shapes)
        check_shapes(self._own, self._shapes)
        graph = request.output.parent / "converted.onnx"
        export_module(self._own, self._shapes, graph, request.checkpoint.opset)
        self.graphs = {MODEL: graph}
        self.framework = f"PyTorch {torch.__version__}"
        self.weight_bytes = sum(tensor.nbytes for tensor in self._own.module.state_dict().values())

    def run(self, steps: Sequence[RunStep]) -> object:
        with torch.inference_mode():
            return [self._own.answer(self._tensors(step)) for step in steps]

    def answers(self, inputs: Sequence[Sequence[RunStep]]) -> list[dict[str, Array]]:
        with torch.inference_mode():
            return [
                {name: tensor.numpy() for name, tensor in self._own.answer(self._tensors(step)).items()}
                for (step,) in inputs
            ]

    def draw(self, signatures: Mapping[str, Sequence[Tensor]], count: int) -> list[tuple[RunStep, ...]]:
        """Values as in the example inputs, in other sizes than were traced."""
        traced = sizes_of(self._own, self._shapes)
        drawn: list[tuple[RunStep, ...]] = []
        for number in range(count):
            sizes = {name: self._size(name, size, number) for name, size in traced.items()}
            inputs = self._like_example(sizes, number)
            if own_answer(self._own, inputs) is None:
                inputs = self._like_example(traced, number)
            if own_answer(self._own, inputs) is None:
                inputs = dict(self._own.example)
            drawn.append((RunStep(MODEL, {name: tensor.numpy() for name, tensor in inputs.items()}),))
        return drawn

    def _size(self, name: str, size: int, number: int) -> int:
        others = (size + 1, 1, size, 2 * size + 1)
        most = largest(self._shapes, name)
        wanted = others[number % len(others)]
        return wanted if most is None else min(wanted, most)

    def _like_example(self, sizes: Mapping[str, int], seed: int) -> dict[str, torch.Tensor]:
        """Every number is one of the example's, or near it where these are all the same."""
        made = {}
        for place, (name, tensor) in enumerate(resized(self._own.example, self._shapes, sizes).items()):
            random = np.random.default_rng([seed, place])
            values = self._own.example[name].numpy().ravel()
            if values.dtype.kind == "f" and values.size and values.min() == values.max():
                array = values[0] + random.standard_normal(tensor.shape)
            elif values.size:
                array = random.choice(values, tuple(tensor.shape))
            else:
                array = tensor.numpy()
            made[name] = torch.from_numpy(np.asarray(array, values.dtype))
        return made

    def _tensors(self, step: RunStep) -> dict[str, torch.Tensor]:
        try:
            return {name: torch.from_numpy(np.asarray(step.inputs[name])) for name in self._own.example}
        except TypeError as error:
            raise RecipeError(f"inputs: torch has no tensor of such an array: {first_line(error)}") from error
