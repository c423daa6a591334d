"""What a transfer has in hand: pieces, their buffers, and the parts of them that are asked for in one request.

A piece is what the manifest has a digest of, and what is written once it is proven. A part is what one request
asks for. Pieces are large, so that a manifest is small; parts are smaller, so that many connections can be at
work, as services limit each of them, while few bytes are held in memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.format.manifest import File
    from modeldrop.runtime.landing import Landing


@dataclass(slots=True, eq=False)
class Remote:
    """A file in the registry: its key, and the ETag that further requests demand, "" while none is known.

    ``changes`` counts how often the registry said that it is another object now.
    """

    key: str
    file: File
    etag: str = ""
    changes: int = 0


@dataclass(slots=True, eq=False)
class Piece:
    """A piece that is wanted.

    Attributes:
        remote: where it comes from.
        landing: where it goes.
        start: of its first byte in the file.
        length: bytes.
        digest: BLAKE3, 64 hexadecimal digits.
        buffer: its bytes while it is in hand.
        missing: parts that are not complete.
        refused: digests of what came and was not it.
    """

    remote: Remote
    landing: Landing
    start: int
    length: int
    digest: str
    buffer: memoryview = field(default_factory=lambda: memoryview(b""))
    missing: int = 0
    refused: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Part:
    """A stretch of a piece that one request asks for; ``filled`` bytes of it are there."""

    piece: Piece
    offset: int
    length: int
    filled: int = 0


class Queue:
    """Hands out parts, to many threads, in the order of the pieces; holds no more bytes than it may.

    Args:
        pieces: all that are wanted, in order.
        part_size: bytes of a part at most; may be changed for the pieces to come.
        in_hand: bytes of the buffers of all pieces in hand; a piece larger than this is in hand alone.
    """

    def __init__(self, pieces: Iterator[Piece], part_size: int, in_hand: int) -> None:
        self._pieces = pieces
        self._next = next(pieces, None)
        self.part_size = part_size
        self._room = in_hand
        self._in_hand = 0
        self._parts: deque[Part] = deque()
        self._free: list[memoryview] = []
        self._changed = Condition()
        self._closed = False

    def take(self) -> Part | None:
        """The next part, as soon as there is one; None when all is done, or given up."""
        with self._changed:
            while not self._closed:
                if self._parts:
                    return self._parts.popleft()
                piece = self._next
                if piece is None:
                    if not self._in_hand:
                        self._close()
                        return None
                elif not self._in_hand or self._in_hand + piece.length <= self._room:
                    self._begin(piece)
                    continue
                self._changed.wait()
        return None

    def again(self, piece: Piece) -> None:
        """Hand out all parts of a piece once more."""
        with self._changed:
            self._split(piece)
            self._changed.notify_all()

    def landed(self, part: Part) -> bool:
        """Note that a part is complete; whether its piece is, too."""
        with self._changed:
            part.piece.missing -= 1
            return not part.piece.missing

    def done(self, piece: Piece) -> None:
        """Take a piece's buffer back; it is in hand no longer."""
        with self._changed:
            if not self._free or len(piece.buffer) == len(self._free[0]):
                self._free.append(piece.buffer)
            piece.buffer = memoryview(b"")
            self._in_hand -= piece.length
            self._changed.notify_all()

    def close(self) -> None:
        """Give up: nothing is handed out any more."""
        with self._changed:
            self._close()

    def _close(self) -> None:
        self._closed = True
        self._changed.notify_all()

    def _begin(self, piece: Piece) -> None:
        self._next = next(self._pieces, None)
        self._in_hand += piece.length
        # Memory that was used before costs nothing; new memory is cleared page by page.
        fits = bool(self._free) and len(self._free[-1]) == piece.length
        if not fits:
            self._free.clear()
        piece.buffer = self._free.pop() if fits else memoryview(bytearray(piece.length))
        self._split(piece)

    def _split(self, piece: Piece) -> None:
        size = self.part_size
        parts = [Part(piece, offset, min(size, piece.length - offset)) for offset in range(0, piece.length, size)]
        piece.missing = len(parts)
        self._parts.extend(parts)
