"""What tabular frameworks saved, converted to one ONNX graph; the framework's own predictions are the original's.

Frameworks compare in float64, graphs in float32: an input may lie on a tree's threshold for one and not for the other.
Where the framework itself answers as the graph does for the next number in float32, that is such a tie: it is compared
with this answer, and is counted and named.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modeldrop.errors import ExportError, MissingExtraError, SourceError
from modeldrop.export.messages import ExportRequest
from modeldrop.export.models.generic import frameworks
from modeldrop.export.models.generic.frameworks import Predictor
from modeldrop.export.models.generic.original import Original
from modeldrop.format.manifest import MODEL
from modeldrop.inference import open_variant
from modeldrop.inference.runs import Array, RunStep, named_outputs
from modeldrop.util.text import first_line

_CLOSE = 1e-5
_OPENED = {
    "scikit-learn": frameworks.open_sklearn,
    "LightGBM": frameworks.open_lightgbm,
    "XGBoost": frameworks.open_xgboost,
    "CatBoost": frameworks.open_catboost,
}


class TabularOriginal(Original):
    """A framework's model, and the graph that was made of it.

    Raises:
        SourceError: it does not load, or its converter cannot convert it.
        MissingExtraError: the framework or its converter is not installed.
    """

    def __init__(self, request: ExportRequest) -> None:
        assert request.generic is not None  # noqa: S101  the worker is for these alone
        name, folder = request.generic.framework, request.checkpoint.folder
        self.models = frozenset({Path(request.generic.file)})
        path = folder / request.generic.file
        try:
            self._predictor: Predictor = _OPENED[name](path, allow_pickle=request.checkpoint.allow_pickle)
            graph = request.output.parent / "converted.onnx"
            graph.write_bytes(self._predictor.to_onnx())
        except ImportError as error:
            library = str(error.name or error).partition(".")[0]
            raise MissingExtraError(
                f"{name} models need {library}, which is not installed in the exporter's environment.",
                f"pip install 'modeldrop[tabular]' {frameworks.PACKAGES[name]}",
            ) from error
        except (SourceError, ExportError):
            raise
        except Exception as error:
            raise SourceError(
                f"{path.name} cannot be read as a model of {name}: {first_line(error)}", "Save it again."
            ) from error
        self.graphs = {MODEL: graph}
        self.labels = tuple(map(str, self._predictor.labels))
        self.columns = tuple(self._predictor.columns) if self._predictor.one_matrix else ()
        self.libraries = ("onnx", "onnxruntime", "numpy", *self._predictor.libraries)
        self.framework = f"{name} {importlib.metadata.version(self._predictor.libraries[0])}"
        self._graph = open_variant(graph.parent, {MODEL: graph.name})

    def run(self, steps: Sequence[RunStep]) -> object:
        return [self._predictor.predict(_arrays(step)) for step in steps]

    def answers(self, inputs: Sequence[Sequence[RunStep]]) -> list[dict[str, Array]]:
        steps = [step for (step,) in inputs]
        outputs = self._outputs(steps)  # first: the framework says better what it does not take
        if any(isinstance(output, list) for output in outputs):
            raise self._unknown("it predicts several things at once")
        mine = [named_outputs([MODEL], self._graph.run([step])) for step in steps]
        if len(outputs) != len(mine[0]):
            raise self._unknown(f"of {', '.join(mine[0])}, which its graph answers, {len(outputs)} is known")
        found = _divided(outputs, steps, mine)
        apart = [index for index, pair in enumerate(zip(found, mine, strict=True)) if _differ(*pair)]
        confirmed = []
        for index in apart:
            for towards in (-np.inf, np.inf):
                other = _next(steps[index], towards)
                (near,) = _divided(self._outputs([other]), [other], [mine[index]])
                if not _differ(near, mine[index]):
                    found[index] = near
                    confirmed.append(index)
                    break
        self.ties = tuple(confirmed)
        if self.ties:
            numbers = ", ".join(str(index + 1) for index in self.ties[:5])
            self.framework += f"; ties in float32: {len(self.ties)} of {len(steps)} inputs ({numbers})"
        return found

    def _unknown(self, why: str) -> SourceError:
        return SourceError(
            f"This model of {self.framework} cannot be proven: {why}.",
            "Publish a model for each output, or export the graph yourself and publish that.",
        )

    def _outputs(self, steps: Sequence[RunStep]) -> list[Any]:
        """What the framework predicts of all rows at once."""
        inputs = [_arrays(step) for step in steps]
        return self._predictor.predict({name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]})


def _divided(
    outputs: Sequence[Any], steps: Sequence[RunStep], like: Sequence[Mapping[str, Array]]
) -> list[dict[str, Array]]:
    """The outputs of every input, by the graph's names and in its shapes."""
    sizes = [len(next(iter(_arrays(step).values()))) for step in steps]
    return [
        {
            name: _shaped(output[end - size : end], array)
            for output, (name, array) in zip(outputs, graph.items(), strict=True)
        }
        for size, end, graph in zip(sizes, np.cumsum(sizes), like, strict=True)
    ]


def _arrays(step: RunStep) -> dict[str, Array]:
    return {name: np.asarray(array) for name, array in step.inputs.items()}


def _shaped(values: Any, like: Array) -> Array:
    array = np.asarray(values)
    if array.ndim == 1 and like.ndim == 2 and like.shape[1] == 2:  # one score for two classes
        array = np.stack([-array, array], 1)
    if array.dtype.kind in "OU":
        array = array.astype(np.str_)
    elif {array.dtype.kind, like.dtype.kind} <= set("biu"):  # true and false are whole numbers in a graph
        array = array.astype(like.dtype)
    return array.reshape(like.shape) if array.size == like.size else array


def _differ(one: Mapping[str, Array], other: Mapping[str, Array]) -> bool:
    for name, array in one.items():
        its = other[name]
        if array.shape != its.shape:
            return True
        if array.dtype.kind == "f":
            scale = max(float(np.abs(array).max(initial=0.0)), 1.0)
            if not np.allclose(array, its, rtol=0, atol=_CLOSE * scale, equal_nan=True):
                return True
        elif not np.array_equal(array, its):
            return True
    return False


def _next(step: RunStep, towards: float) -> RunStep:
    """The step with every number replaced by the next one in float32."""
    return RunStep(
        step.graph,
        {
            name: np.nextafter(array, np.float32(towards)) if array.dtype == np.float32 else array
            for name, array in _arrays(step).items()
        },
    )
