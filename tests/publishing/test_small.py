"""A run that builds nothing needs nothing of the exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.helpers.command_line import RUNTIME_PYTHON, modeldrop
from tests.helpers.publisher import Publisher, named

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"huggingface_hub", "numpy", "onnx", "onnxruntime", "optimum", "tokenizers", "torch", "transformers"}


def test_a_warm_run_in_a_container(publisher: Publisher, tmp_path: Path) -> None:
    registry = str(tmp_path / "registry")
    publisher.publish("a", registry, channel=None)
    what = (publisher.source("a"), f"{registry}/embedder", "--json")
    # Python tells every module that it imports.
    told = {"PYTHONPROFILEIMPORTTIME": "1"}
    planned = modeldrop("plan", *what, python=RUNTIME_PYTHON, environment=told)
    assert (planned.code, planned.json["would_build"]) == (0, False), planned.err
    test = 'test -f "$MODELDROP_NEW/config.json"'
    published = modeldrop("publish", *what, "--test", test, python=RUNTIME_PYTHON, environment=told)
    assert (published.code, published.json["tested"], named(registry)) == (0, True, 1), published.err
    assert (published.json["promotion"], published.json["channel"]["promotion"]) == ("moved", "moved")
    fetched = modeldrop("fetch", f"{registry}/embedder", "-d", tmp_path / "home", environment=told)
    assert fetched.code == 0, fetched.err
    for ran in (planned, published, fetched):
        imported = {line.rpartition("|")[2].strip() for line in ran.err.splitlines() if line.startswith("import time:")}
        assert "modeldrop.cli" in imported
        assert not imported & {*HEAVY, "modeldrop.export.pipeline"}
    assert "tomllib" not in fetched.err  # there is no modeldrop.toml
    assert not any(line.endswith(("modeldrop.publishing", "modeldrop.export")) for line in fetched.err.splitlines())
