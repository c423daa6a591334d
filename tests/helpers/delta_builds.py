"""Builds whose large file differs little from that of another one, as a fine-tune leaves it."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.channels import move_forward
from modeldrop.storage.write import open_store
from tests.helpers.builds import MODELS, PIECE, contents, make_build, publish_folder

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.registry.publish import Published
    from modeldrop.registry.versions import Version

GRAPH = MODELS["int8"]
PIECES = 6
SIZE = (PIECES - 1) * PIECE + 4321
_SHARE = 0.02


def small_files_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have files of a few pieces count as large, here; other processes go on as they are."""
    monkeypatch.setattr("modeldrop.registry.deltas.MIN_FILE", PIECE)
    monkeypatch.setattr("modeldrop.fetcher.download.deltas.MIN_FILE", PIECE)


def weights(number: int, size: int = SIZE) -> bytes:
    """The graph of version ``number``: each differs in two percent of its bytes from the one before."""
    data = bytearray(random.Random(0).randbytes(size))
    for step in range(1, number + 1):
        chance = random.Random(step)
        for _ in range(int(size * _SHARE)):
            data[chance.randrange(size)] ^= chance.choice((1, 1, 1, 3, 255))
    return bytes(data)


def publish_update(
    registry: str,
    folder: Path,
    number: int,
    *,
    size: int = SIZE,
    channel: str | None = "current",
    deltas: int = 2,
    model: str = "embedder",
) -> Published:
    """Publish the build ``number`` with the deltas that the command makes, and move the channel to it."""
    seed = f"update {number}"
    build = folder / f"build-{number}-{size}"
    # Besides its large graph all of its files are those of one build.
    shared = {path: data for path, data in contents("shared").items() if path != GRAPH}
    make_build(build, seed, variants=("int8",), own=shared | {GRAPH: weights(number, size)})
    store = open_store(registry)
    published = publish_folder(store, model, build, adopt_seconds=1, deltas=deltas)
    if channel is not None:
        move_forward(store, model, published.version, channel, by="dana")
    return published


def graph_of(version: Version) -> int:
    """Bytes of its graph."""
    return next(file.size for file in version.manifest.files if file.path == GRAPH)
