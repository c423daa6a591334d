"""A model over 2 GB: what building it takes.

``python -m benchmarks.large [--write docs/benchmarks.md]``. A cross-encoder of bge-reranker-v2-m3's size (568 million
parameters; random weights, ``tests/helpers/large_checkpoints.py``), built in fp32, fp16, int8, int8-accurate and
OpenVINO int8, as ``tests/soak/test_build_large.py`` builds it: once, from a cold interpreter, measured from outside
(``tests/helpers/process_tree.py``).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.document import replace_between
from benchmarks.machine import load, machine, versions
from benchmarks.workspace import ROOT, modeldrop
from modeldrop.format.manifest import Manifest, parse_manifest
from modeldrop.util.text import size_text
from tests.export.recipes import loosened
from tests.helpers.process_tree import watch

if TYPE_CHECKING:
    from tests.helpers.process_tree import Used

BEGIN, END = "<!-- large: written by python -m benchmarks.large --write -->", "<!-- end of large -->"
VARIANTS = ("fp16", "int8", "int8-accurate", "openvino-int8")
"""Besides fp32."""
SCORES = ("correlation", "kendall_tau", "top10", "max_abs")
"""What random weights are excused from."""
_STEP = re.compile(r"^\[\d/\d\] (\w+) .*\((\d+\.\d) s\)$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, metavar="DIR", help="one that tests.helpers.large_checkpoints has made before"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this Markdown file")
    arguments = parser.parse_args()
    busy = load()
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        work = Path(folder).resolve() / "work"
        work.mkdir()
        source = arguments.checkpoint or _checkpoint(work.with_name("checkpoint"))
        recipe = loosened(work.parent, SCORES, VARIANTS)
        command = modeldrop("build", str(source), "-o", str(work / "built"), "--recipe", str(recipe))
        kept = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
        used = watch(command, work, kept)
        if used.code:
            sys.exit(f"{' '.join(command)}\nended with {used.code}:\n{used.said[-3000:]}")
        manifest = parse_manifest((work / "built" / "manifest.json").read_bytes())
    text = f"{machine()}; load average before the run {busy}.\n{versions()}.\n\n{_table(used, manifest)}"
    print(text)
    if arguments.write:
        replace_between(arguments.write, BEGIN, END, text)
    return 0


def _checkpoint(folder: Path) -> Path:
    made = [sys.executable, "-m", "tests.helpers.large_checkpoints", "reranker_v2_m3", str(folder)]
    subprocess.run(made, check=True, cwd=ROOT)
    return folder


def _table(used: Used, manifest: Manifest) -> str:
    sizes = {variant.name: manifest.weights_of(variant) for variant in manifest.variants}
    fp32 = sizes["fp32"]
    steps = ", ".join(f"{name} {float(seconds):.0f} s" for name, seconds in _STEP.findall(used.said))
    most = max(used.memory, used.process)
    lines = [
        ("what", "measured", ""),
        ("---", "---:", "---"),
        ("wall", f"{used.seconds:.0f} s", steps),
        ("memory of all processes, at most", size_text(most), f"{most / fp32:.1f} × fp32; target ≤ 4"),
        ("disk below the folder, at most", size_text(used.disk), f"{used.disk / fp32:.1f} × fp32"),
        *((name, size_text(size), f"{size / fp32:.1%} of fp32") for name, size in sizes.items()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
