"""Downloading 1 GiB, and what else a container's start asks for, from nginx that shows a folder as an S3 bucket.

Ours: the whole process ``modeldrop fetch s3://bucket/models/MODEL``, with nothing on the disk: it reads the channel
and the manifest, compares every 1 MiB piece with its BLAKE3 digest before it counts, syncs, renames.

Peers, each with its own defaults, whole processes too: ``curl -o``, which takes one stream and verifies nothing;
``s5cmd cp``; AWS's CRT client by a script of ten lines; boto3's ``download_file``; ``aws s3 cp``; ``rclone copyto``
(Debian's); ``huggingface_hub.snapshot_download``, to which nginx shows the same file as a hub. None of them verifies
what it wrote. They come from PyPI, in an environment of their own below ``.bench``.

- 1 GiB of random bytes, from a RAM disk to a RAM disk: 5 rounds. Memory is the most that the process had, processor
  time its user and system seconds. Then curl, s5cmd and ours again with every core kept busy by something else: 5
  rounds. On a loaded host a program gets less of the processor, and what it asks of it counts for more.
- The same to a disk, ours as it always is (every file and folder synced), the peers' file synced by ``sync``: 5
  rounds, each begun on an idle disk.
- The same over TLS: 5 rounds. nginx and the client share the cores, so both sides of the encryption count.
- The same through nginx that gives each request 40 MB/s, as S3 does: 3 rounds. The share is what we got of 40 MB/s
  times the requests that we had in flight, by the server's log, from the first request for the file to the last
  byte: the process's start and its syncing are in the other figures.
- 200 files of 1 MiB, s5cmd with a list of them: 5 rounds.
- 4 GiB of zeros: one round, for the memory.
- What is there already: 30 rounds, then requests by the server's log, with a channel and with a pinned version.
- A fetch killed by SIGKILL when nginx has sent half of the bytes (by its own count, what is under way included), then
  fetched again: the bytes that nginx sends again. 3 rounds.

The sides run in turn, every second round in reverse order; medians. nginx runs on the same machine and takes its share
of it, much the same for everybody: it sends files by sendfile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bucket import MODEL_FILE, add_version, ram_disk, random_file
from benchmarks.downloaders import REGISTRY, hub_locations, ours, s5cmd_many, sides
from benchmarks.machine import all_cores_busy
from benchmarks.peers import programs
from benchmarks.process import measure
from benchmarks.result import Row
from benchmarks.workspace import ROOT, alternate, modeldrop
from tests.servers.nginx import NginxServer, at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.downloaders import Side
    from benchmarks.process import Measured
    from benchmarks.workspace import Workspace

SIZE = 1 << 30
RATE = 40_000_000
ROUNDS, _FEW, _MANY = 5, 3, 30
COLD = "download 1 GiB"
CAPPED = "download 1 GiB at 40 MB/s per connection"
_FILES, _FILE_SIZE = 200, 1 << 20
_ROOM = 14 * SIZE
_CURL, _MEGABYTES, _MILLISECONDS, _SHARE, _AGAIN = 1.3, 200, 60, 0.9, 55
_SECONDS = 120


def run(workspace: Workspace) -> list[Row]:
    peers = programs(workspace)
    with ram_disk(_ROOM) as ram, _disk() as disk:
        names = _fill(ram / REGISTRY)
        bench = _Bench(workspace, ram / "target", disk)
        with _server(ram, locations=hub_locations("big", SIZE)) as server:
            everybody = sides(server, peers, "big")
            few = [everybody[name] for name in ("ours", "curl", "s5cmd")]
            rows = _cold(bench, list(everybody.values()))
            rows += _busy(bench, few)
            rows += _synced(bench, few)
            rows += _many(bench, [ours(server, "many"), s5cmd_many(server, peers, "many", names, disk / "list")])
            rows += _huge(bench, ours(server, "huge"))
            rows += _there(bench, server)
        with _server(ram, tls=True) as secure:
            everybody = sides(secure, peers, "big")
            rows += _encrypted(bench, [everybody[name] for name in ("ours", "curl", "s5cmd")])
        with _server(ram, rate=RATE) as slow:
            everybody = sides(slow, peers, "big")
            rows += _capped(bench, slow, [everybody[name] for name in ("ours", "s5cmd", "AWS CRT")])
            rows += _killed(bench, slow, everybody["ours"])
    return rows


@dataclass(slots=True)
class _Bench:
    """Where sides write, and all that was measured of them."""

    workspace: Workspace
    ram: Path
    disk: Path
    measured: dict[str, list[Measured]] = field(default_factory=dict)

    def race(self, sides: Sequence[Side], rounds: int, *, disk: bool = False) -> list[float]:
        """Seconds of each side, the median."""
        self.measured = {side.name: [] for side in sides}
        contenders = (lambda side=side: self.once(side, disk=disk) for side in sides)
        return alternate(self.workspace.rounds(rounds), *contenders)

    def once(self, side: Side, *, disk: bool = False) -> float:
        """Let a side fill a new folder."""
        folder = (self.disk if disk else self.ram) / "folder"
        (folder / Path(MODEL_FILE).parent).mkdir(parents=True)
        command = side.command(folder)
        if disk:
            os.sync()  # what the side before has left, and what its removal asks of the disk, is not this one's
        if disk and side.name != "ours":
            command = ["sh", "-c", '"$@" && sync model.onnx', "sh", *command]
        measured = measure(command, self.workspace.bare_environment(side.environment), folder)
        self.measured.setdefault(side.name, []).append(measured)
        _check(side, folder)
        shutil.rmtree(folder)
        return measured.seconds

    def median(self, name: str, what: str) -> float:
        """Of one figure of a side in the last race."""
        return float(statistics.median(getattr(measured, what) for measured in self.measured[name]))


def _cold(bench: _Bench, sides: Sequence[Side]) -> list[Row]:
    mine, *theirs = bench.race(sides, ROUNDS)
    rows = []
    for side, seconds in zip(sides[1:], theirs, strict=True):
        most = _CURL if side.name == "curl" else 1.0
        rows.append(Row(f"{COLD} (peer: {side.name})", mine, f"ratio ≤ {most}", mine / seconds <= most, seconds, "s"))
    memory, least = bench.median("ours", "megabytes"), bench.median("s5cmd", "megabytes")
    target = f"≤ {_MEGABYTES} MB"
    return [
        *rows,
        *_processor(bench, COLD),
        Row(f"{COLD}, memory (peer: s5cmd)", memory, target, memory <= _MEGABYTES, least, "MB", 0),
    ]


def _busy(bench: _Bench, sides: Sequence[Side]) -> list[Row]:
    with all_cores_busy():
        mine, curl, s5cmd = bench.race(sides, ROUNDS)
    what = f"{COLD}, all cores busy"
    return [
        Row(f"{what} (peer: curl)", mine, "none", met=True, peer=curl, unit="s"),
        Row(f"{what} (peer: s5cmd)", mine, "ratio ≤ 1.0", mine <= s5cmd, s5cmd, "s"),
        *_processor(bench, what),
    ]


def _processor(bench: _Bench, what: str) -> list[Row]:
    processor, s5cmd, curl = (bench.median(name, "processor") for name in ("ours", "s5cmd", "curl"))
    return [
        Row(f"{what}, processor (peer: s5cmd)", processor, "ratio ≤ 1.0", processor <= s5cmd, s5cmd, "s"),
        Row(f"{what}, processor (peer: curl)", processor, "none", met=True, peer=curl, unit="s"),
    ]


def _encrypted(bench: _Bench, sides: Sequence[Side]) -> list[Row]:
    mine, curl, s5cmd = bench.race(sides, ROUNDS)
    what = f"{COLD} over TLS"
    return [
        Row(f"{what} (peer: curl)", mine, "none", met=True, peer=curl, unit="s"),
        Row(f"{what} (peer: s5cmd)", mine, "none", met=True, peer=s5cmd, unit="s"),
        *_processor(bench, what),
    ]


def _synced(bench: _Bench, sides: Sequence[Side]) -> list[Row]:
    mine, curl, s5cmd = bench.race(sides, ROUNDS, disk=True)
    what = f"{COLD} to a disk, synced"
    return [
        Row(f"{what} (peer: curl)", mine, f"ratio ≤ {_CURL}", mine / curl <= _CURL, curl, "s"),
        Row(f"{what} (peer: s5cmd)", mine, "ratio ≤ 1.0", mine <= s5cmd, s5cmd, "s"),
    ]


def _many(bench: _Bench, sides: Sequence[Side]) -> list[Row]:
    mine, s5cmd = bench.race(sides, ROUNDS)
    what = f"download {_FILES} files of 1 MiB (peer: s5cmd)"
    return [Row(what, mine, "ratio ≤ 1.0", mine <= s5cmd, s5cmd, "s")]


def _huge(bench: _Bench, side: Side) -> list[Row]:
    bench.race([side], 1)
    memory = bench.median(side.name, "megabytes")
    return [Row("download 4 GiB, memory", memory, f"≤ {_MEGABYTES} MB", memory <= _MEGABYTES, unit="MB", digits=0)]


def _there(bench: _Bench, server: NginxServer) -> list[Row]:
    home = str(bench.disk / "home")
    commands = [modeldrop("fetch", f"s3://{REGISTRY}/small{at}", "-d", home, "--quiet") for at in ("", "@v1")]
    environment = bench.workspace.bare_environment(server.environment)

    def milliseconds(command: list[str]) -> float:
        return measure(command, environment).seconds * 1e3

    milliseconds(commands[0])
    times = alternate(
        bench.workspace.rounds(_MANY), *(lambda command=command: milliseconds(command) for command in commands)
    )
    rows = []
    for command, taken, requests, name in zip(commands, times, (1, 0), ("", ", pinned"), strict=True):
        server.reset()
        milliseconds(command)
        asked = len(server.requests())
        met = taken <= _MILLISECONDS
        rows += [
            Row(f"fetch what is there, from S3{name}", taken, f"≤ {_MILLISECONDS} ms", met, unit="ms", digits=0),
            Row(f"requests of that{name}", asked, f"≤ {requests}", asked <= requests, digits=0),
        ]
    return rows


def _capped(bench: _Bench, server: NginxServer, sides: Sequence[Side]) -> list[Row]:
    mine, s5cmd, crt = bench.race(sides, _FEW)
    memory = bench.median("ours", "megabytes")
    found = [_share(bench, server, sides[0]) for _ in range(bench.workspace.rounds(_FEW))]
    connections, share = found[0][0], statistics.median(share for _, share in found)
    return [
        Row(f"{CAPPED} (peer: s5cmd)", mine, "ratio ≤ 1.0", mine <= s5cmd, s5cmd, "s"),
        Row(f"{CAPPED} (peer: AWS CRT)", mine, "ratio ≤ 1.0", mine <= crt, crt, "s"),
        Row(f"share of {connections} connections × 40 MB/s", share, f"≥ {_SHARE}", share >= _SHARE),
        Row(f"{CAPPED}, memory", memory, f"≤ {_MEGABYTES} MB", memory <= _MEGABYTES, unit="MB", digits=0),
    ]


def _share(bench: _Bench, server: NginxServer, side: Side) -> tuple[int, float]:
    """How many connections there were at once, and which part of their bytes a second was used."""
    server.reset()
    bench.once(side)
    answers = [answer for answer in server.requests() if answer.path.partition("?")[0].endswith(MODEL_FILE)]
    seconds = max(answer.at for answer in answers) - min(answer.at - answer.seconds for answer in answers)
    connections = at_once(answers)
    return connections, SIZE / seconds / (connections * RATE)


def _killed(bench: _Bench, server: NginxServer, side: Side) -> list[Row]:
    again = statistics.median(_kill(bench, server, side) for _ in range(bench.workspace.rounds(_FEW)))
    return [Row("bytes again after SIGKILL at 50 %", again, f"≤ {_AGAIN} %", again <= _AGAIN, unit="%", digits=1)]


def _kill(bench: _Bench, server: NginxServer, side: Side) -> float:
    """Percent of the file that is sent again."""
    folder = bench.ram / "folder"
    folder.mkdir(parents=True)
    environment = bench.workspace.bare_environment(side.environment)
    before, deadline = server.sent(), time.monotonic() + _SECONDS
    process = subprocess.Popen(side.command(folder), env=environment, cwd=folder)
    while server.sent() - before < SIZE // 2:
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit("download: the fetch that was to be killed ended before nginx had sent half of the file")
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.reset()
    measure(side.command(folder), environment, folder)
    again = 100 * sum(answer.sent for answer in server.requests()) / SIZE
    shutil.rmtree(folder)
    return again


def _check(side: Side, folder: Path) -> None:
    """Some clients call it a success to have brought nothing."""
    if {path.stat().st_size for path in folder.rglob("*.onnx")} not in ({SIZE}, {4 * SIZE}, {_FILE_SIZE}):
        sys.exit(f"download: {side.name} did not bring the files")


def _fill(registry: Path) -> list[str]:
    """Write all versions; return the names of the many files."""
    random_file(registry / "big" / "v1" / MODEL_FILE, SIZE)
    random_file(registry / "small" / "v1" / MODEL_FILE, _FILE_SIZE)
    huge = registry / "huge" / "v1" / MODEL_FILE
    huge.parent.mkdir(parents=True)
    with huge.open("wb") as file:
        file.truncate(4 * SIZE)
    names = [f"onnx/file-{number:03}.onnx" for number in range(_FILES)]
    for name in names:
        random_file(registry / "many" / "v1" / name, _FILE_SIZE)
    for model in ("big", "small", "huge"):
        add_version(registry / model, [MODEL_FILE])
    add_version(registry / "many", names)
    return names


def _server(folder: Path, *, rate: int = 0, locations: str = "", tls: bool = False) -> NginxServer:
    try:
        return NginxServer(folder, rate=rate, locations=locations, tls=tls)
    except RuntimeError as error:
        sys.exit(f"download: {error}")


@contextlib.contextmanager
def _disk() -> Iterator[Path]:
    """A folder where this checkout is, because /tmp may be in memory."""
    (ROOT / ".bench").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=ROOT / ".bench") as folder:
        yield Path(folder)
