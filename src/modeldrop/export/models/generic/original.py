"""What a generic model's variants are compared with: its own graphs in onnxruntime, or the framework that made it."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime

from modeldrop.errors import SourceError
from modeldrop.export.messages import ExportRequest, GenericSettings
from modeldrop.export.models.generic.random_inputs import draw_steps
from modeldrop.export.sources.generic import ONNX, PYTORCH
from modeldrop.export.sources.graphs import variant_of
from modeldrop.format.manifest import Tensor
from modeldrop.format.variants import FP32
from modeldrop.inference import open_variant
from modeldrop.inference.runs import Array, RunStep, named_outputs
from modeldrop.util.text import first_line

_OWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}


class Original(ABC):
    """The model as it was brought.

    Attributes:
        graphs: its graphs by role, on the disk.
        models: paths of the files that the model itself is, in the source's folder: the others are side files.
        framework: by what it is asked, with the release.
        libraries: names of the packages that did the work.
        extras: of modeldrop, which brought them.
        weight_bytes: bytes of its weights, where its files do not tell; else 0.
        labels: names of the classes, by index, where the model has some.
        columns: names of the columns of its only input, where that is a matrix and they have some.
        ties: indices of the inputs that lie on a threshold in float32; see ``tabular``.
    """

    graphs: Mapping[str, Path]
    models: frozenset[Path]
    framework: str
    libraries: tuple[str, ...] = ("onnx", "onnxruntime", "numpy")
    extras: tuple[str, ...] = ("tabular",)
    weight_bytes: int = 0
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    ties: tuple[int, ...] = ()

    @abstractmethod
    def run(self, steps: Sequence[RunStep]) -> object:
        """Run steps, for their time alone."""

    @abstractmethod
    def answers(self, inputs: Sequence[Sequence[RunStep]]) -> list[dict[str, Array]]:
        """What it answers to every input: the outputs by name."""

    def draw(self, signatures: Mapping[str, Sequence[Tensor]], count: int) -> list[tuple[RunStep, ...]]:
        """So many inputs, the same ones every time.

        Args:
            signatures: the inputs of its graphs, by role.
            count: how many.

        Raises:
            RecipeError: it takes none that is drawn.
        """
        return draw_steps(signatures, count, self.run)


class OnnxOriginal(Original):
    """Ready graphs.

    Raises:
        SourceError: one of them does not check, does not open, or is another variant than was told.
    """

    def __init__(self, folder: Path, generic: GenericSettings) -> None:
        self.graphs = {role: folder / "onnx" / f"{role}.onnx" for role in generic.roles}
        if not all(path.is_file() for path in self.graphs.values()):  # a version has them under the variant's names
            self.graphs = {role: folder / FP32.path(role) for role in generic.roles}
        for path in self.graphs.values():
            _check(path)
        found = [variant_of(path, path.name) for path in self.graphs.values()]
        variant = next((one for one in found if one != FP32.name), FP32.name)
        if variant != generic.variant:
            raise SourceError(
                f"The graphs are {variant}, and their names say {generic.variant}.",
                f"Download them and give the folder, or call them as {variant} graphs are: "
                "model_quantized.onnx (int8), model_fp16.onnx, model_q4.onnx, model_static.onnx.",
            )
        self.models = frozenset(path.relative_to(folder) for path in (folder / "onnx").rglob("*"))
        self.framework = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
        try:
            self._opened = open_variant(
                folder, {role: path.relative_to(folder).as_posix() for role, path in self.graphs.items()}
            )
        except Exception as error:
            raise SourceError(
                f"onnxruntime {onnxruntime.__version__} cannot open the graph: {first_line(error)}", _why(self.graphs)
            ) from error

    def run(self, steps: Sequence[RunStep]) -> object:
        return self._opened.run(steps)

    def answers(self, inputs: Sequence[Sequence[RunStep]]) -> list[dict[str, Array]]:
        return [named_outputs([step.graph for step in steps], self._opened.run(steps)) for steps in inputs]


def _check(path: Path) -> None:
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        raise SourceError(f"{path.name} is not a valid ONNX graph: {first_line(error)}", "Export it again.") from error


def _why(graphs: Mapping[str, Path]) -> str:
    models = [onnx.load(path, load_external_data=False) for path in graphs.values()]
    own = sorted({entry.domain for model in models for entry in model.opset_import} - _OWN_DOMAINS)
    if own:
        return (
            f"Its operators of {', '.join(own)} are of a library that is not registered here: what cannot be run "
            "cannot be proven, and is not published. onnxruntime-extensions brings those of ai.onnx.contrib."
        )
    return "Export it for an opset that this onnxruntime knows, or raise onnxruntime."


def open_original(request: ExportRequest) -> Original:
    """The model that a request names.

    Raises:
        SourceError: see ``OnnxOriginal``, ``tabular`` and ``torch_module``.
        MissingExtraError: a framework is not installed.
    """
    assert request.generic is not None  # noqa: S101  the worker is for these alone
    if request.generic.framework == ONNX:
        return OnnxOriginal(request.checkpoint.folder, request.generic)
    if request.generic.framework == PYTORCH:
        from modeldrop.export.models.generic.torch_module import TorchOriginal  # with torch

        return TorchOriginal(request)
    from modeldrop.export.models.generic.tabular import TabularOriginal  # with its frameworks

    return TabularOriginal(request)
