"""examples/tabular: trained, published under its rule, and picked up by the batch job and the service."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.builds import environment
from tests.helpers.command_line import ROOT, modeldrop

EXAMPLE = ROOT / "examples/tabular"

ASK = """
import sys
from fastapi.testclient import TestClient
sys.path.insert(0, sys.argv[1])
import serve
answer = TestClient(serve.app).post("/score", json={"age": 70, "income": 9000, "city": "Oslo"}).json()
print(answer["version"], answer["pays"] > 0.5)
serve.watcher.stop()
"""


@pytest.mark.slow
def test_the_nightly_model_is_published_and_picked_up(tmp_path: Path) -> None:
    folder = tmp_path / "night"
    shutil.copytree(EXAMPLE, folder)

    def run(*arguments: object) -> str:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            check=True,
            text=True,
            capture_output=True,
            cwd=folder,
            env=environment(MODELDROP_REGISTRY=str(folder / "models"), MODELDROP_HOME=str(tmp_path / "home")),
        ).stdout

    run("train.py", "--rows", 500)
    ran = modeldrop("publish", "--only", "credit", cwd=folder)
    assert ran.code == 0, ran.err
    assert "accuracy" in ran.out
    scores = run("score.py", "./models", "held_out.csv").splitlines()
    assert len(scores) == 200
    assert {line.split(",")[0] for line in scores} == {"Bern", "Lima", "Oslo", "Pune"}
    assert run("-c", ASK, folder) == "v1 True\n"
