"""Piece size, bytes per request and requests in flight: what was measured before they were chosen.

``python -m benchmarks.sweep [--quick] [--write docs/benchmarks.md]``. 1 GiB from nginx to a RAM disk as in
``benchmarks/download.py``, whole processes, the combinations in turn, every second round in reverse order; medians of 3
rounds; without a limit, then with 40 MB/s for each request. The mark is at what modeldrop does by itself.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bucket import MODEL_FILE, add_version, ram_disk, random_file
from benchmarks.document import replace_between
from benchmarks.download import RATE, SIZE
from benchmarks.downloaders import REGISTRY
from benchmarks.machine import load, machine
from benchmarks.process import measure
from benchmarks.workspace import Workspace
from modeldrop.fetcher.download.transfer import LIMITS
from modeldrop.format.manifest import PIECE_SIZE
from tests.servers.nginx import NginxServer

if TYPE_CHECKING:
    from benchmarks.process import Measured

BEGIN, END = "<!-- sweep: written by python -m benchmarks.sweep --write -->", "<!-- end of sweep -->"
HEADER = ("piece", "request", "in flight", "1 GiB", "memory", "processor", "at 40 MB/s", "memory", "")
ROUNDS = 3
_MIB = 1 << 20
_OURS = """\
import sys
from dataclasses import replace
from modeldrop.fetcher.download import transfer
most, connections = map(int, sys.argv[1:3])
limits = transfer.LIMITS
shares = limits.slow_shares if connections > limits.first else limits.shares
transfer.LIMITS = limits._replace(
    max_request=most, shares=shares, first=connections, connections=connections, memory=1 << 40
)
from modeldrop.cli import main
sys.exit(main(sys.argv[3:]))
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """A piece's bytes, a request's bytes at most, and requests in flight."""

    piece: int
    most: int
    connections: int

    @property
    def ours(self) -> str:
        """Where this is what modeldrop does."""
        marks = {
            (PIECE_SIZE, LIMITS.max_request, LIMITS.first): "← ours, on a fast line",
            (PIECE_SIZE, LIMITS.slow_max_request, LIMITS.connections): "← ours, where connections are slow",
        }
        return marks.get((self.piece, self.most, self.connections), "")


def choices() -> list[Choice]:
    """Pieces of several sizes in requests as long as ours; then our pieces in requests of several lengths."""
    pieces = product(
        (256 << 10, 1 * _MIB, 4 * _MIB, 16 * _MIB), (LIMITS.max_request,), (LIMITS.first, 8, LIMITS.connections)
    )
    lengths = (4 * _MIB, LIMITS.slow_max_request, 16 * _MIB, 64 * _MIB)
    requests = product((PIECE_SIZE,), lengths, (LIMITS.first, LIMITS.connections))
    counts = product((PIECE_SIZE,), (LIMITS.max_request,), (1, 2, 4, 32))
    return [Choice(*shape) for shape in (*pieces, *requests, *counts)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this Markdown file")
    arguments = parser.parse_args()
    busy = load()
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-") as folder:
        told = _table(Workspace(Path(folder), quick=arguments.quick))
    text = f"{machine()}; load average before the run {busy}.\n\n{told}"
    print(text)
    if arguments.write:
        replace_between(arguments.write, BEGIN, END, text)
    return 0


def _table(workspace: Workspace) -> str:
    with ram_disk(4 * SIZE) as ram:
        for piece in sorted({choice.piece for choice in choices()}):
            version = ram / REGISTRY / _model(piece) / "v1" / MODEL_FILE
            if piece == min(choice.piece for choice in choices()):
                random_file(version, SIZE)
                first = version
            else:
                version.parent.mkdir(parents=True)
                version.hardlink_to(first)
            add_version(version.parents[2], [MODEL_FILE], piece)
        with NginxServer(ram) as fast, NginxServer(ram, rate=RATE) as slow:
            free, capped = (_race(workspace, server, ram) for server in (fast, slow))
    lines = [HEADER, ("---:",) * (len(HEADER) - 1) + ("---",)]
    lines += [(*_shape(choice), *_shown(free[choice], capped[choice]), choice.ours) for choice in choices()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _race(workspace: Workspace, server: NginxServer, ram: Path) -> dict[Choice, list[Measured]]:
    found: dict[Choice, list[Measured]] = {choice: [] for choice in choices()}
    environment = workspace.bare_environment(server.environment)
    for number in range(workspace.rounds(ROUNDS)):
        for choice in reversed(choices()) if number % 2 else choices():
            with tempfile.TemporaryDirectory(dir=ram) as target:
                reference = f"s3://{REGISTRY}/{_model(choice.piece)}"
                command = [sys.executable, "-c", _OURS, str(choice.most), str(choice.connections)]
                command += ["fetch", reference, "-d", target, "--quiet"]
                found[choice].append(measure(command, environment))
    return found


def _model(piece: int) -> str:
    return f"big{piece >> 10}k"


def _shape(choice: Choice) -> tuple[str, str, str]:
    return f"{choice.piece / _MIB:g} MiB", f"{choice.most // _MIB} MiB", str(choice.connections)


def _shown(free: list[Measured], capped: list[Measured]) -> tuple[str, ...]:
    return (
        f"{statistics.median(one.seconds for one in free):.2f} s",
        f"{statistics.median(one.megabytes for one in free):.0f} MB",
        f"{statistics.median(one.processor for one in free):.2f} s",
        f"{statistics.median(one.seconds for one in capped):.2f} s",
        f"{statistics.median(one.megabytes for one in capped):.0f} MB",
    )


if __name__ == "__main__":
    sys.exit(main())
