"""Publishing what tabular frameworks save: processor seconds of the whole command, where torch is not installed.

``modeldrop publish FILE MODEL`` into a folder, for a model of about 1 MB of each framework, trained on the same 4000
rows of 12 numbers: a random forest of scikit-learn (``.skops``), and boosted trees of LightGBM (``.txt``), XGBoost
(``.ubj``) and CatBoost (``.cbm``). Without inputs: eight are drawn. User and system time of the process and of all its
workers, cold interpreters, the median of 3; in ``.bench/tabular``, which has ``modeldrop[tabular]`` and the frameworks
alone, installed when first needed. There is no peer.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks.process import measure
from benchmarks.result import Row
from benchmarks.workspace import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.workspace import Workspace

ROUNDS = 3
_SECONDS = 5.0
_PACKAGES = ("lightgbm==4.7.*", "xgboost-cpu==3.2.*", "catboost==1.2.*")
_FILES = {"scikit-learn": "forest.skops", "LightGBM": "trees.txt", "XGBoost": "trees.ubj", "CatBoost": "trees.cbm"}
_TRAIN = """
import catboost, lightgbm, numpy, skops.io, xgboost
from sklearn.ensemble import RandomForestClassifier

random = numpy.random.default_rng(0)
x = random.standard_normal((4000, 12)).astype(numpy.float32)
y = (x[:, 0] + x[:, 1] ** 2 + random.standard_normal(4000) * 0.3 > 1).astype(int)
skops.io.dump(RandomForestClassifier(27, max_depth=9, random_state=0).fit(x, y), "forest.skops")
settings = {"objective": "binary", "num_leaves": 63, "verbose": -1}
lightgbm.train(settings, lightgbm.Dataset(x, y), 160).save_model("trees.txt")
settings = {"objective": "binary:logistic", "max_depth": 7}
xgboost.train(settings, xgboost.DMatrix(x, y), 650).save_model("trees.ubj")
trees = catboost.CatBoostClassifier(iterations=900, depth=6, verbose=0, allow_writing_files=False)
trees.fit(x, y).save_model("trees.cbm")
"""


def run(workspace: Workspace) -> list[Row]:
    python = _environment(workspace)
    workspace.output([str(python), "-c", _TRAIN])
    environment = workspace.bare_environment({"HF_HUB_OFFLINE": "1"})
    seconds: dict[str, list[float]] = {name: [] for name in _FILES}
    for _ in range(workspace.rounds(ROUNDS)):
        for name, file in _FILES.items():
            registry = workspace.folder / "tabular"
            command = [str(python.with_name("modeldrop")), "publish", f"./{file}", str(registry / "trees"), "--quiet"]
            seconds[name].append(measure(command, environment, workspace.folder).processor)
            shutil.rmtree(registry)
    rows = []
    for name, file in _FILES.items():
        size, median = (workspace.folder / file).stat().st_size / 1e6, statistics.median(seconds[name])
        what = f"publish {name}, {size:.1f} MB, processor"
        rows.append(Row(what, median, f"< {_SECONDS:.0f} s", median < _SECONDS, unit="s"))
    return rows


def _environment(workspace: Workspace) -> Path:
    """The interpreter of an environment that has the frameworks and no torch."""
    environment = ROOT / ".bench" / "tabular"
    pins = ROOT / "requirements" / "exporter.txt"
    wanted = hashlib.sha256(" ".join(_PACKAGES).encode() + pins.read_bytes()).hexdigest()[:12]
    python, done = environment / "bin" / "python", environment / f".installed-{wanted}"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        workspace.wall([sys.executable, "-m", "venv", str(environment)])
        pip = [str(python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        workspace.wall([*pip, "-c", str(pins), "-e", f"{ROOT}[tabular]", *_PACKAGES], {"PYTHONPATH": ""})
        done.touch()
    if any(environment.glob("lib/python3*/site-packages/torch")):
        sys.exit(f"tabular: {environment} has torch")
    return python
