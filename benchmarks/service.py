"""The example service: what its packages take, how soon it is ready, and what a swap costs those who ask.

Packages: a fresh virtual environment with what ``examples/service`` needs (this folder in place of the released
package), against one with CPU torch, sentence-transformers and the same web server; bytes of site-packages, without
pip's and setuptools'.

Ready: the process ``python -m modelservice`` from its start until ``/health/ready`` answers 200, with three models of
true size in int8 (``benchmarks/stack.py``; 412 MB with their tokenizers), out of nginx on this machine. Warm:
everything is on the disk, only the channels are asked. Cold: an empty disk. The fetch is the longest of the three,
which run at once; loading is the sum of the three, which take turns, the first of them while others are fetched.
Medians of 5 starts.

Swaps: three threads ask one task each without a pause; then the channels of all three models move ten times and roll
back once. 99th percentile of the answer times while nothing moves, against those from the moment a channel moves until
the service answers with the new version; nobody has set a target for that ratio. Between the two, the two cores also
run three ``modeldrop promote``, read and verify 412 MB and open three models. It has no peer.
"""

from __future__ import annotations

import math
import re
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.result import Row
from benchmarks.size import files
from benchmarks.stack import stack
from benchmarks.workspace import ROOT, modeldrop
from tests.servers.nginx import NginxServer
from tests.service.running import REQUESTS, Load, Service, Timed, add_version, expected_score

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

STARTS, SWAPS = 5, 10
_RATIO, _FETCH, _MEMORY = 0.5, 100, 2048
_MODELS = {"embed": "embedder", "rerank": "reranker", "classify": "classifier"}
_STEADY_SECONDS = 20
_AS_IN_THE_IMAGE = {"MALLOC_TRIM_THRESHOLD_": "65536"}
_EXAMPLE = ROOT / "examples" / "service"


def run(workspace: Workspace) -> list[Row]:
    registry = stack(workspace)
    return [packages(workspace), *starts(workspace, registry), *swaps(workspace, registry)]


def packages(workspace: Workspace) -> Row:
    alone = ("--no-deps", "-r", str(_EXAMPLE / "requirements-alone.txt"))
    service = [f"{ROOT}[service]", "onnxruntime", "numpy"]
    torch = ("--retries", "1", "--index-url", "https://download.pytorch.org/whl/cpu", "torch==2.13.0")
    usual = ["sentence-transformers>=5.1,<6", "fastapi", "uvicorn", "prometheus_client"]
    ours = _installed(workspace, "without-torch", service, alone)
    theirs = _installed(workspace, "with-torch", torch, usual)
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


def starts(workspace: Workspace, registry: Path) -> list[Row]:
    folder = workspace.folder / "starts"
    folder.mkdir()
    with NginxServer(registry.parent) as server:
        url = f"s3://{registry.name}"
        cold, warm = [], []
        for _ in range(workspace.rounds(STARTS)):
            shutil.rmtree(folder / "home", ignore_errors=True)
            cold.append(_start(folder, url, server))
            warm.append(_start(folder, url, server))
    (cold_ready, cold_fetch, cold_load), (ready, fetch, load) = (
        [statistics.median(column) for column in zip(*times, strict=True)] for times in (cold, warm)
    )
    return [
        Row("service: warm start, fetch", fetch * 1e3, f"≤ {_FETCH} ms", fetch * 1e3 <= _FETCH, unit="ms", digits=0),
        Row("service: warm start, loading three models", load, "none", True, unit="s"),
        Row("service: warm start until ready", ready, "none", True, unit="s"),
        Row("service: cold start, fetch", cold_fetch, "none", True, unit="s"),
        Row("service: cold start, loading three models", cold_load, "none", True, unit="s"),
        Row("service: cold start until ready", cold_ready, "none", True, unit="s"),
    ]


def _start(folder: Path, registry: str, server: NginxServer) -> tuple[float, float, float]:
    """Seconds until ready, of the longest fetch, and of loading all."""
    settings = {**_AS_IN_THE_IMAGE, **server.environment, "SERVICE_INTERVAL": "3600"}
    with Service(folder, registry, settings=settings) as service:
        models = service.models.values()
        assert {model["kind"] for model in models} == {"model"}, service.log
        fetch = max(model["fetch_seconds"] for model in models)
        return service.start_seconds, fetch, sum(model["load_seconds"] for model in models)


def swaps(workspace: Workspace, published: Path) -> list[Row]:
    folder = workspace.folder / "swaps"
    registry = Path(shutil.copytree(published, folder / "registry"))
    versions = [f"v{number}" for number in range(2, workspace.rounds(SWAPS) + 2)]
    for name in _MODELS.values():
        for version in versions:
            add_version(registry, name, int(version[1:]))
    moves = [("promote", f"@{version}", version) for version in versions]
    if len(versions) > 1:
        moves.append(("rollback", "", versions[-2]))
    with Service(folder, registry, settings=_AS_IN_THE_IMAGE) as service:
        first = service.ask("rerank")["results"][0]["score"]
        scores = {f"v{number}": expected_score(first, number) for number in range(1, len(versions) + 2)}
        with Load(service, scores) as load:
            time.sleep(_STEADY_SECONDS)
            before, loaded = load.times.copy(), _memory(service, "VmRSS")
            during = []
            for verb, at, version in moves:
                began = time.perf_counter()
                for name in _MODELS.values():
                    workspace.wall(modeldrop(verb, f"{registry}/{name}{at}"))
                for task in _MODELS:
                    service.until_version(task, version)
                during += [one for one in load.times if one.at >= began]
        most = _memory(service, "VmHWM")
    failed = len(load.failed) + len(load.wrong)
    return [
        Row("service: requests failed over ten swaps and a rollback", failed, "0", failed == 0, digits=0),
        *(
            Row(
                f"service: {task}, p99 during swaps (peer: before)",
                _p99(during, task),
                "none",
                True,
                _p99(before, task),
                "ms",
                0,
            )
            for task in REQUESTS
        ),
        Row("service: memory with three models", loaded, f"≤ {_MEMORY} MB", loaded <= _MEMORY, unit="MB", digits=0),
        Row("service: memory at most, swaps among it", most, f"≤ {_MEMORY} MB", most <= _MEMORY, unit="MB", digits=0),
    ]


def _p99(times: list[Timed], task: str) -> float:
    """Milliseconds."""
    seconds = sorted(one.seconds for one in times if one.task == task)
    return 1e3 * seconds[math.ceil(0.99 * len(seconds)) - 1]


def _memory(service: Service, name: str) -> float:
    """Megabytes that Linux has noted of the process."""
    status = Path(f"/proc/{service.process.pid}/status").read_text("utf-8")
    return int(re.findall(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)[0]) * 1024 / 1e6
