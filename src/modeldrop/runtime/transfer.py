"""Bringing files from a registry to a folder, every piece verified before it counts.

What a killed attempt left is adopted where it proves its digest. All other pieces are asked for in parts, over many
connections at once, collected in memory, verified, and written in place.
"""

from __future__ import annotations

import contextlib
import errno
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from blake3 import blake3
from obstore.exceptions import BaseError

from modeldrop.errors import IntegrityError, ModeldropError
from modeldrop.runtime.landing import Landing
from modeldrop.runtime.pieces import Part, Piece, Queue, Remote
from modeldrop.runtime.store_errors import Fault, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from modeldrop.format.manifest import File
    from modeldrop.runtime.deadline import Deadline
    from modeldrop.runtime.registry import RegistryReader


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is done at once, and how patient a transfer is. Bytes and seconds.

    Attributes:
        in_hand: bytes of all pieces in memory.
        first: requests at a time to begin with; on a fast line more would only cost time.
        connections: requests at a time at most.
        fast: bytes a second over one connection; while they bring less, their number is doubled.
        look: seconds between two looks at that.
        part: bytes that one request asks for at most.
        small_part: the same, once there are more connections than ``first``.
        chunk: bytes that are collected before Python sees them.
        least_chunk: the same, once a request took too long to bring ``chunk``.
        failures: of a part in a row without a byte in between, before the transfer gives up; stalls do not count.
        refusals: of a piece whose bytes were wrong, each time in another way.
        changes: of a file's ETag before it is not looked at any more.
        pause: after the first failure; doubled after each further one.
        busy_pause: the same where the service says that it is busy.
        longest_pause: the most that both grow to.
        linger: how long to wait, when it is given up, for threads that wait for the network.
        verifiers: threads that verify what is on disk.
        kept: files that are held open until the end at most.
    """

    in_hand: int = 96 << 20
    first: int = 4
    connections: int = 20
    fast: float = 80e6
    look: float = 0.05
    part: int = 8 << 20
    small_part: int = 4 << 20
    chunk: int = 256 << 10
    least_chunk: int = 4 << 10
    failures: int = 8
    refusals: int = 8
    changes: int = 3
    pause: float = 0.1
    busy_pause: float = 1.0
    longest_pause: float = 8.0
    linger: float = 0.5
    verifiers: int = 2
    kept: int = 100


LIMITS = Limits()
# After so many faults of these kinds there is no doubt: to ask more often would not help.
_CERTAIN = {Kind.FINAL: 1, Kind.BEYOND: 2, Kind.WHOLE: 3}
_ROUNDS = 10
_TICK = 1.0
_UNTOUCHED = "The snapshot in use is untouched. Publish the version again, or promote another one."


@dataclass(frozen=True, slots=True)
class Transferred:
    """What a transfer took.

    Attributes:
        fetched: bytes that came from the registry, those that came twice or in vain included.
        adopted: bytes that were on disk already and proved their digests.
        retries: requests that were made again.
    """

    fetched: int
    adopted: int
    retries: int


def transfer(
    reader: RegistryReader,
    prefix: str,
    files: Sequence[File],
    piece_size: int,
    into: Path,
    *,
    deadline: Deadline,
    progress: Callable[[int], None],
) -> Transferred:
    """Complete ``files``, found below the key ``prefix``, in the folder ``into``: verified, synced, mode 0444.

    Several processes may do so in the same folder at once. Syncing folders is left to the caller.

    Args:
        reader: the registry.
        prefix: such as ``embedder/v3``.
        files: what is wanted.
        piece_size: of the manifest, bytes.
        into: an existing folder; may hold some of it.
        deadline: of the whole command.
        progress: told bytes that are on disk, proven; called in this thread. The sum is that of the files' sizes.

    Raises:
        IntegrityError: a piece or a size is not what the manifest says, and asking again did not help.
        RegistryError: it cannot be read, or not in time.
        FileNotFoundError: ``into`` is gone: who finished it first renamed it.
        OSError: the disk is full, or cannot be written. What is proven is kept.
    """
    home = _identity(into)
    tally = _Tally(progress)
    wanted = list(files)
    for attempt in range(_ROUNDS):
        landings = _land(wanted, into, piece_size, deadline)
        for landing in landings:
            tally.proven(landing.file, landing.there)
            if not attempt:
                tally.adopted += landing.there

        def stand() -> None:
            if _identity(into) != home:
                raise FileNotFoundError(errno.ENOENT, "the folder was replaced", str(into))

        _Fetching(reader, prefix, landings, deadline, tally).run(stand)
        wanted = [landing.file for landing in landings if not landing.stands()]
        if not wanted:
            stand()
            return Transferred(tally.fetched, tally.adopted, tally.retries)
    raise OSError(f"Files in {into} are replaced again and again by other processes.")


class _Tally:
    """What was done so far. ``fetched`` and ``retries`` are counted by many threads, the rest by the caller's."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.adopted = 0
        self.fetched = 0
        self.retries = 0
        self._progress = progress
        self._told: dict[str, int] = {}
        self._lock = threading.Lock()

    def proven(self, file: File, total: int) -> None:
        """Note that so many bytes of a file are proven; tell what was not told before."""
        news = total - self._told.get(file.path, 0)
        if news > 0:  # a file that was replaced by another process is looked at again, and told once
            self._told[file.path] = total
            self._progress(news)

    def count(self, *, fetched: int = 0, retries: int = 0) -> None:
        with self._lock:
            self.fetched += fetched
            self.retries += retries


class _StoppedError(Exception):
    """The transfer was given up; nobody waits for this thread's work."""


class _WrongSizeError(Exception):
    """The object has another size than the manifest says."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _Fetching:
    """Threads that bring all missing pieces; they stop when the first one fails, or the caller does."""

    def __init__(
        self, reader: RegistryReader, prefix: str, landings: Sequence[Landing], deadline: Deadline, tally: _Tally
    ) -> None:
        self._reader = reader
        self._deadline = deadline
        self._tally = tally
        self._landings = [landing for landing in landings if landing.missing]
        self._queue = Queue(_pieces(prefix, self._landings), LIMITS.part, LIMITS.in_hand)
        self._events: SimpleQueue[tuple[Landing, int] | BaseException | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._trouble: ModeldropError | None = None
        self._threads: list[threading.Thread] = []
        self._most = 0
        self._small_part = min(LIMITS.part, LIMITS.small_part)
        self._growing = threading.Lock()

    def run(self, stand: Callable[[], None]) -> None:
        """Fetch; ``stand`` is asked now and then whether the folder is still there, and raises what it says."""
        lengths = [landing.length(index) for landing in self._landings for index in landing.missing]
        parts = sum(-(-length // self._small_part) for length in lengths)
        self._most = min(LIMITS.connections, parts)
        try:
            self._grow(LIMITS.first)
            self._watch(stand)
        finally:
            self._stopped.set()
            self._queue.close()
            end = time.monotonic() + LIMITS.linger
            with self._growing:
                threads = list(self._threads)
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))

    def _grow(self, count: int) -> None:
        """Work with so many more connections, if there may be more."""
        with self._growing:
            for _ in range(min(count, self._most - len(self._threads))):
                if self._stopped.is_set():
                    return
                thread = threading.Thread(target=self._work, name="modeldrop-transfer", daemon=True)
                thread.start()
                self._threads.append(thread)

    def _watch(self, stand: Callable[[], None]) -> None:
        done = {id(landing): landing.there for landing in self._landings}
        looked = measured = time.monotonic()
        fetched = ended = 0
        while ended < len(self._threads):
            growing = len(self._threads) < self._most
            with contextlib.suppress(Empty):
                event = self._events.get(timeout=min(LIMITS.look if growing else _TICK, self._deadline.left()))
                if event is None:
                    ended += 1
                elif isinstance(event, BaseException):
                    raise event
                else:
                    landing, length = event
                    done[id(landing)] += length
                    self._tally.proven(landing.file, done[id(landing)])
            self._check_time(done)
            seconds = time.monotonic() - measured
            if growing and seconds > LIMITS.look:
                if self._tally.fetched - fetched < seconds * LIMITS.fast * len(self._threads):
                    self._queue.part_size = self._small_part
                    self._grow(len(self._threads))
                measured, fetched = time.monotonic(), self._tally.fetched
            if time.monotonic() > looked + _TICK:
                stand()
                looked = time.monotonic()

    def _check_time(self, done: dict[int, int]) -> None:
        if self._deadline.left():
            return
        total = sum(landing.file.size for landing in self._landings)
        trouble = f" (last trouble: {self._trouble.message})" if self._trouble else ""
        self._deadline.check(
            f"{(total - sum(done.values())) / 1e6:.1f} of {total / 1e6:.1f} MB from {self._reader.url}{trouble}"
        )

    def _work(self) -> None:
        try:
            while (part := self._queue.take()) is not None:
                self._fill(part)
                if self._queue.landed(part):
                    self._land(part.piece)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001  the caller's thread raises it
            self._events.put(error)
        finally:
            self._events.put(None)

    def _land(self, piece: Piece) -> None:
        """Verify a piece and write it; or ask for it again."""
        found = blake3(piece.buffer).hexdigest()
        if found == piece.digest:
            piece.landing.write(piece.buffer, piece.start)
            self._queue.done(piece)
            self._events.put((piece.landing, piece.length))
            return
        if found in piece.refused or len(piece.refused) >= LIMITS.refusals:
            raise IntegrityError(
                f"{self._reader.url}/{piece.remote.key} is damaged: bytes {piece.start} to "
                f"{piece.start + piece.length} are not those of the manifest.",
                _UNTOUCHED,
            )
        piece.refused.append(found)
        piece.remote.etag = ""
        self._tally.count(retries=1)
        self._queue.again(piece)

    def _fill(self, part: Part) -> None:
        """Bring a part, however often the line breaks, going on where it broke."""
        remote = part.piece.remote
        chunk, failures = LIMITS.chunk, 0
        seen = Counter[Kind]()
        while True:
            before, bound = part.filled, remote.etag
            fault = self._ask(part, bound, chunk)
            brought = part.filled - before
            self._tally.count(fetched=brought)
            if fault is None:
                return
            self._tally.count(retries=1)
            self._trouble = fault.error
            seen[fault.kind] += 1
            if fault.kind in _CERTAIN and seen[fault.kind] >= _CERTAIN[fault.kind]:
                raise fault.error
            failures = 0 if brought else failures
            if fault.kind is Kind.STALLED:
                chunk = chunk if brought else max(LIMITS.least_chunk, chunk // 8)
            elif fault.kind is Kind.CHANGED and bound:
                if remote.etag == bound:  # or another thread has found out
                    remote.changes, remote.etag = remote.changes + 1, ""
            else:
                failures += 1
                if failures >= LIMITS.failures:
                    raise fault.error
                first = LIMITS.busy_pause if fault.kind is Kind.BUSY else LIMITS.pause
                pause = min(LIMITS.longest_pause, first * 2 ** (failures - 1))
                self._stopped.wait(pause * random.uniform(0.5, 1))  # noqa: S311  not for secrets

    def _ask(self, part: Part, bound: str, chunk: int) -> Fault | None:
        """One request for what a part lacks; what went wrong, None if nothing did."""
        remote = part.piece.remote
        where = f"{self._reader.url}/{remote.key}"
        try:
            self._receive(part, bound, chunk)
        except _WrongSizeError as error:
            said = f"it has {error.size} bytes, not the {remote.file.size} of the manifest."
            return Fault(Kind.BEYOND, IntegrityError(f"{where} is damaged: {said}", _UNTOUCHED))
        except (OSError, BaseError) as error:
            fault = self._reader.fault(remote.key, error)
            if fault.kind is Kind.BEYOND:
                said = f"it ends before the {remote.file.size} bytes of the manifest."
                return Fault(Kind.BEYOND, IntegrityError(f"{where} is damaged: {said}", _UNTOUCHED))
            return fault
        return None if part.filled == part.length else Fault(Kind.BROKEN, self._reader.ended_early(remote.key))

    def _receive(self, part: Part, bound: str, chunk: int) -> None:
        """One request for what a part lacks."""
        if self._stopped.is_set():
            raise _StoppedError
        piece, remote = part.piece, part.piece.remote
        start = piece.start + part.offset + part.filled
        left = part.length - part.filled
        # A whole file is asked for without a range: that works wherever anything works.
        stream = self._reader.stream(remote.key, start, None if left == remote.file.size else left, bound, chunk)
        if stream.size != remote.file.size:
            raise _WrongSizeError(stream.size)
        if stream.etag and not remote.etag and remote.changes < LIMITS.changes:
            remote.etag = stream.etag
        for data in stream.chunks:
            if self._stopped.is_set():
                raise _StoppedError
            at = part.offset + part.filled
            fits = min(len(data), part.length - part.filled)
            piece.buffer[at : at + fits] = data if fits == len(data) else data[:fits]
            part.filled += fits


def _land(files: Sequence[File], into: Path, piece_size: int, deadline: Deadline) -> list[Landing]:
    """Find or make all files, and verify what is there."""
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise _StoppedError
        deadline.check(f"files in {into} to be verified")

    with ThreadPoolExecutor(LIMITS.verifiers, "modeldrop-verify") as pool:
        keep = len(files) <= LIMITS.kept
        jobs = [pool.submit(Landing, into, file, piece_size, check, keep=keep) for file in files]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _pieces(prefix: str, landings: Sequence[Landing]) -> Iterator[Piece]:
    for landing in landings:
        remote = Remote(f"{prefix}/{landing.file.path}", landing.file)
        for index in landing.missing:
            yield Piece(remote, landing, landing.start(index), landing.length(index), landing.file.pieces[index])


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
