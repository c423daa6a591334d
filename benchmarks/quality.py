"""What int8 is worth: size, fidelity and speed as the manifests of this run's builds say.

- size: bytes of the int8 graph against those of the fp32 graph;
- fidelity: mean cosine similarity to the original's embeddings on the 48 built-in texts (many languages and
  scripts, one word to three hundred), against the PyTorch original in fp32; quantization is deterministic,
  so all builds must agree;
- speed: one text of 32 tokens, milliseconds, int8 in onnxruntime against the original in PyTorch, both with
  their own default threads: each build measures both within seconds of each other (median of up to 100
  calls); here the median over the builds.

Builds are not repeated for this: those of the other benchmarks of the run count, else one is made.
"""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks.result import Row

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace
    from modeldrop.format.manifest import Manifest, Variant

_SIZE, _COSINE = 0.26, 0.985


def run(workspace: Workspace) -> list[Row]:
    if not workspace.manifests:
        _ = workspace.registry
    manifests = workspace.manifests
    first = manifests[0]
    small = first.weights_of(_variant(first, "int8")) / 1e6
    full = first.weights_of(_variant(first, "fp32")) / 1e6
    cosine = min(_variant(manifest, "int8").fidelity.metrics["cosine_mean"] for manifest in manifests)
    ours = statistics.median(_batch_1(manifest, "int8") for manifest in manifests)
    original = statistics.median(_batch_1(manifest, None) for manifest in manifests)
    size_met = small / full <= _SIZE
    return [
        Row("int8 size (peer: fp32)", small, f"ratio ≤ {_SIZE}", size_met, full, "MB", 1),
        Row("int8 cosine to the original, mean", cosine, f"≥ {_COSINE}", cosine >= _COSINE, digits=4),
        Row("int8, one text (peer: PyTorch)", ours, "ratio < 1", ours < original, original, "ms", 1),
    ]


def _variant(manifest: Manifest, name: str) -> Variant:
    variant = manifest.variant(name)
    if variant is None:
        sys.exit(f"quality: the build has no {name}")
    return variant


def _batch_1(manifest: Manifest, name: str | None) -> float:
    speed = manifest.original.speed if name is None else _variant(manifest, name).speed
    if speed is None:
        sys.exit(f"quality: the build did not measure {name or 'the original'}")
    return speed.batch_1_ms
