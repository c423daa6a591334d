"""How many bytes of a piece to write at a time: what was faster a moment ago, here.

Linux takes the memory for a file's pages in blocks as long as a write. Blocks of up to 32 KiB it has at hand for each
CPU; longer ones a virtual machine may have given back to its host, and then copying 1 GiB takes 2.8 s instead of 0.3.
But every write lets Python's other threads go on, and where one of them computes, waits 5 ms for its next turn: a
service that fetches in a thread is better off with few long writes.
"""

from __future__ import annotations

SHORT = 32 << 10
WHOLE = 1 << 40
"""As much as there is."""

_FIRST = 6  # pieces are written in both ways, in turn
_AGAIN = 128  # so many pieces later the slower way is tried once more
_WEIGHT = 0.3  # of the last piece against those before


class WriteSizes:
    """Chooses, for all files of a transfer. Several threads may ask at once.

    Args:
        in_memory: whether nothing is written to a disk. There all pages are short ones, and long writes are faster.
    """

    def __init__(self, *, in_memory: bool) -> None:
        self.in_memory = in_memory
        self._pieces = 0
        self._pace: dict[int, float] = {}

    def choose(self) -> int:
        """Bytes to write at a time of the next piece."""
        if self.in_memory:
            return WHOLE
        self._pieces += 1
        if self._pieces <= _FIRST or len(self._pace) < 2:
            return (SHORT, WHOLE)[self._pieces % 2]
        faster, slower = sorted(self._pace, key=self._pace.__getitem__)
        return faster if self._pieces % _AGAIN else slower

    def note(self, size: int, written: int, seconds: float) -> None:
        """Learn from a piece of ``written`` bytes, written ``size`` at a time in so many seconds."""
        if written > SHORT:
            pace = seconds / written
            self._pace[size] = pace + (1 - _WEIGHT) * (self._pace.get(size, pace) - pace)
