"""An update in a running ``watch``: what differs, or whole files.

``python -m benchmarks.deltas [--builds OLD NEW] [--write docs/benchmarks.md]``. The benchmarks' model, and the same
after a real fine-tune (``benchmarks/fine_tune.py``), are built in fp32, fp16 and int8 and published with deltas into a
folder, which a server on this machine serves as S3: as fast as it can, then at 10 MB/s. ``modeldrop watch`` follows the
channel from the first version; then the channel moves. Bytes are those that the server has sent since; seconds those
that watch tells of the fetch; processor seconds those of its process. With and without deltas in turn, the median of
each.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.document import replace_between
from benchmarks.fine_tune import STEPS, fine_tune
from benchmarks.machine import load, machine, versions
from benchmarks.workspace import SOURCE, Workspace, modeldrop
from modeldrop.format.manifest import Manifest
from modeldrop.registry.channels import promote
from modeldrop.registry.deltas import WantedDeltas, add_deltas
from modeldrop.registry.publish import Adopt, commit, read_build, stage
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.watch_process import Watch, eventually
from tests.servers.faults import FaultyServer

BEGIN, END = "<!-- deltas: written by python -m benchmarks.deltas --write -->", "<!-- end of deltas -->"
VARIANTS = ("int8", "fp16", "fp32")
RATES = {"loopback": 0.0, "10 MB/s": 10e6}
MODEL = "minilm"
_ROUNDS = 3
_TARGET = 0.06


@dataclass(frozen=True, slots=True)
class Update:
    """What one update took: bytes, seconds, and seconds of a processor."""

    sent: float
    wall: float
    cpu: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deltas", description=__doc__)
    parser.add_argument("--builds", type=Path, nargs=2, metavar="DIR", help="builds of both that were made before")
    parser.add_argument("--rounds", type=int, default=_ROUNDS)
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this Markdown file")
    arguments = parser.parse_args()
    busy = load()
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        work = Path(folder).resolve()
        builds = arguments.builds or _builds(work)
        store = FolderStore(str(work / "registry"))
        made = _publish(store, builds, work)
        with FaultyServer(work / "registry") as server:
            found = _measure(server, store, work, arguments.rounds)
        text = f"{machine()}; load average before the run {busy}.\n{versions()}.\n\n{_report(found, made, builds[1])}"
        print(text)
        if arguments.write:
            replace_between(arguments.write, BEGIN, END, text)
        met = found["int8", "10 MB/s", True].sent <= _TARGET * _size(read_build(builds[1]).manifest, "int8")
        return 0 if met else 1


def _builds(work: Path) -> list[Path]:
    fine_tune(work / "tuned")
    workspace, builds = Workspace(work, quick=False), [work / "old", work / "new"]
    for source, build in zip((SOURCE, work / "tuned"), builds, strict=True):
        workspace.wall(modeldrop("build", str(source), "-o", str(build), "--variants", ",".join(VARIANTS), "--quiet"))
    return builds


def _publish(store: FolderStore, builds: list[Path], work: Path) -> tuple[float, float]:
    """Publish both; seconds, and seconds of a processor, that making the deltas took."""
    took = (0.0, 0.0)
    for number, build in enumerate(builds, 1):
        staged = stage(store, MODEL, read_build(build))
        began, used = time.perf_counter(), _own_cpu()
        faults = add_deltas([staged], WantedDeltas(2, "current"), work / "scratch")
        took = (time.perf_counter() - began, _own_cpu() - used)
        if faults:
            sys.exit(f"no deltas: {faults}")
        commit(staged, Adopt.NONE)
        if number == 1:
            promote(store, MODEL, 1, "current", by="benchmarks")
    return took


def _measure(server: FaultyServer, store: FolderStore, work: Path, rounds: int) -> dict[tuple[str, str, bool], Update]:
    taken: dict[tuple[str, str, bool], list[Update]] = {}
    for number in range(rounds):
        for variant in VARIANTS:
            for rate in RATES:
                for deltas in (True, False) if number % 2 else (False, True):
                    update = _update(server, store, work / f"home-{time.monotonic_ns()}", variant, rate, deltas=deltas)
                    taken.setdefault((variant, rate, deltas), []).append(update)
    return {
        key: Update(*(statistics.median(one) for one in zip(*map(_values, found), strict=True)))
        for key, found in taken.items()
    }


def _values(update: Update) -> tuple[float, float, float]:
    return update.sent, update.wall, update.cpu


def _update(server: FaultyServer, store: FolderStore, home: Path, variant: str, rate: str, *, deltas: bool) -> Update:
    """What a running ``watch`` takes to go from v1 to v2."""
    promote(store, MODEL, 1, "current", by="benchmarks")
    metrics = home.with_suffix(".prom")
    options: list[str | Path] = ["-d", home, "--variant", variant, "--metrics", metrics]
    options += [] if deltas else ["--no-delta"]
    server.rate = 0.0
    watch = Watch(f"{server.url}/{MODEL}", *options, **server.environment)
    try:
        eventually(lambda: _figure(metrics, "modeldrop_model_version") == 1)
        server.rate = RATES[rate]
        process = psutil.Process(watch.process.pid)
        used, sent = sum(process.cpu_times()[:2]), server.sent
        promote(store, MODEL, 2, "current", by="benchmarks")
        eventually(lambda: _figure(metrics, "modeldrop_model_version") == 2)
        return Update(
            server.sent - sent,
            _figure(metrics, "modeldrop_fetch_seconds"),
            sum(process.cpu_times()[:2]) - used,
        )
    finally:
        watch.close()


def _figure(metrics: Path, name: str) -> float:
    text = metrics.read_text("utf-8") if metrics.is_file() else ""
    found = re.search(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _size(manifest: Manifest, variant: str) -> int:
    found = manifest.variant(variant)
    if found is None:
        sys.exit(f"the build has no {variant}")
    return manifest.size_of(found)


def _report(found: dict[tuple[str, str, bool], Update], made: tuple[float, float], build: Path) -> str:
    manifest = read_build(build).manifest
    lines = [
        [
            "variant",
            "fetched",
            "bytes",
            "of the variant",
            *(f"{rate}, {what}" for rate in RATES for what in ("s", "CPU s")),
        ],
        ["---", "---", *["---:"] * (2 + 2 * len(RATES))],
    ]
    for variant in VARIANTS:
        size = _size(manifest, variant)
        for deltas in (True, False):
            sides = [found[variant, rate, deltas] for rate in RATES]
            times = [f"{value:.2f}" for side in sides for value in (side.wall, side.cpu)]
            sent = sides[-1].sent
            lines.append(
                [variant, "deltas" if deltas else "whole", f"{sent / 1e6:.2f} MB", f"{sent / size:.1%}", *times]
            )
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    total = sum(file.size for file in manifest.files) / 1e6
    return (
        f"{grid}\n\n{STEPS} steps of AdamW. To make the deltas of all three ({total:.0f} MB) took {made[0]:.1f} s, "
        f"{made[1]:.1f} s of a processor. Target: int8 at most {_TARGET:.0%}."
    )


if __name__ == "__main__":
    sys.exit(main())
