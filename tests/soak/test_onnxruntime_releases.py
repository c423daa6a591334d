"""Graphs of every kind open with the oldest onnxruntime that their manifest names, and with none before it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from modeldrop.export.onnxruntime_releases import BY_IR, BY_OPERATOR, BY_OPSET, NEWEST, OLDEST
from modeldrop.format.manifest import parse_manifest
from tests.export.recipes import loosened
from tests.helpers.checkpoints import bert, llama, t5, vit, whisper
from tests.helpers.command_line import modeldrop
from tests.servers.consumers import RELEASES, with_onnxruntime

pytestmark = [pytest.mark.soak, pytest.mark.heavy]

_OPEN = """\
import json, sys
import onnxruntime
onnxruntime.set_default_logger_severity(4)
found = {}
for path in sys.argv[1:]:
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        found[path] = str(error)
    else:
        found[path] = ""
print(json.dumps(found))
"""
_TOKENS = ("cosine_mean", "cosine_min", "max_abs", "top1", "kl", "greedy_prefix", "perplexity_gap")
_CLASSES = ("cosine_mean", "cosine_min", "max_abs", "top1", "kl")
_ANY = ("fp16", "int8-accurate", "int8", "int4")
_BESIDE = ("--external-data", "always")  # as larger models have it
KINDS: Mapping[str, tuple[Callable[[Path], Path], tuple[str, ...], tuple[str, ...]]] = {
    "encoder": (bert, ("cosine_mean", "cosine_min", "max_abs"), (*_ANY, "o2", "o4", "int8-avx2", "uint8")),
    "pictures": (vit, (*_CLASSES, "top5"), ("fp16", "o4", "int8-accurate", "int8", "int8-avx2")),
    "speech": (whisper, _TOKENS, ("fp16", "int8-accurate", "int8")),
    "translation": (t5, _TOKENS, ("o1", *_ANY)),
    "language": (llama, _TOKENS, _ANY),
}
_HALF = ("fp16", "SimplifiedLayerNormFusion")  # microsoft/onnxruntime#26717: RMS norms in half precision
_BRANCHES = ("int", "TransposeDQWeightsForMatMulNBits")  # microsoft/onnxruntime#28306: a table of both branches
FAULTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "1.23": (_HALF,),
    "1.24": (_HALF,),
    "1.25": (_HALF, _BRANCHES),
    "1.26": (_HALF, _BRANCHES),
    "1.27": (_HALF,),
}
"""What releases fail at although older ones do not: how the variants' names begin, and a word of what they say."""


def opened(release: str, graphs: list[Path]) -> Mapping[str, str]:
    """What a release says of graphs: "" of those that it opens."""
    ran = subprocess.run(
        [sys.executable, "-c", _OPEN, *graphs],
        capture_output=True, text=True, check=True, env=dict(with_onnxruntime(release)),
    )  # fmt: skip
    found: Mapping[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_oldest_release_is_the_one_that_the_manifest_names(kind: str, tmp_path: Path) -> None:
    make, metrics, variants = KINDS[kind]
    recipe = loosened(tmp_path, metrics, variants)
    ran = modeldrop("build", make(tmp_path / "source"), "-o", tmp_path / "out", "--recipe", recipe, *_BESIDE)
    assert ran.code == 0, ran.err
    built = parse_manifest((tmp_path / "out/manifest.json").read_bytes()).variants
    assert {variant.min_onnxruntime for variant in built} <= set(RELEASES)
    for release in RELEASES:
        number = RELEASES.index(release)
        said = opened(release, [tmp_path / "out" / path for one in built for path in one.graphs.values()])
        failures = {
            one.name: [text for path in one.graphs.values() if (text := said[str(tmp_path / "out" / path)])]
            for one in built
        }
        due = [one.name for one in built if number >= RELEASES.index(one.min_onnxruntime)]
        excused = [name for name in due if all(is_a_fault(release, name, text) for text in failures[name])]
        assert excused == due, (release, failures)
        assert not [name for name in failures if name not in due and not failures[name]], release


def is_a_fault(release: str, variant: str, text: str) -> bool:
    """Whether it is known of the release that it does not open such a variant, and says so."""
    return any(variant.startswith(beginning) and word in text for beginning, word in FAULTS.get(release, ()))


def test_the_table_names_releases_that_were_tried() -> None:
    assert {*BY_OPSET.values(), *BY_IR.values(), *BY_OPERATOR.values(), NEWEST} <= set(RELEASES)
    assert RELEASES[0] == OLDEST
