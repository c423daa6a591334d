"""The example service: what its packages take, how soon it is ready, and what a swap costs those who ask.

Packages: a fresh virtual environment with what ``examples/service`` needs (this folder in place of the released
package), against one with ``optimum[onnxruntime]``, CPU torch and the same web server; bytes of site-packages, without
pip's and setuptools'.

Ready: the process ``python -m modelservice`` from its start until ``/health/ready`` answers 200, with three models of
MiniLM's size in int8 (the real embedder, a reranker and a classifier with random heads), out of nginx on this machine.
Warm: everything is on the disk, only the channel is asked. Cold: an empty disk. The fetch is the longest of the three,
which run at once; loading is the sum of the three, which take turns. Medians of 5 starts.

Swaps: three threads ask one task each without a pause; then the channels of all three models move ten times and roll
back once. 99th percentile of the answer times while nothing moves, against those from the moment a channel moves until
the service answers with the new version; nobody has set a target for that ratio. It has no peer.
"""

from __future__ import annotations

import math
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.result import Row
from benchmarks.size import files
from benchmarks.workspace import ROOT, SOURCE, modeldrop
from modeldrop.build.tasks.interface import CLASSES
from tests.build.recipes import loosened
from tests.servers.nginx import NginxServer
from tests.service.running import Load, Service, add_version, expected_score

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

STARTS, SWAPS = 5, 10
_RATIO, _FETCH, _MEMORY = 0.5, 100, 2048
_MODELS = {"embed": "embedder", "rerank": "reranker", "classify": "classifier"}
_STEADY_SECONDS = 10
_EXAMPLE = ROOT / "examples" / "service"


def run(workspace: Workspace) -> list[Row]:
    folder = workspace.folder / "service"
    folder.mkdir()
    _publish(workspace, folder)
    return [_packages(workspace), *_starts(workspace, folder), *_swaps(workspace, folder)]


def _publish(workspace: Workspace, folder: Path) -> None:
    registry = folder / "registry"
    workspace.wall(modeldrop("publish", str(SOURCE), str(registry / "embedder"), "--quiet"))
    for name, labels, metrics in (("reranker", 1, ("correlation", "kendall_tau", "top10")), ("classifier", 3, CLASSES)):
        source = _with_head(folder / name, labels)
        recipe = loosened(source, metrics)
        workspace.wall(modeldrop("publish", str(source), str(registry / name), "--recipe", str(recipe), "--quiet"))


def _with_head(folder: Path, labels: int) -> Path:
    """MiniLM with a classifier of random weights on it."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.set_seed(0)
    transformers.BertForSequenceClassification.from_pretrained(SOURCE, num_labels=labels).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(SOURCE).save_pretrained(folder)
    return folder


def _packages(workspace: Workspace) -> Row:
    alone = ("--no-deps", "-r", str(_EXAMPLE / "requirements-alone.txt"))
    service = [f"{ROOT}[service]", "onnxruntime", "numpy"]
    torch = ("--retries", "1", "--index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0")
    exporter = ["optimum==2.1.*", "optimum-onnx[onnxruntime]==0.1.*", "fastapi", "uvicorn", "prometheus_client"]
    ours = _installed(workspace, "without-torch", service, alone)
    theirs = _installed(workspace, "with-torch", torch, exporter)
    return Row(
        "service's packages (peer: with torch)", ours, f"ratio ≤ {_RATIO}", ours / theirs <= _RATIO, theirs, "MB", 0
    )


def _installed(workspace: Workspace, name: str, *installs: tuple[str, ...] | list[str]) -> float:
    """Megabytes of a fresh environment after these runs of ``pip install``."""
    environment = workspace.folder / name
    workspace.wall([sys.executable, "-m", "venv", str(environment)])
    packages = next((environment / "lib").glob("python*/site-packages"))
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--no-input", "--quiet"]
    for install in installs:
        workspace.wall([*pip, "--disable-pip-version-check", *install], {"PYTHONPATH": ""})
    return sum(files(packages).values()) / 1e6


def _starts(workspace: Workspace, folder: Path) -> list[Row]:
    with NginxServer(folder) as server:
        cold, warm = [], []
        for _ in range(workspace.rounds(STARTS)):
            shutil.rmtree(folder / "home", ignore_errors=True)
            cold.append(_start(folder, server))
            warm.append(_start(folder, server))
    (cold_ready, cold_fetch, cold_load), (ready, fetch, load) = (
        [statistics.median(column) for column in zip(*starts, strict=True)] for starts in (cold, warm)
    )
    return [
        Row("service: warm start, fetch", fetch * 1e3, f"≤ {_FETCH} ms", fetch * 1e3 <= _FETCH, unit="ms", digits=0),
        Row("service: warm start until ready", ready, "", True, unit="s"),
        Row("service: warm start, loading three models", load, "", True, unit="s"),
        Row("service: cold start until ready", cold_ready, "", True, unit="s"),
        Row("service: cold start, fetch", cold_fetch, "", True, unit="s"),
        Row("service: cold start, loading three models", cold_load, "", True, unit="s"),
    ]


def _start(folder: Path, server: NginxServer) -> tuple[float, float, float]:
    """Seconds until ready, of the longest fetch, and of loading all."""
    with Service(folder, "s3://registry", settings={"SERVICE_INTERVAL": "3600", **server.environment}) as service:
        models = service.models.values()
        assert {model["kind"] for model in models} == {"model"}, service.log
        fetch = max(model["fetch_seconds"] for model in models)
        return service.start_seconds, fetch, sum(model["load_seconds"] for model in models)


def _swaps(workspace: Workspace, folder: Path) -> list[Row]:
    import psutil

    registry = folder / "registry"
    versions = [f"v{number}" for number in range(2, workspace.rounds(SWAPS) + 2)]
    for name in _MODELS.values():
        for version in versions:
            add_version(registry, name, int(version[1:]))
    home = folder / "swaps"
    home.mkdir()
    with Service(home, registry) as service:
        first = service.ask("rerank")["results"][0]["score"]
        scores = {f"v{number}": expected_score(first, number) for number in range(1, len(versions) + 2)}
        with Load(service, scores) as load:
            time.sleep(_STEADY_SECONDS)
            before = [seconds for _, seconds in load.times]
            moves = [("promote", version) for version in versions]
            if len(versions) > 1:
                moves.append(("rollback", versions[-2]))
            during: list[float] = []
            for verb, version in moves:
                began = time.perf_counter()
                for name in _MODELS.values():
                    at = f"@{version}" if verb == "promote" else ""
                    workspace.wall(modeldrop(verb, f"{registry}/{name}{at}"))
                for task in _MODELS:
                    service.until_version(task, version)
                during += [seconds for at, seconds in load.times if at >= began]
        megabytes = psutil.Process(service.process.pid).memory_info().rss / 1e6
    failed = len(load.failed) + len(load.wrong)
    return [
        Row("service: requests failed over ten swaps and a rollback", failed, "0", failed == 0, digits=0),
        Row("service: p99 during swaps (peer: before)", _p99(during) * 1e3, "", True, _p99(before) * 1e3, "ms", 1),
        Row("service: memory after them", megabytes, f"≤ {_MEMORY} MB", megabytes <= _MEMORY, unit="MB", digits=0),
    ]


def _p99(times: list[float]) -> float:
    return sorted(times)[math.ceil(0.99 * len(times)) - 1]
