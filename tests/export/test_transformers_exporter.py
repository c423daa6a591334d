"""The second exporter, in an environment of its own: transformers 5, which no other test imports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optimum.exporters.onnx.model_configs  # noqa: F401  registers the kinds
import pytest
import transformers
from optimum.exporters.tasks import TasksManager
from tokenizers import Tokenizer

from modeldrop.export.exporter_choice import OF_OPTIMUM, OF_TRANSFORMERS, OTHERS_OF_OPTIMUM
from modeldrop.export.models.vision.task import OF_TRANSFORMERS as PICTURES_OF_TRANSFORMERS
from modeldrop.export.worker_process import worker_environment
from modeldrop.format.manifest import parse_manifest
from tests.export.building import answers
from tests.helpers.command_line import modeldrop
from tests.helpers.second_exporter import PYTHON, ROOT

pytestmark = pytest.mark.heavy

TEXTS = ["The harbour at night.", "Fold the dough four times, then let it rest for an hour.", "x"]
FREE = ["batch_size", "sequence_length"]
WITH_PAST = {"text-generation", "text2text-generation"}  # what optimum's names of tasks say besides
FROZEN = "frozen"  # of tests.helpers.transformers5, which imports what is not here


def in_its_environment(*arguments: object) -> str:
    """What ``tests.helpers.transformers5`` prints."""
    command = [str(PYTHON), "-m", "tests.helpers.transformers5", *map(str, arguments)]
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=worker_environment({"PATH": "/usr/bin:/bin"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


def exported(folder: Path, *kinds: str, before: Sequence[object] = ()) -> dict[str, dict[str, Any]]:
    said = in_its_environment(*before, "export", folder, *kinds)
    found: dict[str, dict[str, Any]] = json.loads(said.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def nomic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a checkpoint is, once ``made`` is."""
    return tmp_path_factory.mktemp("nomic") / "source"


@pytest.fixture(scope="module")
def made(nomic: Path) -> dict[str, dict[str, Any]]:
    """What its exporter makes of two kinds; its environment is slow to start, and so makes ``nomic`` too."""
    return exported(nomic.parent, "eurobert", FROZEN, before=("make", "nomic_bert", nomic))


def check_free(made: dict[str, Any]) -> None:
    """It answers as the original does, whatever the batch and the length, under the ecosystem's names."""
    assert made["max_abs"] <= 1e-4
    assert {"input_ids", "attention_mask"} <= made["inputs"].keys() <= {"input_ids", "attention_mask", "token_type_ids"}
    assert all(axes == FREE for axes in made["inputs"].values())
    assert made["outputs"] == {"last_hidden_state": FREE}
    assert made["notes"] == 0


def test_a_graph_is_free_in_batch_and_length_or_refused_by_the_dimension(made: dict[str, dict[str, Any]]) -> None:
    check_free(made["eurobert"])
    refused = made[FROZEN]["refused"]
    assert refused.startswith("The dimension sequence_length of this bert model does not stay free"), refused


@pytest.mark.soak
def test_every_kind_that_is_named_is_proven(tmp_path: Path) -> None:
    made = exported(tmp_path, *sorted(OF_TRANSFORMERS))
    for one in made.values():
        check_free(one)
    assert len(OF_TRANSFORMERS - OF_OPTIMUM["feature-extraction"]) >= 12
    others = exported(tmp_path / "others", "qwen3_5_text")
    assert "The dimension sequence_length" in others["qwen3_5_text"]["refused"]


@pytest.mark.soak
def test_every_kind_that_sees_is_proven(tmp_path: Path) -> None:
    made = exported(tmp_path, *sorted(PICTURES_OF_TRANSFORMERS))
    for one in made.values():
        assert one["max_abs"] <= 1e-4
        assert one["inputs"] == {"pixel_values": "batch_size"}
        assert one["outputs"] == {"last_hidden_state": "batch_size", "pooler_output": "batch_size"}


@pytest.mark.usefixtures("made")
def test_what_optimum_does_not_know_is_built_by_the_other(nomic: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('variants = ["fp32"]\n[thresholds.fp32]\nmax_abs = 1e-4')
    ran = modeldrop(
        "build",
        nomic,
        "-o",
        tmp_path / "out",
        "--recipe",
        recipe,
        environment={"MODELDROP_EXPORTER_PYTHON": str(PYTHON)},
    )
    assert ran.code == 0, ran.err
    manifest = parse_manifest((tmp_path / "out" / "manifest.json").read_bytes())
    assert manifest.exporter == "transformers"
    assert manifest.recipe.exporter == "auto"
    assert manifest.toolchain["transformers"].startswith("5.")
    assert "onnxscript" in manifest.toolchain
    assert "optimum" not in manifest.toolchain
    assert np.isfinite(answers(tmp_path / "out", TEXTS, "last_hidden_state")).all()
    # transformers 4 loads the tokenizer that 5 has saved.
    four = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    backend = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert four(TEXTS[1])["input_ids"] == backend.encode(TEXTS[1]).ids


@pytest.mark.parametrize("task", OF_OPTIMUM)
def test_what_optimum_is_said_to_know_it_knows(task: str) -> None:
    known = {kind for kind, by in TasksManager._SUPPORTED_MODEL_TYPE.items() if task in by.get("onnx", {})}
    assert known >= OF_OPTIMUM[task]
    # What else it knows under this task reads no texts, or reads more than texts.
    assert not (known - OF_OPTIMUM[task]) & OF_TRANSFORMERS


@pytest.mark.parametrize("task", OTHERS_OF_OPTIMUM)
def test_what_optimum_is_said_not_to_know_it_does_not_know(task: str) -> None:
    name = f"{task}-with-past" if task in WITH_PAST else task
    known = {kind for kind, by in TasksManager._SUPPORTED_MODEL_TYPE.items() if name in by.get("onnx", {})}
    assert known == OTHERS_OF_OPTIMUM[task]
