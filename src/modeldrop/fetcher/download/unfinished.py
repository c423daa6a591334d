"""What has come of pieces that are not complete, kept where a killed transfer's successor finds it.

A piece goes to its place when it is verified. What comes of it over a slow line is added, every few seconds, to a file
of its own, whose name begins the piece's digest. The next start goes on behind these bytes. Nothing is synced, and
nothing is believed: with wrong bytes the piece does not get its digest, and is asked for again whole. So several
processes may do so at once, and all of it is best effort.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUFFIX = ".unfinished"
_NAME = 32


class UnfinishedPieces:
    """The beginnings of pieces in one folder.

    Args:
        folder: where their files are; "" keeps nothing.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = str(folder)
        self._found: set[str] = set()
        if self._folder:
            with contextlib.suppress(OSError):
                self._found = {name for name in os.listdir(self._folder) if name.endswith(_SUFFIX)}  # noqa: PTH208

    def has(self, digest: str) -> bool:
        """Whether an earlier transfer has left some of a piece, and nobody has taken it yet."""
        return _name(digest) in self._found

    def take(self, digest: str, limit: int) -> bytes:
        """What an earlier transfer has left of a piece: at most ``limit`` bytes, once."""
        name = _name(digest)
        if name in self._found:
            self._found.discard(name)
            with contextlib.suppress(OSError), open(os.path.join(self._folder, name), "rb") as file:  # noqa: PTH118, PTH123
                return file.read(limit)
        return b""

    def add(self, digest: str, start: int, buffers: Sequence[memoryview]) -> None:
        """Keep more of a piece: what follows its first ``start`` bytes."""
        if not self._folder:
            return
        with contextlib.suppress(OSError):
            path = os.path.join(self._folder, _name(digest))  # noqa: PTH118
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                for buffer in buffers:
                    start += os.pwrite(descriptor, buffer, start)
            finally:
                os.close(descriptor)

    def forget(self, digest: str) -> None:
        """Remove it: the piece is complete, or what was kept of it was wrong."""
        if self._folder:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, _name(digest)))  # noqa: PTH108, PTH118


def _name(digest: str) -> str:
    return f"{digest[:_NAME]}{_SUFFIX}"
