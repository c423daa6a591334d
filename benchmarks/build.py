"""Building: ``modeldrop build`` against what one would type instead.

Ours: ``modeldrop build SOURCE -o DIR``: fp32 and int8, with the fidelity of both on 48 texts in a clean
folder, the speed of the original and of both, and the report.

Peer: ``optimum-cli export onnx --task feature-extraction``, followed by ``optimum-cli onnxruntime quantize
--avx512_vnni --per_channel``. Two graphs of the same sizes; it compares fp32 with the original on one input
and int8 with nothing, and measures no speed.

Both sides: whole processes, cold interpreter, same environment, same checkpoint folder, offline, an output
folder that is not there yet. Our exporter's process goes without scikit-learn and scipy, which transformers
imports where the tests have installed them, and which take the peer about a second at each of its two starts.
Wall time, 3 rounds, the sides in turn, every second round in reverse order; medians.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.result import Row
from benchmarks.workspace import SOURCE, alternate, modeldrop

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

ROUNDS = 3
_RATIO = 0.9


def run(workspace: Workspace) -> list[Row]:
    optimum = str(Path(sys.executable).with_name("optimum-cli"))
    built, exported, quantized = (workspace.folder / name for name in ("built", "exported", "quantized"))

    def ours() -> float:
        seconds = workspace.wall(modeldrop("build", str(SOURCE), "-o", str(built), "--quiet"))
        workspace.add_manifest(built)
        shutil.rmtree(built)
        return seconds

    def peer() -> float:
        export = [
            optimum,
            "export",
            "onnx",
            "--model",
            str(SOURCE),
            "--task",
            "feature-extraction",
            str(exported),
        ]
        quantize = [optimum, "onnxruntime", "quantize", "--avx512_vnni", "--per_channel"]
        seconds = workspace.wall(export)
        seconds += workspace.wall([*quantize, "--onnx_model", str(exported), "-o", str(quantized)])
        shutil.rmtree(exported)
        shutil.rmtree(quantized)
        return seconds

    mine, theirs = alternate(workspace.rounds(ROUNDS), ours, peer)
    met = mine / theirs <= _RATIO
    return [Row("build fp32 and int8", mine, f"ratio ≤ {_RATIO}", met, peer=theirs, unit="s", digits=1)]
