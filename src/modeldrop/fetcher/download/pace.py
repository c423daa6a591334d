"""How fast the line is, and what follows from that: how many connections, how long a request, what is handed over.

Many connections and long requests are right for a fast line. On a slow one every connection would have a piece that
grows too slowly to be finished before somebody loses patience, and a request would be cut by its time limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.fetcher.download.cpu_wait import waited

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.fetcher.download.transfer import Limits

_CHUNK_SECONDS = 0.25
_REQUEST_SECONDS = 8.0  # well below the time limit of a request
_KNOWN_BYTES, _KNOWN_SECONDS = 64 << 10, 1.0
_SHORTEST = 16 << 10
_THIN = 1e6
_THIN_SECONDS = 2.0
_WORTH_IT = 1.3
_LEAST = 16e3
_SHORT_SECONDS = 0.1
_WAITED = 0.3  # of the time of a connection
_TRIAL_SECONDS = 0.4
_PAUSE = 2.0


class Pace:
    """How fast one connection is.

    Args:
        limits: of the transfer.
        rate: bytes a second, as far as is known before its first request; 0 for unknown.

    Attributes:
        chunk: bytes that are collected before Python sees them: a quarter of a second's, so that little is lost with
            a connection, or with this process.
    """

    def __init__(self, limits: Limits, rate: float = 0.0) -> None:
        self._limits = limits
        self._rate = rate
        self.chunk = self._chunk() if rate else min(limits.first_chunk, limits.chunk)

    def length(self, left: int) -> int:
        """How many of the bytes that are left the next request should ask for."""
        return min(left, max(_SHORTEST, int(self._rate * _REQUEST_SECONDS))) if self._rate else left

    def shortest(self) -> int:
        """Bytes that a request should ask for at least: shorter ones cost more than ending together is worth."""
        return max(self._limits.min_request, min(self._limits.short_request, int(self._rate * _SHORT_SECONDS)))

    def note(self, count: int, seconds: float) -> None:
        """So many bytes came with one request, in so many seconds."""
        rate = count / max(seconds, 1e-9)
        # A short answer says little, but that the line is faster than was known.
        enough = count >= (_KNOWN_BYTES if seconds < _KNOWN_SECONDS else self._limits.min_chunk)
        if enough or 0 < self._rate < rate:
            self._rate = rate
            self.chunk = self._chunk()

    def stalled(self) -> None:
        """Nothing was handed over before the request took too long."""
        self.chunk = max(self._limits.min_chunk, self.chunk // 8)

    def _chunk(self) -> int:
        return max(self._limits.min_chunk, min(self._limits.chunk, int(self._rate * _CHUNK_SECONDS)))


class Growth:
    """Whether more connections would bring more.

    Over a thin line there are twice as many each time that this has helped, not at once as many as there may be.

    Args:
        limits: of the transfer.
        now: when it begins, in seconds.
        waited: tells for how many seconds threads have waited for a processor.

    Attributes:
        rate: bytes a second since more connections were tried last.
    """

    def __init__(self, limits: Limits, now: float, waited: Callable[[], float] = waited) -> None:
        self._waited = waited
        self._limits = limits
        self._at = now
        self._fetched = 0
        self._best = 0.0
        self.rate = 0.0
        self._trial: tuple[int, float, float] | None = None
        self._again = 0.0
        self._looked: tuple[float, float] | None = None
        self._pause = _PAUSE

    def look(self, connections: int, fetched: int, now: float, *, rate: float, slow: bool) -> int | None:
        """How many connections there should be from now on, None for no change: more where they are slow.

        But not where they are because their threads wait for a processor: more would only share it. And as few as
        before where more did not help: a service may be busy with the requests that it has.

        Args:
            connections: how many there are.
            fetched: bytes that have come since the beginning.
            now: in seconds.
            rate: bytes a second, lately.
            slow: whether that is little for so many.
        """
        if self._trial is not None:
            before, enough, since = self._trial
            if now - since < _TRIAL_SECONDS:
                return None
            self._trial = None
            if rate < enough:
                self._again, self._pause = now + self._pause, 2 * self._pause
                return before
        looked, self._looked = self._looked, None
        if not slow or now < self._again:
            return None
        self._looked = now, self._waited()
        if looked is None or self._looked[1] - looked[1] > _WAITED * connections * (now - looked[0]):
            return None
        wanted = self.wanted(connections, fetched, now)
        if wanted > connections and self.rate > _THIN:
            self._trial = connections, rate * _WORTH_IT, now
        return wanted

    def wanted(self, connections: int, fetched: int, now: float) -> int:
        """How many connections there should be, where each alone is slow.

        Args:
            connections: how many there are.
            fetched: bytes that have come since the beginning.
            now: in seconds.
        """
        seconds = now - self._at
        self.rate = (fetched - self._fetched) / max(seconds, 1e-9)
        if self.rate > _THIN:
            return self._limits.connections
        if seconds < _THIN_SECONDS:
            return connections
        helps = self.rate > max(self._best * _WORTH_IT, 2 * connections * _LEAST)
        self._at, self._fetched, self._best = now, fetched, max(self._best, self.rate)
        return 2 * connections if helps else connections
