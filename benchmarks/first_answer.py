"""From an empty disk to a first answer: would it help to open the graph while it arrives, or to hash faster?

``python -m benchmarks.first_answer [--quick] [--write docs/benchmarks.md]``

A process fetches a version from nginx on this machine, imports onnxruntime, opens the graph (a chain of matrix products
in fp32, weights beside it) and asks it once; files lie on a RAM disk where there is room. Three sides take turns:

- as it is;
- with the graph opened *meanwhile*: another thread imports onnxruntime and opens a copy that was on the disk before. No
  way of opening what still arrives can be faster than this, which waits for no byte;
- without verification: digests are neither computed nor compared. No number of threads that hash can be faster.

Seconds of the wall clock, medians; in brackets processor seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.bucket import add_version, ram_disk
from benchmarks.document import replace_between
from benchmarks.download import RATE
from benchmarks.machine import load, machine, versions
from benchmarks.workspace import Workspace
from modeldrop.export.onnx_weights import save
from modeldrop.util.text import size_text
from tests.servers.nginx import NginxServer

BEGIN, END = (
    "<!-- first answer: written by python -m benchmarks.first_answer --write -->",
    "<!-- end of first answer -->",
)
SIZES = (25_000_000, 600_000_000, 2_300_000_000)
SIDES = ("as it is", "opened meanwhile", "not verified")
ROUNDS = 3
_REGISTRY = "models"
_WORTH = 0.15
_WIDTH = 1024
_PROGRAM = """\
import json, sys, threading, time
side, reference, home, copy = sys.argv[1:]
began = time.perf_counter()
from modeldrop.fetcher.fetch import fetch
from modeldrop.fetcher.download import pieces
if side == "not verified":
    class Same(str):
        __hash__ = str.__hash__
        def __eq__(self, other): return True
        def __ne__(self, other): return False
    class Nothing:
        def update(self, part): pass
        def hexdigest(self): return Same("0" * 64)
    pieces.blake3 = Nothing
def open_graph(path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
opened = []
meanwhile = threading.Thread(target=lambda: opened.append(open_graph(copy)))
if side == "opened meanwhile":
    meanwhile.start()
snapshot = fetch(reference, home)
fetched = time.perf_counter() - began
if side == "opened meanwhile":
    meanwhile.join()
else:
    opened.append(open_graph(str(snapshot.model_file)))
ready = time.perf_counter() - began
import numpy
opened[0].run(None, {"x": numpy.ones((1, 1024), numpy.float32)})
print(json.dumps([fetched, ready, time.perf_counter() - began, time.process_time()]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_answer", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, metavar="BYTES", help="of the weights")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this Markdown file")
    arguments = parser.parse_args()
    busy = load()
    lines = ["| weights | line | fetched | opened | answered | " + " | ".join(SIDES[1:]) + " |"]
    lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        workspace = Workspace(Path(folder).resolve(), quick=arguments.quick)
        for size in arguments.sizes:
            lines += _size(workspace, size)
    text = f"{machine()}; load average before the run {busy}.\n{versions()}.\n\n" + "\n".join(lines)
    print(text)
    if arguments.write:
        replace_between(arguments.write, BEGIN, END, text)
    return 0


def _size(workspace: Workspace, size: int) -> list[str]:
    lines = []
    with ram_disk(3 * size) as ram:
        version = ram / _REGISTRY / "chain" / "v1" / "onnx"
        _write_chain(version / "model.onnx", size)
        add_version(version.parents[1], ["onnx/model.onnx", "onnx/model.onnx_data"])
        with NginxServer(ram) as fast, NginxServer(ram, rate=RATE) as slow:
            for name, server in (("loopback", fast), ("40 MB/s a connection", slow)):
                found: dict[str, list[list[float]]] = {side: [] for side in SIDES}
                for number in range(workspace.rounds(ROUNDS)):
                    for side in reversed(SIDES) if number % 2 else SIDES:
                        found[side].append(_first_answer(workspace, server, ram, side, version / "model.onnx"))
                lines.append(f"| {size_text(size)} | {name} | {_cells(found)} |")
    return lines


def _write_chain(path: Path, size: int) -> None:
    """A graph of matrix products, one after the other, with so many bytes of weights."""
    random = np.random.default_rng(0)
    block = random.normal(0, 0.03, (_WIDTH, _WIDTH)).astype(np.float32)
    number = max(1, size // block.nbytes)
    nodes = [
        helper.make_node("MatMul", [f"x{i}" if i else "x", f"w{i}"], [f"x{i + 1}"], f"n{i}") for i in range(number)
    ]
    # No two are equal: a fetch takes equal pieces once.
    weights = [numpy_helper.from_array(block + np.float32(i) * 1e-6, f"w{i}") for i in range(number)]
    shape: list[str | int | None] = ["batch", _WIDTH]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"x{number}", TensorProto.FLOAT, shape)],
        weights,
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path, beside=True)
    assert not onnx.load(path, load_external_data=False).graph.initializer[0].raw_data


def _first_answer(workspace: Workspace, server: NginxServer, ram: Path, side: str, copy: Path) -> list[float]:
    with tempfile.TemporaryDirectory(dir=ram) as home:
        command = [sys.executable, "-c", _PROGRAM, side, f"s3://{_REGISTRY}/chain", home, str(copy)]
        environment = workspace.bare_environment({**server.environment, "ORT_DISABLE_TELEMETRY": "1"})
        told = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
    seconds: list[float] = json.loads(told)
    return seconds


def _cells(found: dict[str, list[list[float]]]) -> str:
    fetched, ready, answered, processor = (statistics.median(column) for column in zip(*found[SIDES[0]], strict=True))
    cells = [f"{fetched:.2f} s", f"{ready:.2f} s", f"{answered:.2f} s ({processor:.2f})"]
    for side in SIDES[1:]:
        _, _, other, own = (statistics.median(column) for column in zip(*found[side], strict=True))
        saved = 1 - other / answered
        cells.append(f"{other:.2f} s ({own:.2f}), {saved:+.0%}{' *' if saved >= _WORTH else ''}")
    return " | ".join(cells)


if __name__ == "__main__":
    sys.exit(main())
