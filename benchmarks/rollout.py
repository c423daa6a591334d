"""What a rollout of 1,000 containers costs, and which limit it meets first: the tables of docs/scale.md.

``python -m benchmarks.rollout docs/scale.md`` replaces what stands between the file's two markers. Nothing is measured
here: the requests of a start are what ``benchmarks/scale.py`` counts, the prices and limits are Amazon's, below.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.document import replace_between

BEGIN, END = "<!-- tables: written by python -m benchmarks.rollout -->", "<!-- end of tables -->"

CONTAINERS, NODES = 1_000, 100
PART = 4 << 20
"""Bytes that one request brings where connections are slow: 256 requests for 1 GiB; on a fast line half as many."""
_ABOUT = 2

# List prices of us-east-1 in US dollars, November 2026, and limits that Amazon documents. Put your own here.
GET = 0.0004 / 1_000
NAT_GB, INTERNET_GB, CROSS_REGION_GB = 0.045, 0.09, 0.02
GETS_PER_SECOND = 5_500
NAT_BYTES_PER_SECOND = 12.5e9
NETWORK_BYTES_PER_SECOND = 1.25e9


@dataclass(frozen=True, slots=True)
class Model:
    """A variant as containers fetch it: sizes of its files in bytes."""

    name: str
    files: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(self.files)

    @property
    def requests(self) -> int:
        """GETs of a start with an empty disk: the channel, the manifest, the files."""
        return _ABOUT + sum(math.ceil(size / PART) for size in self.files)


MODELS = (
    Model("all-MiniLM-L6-v2, int8", (22_671_360, 300_841, 466_247, 231_508, 612, 350, 112)),
    Model("1 GiB in one file", (1 << 30,)),
)


def tables() -> str:
    """All tables, as Markdown."""
    return "\n\n".join(part for model in MODELS for part in (_costs(model), _limits(model)))


def _costs(model: Model) -> str:
    """Requests, bytes and dollars of the ways to start."""
    ways = {
        "every container its own empty disk": (CONTAINERS * model.requests, CONTAINERS * model.size / 1e9),
        f"one download per node, {NODES} nodes": (_shared(model), NODES * model.size / 1e9),
        "restart, snapshot still on the disk": (CONTAINERS, 0.0),
        "the same, version pinned": (0, 0.0),
    }
    head = ["", "GETs", "GB", "same region", "NAT gateway", "other region", "internet"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for way, (requests, gigabytes) in ways.items():
        prices = (0.0, NAT_GB, CROSS_REGION_GB, INTERNET_GB)
        dollars = [_dollars(requests * GET + gigabytes * price) for price in prices]
        lines.append([way, f"{requests:,}", f"{gigabytes:,.1f}", *dollars])
    title = f"**{model.name}** ({model.size / 1e6:,.1f} MB, {model.requests} GETs for an empty disk)"
    return f"{title}\n\n{_grid(lines)}"


def _limits(model: Model) -> str:
    """Seconds that each limit makes the whole rollout last at least, by the way of starting."""
    alone, shared = CONTAINERS * model.requests, _shared(model)
    lines = [["limit, by itself", "own disks", "one per node"], ["---", "---:", "---:"]]
    seconds = {
        f"S3: {GETS_PER_SECOND:,} GETs a second below one prefix": (alone, shared, GETS_PER_SECOND),
        "NAT gateway: 100 Gbit/s": (CONTAINERS * model.size, NODES * model.size, NAT_BYTES_PER_SECOND),
        "a node's network: 10 Gbit/s": (CONTAINERS // NODES * model.size, model.size, NETWORK_BYTES_PER_SECOND),
    }
    lines += [[name, _seconds(most / rate), _seconds(least / rate)] for name, (most, least, rate) in seconds.items()]
    return _grid(lines)


def _shared(model: Model) -> int:
    """GETs where a node's containers share a volume: all may ask for channel and manifest, one downloads."""
    return CONTAINERS * _ABOUT + NODES * (model.requests - _ABOUT)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.1f} s"


def _dollars(amount: float) -> str:
    return f"${amount:,.4f}" if amount < 0.1 else f"${amount:,.2f}"


def _grid(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rollout", description=__doc__)
    parser.add_argument("file", type=Path, help="the Markdown file with the markers")
    replace_between(parser.parse_args().file, BEGIN, END, tables())
    return 0


if __name__ == "__main__":
    sys.exit(main())
