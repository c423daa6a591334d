"""Memory of several processes that open the same graph, or run the same service, on one machine.

``python -m benchmarks.memory [graphs] [service] [--graphs FILE…] [--registry DIR] [--write docs/benchmarks.md]``

Graphs: each once in one file and once with its weights beside it (``export/onnx_weights.py``), in turn, opened by 1, 4
and 16 processes with one thread each, that answer one input of 128 tokens. Memory is the sum of their PSS
(``/proc/*/smaps_rollup``): pages that several have are shared out, so that the sum is what the machine really gives.
*Prepared* is what the example service makes of it with ``SERVICE_SHARE=yes``: a copy whose weights are arranged for
this CPU, mapped too. Loading is processor time, of the first process; latency the median of 20 runs in it; private what
it alone has written to (``Private_Dirty``), alone. A graph that no one file can hold has no such row.

The service: four processes of ``examples/service`` with three models of true size in int8 (``benchmarks/stack.py``),
once as it was (graphs in one file, nothing shared), once with weights beside them, once with ``SERVICE_SHARE=yes`` too.
All answer each task once before they are measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.document import replace_between
from benchmarks.machine import load, machine, versions
from benchmarks.stack import MODELS, stack
from benchmarks.workspace import ROOT, Workspace
from modeldrop.errors import ExportError
from modeldrop.export.onnx_weights import arrange
from modeldrop.format.manifest import parse_manifest, serialize_manifest
from modeldrop.registry.channels import move_forward
from modeldrop.storage.write.folder import FolderStore
from modeldrop.util.text import size_text
from tests.helpers.builds import PIECE, build_key, describe, publish_folder
from tests.helpers.command_line import RUNTIME_PYTHON
from tests.service.running import REQUESTS, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS = ("graphs", "service")
MARKS = {
    part: (
        f"<!-- memory of {part}: written by python -m benchmarks.memory --write -->",
        f"<!-- end of memory of {part} -->",
    )
    for part in PARTS
}
PROCESSES, SERVICES = (1, 4, 16), 4
LAYOUTS = ("one file", "beside", "prepared")
_SHARE_OF_MEMORY = 0.5
_TARGET = 0.6
_WORKER = """\
import json, sys, time
import numpy, onnxruntime
from modelservice.graphs import OnnxGraph
from pathlib import Path
path, prepared, runs = sys.argv[1], sys.argv[2] == "prepared", int(sys.argv[3])
began = time.process_time()
graph = OnnxGraph(Path(path), 1, prepared=prepared)
loading = time.process_time() - began
ids = numpy.arange(128)[None] % 100 + 5
feeds = {"input_ids": ids, "attention_mask": numpy.ones_like(ids), "token_type_ids": numpy.zeros_like(ids)}
times = []
for _ in range(runs + 1):
    began = time.perf_counter()
    answer = graph.run(feeds)
    times.append(time.perf_counter() - began)
print(json.dumps([loading, sorted(times[1:] or times)[runs // 2], float(numpy.abs(next(iter(answer.values()))).sum())]))
sys.stdout.flush()
sys.stdin.read()
"""
_PREPARE = """\
import sys
from pathlib import Path
from modelservice.graphs import write_prepared
write_prepared(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which: {', '.join(PARTS)} (default: both)")
    parser.add_argument("--graphs", type=Path, nargs="*", metavar="FILE", help="ONNX graphs (default: the stack's)")
    parser.add_argument("--processes", type=int, nargs="*", default=PROCESSES, metavar="N", help="that open a graph")
    parser.add_argument("--registry", type=Path, metavar="DIR", help="with the stack's models (default: it is built)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in this Markdown file")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        busy = load()
        with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as scratch:
            folder = Path(scratch).resolve() / part
            if part == "graphs" and arguments.graphs:
                lines = graph_lines(arguments.graphs, folder, arguments.processes)
            else:
                registry = arguments.registry or stack(Workspace(folder.parent, quick=False))
                lines = (
                    service_lines(registry, folder)
                    if part == "service"
                    else graph_lines(_graphs(registry), folder, arguments.processes)
                )
        text = f"{machine()}; load average before the run {busy}.\n{versions()}.\n\n" + "\n".join(lines)
        print(text, flush=True)
        if arguments.write:
            replace_between(arguments.write, *MARKS[part], text)
    return 0


def _graphs(registry: Path) -> list[Path]:
    return [
        path for model in ("embedder", "reranker") for path in sorted((registry / model / "v1/onnx").glob("*.onnx"))
    ]


def graph_lines(paths: Sequence[Path], folder: Path, numbers: Sequence[int]) -> list[str]:
    """What each graph takes, by where its weights are and by how many processes open it; the first number is 1."""
    by_number = " | ".join(f"{number} processes" for number in numbers)
    lines = [
        f"| graph | weights | loading | latency | private | {by_number} |",
        f"| --- | --- | ---: | ---: | ---: |{' ---: |' * len(numbers)}",
    ]
    for path in paths:
        lines += _graph(path, folder, numbers)
        shutil.rmtree(folder)
    return lines


def _graph(path: Path, folder: Path, numbers: Sequence[int]) -> list[str]:
    copies = {layout: folder / layout.replace(" ", "-") / path.name for layout in LAYOUTS}
    for layout, how in (("one file", "never"), ("beside", "always")):
        copies[layout].parent.mkdir(parents=True)
        for part in path.parent.glob(f"{path.name}*"):
            shutil.copyfile(part, copies[layout].with_name(part.name))
        try:
            arrange(copies[layout], how)
        except ExportError:  # over the limit of protobuf
            shutil.rmtree(copies.pop(layout).parent)
    copies["prepared"].parent.mkdir()
    _run([_PREPARE, str(copies["beside"]), str(copies["prepared"])])
    size = sum(part.stat().st_size for part in copies["beside"].parent.iterdir())
    rows = {layout: [f"{path.stem}, {size_text(size)}", layout] for layout in copies}
    answers, pss, private = {}, dict[str, int](), dict[str, int]()
    for number in numbers:
        for layout, copy in copies.items():
            room, several = _SHARE_OF_MEMORY * psutil.virtual_memory().available, number > 1
            if several and pss[layout] + (number - 1) * private[layout] > room:
                rows[layout].append("too much here")
                continue
            pss[layout], private[layout], loading, latency, answers[layout] = _processes(copy, layout, number)
            if number == 1:
                rows[layout] += [f"{loading:.3f} s", f"{1e3 * latency:.1f} ms", size_text(private[layout])]
            rows[layout].append(size_text(pss[layout]))
    right = answers[next(iter(copies))]
    if abs(answers["prepared"] - right) > 1e-4 * abs(right):
        rows["prepared"][1] += ": answers wrongly"
    return [f"| {' | '.join(row)} |" for row in rows.values()]


def _processes(path: Path, layout: str, number: int) -> tuple[int, int, float, float, float]:
    """What so many processes take that have a graph open.

    The PSS of all; private memory, loading, latency and a figure of the answer of the first.
    """
    with contextlib.ExitStack() as started:
        processes, said = [], []
        for _ in range(number):
            command = [str(RUNTIME_PYTHON), "-c", _WORKER, str(path), layout, "20" if number == 1 else "0"]
            process = started.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment())
            )
            assert process.stdin is not None
            started.callback(process.stdin.close)
            assert process.stdout is not None
            said.append(json.loads(process.stdout.readline()))
            processes.append(process.pid)
        return sum(map(pss_of, processes)), memory_of(processes[0], "Private_Dirty"), *said[0]


def service_lines(registry: Path, folder: Path) -> list[str]:
    """Memory of four services, by what is shared."""
    folder.mkdir()
    names = ("one file, nothing shared", "weights beside the graphs", "and SERVICE_SHARE=yes")
    totals = []
    for name, how, share in zip(names, ("never", "always", "always"), ("no", "no", "yes"), strict=True):
        place = folder / how
        if not place.exists():
            for model in MODELS:
                _republish(registry, place, model, how)
        totals.append(_services(place, folder / name.replace(" ", "-").replace("=", "-"), share))
    lines = ["| four services with three models | PSS of all | |", "| --- | ---: | --- |"]
    for name, total in zip(names, totals, strict=True):
        lines.append(f"| {name} | {size_text(total)} | {total / totals[0]:.2f} |")
    met = "met" if totals[-1] / totals[0] <= _TARGET else "missed"
    return [*lines, f"\nTarget: at most {_TARGET} of the first; {met}."]


def _republish(registry: Path, target: Path, model: str, how: str) -> None:
    """v1 of a model in int8 alone, with its weights as they are asked for."""
    source, folder = registry / model / "v1", target.parent / f"{target.name}-{model}"
    manifest = parse_manifest((source / "manifest.json").read_bytes())
    variant = manifest.variant("int8")
    assert variant is not None
    for path in variant.files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
    for path in variant.graphs.values():
        arrange(folder / path, how)
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    changed = manifest._replace(
        build_key=build_key(f"{model} {how}"),
        files=tuple(describe(path, (folder / path).read_bytes()) for path in paths),
        piece_size=PIECE,
        variants=(variant._replace(files=tuple(paths)),),
    )
    (folder / "manifest.json").write_bytes(serialize_manifest(changed))
    (folder / "report.html").write_text("<!doctype html>")
    store = FolderStore(str(target))
    move_forward(store, model, publish_folder(store, model, folder).version, "current", by="benchmark")
    shutil.rmtree(folder)


def _services(registry: Path, folder: Path, share: str) -> int:
    folder.mkdir()
    settings = {
        "MODELDROP_HOME": str(folder / "home"), "SERVICE_SHARE": share, "SERVICE_THREADS": "1",
        "SERVICE_INTERVAL": "3600", "MALLOC_TRIM_THRESHOLD_": "65536",
    }  # fmt: skip
    # This one fetches and prepares, which takes memory that a process need not give back.
    with Service(folder, registry, settings=settings):
        pass
    with contextlib.ExitStack() as started:
        services = []
        for number in range(SERVICES):
            own = folder / str(number)
            own.mkdir()
            services.append(started.enter_context(Service(own, registry, settings=settings)))
        for service in services:
            for task in REQUESTS:
                service.ask(task)
        return sum(
            pss_of(process.pid)
            for service in services
            for process in (psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(True))
        )


def pss_of(process: int) -> int:
    """Bytes of memory that a process takes, its part of what it shares among them."""
    return memory_of(process, "Pss")


def memory_of(process: int, kind: str) -> int:
    """Bytes of one kind of a process's memory, by its name in ``smaps_rollup``."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text("utf-8").splitlines()
    (found,) = [int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")]
    return found * 1024


def _run(code: list[str]) -> None:
    subprocess.run([RUNTIME_PYTHON, "-c", *code], check=True, env=_environment(), capture_output=True)


def _environment() -> dict[str, Any]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "examples/service"), "ORT_DISABLE_TELEMETRY": "1"}


if __name__ == "__main__":
    sys.exit(main())
