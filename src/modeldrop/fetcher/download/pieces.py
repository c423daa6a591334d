"""What a transfer asks for: runs of pieces that are missing, one request each.

A piece is what the manifest has a digest of, and what is written once it is proven. A run is what one request asks
for: pieces of one file that follow each other. Pieces are small, so that each is verified and written while the CPU's
cache still holds it, and little is held in memory; runs are large, so that there are few requests.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

from blake3 import blake3

from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from modeldrop.fetcher.download.partial_file import Landing
    from modeldrop.format.manifest import File


@dataclass(slots=True, eq=False)
class Remote:
    """A file in the registry: its key, and the ETag that further requests demand, "" while none is known.

    ``changes`` counts how often the registry said that it is another object now.
    """

    key: str
    file: File
    etag: str = ""
    changes: int = 0


class Run:
    """Pieces of one file that follow each other, and how far they have come.

    Args:
        remote: where they come from.
        landing: where they go.
        pieces: their indices.
        refused: digests of what came for a single piece before, and was not it.
    """

    def __init__(self, remote: Remote, landing: Landing, pieces: range, refused: Sequence[str] = ()) -> None:
        self.remote = remote
        self.landing = landing
        self.refused = tuple(refused)
        self._pieces = pieces
        self._index = pieces.start
        self._chunks: list[memoryview] = []
        self._begin()

    @property
    def start(self) -> int:
        """Where in the file the first byte belongs that has not come."""
        return self.landing.start(self._index) + self._filled

    @property
    def left(self) -> int:
        """Bytes that have not come."""
        if not self._wanted:
            return 0
        last = self._pieces.stop - 1
        return self.landing.start(last) + self.landing.length(last) - self.start

    def take(self, data: memoryview, land: Callable[[Run, int, list[memoryview], str], None]) -> int:
        """Add bytes that have come, and return how many; what is beyond the run is dropped.

        Args:
            data: the bytes.
            land: called with each piece that they complete: this run, the piece's index, its bytes in their order,
                which are let go afterwards, and their digest.
        """
        before = len(data)
        while data and self._wanted:
            part = data[: self._wanted - self._filled]
            data = data[len(part) :]
            self._digest.update(part)
            self._chunks.append(part)
            self._filled += len(part)
            if self._filled == self._wanted:
                index = self._index
                self._index += 1
                land(self, index, self._chunks, self._digest.hexdigest())
                self._begin()
        return before - len(data)

    def again(self, index: int, found: str) -> Run:
        """A run of a piece that was not what it should be, but what digests to ``found``."""
        return Run(self.remote, self.landing, range(index, index + 1), (*self.refused, found))

    def _begin(self) -> None:
        """Begin with the next piece; after the last one, 0 bytes are wanted."""
        self._filled = 0
        self._wanted = self.landing.length(self._index) if self._index < self._pieces.stop else 0
        self._chunks.clear()  # at once: memory that was just used is the fastest there is
        self._digest = blake3()


class Queue:
    """Hands out runs, to many threads, in the order of the files; shorter ones towards the end, that all end together.

    Args:
        prefix: of the files' keys.
        landings: files that lack pieces.
        least: bytes of a run at least, as long as so many follow each other.
    """

    def __init__(self, prefix: str, landings: Sequence[Landing], least: int) -> None:
        self._least = least
        self._spans = deque(
            (Remote(f"{prefix}/{landing.file.path}", landing.file), landing, span)
            for landing in landings
            for span in _spans(landing.missing)
        )
        self._again: list[Run] = []
        self._lock = Lock()
        self.left = sum(landing.length(index) for landing in landings for index in landing.missing)
        """Bytes that were not handed out yet."""

    def take(self, share: int, most: int) -> Run | None:
        """The next run; None when all is handed out.

        Args:
            share: it has this part of what is left: 6 for a sixth.
            most: bytes of the run at most; but never less than a piece.
        """
        with self._lock:
            if self._again:
                return self._again.pop()
            if not self._spans:
                return None
            remote, landing, span = self._spans.popleft()
            wanted = min(max(self.left // share, self._least), most)
            count = -(-wanted // landing.length(span.start))
            run = span[:count]
            if len(span) > count:
                self._spans.appendleft((remote, landing, span[count:]))
            self.left -= sum(map(landing.length, run))
            return Run(remote, landing, run)

    def again(self, run: Run) -> None:
        """Hand out a run once more, before all others."""
        with self._lock:
            self._again.append(run)


def _spans(indices: Sequence[int]) -> Iterator[range]:
    """Stretches without a gap, of rising numbers."""
    ends = [at for at, (one, other) in enumerate(pairwise(indices), 1) if other != one + 1]
    for start, stop in pairwise([0, *ends, len(indices)]):
        yield range(indices[start], indices[stop - 1] + 1)
