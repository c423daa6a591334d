"""Sizes and digests of files on disk, as a manifest has them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from modeldrop.format.manifest import PIECE_SIZE, File

_CHUNK = 1 << 20


def describe_file(root: Path, path: Path) -> File:
    """The manifest's entry of ``path``, named relative to ``root``."""
    from blake3 import blake3  # the action checks recipes before anything is installed

    whole = hashlib.sha256()
    pieces: list[str] = []
    size = 0
    with path.open("rb") as file:
        while True:
            piece = blake3()
            left = PIECE_SIZE
            while left and (chunk := file.read(min(_CHUNK, left))):
                whole.update(chunk)
                piece.update(chunk)
                left -= len(chunk)
            if left == PIECE_SIZE:
                break
            size += PIECE_SIZE - left
            pieces.append(piece.hexdigest())
    return File(path.relative_to(root).as_posix(), size, whole.hexdigest(), tuple(pieces))
