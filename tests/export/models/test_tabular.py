"""Models of tabular frameworks: converted, and compared with what the framework itself predicts."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest

import modeldrop as library
from modeldrop.errors import RecipeError, SourceError
from modeldrop.export.messages import Checkpoint, ExportRequest, GenericSettings
from modeldrop.export.models.generic import frameworks, worker
from modeldrop.export.sources import resolve_source
from modeldrop.format.manifest import Tensor
from modeldrop.inference.outputs import compare_named
from modeldrop.inference.runs import OnnxVariant
from tests.export import tabular_models as models
from tests.helpers.command_line import ROOT, modeldrop
from tests.helpers.rounds import rounds

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow


def loaded(folder: Path, path: Path, inputs: Path | None = None, *, allow_pickle: bool = False) -> worker.GenericModel:
    """What the worker loads of a framework's file, with inputs."""
    source = resolve_source(str(path), allow_pickle=allow_pickle)
    return worker.GenericModel(
        ExportRequest(
            checkpoint=Checkpoint(source.materialize(folder / "source"), "generic", allow_pickle=allow_pickle),
            output=folder / "out",
            reference=folder / "reference.npz",
            samples=(),
            golden=(),
            openvino=False,
            beside=False,
            generic=GenericSettings(
                framework=source.framework,
                file=source.framework_file,
                roles=source.roles,
                variant="fp32",
                inputs=inputs,
                further=False,
            ),
        )
    )


def difference(folder: Path, model: worker.GenericModel) -> dict[str, float]:
    """How far the graph's answers are from the framework's."""
    model.export(folder / "out")
    graph = OnnxVariant(folder / "out", {"model": "onnx/model.onnx"})
    runs = list(model.runs(()))
    figures, _ = compare_named([run.answer.named for run in runs], [graph.answer(run) for run in runs])
    return figures


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (models.forest, "model.skops"),
        (models.regression, "model.skops"),
        (models.lightgbm, "model.txt"),
        (models.xgboost, "model.json"),
        (models.xgboost, "model.ubj"),
        pytest.param(models.catboost, "model.cbm", marks=pytest.mark.soak),
    ],
)
def test_a_graph_answers_as_the_framework_does(
    make: Callable[[Path], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / ".packages")  # what is too large for `make test`
    np.savez(tmp_path / "inputs.npz", X=models.numbers()[:, None])
    np.savez(tmp_path / "features.npz", features=models.numbers()[:, None])
    inputs = tmp_path / ("features.npz" if name.endswith(".cbm") else "inputs.npz")
    model = loaded(tmp_path, make(tmp_path / name), inputs)
    figures = difference(tmp_path, model)
    assert figures["rel_error"] < 1e-5
    assert figures["rank_agreement"] == 1.0
    assert figures.get("label_agreement", 1.0) == 1.0
    assert len(model.labels) == (0 if make is models.regression else 2 if make is models.xgboost else 3)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        # skl2onnx asks for an attribute that scikit-learn 1.9 deprecates.
        pytest.param(
            "svm.SVC", [(1,), (1, 2)], marks=pytest.mark.filterwarnings("ignore:Attribute .prob:FutureWarning")
        ),
        ("svm.LinearSVC", [(1,), (1, 2)]),
        ("linear_model.RidgeClassifier", [(1,), (1, 2)]),
        ("neighbors.KNeighborsClassifier", [(1,), (1, 2)]),
        ("cluster.KMeans", [(1,), (1, 8)]),
        pytest.param("ensemble.IsolationForest", [(1, 1), (1, 1)], marks=pytest.mark.rounds),
        ("preprocessing.StandardScaler", [(1, 4)]),
        ("cross_decomposition.PLSRegression", [(1, 1)]),
    ],
)
def test_kinds_of_estimators_give_what_their_graphs_do(name: str, shapes: list[Any], tmp_path: Path) -> None:
    import skops.io

    module, kind = name.split(".")
    # A tree of it takes a fifth of a second to convert.
    options = {"n_estimators": rounds(5, 100)} if kind == "IsolationForest" else {}
    estimator = getattr(importlib.import_module(f"sklearn.{module}"), kind)(**options)
    skops.io.dump(estimator.fit(models.numbers(), models.classes(2)), tmp_path / "m.skops")
    np.savez(tmp_path / "inputs.npz", X=models.numbers()[:, None])
    model = loaded(tmp_path, tmp_path / "m.skops", tmp_path / "inputs.npz")
    figures = difference(tmp_path, model)
    assert figures["rel_error"] < 1e-5
    assert figures.get("label_agreement", 1.0) == 1.0
    assert [array.shape for array in next(model.runs(())).answer.named.values()] == shapes


def test_several_outputs_at_once_are_refused(tmp_path: Path) -> None:
    import skops.io
    from sklearn.linear_model import LogisticRegression
    from sklearn.multioutput import MultiOutputClassifier

    both = np.stack([models.classes(2), 1 - models.classes(2)], 1)
    skops.io.dump(MultiOutputClassifier(LogisticRegression()).fit(models.numbers(), both), tmp_path / "m.skops")
    with pytest.raises(SourceError, match="cannot be proven: it predicts several things at once"):
        list(loaded(tmp_path, tmp_path / "m.skops").runs(()))


def write_people(path: Path, city: str = "Oslo") -> Path:
    table = models.people()
    table.loc[3, "city"] = city
    table.to_csv(path, index=False)
    return path


def test_a_pipeline_with_strings_goes_the_whole_way_and_needs_permission(tmp_path: Path) -> None:
    path = models.pipeline(tmp_path / "credit.joblib")
    rows = write_people(tmp_path / "people.csv")
    (tmp_path / "recipe.toml").write_text(f'inputs = "{rows.name}"\n')
    command = ("publish", path, tmp_path / "models" / "credit", "--recipe", tmp_path / "recipe.toml")
    refused = modeldrop(*command)
    assert refused.code == SourceError.exit_code
    assert "is a pickle" in refused.err
    ran = modeldrop(*command, "--allow-pickle")
    assert ran.code == 0, ran.err
    snapshot = library.fetch(f"{tmp_path}/models/credit", tmp_path / "home", self_test=True)
    assert [(one.name, one.dtype, one.shape) for one in snapshot.signature["model"].inputs] == [
        ("age", "float32", ("?", "1")),
        ("city", "string", ("?", "1")),
        ("income", "float32", ("?", "1")),
    ]
    manifest = snapshot.manifest
    assert manifest.architecture == "scikit-learn"
    assert manifest.labels == ("False", "True")
    assert manifest.variants[0].fidelity.texts == models.ROWS
    assert manifest.variants[0].fidelity.metrics["label_agreement"] == 1.0
    assert "torch" not in manifest.toolchain
    session = onnxruntime.InferenceSession(snapshot.model_file)
    age, income = (np.array([[number]], np.float32) for number in (70, 5000))
    (label, probabilities) = session.run(None, {"age": age, "city": np.array([["Oslo"]]), "income": income})
    assert (label.tolist(), probabilities.argmax()) == ([1], 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda path: write_people(path, "Atlantis"),
            "scikit-learn itself fails on input 4: .*unknown categories.*Atlantis",
        ),
        (lambda path: path.write_text("age,city,income\nold,Oslo,1\n"), "has 'old' as age: expected is float32"),
        (lambda path: path.write_text("age,city\n1,Oslo\n"), "has no income: expected is float32"),
    ],
    ids=["category never seen", "a string where a number belongs", "a column that is missing"],
)
def test_inputs_that_the_framework_refuses(change: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    change(tmp_path / "people.csv")
    path = models.pipeline(tmp_path / "credit.joblib")
    with pytest.raises(RecipeError, match=says):
        list(loaded(tmp_path, path, tmp_path / "people.csv", allow_pickle=True).runs(()))


def test_columns_are_taken_by_their_names(tmp_path: Path) -> None:
    import lightgbm

    names = ["a", "b", "c", "d"]
    settings = {"objective": "regression", "num_threads": 1, "verbose": -1, "min_data_in_leaf": 5}
    data = lightgbm.Dataset(models.numbers(), models.numbers()[:, 0].copy(), feature_name=names)
    lightgbm.train(settings, data, 5).save_model(tmp_path / "m.txt")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", *names[::-1]])
        writer.writerows([["x", *row[::-1]] for row in models.numbers()[:3].tolist()])
    model = loaded(tmp_path, tmp_path / "m.txt", tmp_path / "rows.csv")
    asked = [run.steps[0].inputs["X"] for run in model.runs(())]
    assert np.allclose(np.concatenate(asked), models.numbers()[:3])


def test_what_cannot_be_converted_is_refused_by_name(tmp_path: Path) -> None:
    import skops.io
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=2).fit(models.numbers(), models.classes())
    skops.io.dump(model, tmp_path / "model.skops")
    with pytest.raises(SourceError, match="cannot convert HistGradientBoostingClassifier") as caught:
        loaded(tmp_path, tmp_path / "model.skops")
    assert "LGBMClassifier" in caught.value.hint


def test_skops_of_unknown_types_are_refused(tmp_path: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(FunctionTransformer(np.loadtxt), tmp_path / "model.skops")
    with pytest.raises(SourceError, match="does not trust: numpy"):
        frameworks.open_sklearn(tmp_path / "model.skops", allow_pickle=False)


@pytest.mark.parametrize(
    ("name", "trusted"),
    [
        ("sklearn.ensemble._forest.RandomForestClassifier", True),
        ("sklearn.feature_extraction.text.CountVectorizer", True),
        ("sklearn.linear_model._glm.glm.PoissonRegressor", True),
        ("sklearn.ensemble.RandomForestClassifier", False),  # not where it is defined
        ("sklearn.base.BaseEstimator", False),
        ("sklearn.datasets._base.load_files", False),
        ("sklearn.tests.test_base.MyEstimator", False),
        ("sklearn.utils._mocking.CheckingClassifier", False),
        ("sklearn.nowhere.Estimator", False),
        ("numpy.loadtxt", False),
    ],
)
def test_estimators_that_are_trusted_are_those_of_the_documentation(name: str, trusted: bool) -> None:
    assert frameworks._is_estimator(name) == trusted


@pytest.mark.soak
def test_every_estimator_that_skops_trusts_is_trusted() -> None:
    from sklearn.utils import all_estimators
    from skops.io._utils import get_type_name

    names = {get_type_name(estimator) for _, estimator in all_estimators()}
    own = {name for name in names if name.startswith("sklearn.")}
    assert len(own) > 150
    assert {name for name in own if not frameworks._is_estimator(name)} == set()


def test_a_skops_file_is_read_without_importing_all_of_scikit_learn(tmp_path: Path) -> None:
    models.forest(tmp_path / "m.skops")
    program = (
        "import sys, pathlib\n"
        "from modeldrop.export.models.generic.frameworks import open_sklearn\n"
        "open_sklearn(pathlib.Path(sys.argv[1]), allow_pickle=False)\n"
        "print(sorted({'torch', 'pytest'} & {*sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "m.skops"], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(("make", "name"), [(models.lightgbm, "m.txt"), (models.xgboost, "m.ubj")])
def test_boosters_import_no_scikit_learn(make: Callable[[Path], object], name: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    environment = {"MODELDROP_EXPORTER_PYTHON": sys.executable, "PYTHONPATH": str(tmp_path)}
    ran = modeldrop("build", tmp_path / name, "-o", tmp_path / "out", environment=environment)
    assert ran.code == 0, ran.err


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("not a tree")
    with pytest.raises(SourceError, match="cannot be read as a model of LightGBM"):
        loaded(tmp_path, tmp_path / "model.txt")


def test_ties_at_a_threshold_are_counted_and_named(tmp_path: Path) -> None:
    import lightgbm

    # Both numbers are the same in float32: the tree tells them apart in float64, and the graph cannot.
    low = 0.1
    x = np.array([[low], [float(np.float32(low)) + 1e-9]] * 20)
    settings = {"objective": "regression", "num_threads": 1, "verbose": -1, "min_data_in_leaf": 1, "min_data_in_bin": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, np.tile([0.0, 1.0], 20)), 5)
    text = booster.model_to_string()
    (tmp_path / "m.txt").write_text(text)
    np.savez(tmp_path / "inputs.npz", X=np.array([[[low]], [[3.0]]], np.float32))
    model = loaded(tmp_path, tmp_path / "m.txt", tmp_path / "inputs.npz")
    runs = list(model.runs(()))
    assert [run.text for run in runs] == ["input 1 (a tie in float32)", "input 2"]
    assert model.framework.endswith("ties in float32: 1 of 2 inputs (1)")
    assert difference(tmp_path, model)["rel_error"] < 1e-5


def test_the_signature_of_text_is_a_string(tmp_path: Path) -> None:
    import skops.io
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good and kind", "bad and ugly", "kind", "ugly"] * 5
    skops.io.dump(
        make_pipeline(CountVectorizer(lowercase=False), LogisticRegression()).fit(texts, [1, 0, 1, 0] * 5),
        tmp_path / "m.skops",
    )
    (tmp_path / "rows.csv").write_text("X\ngood\nugly and bad\n")
    model = loaded(tmp_path, tmp_path / "m.skops", tmp_path / "rows.csv")
    assert difference(tmp_path, model)["label_agreement"] == 1.0
    assert list(model._signatures["model"]) == [Tensor("X", "string", ("?", "1"))]
