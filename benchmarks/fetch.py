"""Fetching what is already there: what a container's start pays for asking.

Ours: the whole process ``modeldrop fetch REGISTRY/minilm -d HOME``, from start to end, where the snapshot
that the channel names is on the disk: it reads the channel, finds the snapshot, checks its files by stat,
prints the path. The registry is a folder, so no network is in this figure: add one round trip to yours.

Peer: ``python -c pass`` of the same interpreter, which is the least that any Python program takes.

30 rounds after one fetch that brings the files; the sides in turn, every second round in reverse order;
medians.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.result import Row
from benchmarks.workspace import alternate, modeldrop

if TYPE_CHECKING:
    from benchmarks.workspace import Workspace

ROUNDS = 30
_MILLISECONDS = 80


def run(workspace: Workspace) -> list[Row]:
    command = modeldrop("fetch", str(workspace.registry / "minilm"), "-d", str(workspace.folder / "home"))
    nothing = [sys.executable, "-c", "pass"]
    workspace.wall(command)
    ours, python = alternate(
        workspace.rounds(ROUNDS),
        lambda: workspace.wall(command) * 1e3,
        lambda: workspace.wall(nothing) * 1e3,
    )
    met = ours <= _MILLISECONDS
    return [Row("fetch what is there (peer: python -c pass)", ours, f"≤ {_MILLISECONDS} ms", met, python, "ms", 0)]
