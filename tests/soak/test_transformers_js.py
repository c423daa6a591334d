"""transformers.js loads a version as it lies in the bucket, every dtype that it has a name for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from modeldrop.format.manifest import parse_manifest
from tests.helpers.checkpoints import bert, make_embedder
from tests.helpers.command_line import modeldrop
from tests.helpers.waiting import HANG_SECONDS
from tests.servers.node import FOLDER, HERE, node

pytestmark = [pytest.mark.soak, pytest.mark.heavy]

# Its names of data types, and the variants whose files it looks for then.
DTYPES = {"fp32": "fp32", "fp16": "fp16", "q8": "int8", "int8": "int8-accurate", "uint8": "uint8", "q4": "int4"}
LIBRARY = FOLDER / "transformers_js/node_modules/@huggingface/transformers/dist/transformers.node.mjs"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("version")
    source = make_embedder(bert(folder / "source"), {"pooling_mode_mean_tokens": True}, dense=False, normalize=True)
    loose = "cosine_mean = -1\ncosine_min = -1\nneighbours = 0\n"
    recipe = f"variants = {json.dumps(list(DTYPES.values()))}\n"
    recipe += "".join(f"[thresholds.{name}]\n{loose}" for name in DTYPES.values() if name != "fp32")
    (folder / "recipe.toml").write_text(recipe)
    ran = modeldrop("build", source, "-o", folder / "built", "--recipe", folder / "recipe.toml")
    assert ran.code == 0, ran.err
    return folder / "built"


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_answers_as_the_version_was_proven_to(version: Path, dtype: str) -> None:
    manifest = parse_manifest((version / "manifest.json").read_bytes())
    cases = manifest.golden.cases
    script = HERE / "transformers_js" / "embed.mjs"
    ran = subprocess.run(
        [node(), script, LIBRARY, version.parent, version.name, dtype, *(case.text for case in cases)],
        check=False,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert ran.returncode == 0, ran.stderr
    vectors = np.array(json.loads(ran.stdout))
    least = min(vector @ case.values for vector, case in zip(vectors, cases, strict=True))
    # Dynamic quantization answers a little otherwise in a batch.
    assert least == pytest.approx(manifest.golden.metrics[DTYPES[dtype]]["cosine_min"], abs=0.02)
