"""GLiNER: its checkpoints are refused by name with a way, and that way is gone: gliner's graph as a generic model."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import modeldrop as library
from tests.docs.pages import blocks
from tests.helpers.builds import environment
from tests.helpers.checkpoints import bert
from tests.helpers.command_line import ROOT, modeldrop

pytestmark = [pytest.mark.soak]
PACKAGES = ROOT / ".packages"
PROGRAM = Path(__file__).with_name("gliner_program.py")
RECIPE = """variants = ["fp32", "int8"]
inputs = "inputs.npz"
[thresholds.int8]
rel_error = 1.0
"""


def gliner(folder: Path, *arguments: object) -> str:
    """What Python prints that has gliner, with these arguments."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", *map(str, arguments)],
        check=True,
        env=environment(PYTHONPATH=str(PACKAGES), HOME=str(folder), HF_HUB_OFFLINE="1"),
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def test_gliner_reads_a_version_of_its_graph_as_it_reads_its_own(tmp_path: Path) -> None:
    bert(tmp_path / "encoder")
    gliner(tmp_path, PROGRAM, "make", tmp_path)
    refused = modeldrop("publish", tmp_path / "checkpoint", tmp_path / "registry" / "ner")
    assert refused.code == 7
    assert "a GLiNER model" in refused.err
    assert "export_to_onnx(NEW), and give NEW as the source of a generic model" in refused.err
    (export,) = (block.text for block in blocks(ROOT / "docs/tasks.md") if block.file == "export_gliner.py")
    gliner(tmp_path, "-c", export)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    ran = modeldrop("publish", tmp_path / "graph", tmp_path / "registry" / "ner", "--recipe", tmp_path / "recipe.toml")
    assert ran.code == 0, ran.err
    wanted: list[list[dict[str, Any]]] = json.loads(
        gliner(tmp_path, PROGRAM, "predict", tmp_path / "checkpoint").splitlines()[-1]
    )
    assert all(wanted)
    for variant in ("fp32", "int8"):
        snapshot = library.fetch(f"{tmp_path}/registry/ner", tmp_path / "home", variant=variant, self_test=True)
        graph = snapshot.model_files["model"].relative_to(snapshot.path)
        found = json.loads(gliner(tmp_path, PROGRAM, "predict", snapshot.path, graph).splitlines()[-1])
        assert [len(one) > 0 for one in found] == [True, True]
        if variant == "fp32":
            assert [[(one["text"], one["label"]) for one in text] for text in found] == [
                [(one["text"], one["label"]) for one in text] for text in wanted
            ]
            for mine, its in zip(chain.from_iterable(found), chain.from_iterable(wanted), strict=True):
                assert abs(mine["score"] - its["score"]) < 1e-4
