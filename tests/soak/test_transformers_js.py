"""transformers.js loads a version as it lies in the bucket, by every dtype it has a name for: in Node and in Chromium.

The weights lie beside the graphs, which config.json says.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from modeldrop.format.manifest import parse_manifest
from tests.helpers.checkpoints import bert, make_embedder
from tests.helpers.command_line import modeldrop
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.node import HERE, NODE_FOLDER, node

pytestmark = [pytest.mark.soak, pytest.mark.heavy]

# Its names of data types, and the variants whose files it looks for then.
DTYPES = {"fp32": "fp32", "fp16": "fp16", "q8": "int8", "int8": "int8-accurate", "uint8": "uint8", "q4": "int4"}
LIBRARY = NODE_FOLDER / "transformers_js/node_modules/@huggingface/transformers/dist/transformers.node.mjs"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version")
    source = make_embedder(bert(folder / "source"), {"pooling_mode_mean_tokens": True}, dense=False, normalize=True)
    loose = "cosine_mean = -1\ncosine_min = -1\nneighbours = 0\n"
    recipe = f'variants = {json.dumps(list(DTYPES.values()))}\nexternal_data = "always"\n'
    recipe += "".join(f"[thresholds.{name}]\n{loose}" for name in DTYPES.values() if name != "fp32")
    (folder / "recipe.toml").write_text(recipe)
    ran = modeldrop("build", source, "-o", folder / "built", "--recipe", folder / "recipe.toml")
    assert ran.code == 0, ran.err
    return folder / "built"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A script of ``servers/transformers_js``, and what it prints."""
    command = [str(node()), str(HERE / "transformers_js" / script), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=5 * HANG_SECONDS)


def browse(version: Path, dtype: str) -> subprocess.CompletedProcess[str]:
    chromium = shutil.which("chromium")
    assert chromium, "apt-get install --no-install-recommends chromium"
    modules = [NODE_FOLDER / part / "node_modules" for part in ("browser", "transformers_js")]
    places = (modules[0], chromium, modules[1], version.parent, version.name)
    return run("browser.mjs", *places, dtype, *texts_of(version))


def check(version: Path, dtype: str, vectors: list[list[float]]) -> None:
    """The vectors of the golden inputs' texts are those that the version was proven with."""
    golden = parse_manifest((version / "manifest.json").read_bytes()).golden
    least = min(np.array(vector) @ case.values for vector, case in zip(vectors, golden.cases, strict=True))
    # Dynamic quantization answers a little otherwise in a batch.
    assert least == pytest.approx(golden.metrics[DTYPES[dtype]]["cosine_min"], abs=0.02)


def texts_of(version: Path) -> list[str]:
    return [case.text for case in parse_manifest((version / "manifest.json").read_bytes()).golden.cases]


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_answers_as_the_version_was_proven_to(version: Path, dtype: str) -> None:
    ran = run("embed.mjs", LIBRARY, version.parent, version.name, dtype, *texts_of(version))
    assert ran.returncode == 0, ran.stderr
    check(version, dtype, json.loads(ran.stdout))


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "q4"])
def test_so_it_does_in_a_browser(version: Path, dtype: str) -> None:
    ran = browse(version, dtype)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    check(version, dtype, said["vectors"])
    manifest = parse_manifest((version / "manifest.json").read_bytes())
    variant = manifest.variant(DTYPES[dtype])
    assert variant is not None
    assert {variant.model, f"{variant.model}_data"} <= {*said["asked"]}


def test_a_browser_has_no_operator_for_int4(version: Path) -> None:
    """docs/consumers.md says so; once it has one, this is to go."""
    assert "Could not find an implementation for GatherBlockQuantized" in browse(version, "q4").stderr
