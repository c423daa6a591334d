"""Versions made by hand in a folder that a server shows as a bucket: files of any size, no model in them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from modeldrop.format.channel import Channel, Move, serialize_channel
from modeldrop.format.manifest import PIECE_SIZE, File, manifest_digest, serialize_manifest
from tests.format import examples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODEL_FILE = "onnx/model.onnx"
_RAM = Path("/dev/shm")  # noqa: S108  a RAM disk is the point
_READ = 1 << 20


@contextlib.contextmanager
def ram_disk(room: int) -> Iterator[Path]:
    """A temporary folder, in memory where there is a RAM disk with so many bytes free."""
    folder = str(_RAM) if _RAM.is_dir() and shutil.disk_usage(_RAM).free > room else None
    with tempfile.TemporaryDirectory(prefix="modeldrop-bench-", dir=folder) as temporary:
        yield Path(temporary)


def random_file(path: Path, size: int) -> None:
    """Write a file of random bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for start in range(0, size, PIECE_SIZE):
            file.write(os.urandom(min(PIECE_SIZE, size - start)))


def describe(path: Path, name: str, piece_size: int = PIECE_SIZE) -> File:
    """What a manifest says of a file: size, SHA-256, BLAKE3 of its pieces."""
    digest, pieces = hashlib.sha256(), []
    with path.open("rb") as file:
        for _ in range(0, path.stat().st_size, piece_size):
            piece, left = blake3(), piece_size
            while left and (data := file.read(min(_READ, left))):
                digest.update(data)
                piece.update(data)
                left -= len(data)
            pieces.append(piece.hexdigest())
    return File(name, path.stat().st_size, digest.hexdigest(), tuple(pieces))


def add_version(model: Path, files: Sequence[str], piece_size: int = PIECE_SIZE) -> None:
    """Make the files that are below ``model``/v1 the version v1, the first of them its graph; ``current`` names it."""
    example = examples.manifest()
    manifest = example._replace(
        files=tuple(describe(model / "v1" / name, name, piece_size) for name in files),
        variants=(example.variants[0]._replace(model=files[0], files=tuple(files)),),
        piece_size=piece_size,
    )
    data = serialize_manifest(manifest)
    (model / "v1" / "manifest.json").write_bytes(data)
    digest = manifest_digest(data)
    move = Move(
        version=1,
        digest=digest,
        generation=1,
        nonce="6b1f0c52a97e4d38",
        action="publish",
        by="benchmark",
        at="2026-11-20T09:44:51Z",
    )
    (model / "current").write_bytes(serialize_channel(Channel(move, ())))
