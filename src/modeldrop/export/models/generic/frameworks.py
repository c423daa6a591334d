"""Load what a tabular framework saved, predict with it, and convert it: one function for each framework."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import itertools
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modeldrop.errors import SourceError
from modeldrop.inference.runs import Array
from modeldrop.util.text import first_line

PACKAGES = {"scikit-learn": "scikit-learn", "LightGBM": "lightgbm", "XGBoost": "xgboost", "CatBoost": "catboost"}
_OPSET = {"": 18, "ai.onnx.ml": 3}
_MATRIX = "X"
# What estimators themselves consist of, which skops leaves to be judged: they hold numbers, and call nothing.
_HARMLESS = (
    "sklearn._loss.", "sklearn.ensemble._hist_gradient_boosting.", "sklearn.neighbors._", "sklearn.tree._tree.",
    *(f"sklearn.metrics._dist_metrics.{name}" for name in ("Chebyshev", "Euclidean", "Manhattan", "Minkowski")),
    "lightgbm.basic.Booster", "lightgbm.sklearn.LGBM", "xgboost.core.Booster", "xgboost.sklearn.XGB",
)  # fmt: skip
# Of scikit-learn's packages, those whose classes skops does not trust.
_NOT_PUBLIC = frozenset({"tests", "externals", "conftest", "experimental", "estimator_checks"})
_NEAREST = {
    "HistGradientBoosting": "LightGBM's LGBM{} is the same algorithm and is converted, and so is GradientBoosting{}.",
}


class Predictor(ABC):
    """A model that a framework has loaded.

    Attributes:
        libraries: packages that did the work, the framework first.
        labels: of a classifier, in the order of its probabilities; () for others.
        columns: names of its columns; () where it knows none.
        one_matrix: whether they are those of one matrix, and not an input each.
    """

    libraries: tuple[str, ...]
    labels: Sequence[Any] = ()
    columns: Sequence[str] = ()
    one_matrix = True

    @abstractmethod
    def to_onnx(self) -> bytes:
        """The graph.

        Raises:
            SourceError: the converter cannot; names what, and the nearest way.
        """

    @abstractmethod
    def predict(self, inputs: Mapping[str, Array]) -> list[Any]:
        """What the graph's outputs must be, in their order: labels and probabilities, or numbers."""


class _Booster(Predictor):
    """One matrix of numbers in; probabilities of one class, of all, or a number out."""

    def _answers(self, scores: Array, labels: Sequence[Any]) -> list[Any]:
        if not labels:
            return [scores]
        if scores.ndim == 1:
            scores = np.stack([1 - scores, scores], 1)
        return [np.asarray(labels)[scores.argmax(1)], scores]


class _LightGbm(_Booster):
    libraries = ("lightgbm", "onnxmltools")

    def __init__(self, path: Path) -> None:
        import lightgbm

        self._booster = lightgbm.Booster(model_file=path)
        dumped = self._booster.dump_model(num_iteration=1)
        objective = str(dumped.get("objective", "")).split(" ")[0]
        classes = {"binary": 2, "multiclass": dumped["num_class"], "multiclassova": dumped["num_class"]}
        self.labels = tuple(range(classes.get(objective, 0)))
        names = self._booster.feature_name()
        self.columns = () if names[0] == "Column_0" else tuple(names)

    def to_onnx(self) -> bytes:
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [(_MATRIX, FloatTensorType([None, self._booster.num_feature()]))]
        graph = onnxmltools.convert_lightgbm(self._booster, initial_types=types, zipmap=False, target_opset=15)
        return bytes(graph.SerializeToString())

    def predict(self, inputs: Mapping[str, Array]) -> list[Any]:
        return self._answers(np.asarray(self._booster.predict(inputs[_MATRIX].astype(np.float64))), self.labels)


class _XgBoost(_Booster):
    def __init__(self, path: Path) -> None:
        import xgboost

        self.libraries = (_installed("xgboost", "xgboost-cpu"), "onnxmltools")
        self._xgboost = xgboost
        self._booster = xgboost.Booster()
        self._booster.load_model(path)
        learner = json.loads(self._booster.save_config())["learner"]
        objective = learner["objective"]["name"]
        classes = int(learner["learner_model_param"]["num_class"])
        self.labels = tuple(range(2 if objective == "binary:logistic" else classes))
        self.columns = tuple(self._booster.feature_names or ())
        self._booster.feature_names = None  # the converter wants them called f0, f1, …
        self._booster.feature_types = None

    def to_onnx(self) -> bytes:
        import onnxmltools
        from onnxmltools.convert.common.data_types import FloatTensorType

        types = [(_MATRIX, FloatTensorType([None, self._booster.num_features()]))]
        graph = onnxmltools.convert_xgboost(self._booster, initial_types=types, target_opset=15)
        return bytes(graph.SerializeToString())

    def predict(self, inputs: Mapping[str, Array]) -> list[Any]:
        scores = self._booster.predict(self._xgboost.DMatrix(inputs[_MATRIX]))
        if self.labels and scores.ndim == 1 and len(self.labels) > 2:  # multi:softmax says labels alone
            return [scores.astype(np.int64)]
        return self._answers(scores, self.labels)


class _CatBoost(_Booster):
    libraries = ("catboost",)

    def __init__(self, path: Path) -> None:
        import catboost

        self._model = catboost.CatBoost()
        self._model.load_model(str(path))
        if self._model.get_cat_feature_indices() or self._model.get_text_feature_indices():
            raise SourceError(
                f"CatBoost does not export {path.name} to ONNX, for it has categorical or text features.",
                "Train it on one-hot columns (a ColumnTransformer of scikit-learn makes them), or use LightGBM.",
            )
        self.labels = tuple(np.asarray(self._model.classes_).tolist()) if len(self._model.classes_) else ()
        names = list(map(str, self._model.feature_names_))
        self.columns = () if names == list(map(str, range(len(names)))) else tuple(names)
        self._input = "features"

    def to_onnx(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            self._model.save_model(str(path), format="onnx")
            return path.read_bytes()

    def predict(self, inputs: Mapping[str, Array]) -> list[Any]:
        matrix = inputs[self._input]
        if not self.labels:
            return [self._model.predict(matrix)]
        scores = self._model.predict(matrix, prediction_type="Probability")
        return self._answers(np.asarray(scores), self.labels)


class _Sklearn(Predictor):
    libraries = ("scikit-learn", "skl2onnx")

    def __init__(self, path: Path, *, allow_pickle: bool) -> None:
        self._model = _load_sklearn(path, allow_pickle=allow_pickle)
        self._strings = _string_columns(self._model)
        names = getattr(self._model, "feature_names_in_", None)
        self._by_column = names is not None and bool(self._strings)
        self.one_matrix = not self._by_column
        self.columns = tuple(map(str, names)) if names is not None else ()
        if not (hasattr(self._model, "predict") or hasattr(self._model, "transform")):
            raise SourceError(
                f"{path.name} holds a {type(self._model).__name__}, which neither predicts nor transforms.",
                "Save the fitted estimator, or the Pipeline with all its steps.",
            )
        self.labels = tuple(np.asarray(getattr(self._model, "classes_", ())).tolist())

    def to_onnx(self) -> bytes:
        _register(self._model)
        for options in self._options():
            with contextlib.suppress(NameError):  # its converter has no such option
                return self._converted(options)
        return self._converted({})

    def _options(self) -> Iterator[dict[str, bool]]:
        """What the converter is told: scores as arrays and not as maps, by the estimator's own numbers."""
        if hasattr(self._model, "predict_proba"):
            yield {"zipmap": False}
        elif self.labels:
            yield {"zipmap": False, "raw_scores": True}
            yield {"raw_scores": True}

    def _converted(self, options: Mapping[str, bool]) -> bytes:
        import skl2onnx

        try:
            graph = skl2onnx.convert_sklearn(
                self._model,
                initial_types=self._types(),
                target_opset=_OPSET,
                options={id(self._model): dict(options)} if options else None,
            )
        except Exception as error:
            if options and isinstance(error, NameError):
                raise
            raise self._refusal(error) from error
        return bytes(graph.SerializeToString())

    def _types(self) -> list[tuple[str, Any]]:
        from skl2onnx.common.data_types import FloatTensorType, StringTensorType

        if self._by_column:
            strings = self._strings
            return [
                (name, StringTensorType([None, 1]) if name in strings else FloatTensorType([None, 1]))
                for name in self.columns
            ]
        kind = StringTensorType if self._strings else FloatTensorType
        return [(_MATRIX, kind([None, getattr(self._model, "n_features_in_", 1)]))]

    def _refusal(self, error: Exception) -> SourceError:
        import skl2onnx

        names = [type(step).__name__ for step in _steps(self._model)]
        name = next((one for one in names if one in str(error)), names[-1])
        for beginning, hint in _NEAREST.items():
            found = next((one for one in names if one.startswith(beginning)), "")
            if found:
                name, nearest = found, hint.replace("{}", found.removeprefix(beginning))
                break
        else:
            nearest = "Export it yourself and publish the graph, or take an estimator that skl2onnx supports."
        return SourceError(f"skl2onnx {skl2onnx.__version__} cannot convert {name}: {first_line(error)}", nearest)

    def predict(self, inputs: Mapping[str, Array]) -> list[Any]:
        data = self._data(inputs)
        if not hasattr(self._model, "predict"):
            return [self._model.transform(data)]
        from sklearn.base import is_clusterer

        # What skl2onnx gives beside the predictions: probabilities, else scores, of clusters the distances.
        scores = ["predict_proba", "decision_function"]
        if is_clusterer(self._model):
            scores.append("transform")
        beside = next((name for name in scores if hasattr(self._model, name)), "")
        return [self._model.predict(data), *([getattr(self._model, beside)(data)] if beside else [])]

    def _data(self, inputs: Mapping[str, Array]) -> Any:
        if not self._by_column:
            matrix = inputs[_MATRIX]
            texts = self._strings and not hasattr(self._model, "n_features_in_")
            return matrix.ravel() if texts else matrix.astype(object) if self._strings else matrix
        import pandas as pd

        frame = {
            name: inputs[name].ravel().astype(object) if name in self._strings else inputs[name].ravel()
            for name in self.columns
        }
        return pd.DataFrame(frame)


def _installed(*packages: str) -> str:
    """The package of these that is installed; they bring the same library."""
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.distribution(name).name
    return packages[0]


def _load_sklearn(path: Path, *, allow_pickle: bool) -> Any:
    if path.suffix != ".skops":
        import joblib

        return joblib.load(path)
    skops_io = _skops_io()
    untrusted = skops_io.get_untrusted_types(file=path)
    unknown = [name for name in untrusted if not (name.startswith(_HARMLESS) or _is_estimator(name))]
    if unknown and not allow_pickle:
        raise SourceError(
            f"{path.name} holds types that skops does not trust: {', '.join(sorted(unknown)[:5])}.",
            "Set `allow_pickle = true` in the recipe if you trust who made this model, or do without them.",
        )
    return skops_io.load(path, trusted=untrusted)


def _skops_io() -> Any:
    """skops.io, which would import all of scikit-learn, its tests and torch too, for a list of all its estimators.

    It gets an empty one: ``_is_estimator`` judges those that a file names.
    """
    import sklearn.utils

    every = sklearn.utils.all_estimators
    sklearn.utils.all_estimators = list
    try:
        return importlib.import_module("skops.io")
    finally:
        sklearn.utils.all_estimators = every


def _is_estimator(name: str) -> bool:
    """Whether a type is an estimator that scikit-learn's documentation has, which skops trusts."""
    *modules, own = name.split(".")
    public = list(itertools.takewhile(lambda part: not part.startswith("_"), modules))
    if public[:1] != ["sklearn"] or own.startswith("_") or not _NOT_PUBLIC.isdisjoint(public):
        return False
    from sklearn.base import BaseEstimator

    try:
        found = getattr(importlib.import_module(".".join(public)), own, None)
    except ImportError:
        return False
    is_one = isinstance(found, type) and issubclass(found, BaseEstimator) and found is not BaseEstimator
    return is_one and found.__module__ == ".".join(modules)


def _steps(model: Any) -> Iterator[Any]:
    """An estimator and all that it is made of."""
    yield model
    for _, step, *_ in getattr(model, "steps", ()):
        if not isinstance(step, str) and step is not None:
            yield from _steps(step)
    for _, step, *_ in getattr(model, "transformers_", ()):
        if not isinstance(step, str):
            yield from _steps(step)


def _string_columns(model: Any) -> set[str]:
    """Names of the columns that hold strings; of a model without names, its only input's if that holds strings."""
    found: set[str] = set()
    for step in _steps(model):
        for name, inner, columns in getattr(step, "transformers_", ()):
            if name == "remainder" or isinstance(inner, str):
                continue
            taken = [columns] if isinstance(columns, str) else list(columns)
            if _reads_strings(inner):
                found |= {str(column) for column in taken}
    if found:
        return found
    first = model.steps[0][1] if hasattr(model, "steps") else model
    return {_MATRIX} if _reads_strings(first) else set()


def _reads_strings(step: Any) -> bool:
    for one in _steps(step):
        if hasattr(one, "vocabulary_"):
            return True
        if any(np.asarray(categories).dtype.kind in "OU" for categories in getattr(one, "categories_", ())):
            return True
    return False


def _register(model: Any) -> None:
    """Tell skl2onnx how to convert the steps that LightGBM and XGBoost have made."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common import shape_calculator as shapes

    for step in _steps(model):
        library, name = type(step).__module__.partition(".")[0], type(step).__name__
        if library not in {"lightgbm", "xgboost"}:
            continue
        if library == "lightgbm":
            from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm as convert
        else:
            from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost as convert
        classifies = name.endswith("Classifier")
        calculate = (
            shapes.calculate_linear_classifier_output_shapes
            if classifies
            else shapes.calculate_linear_regressor_output_shapes
        )
        options = {"nocl": [True, False], "zipmap": [True, False, "columns"]} if classifies else None
        update_registered_converter(type(step), f"{library}{name}", calculate, convert, options=options)


def open_sklearn(path: Path, *, allow_pickle: bool) -> Predictor:
    """scikit-learn's estimators and pipelines: ``.skops``, ``.joblib``, ``.pkl``."""
    return _Sklearn(path, allow_pickle=allow_pickle)


def open_lightgbm(path: Path, *, allow_pickle: bool) -> Predictor:
    """LightGBM's ``.txt``."""
    return _LightGbm(path)


def open_xgboost(path: Path, *, allow_pickle: bool) -> Predictor:
    """XGBoost's ``.json`` and ``.ubj``."""
    return _XgBoost(path)


def open_catboost(path: Path, *, allow_pickle: bool) -> Predictor:
    """CatBoost's ``.cbm``."""
    return _CatBoost(path)
