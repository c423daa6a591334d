"""What a rollout asks of the registry: 200 containers that start, counted by the server's log.

nginx shows a small version in a bucket: a graph of 3 pieces and 4 small files, 210 kB. 200 whole processes of
``modeldrop fetch``, 10 at a time:

- each with an empty disk of its own;
- the same again: a restart that finds its snapshot;
- again, with the version pinned;
- 10 on each of 20 empty volumes that they share, at once.

Then one version of 64 MiB, to count the requests that large files are cut into; 16 times those of its bytes are what
1 GiB takes. There is no peer. docs/scale.md says what follows for 1,000 containers; ``benchmarks/rollout.py``
calculates it from these rows.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from benchmarks.bucket import MODEL_FILE, add_version, ram_disk, random_file
from benchmarks.downloaders import REGISTRY
from benchmarks.result import Row
from benchmarks.workspace import modeldrop
from tests.servers.nginx import NginxServer

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.workspace import Workspace
    from tests.servers.nginx import LoggedAnswer

STARTERS = 200
REQUESTS_PER_GIB = "requests for 1 GiB"
_AT_ONCE = 10
_QUICK = 20
_PIECE = 64 << 10
_FILES = {
    MODEL_FILE: 3 * _PIECE,
    "config.json": 600,
    "tokenizer.json": 12_000,
    "tokenizer_config.json": 400,
    "empty.txt": 0,
}
_LARGE = 64 << 20
# Channel and manifest; three pieces and three small files (an empty one has no bytes to ask for).
_ABOUT, _BODIES = 2, 6


def run(workspace: Workspace) -> list[Row]:
    with ram_disk(4 << 30) as ram:
        for name, size in _FILES.items():
            random_file(ram / REGISTRY / "small" / "v1" / name, size)
        add_version(ram / REGISTRY / "small", list(_FILES), _PIECE)
        random_file(ram / REGISTRY / "large" / "v1" / MODEL_FILE, _LARGE)
        add_version(ram / REGISTRY / "large", [MODEL_FILE])
        try:
            server = NginxServer(ram)
        except RuntimeError as error:
            sys.exit(f"scale: {error}")
        with server:
            return _count(_Rollout(workspace, server, ram / "disks"))


class _Rollout:
    """Containers that start, and what they ask."""

    def __init__(self, workspace: Workspace, server: NginxServer, disks: Path) -> None:
        self.starters = min(STARTERS, _QUICK) if workspace.rounds(STARTERS) == 1 else STARTERS
        self._workspace = workspace
        self._server = server
        self._disks = disks

    def start(self, kind: str, reference: str, *, sharing: int = 1, starters: int = 0) -> list[LoggedAnswer]:
        """Let them all fetch, ``sharing`` of them on one disk of this ``kind``; return what was asked."""
        self._server.reset()
        environment = self._workspace.bare_environment(self._server.environment)

        def one(number: int) -> None:
            disk = str(self._disks / f"{kind}-{number // sharing}")
            command = modeldrop("fetch", f"s3://{REGISTRY}/{reference}", "-d", disk, "--quiet")
            self._workspace.wall(command, environment)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(one, range(starters or self.starters)))
        return self._server.requests()


def _count(rollout: _Rollout) -> list[Row]:
    size, starters = sum(_FILES.values()), rollout.starters
    cold = rollout.start("own", "small")
    again = rollout.start("own", "small")
    pinned = rollout.start("own", "small@v1")
    shared = rollout.start("shared", "small", sharing=_AT_ONCE)
    large = rollout.start("large", "large", starters=1)
    downloads = sum(answer.sent for answer in shared if "/v1/" in answer.path and "manifest" not in answer.path) / size
    nodes = starters // _AT_ONCE
    cut = (len(large) - _ABOUT) * (1 << 30) // _LARGE
    return [
        _each(f"requests of each of {starters} starts", cold, starters, _ABOUT + _BODIES),
        _each("requests of each of them, started again", again, starters, 1),
        _each("requests of each of them, pinned", pinned, starters, 0),
        Row(f"downloads on {nodes} volumes by {_AT_ONCE} each", downloads, f"≤ {nodes}", downloads <= nodes, digits=2),
        _each("requests of each of these", shared, starters, _ABOUT + _BODIES / _AT_ONCE),
        Row(REQUESTS_PER_GIB, cut, "none", met=True, digits=0),
    ]


def _each(name: str, answers: list[LoggedAnswer], starters: int, most: float) -> Row:
    each = len(answers) / starters
    return Row(name, each, f"≤ {most:g}", each <= most, digits=2)
