"""Building: ``modeldrop build`` against what one would type instead.

Ours: ``modeldrop build SOURCE -o DIR``: first of fp32 and int8, then of fp32, int8, fp16 and OpenVINO int8, with the
fidelity of all on 48 texts in a clean folder, the speed of the original and of all, and the report.

Peer: optimum-cli, one command after the other:

- ``optimum-cli export onnx --task feature-extraction``;
- ``optimum-cli onnxruntime quantize --avx512_vnni --per_channel``;
- for the four also ``optimum-cli export onnx --dtype fp16`` and ``optimum-cli export openvino --weight-format int8``,
  the latter in an environment of its own (see ``peers.py``).

Graphs of the same sizes. The peer compares fp32 and fp16 with the original on one input and the others with nothing,
and measures no speed; its OpenVINO export also converts the tokenizer.

Both sides: whole processes, cold interpreter, the same libraries, the same checkpoint folder, offline, output folders
that are not there yet. Our exporter's process goes without scikit-learn and scipy, which transformers imports where the
tests have installed them, and which take the peer about a second at each of its starts. Wall time, 3 rounds, the sides
in turn, every second round in reverse order; medians.

``stack``: the three models of ``stack.py`` in int8 against the same in fp32, as published: bytes of the graphs; and the
seconds that a fresh process with only onnxruntime, tokenizers and numpy (``.venv-runtime``) takes to open all of them,
with their tokenizers, from its first line on: the median of 5, files in the page cache.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import optimum_intel
from benchmarks.result import Row
from benchmarks.stack import MODELS, stack
from benchmarks.workspace import ROOT, SOURCE, alternate, modeldrop
from modeldrop.format.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.workspace import Workspace

ROUNDS, LOADS = 3, 5
_RATIO, _FOUR_RATIO = 0.9, 1.0
_STACK_SIZE, _STACK_LOAD = 0.27, 3.0
_FOUR = ("fp32", "int8", "fp16", "openvino-int8")

_LOAD = """
import time
began = time.perf_counter()
import sys, onnxruntime, tokenizers
opened = []
for folder, *graphs in map(str.split, sys.argv[1:]):
    opened.append(tokenizers.Tokenizer.from_file(folder + "/tokenizer.json"))
    opened += [onnxruntime.InferenceSession(folder + "/" + graph) for graph in graphs]
print(time.perf_counter() - began)
"""


def run(workspace: Workspace) -> list[Row]:
    two = _against_optimum(workspace, (), "build fp32 and int8", _RATIO)
    four = _against_optimum(workspace, _FOUR, "build fp32, int8, fp16 and OpenVINO int8", _FOUR_RATIO)
    return [two, four, *_stack(workspace)]


def _against_optimum(workspace: Workspace, variants: Sequence[str], name: str, ratio: float) -> Row:
    built, made = workspace.folder / "built", workspace.folder / "made"
    here = Path(sys.executable).parent
    asked = [f"--variants={','.join(variants)}"] if variants else []
    export = ["--model", str(SOURCE), "--task", "feature-extraction"]
    onnx = [str(here / "optimum-cli"), "export", "onnx", *export]
    quantize = [str(here / "optimum-cli"), "onnxruntime", "quantize", "--avx512_vnni", "--per_channel"]
    commands = [[*onnx, f"{made}/fp32"], [*quantize, "--onnx_model", f"{made}/fp32", "-o", f"{made}/int8"]]
    if variants:
        openvino = [str(optimum_intel(workspace) / "optimum-cli"), "export", "openvino", *export]
        commands += [
            [*onnx, "--dtype", "fp16", f"{made}/fp16"],
            [*openvino, "--weight-format", "int8", f"{made}/openvino"],
        ]

    def ours() -> float:
        seconds = workspace.wall(modeldrop("build", str(SOURCE), "-o", str(built), "--quiet", *asked))
        workspace.add_manifest(built)
        shutil.rmtree(built)
        return seconds

    def peer() -> float:
        made.mkdir()
        seconds = sum(workspace.wall(command) for command in commands)
        shutil.rmtree(made)
        return seconds

    mine, theirs = alternate(workspace.rounds(ROUNDS), ours, peer)
    return Row(name, mine, f"ratio ≤ {ratio}", mine / theirs <= ratio, peer=theirs, unit="s", digits=1)


def _stack(workspace: Workspace) -> list[Row]:
    registry = stack(workspace)
    megabytes = {"int8": 0.0, "fp32": 0.0}
    opened = []
    for name in MODELS:
        folder = registry / name / "v1"
        manifest = parse_manifest((folder / "manifest.json").read_bytes())
        for kind in megabytes:
            variant = manifest.variant(kind)
            if variant is None:
                sys.exit(f"build: {name} has no {kind}")
            megabytes[kind] += manifest.weights_of(variant) / 1e6
            if kind == "int8":
                opened.append(" ".join([str(folder), *variant.graphs.values()]))
    runtime = str(ROOT / ".venv-runtime" / "bin" / "python")
    load = [runtime, "-c", _LOAD, *opened]
    seconds = statistics.median(json.loads(workspace.output(load)) for _ in range(workspace.rounds(LOADS)))
    small, full = megabytes["int8"], megabytes["fp32"]
    met = small / full <= _STACK_SIZE
    return [
        Row("three models in int8 (peer: fp32)", small, f"ratio ≤ {_STACK_SIZE}", met, full, "MB", 1),
        Row("three models, loaded", seconds, f"< {_STACK_LOAD:.0f} s", seconds < _STACK_LOAD, unit="s"),
    ]
