"""A reranker of 568 million parameters, whose weights no file of 2 GB holds: built, published, fetched and run."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.large import SCORES, VARIANTS
from modeldrop.export.preflight.checks import check_request
from modeldrop.export.preflight.resources import ResourceNeeds, needs
from modeldrop.format.manifest import Manifest, parse_manifest
from modeldrop.format.recipe import parse_recipe
from modeldrop.publishing.plan import build_request_of
from tests.export.recipes import loosened
from tests.helpers.builds import CPU, environment
from tests.helpers.command_line import ROOT, RUNTIME_PYTHON, modeldrop
from tests.helpers.process_tree import Used, watch

pytestmark = pytest.mark.soak

MOST_MEMORY = 4.0
"""Times the weights in fp32."""

GRAPHS = ("model.onnx", "model_fp16.onnx", "model_int8.onnx", "model_quantized.onnx")
_RUN = """
import json, sys, numpy, onnxruntime, tokenizers
folder, graph = sys.argv[1:]
assert not {"torch", "transformers"} & set(sys.modules)
encoding = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json").encode("What is a panda?", "A bear of China.")
inputs = {"input_ids": [encoding.ids], "attention_mask": [encoding.attention_mask]}
session = onnxruntime.InferenceSession(folder + "/" + graph)
print(json.dumps(session.run(["logits"], {name: numpy.array(ids) for name, ids in inputs.items()})[0].tolist()))
"""


@dataclass(frozen=True)
class Large:
    """The published model, what building it took, and what it was said to take."""

    version: Path
    manifest: Manifest
    used: Used
    needed: ResourceNeeds

    @property
    def fp32(self) -> int:
        variant = self.manifest.variant("fp32")
        assert variant is not None
        return self.manifest.weights_of(variant)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    folder = tmp_path_factory.mktemp("large")
    source, work = folder / "checkpoint", folder / "work"
    made = [sys.executable, "-m", "tests.helpers.large_checkpoints", "reranker_v2_m3", str(source)]
    subprocess.run(made, check=True, cwd=ROOT, env=environment())
    recipe = loosened(source, SCORES, VARIANTS)
    work.mkdir()
    registry = folder / "registry"
    command = ["publish", source, registry / "reranker", "--recipe", recipe, "--build-dir", work / "built"]
    kept = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    used = watch([sys.executable, "-m", "modeldrop", *map(str, command)], work, kept)
    assert used.code == 0, used.said
    version = registry / "reranker" / "v1"
    needed = needs(
        check_request(build_request_of(str(source), parse_recipe(tomllib.loads(recipe.read_text())), offline=True))
    )
    return Large(version, parse_manifest((version / "manifest.json").read_bytes()), used, needed)


def test_it_needs_no_more_memory_than_four_times_its_weights(
    large: Large, record_property: Callable[[str, object], None]
) -> None:
    most = max(large.used.memory, large.used.process)
    record_property("seconds", large.used.seconds)
    record_property("memory in times of fp32", most / large.fp32)
    assert large.fp32 > 2 << 30
    assert most <= MOST_MEMORY * large.fp32


def test_it_needs_no_more_than_was_asked_for_before(large: Large) -> None:
    assert max(large.used.memory, large.used.process) <= large.needed.memory
    assert large.used.disk <= large.needed.disk


def test_all_graphs_have_their_weights_beside_them(large: Large) -> None:
    files = {path.relative_to(large.version).as_posix() for path in large.version.rglob("*") if path.is_file()}
    assert {path for path in files if path.startswith(("onnx/", "openvino/openvino_model"))} == {
        *(path for name in GRAPHS for path in (f"onnx/{name}", f"onnx/{name}_data")),
        "openvino/openvino_model_qint8_quantized.bin",
        "openvino/openvino_model_qint8_quantized.xml",
    }
    config = json.loads((large.version / "config.json").read_text("utf-8"))
    said = config["transformers.js_config"]["use_external_data_format"]
    assert said == {name: 1 for name in GRAPHS if name != "model.onnx"}
    assert {stat.S_IMODE((large.version / path).stat().st_mode) & 0o444 for path in files} == {0o444}


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_it_is_fetched_and_runs_without_torch(large: Large, variant: str, tmp_path: Path) -> None:
    reference = f"{large.version.parent}@v1"
    ran = modeldrop(
        "fetch", reference, "-d", tmp_path, "--variant", variant, "--self-test", "--json", python=RUNTIME_PYTHON
    )
    assert ran.code == 0, ran.err
    (fetched,) = ran.json
    snapshot = Path(fetched["path"])
    found = large.manifest.variant(variant)
    assert found is not None
    command = [str(RUNTIME_PYTHON), "-c", _RUN, str(snapshot), found.model]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"MODELDROP_CPU": CPU})
    ((score,),) = json.loads(done.stdout)
    assert abs(score) < 100
