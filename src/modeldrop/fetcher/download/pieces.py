"""What a transfer asks for: runs of missing pieces, one request each.

A piece is what the manifest has a digest of, and what is written once it is verified. A run is what one request asks
for: consecutive pieces of one file. Pieces are small, so that each is verified and written while the CPU's cache still
holds it, and little is held in memory; runs are large, so that there are few requests.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from modeldrop.fetcher.download.partial_file import PartialFile
    from modeldrop.fetcher.download.unfinished import UnfinishedPieces
    from modeldrop.format.manifest import File


_BLOCK = 8 << 20
_KEEP_SECONDS = 1.0  # a piece that takes longer is kept as far as it has come


class RemoteFile:
    """A file in the registry.

    Attributes:
        key: its key.
        file: what the manifest says of it.
        etag: the ETag that further requests demand, "" while none is known.
        changes: how often the registry said that it is another object now.
    """

    def __init__(self, key: str, file: File) -> None:
        self.key = key
        self.file = file
        self.etag = ""
        self.changes = 0


class Run:
    """Consecutive pieces of one file, and how much of them has come.

    Args:
        remote: where they come from.
        partial: where they go.
        pieces: their indices.
        unfinished: where the beginning of the first piece may be, and what comes slowly is kept.
        refused: digests of what came for a single piece before, and was not it.

    Attributes:
        resumed: how many bytes of the present piece an earlier transfer had left.
    """

    resumed: int
    _wanted: int
    _filled: int
    _kept: int
    _kept_chunks: int

    def __init__(
        self,
        remote: RemoteFile,
        partial: PartialFile,
        pieces: range,
        unfinished: UnfinishedPieces,
        *,
        refused: Sequence[str] = (),
    ) -> None:
        self.remote = remote
        self.partial = partial
        self.refused = tuple(refused)
        self._pieces = pieces
        self._index = pieces.start
        self._chunks: list[memoryview] = []
        self._memory = memoryview(b"")
        self._unfinished = unfinished
        self._begin()
        head = unfinished.take(remote.file.pieces[self._index], self._wanted - 1)
        if head:
            self._add(memoryview(head))
            self.resumed = self._kept = len(head)
            self._kept_chunks = 1

    @property
    def start(self) -> int:
        """Where in the file the first byte belongs that has not come."""
        return self.partial.start(self._index) + self._filled

    @property
    def left(self) -> int:
        """Bytes that have not come."""
        if not self._wanted:
            return 0
        last = self._pieces.stop - 1
        return self.partial.start(last) + self.partial.length(last) - self.start

    def room(self, length: int) -> memoryview:
        """Where the next bytes of the present piece may be put, at most so many: each has its own place there."""
        if not self._memory:
            self._memory = memoryview(bytearray(self.partial.length(self._pieces.start)))
        return self._memory[self._filled : min(self._filled + length, self._wanted)]

    def receive(self, data: memoryview, complete: Callable[[Run, int, list[memoryview], str], None]) -> int:
        """Add bytes that have come, and return how many; what is beyond the run is dropped.

        Args:
            data: the bytes.
            complete: called with each piece that they complete: this run, the piece's index, its bytes in their
                order, which are let go afterwards, and their digest.
        """
        before = len(data)
        while data and self._wanted:
            part = data[: self._wanted - self._filled]
            data = data[len(part) :]
            self._add(part)
            if self._filled == self._wanted:
                index = self._index
                if self._kept:  # first, so that both together never take more room than the piece
                    self._unfinished.forget(self.remote.file.pieces[index])
                self._index += 1
                complete(self, index, self._chunks, self._digest.hexdigest())
                self._begin()
        if self._filled and time.monotonic() - self._since > _KEEP_SECONDS:
            self.keep()
        return before - len(data)

    def keep(self) -> None:
        """Keep what has come of the present piece for a later transfer, should this one be killed."""
        if self._filled > self._kept:
            new = self._chunks[self._kept_chunks :]
            self._unfinished.add(self.remote.file.pieces[self._index], self._kept, new)
            self._kept, self._kept_chunks, self._since = self._filled, len(self._chunks), time.monotonic()

    def retry(self, index: int, found: str) -> Run:
        """A run of one piece that did not have its digest, but ``found``."""
        refused = (*self.refused, found)
        return Run(self.remote, self.partial, range(index, index + 1), self._unfinished, refused=refused)

    def _add(self, part: memoryview) -> None:
        self._digest.update(part)
        self._chunks.append(part)
        self._filled += len(part)

    def _begin(self) -> None:
        """Begin with the next piece; after the last one, 0 bytes are wanted."""
        self._filled = self._kept = self._kept_chunks = self.resumed = 0
        self._since = time.monotonic()
        self._wanted = self.partial.length(self._index) if self._index < self._pieces.stop else 0
        self._chunks.clear()  # at once: memory that was just used is the fastest there is
        self._digest = blake3()


class Queue:
    """Hands out runs, to many threads, in the order of the files; they become shorter, so that all end together.

    Args:
        partial_files: files that lack pieces.
        key: gives the key of a file in the registry by its path here.
        unfinished: what is there of pieces that are not complete; a run begins with each.
        minimum: bytes of a run at least, as long as so many consecutive ones are missing.
    """

    def __init__(
        self,
        partial_files: Sequence[PartialFile],
        key: Callable[[str], str],
        unfinished: UnfinishedPieces,
        minimum: int,
    ) -> None:
        self._minimum = minimum
        self._unfinished = unfinished
        self._spans = deque(
            (RemoteFile(key(partial.file.path), partial.file), partial, span)
            for partial in partial_files
            for span in _spans(
                partial.missing, {index for index in partial.missing if unfinished.has(partial.file.pieces[index])}
            )
        )
        self._retries: list[Run] = []
        self._lock = Lock()
        self.left = sum(partial.length(index) for partial in partial_files for index in partial.missing)
        """Bytes that were not handed out yet."""

    def next_run(self, share: int, maximum: int, minimum: int = 0) -> Run | None:
        """The next run; None when all is handed out.

        Args:
            share: it has this part of what is left: 6 for a sixth.
            maximum: bytes of the run at most; but never less than a piece.
            minimum: bytes of it at least, if that is more than the queue's own.
        """
        with self._lock:
            if self._retries:
                return self._retries.pop()
            if not self._spans:
                return None
            remote, partial, span = self._spans.popleft()
            wanted = min(max(self.left // share, self._minimum, minimum), maximum)
            run = span[: _aligned(span.start, wanted, partial.length(span.start))]
            if len(span) > len(run):
                self._spans.appendleft((remote, partial, span[len(run) :]))
            self.left -= sum(map(partial.length, run))
            return Run(remote, partial, run, self._unfinished)

    @property
    def has_retries(self) -> bool:
        """Whether a run waits to be handed out once more."""
        return bool(self._retries)

    def retry(self, run: Run) -> None:
        """Hand out a run once more, before all others."""
        with self._lock:
            self._retries.append(run)


def _aligned(start: int, wanted: int, size: int) -> int:
    """How many pieces of ``size`` bytes a run from piece ``start`` gets: fewer, if it then ends where a block does.

    Services keep objects in blocks; to read a part of one costs some of them as much as to read all of it.
    """
    count = -(-wanted // size)
    less = (start + count) % max(1, _BLOCK // size)
    return count - less if less <= count // 2 else count


def _spans(indices: Sequence[int], first: Collection[int]) -> Iterator[range]:
    """Ranges without a gap, of rising numbers; those in ``first`` are each the first of one."""
    ends = [at for at, (one, other) in enumerate(pairwise(indices), 1) if other != one + 1 or other in first]
    for start, stop in pairwise([0, *ends, len(indices)]):
        yield range(indices[start], indices[stop - 1] + 1)
