"""Bringing files from a registry to a folder, every piece verified before it counts.

What a killed attempt left is adopted where it proves its digest. The other pieces are asked for in runs, over several
connections at once, verified as they come, and written in place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import Counter
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError

from modeldrop.errors import IntegrityError, ModeldropError
from modeldrop.fetcher.download.filesystems import is_in_memory
from modeldrop.fetcher.download.partial_file import Landing
from modeldrop.fetcher.download.pieces import Queue, Run
from modeldrop.fetcher.download.write_sizes import WriteSizes
from modeldrop.storage.read.obstore_errors import Fault, FaultKind
from modeldrop.util.files import identity
from modeldrop.util.retry import backoff, jittered
from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from modeldrop.format.manifest import File
    from modeldrop.storage.read.reader import RegistryReader
    from modeldrop.util.retry import Deadline


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is done at once, and how patient a transfer is. Bytes and seconds.

    Attributes:
        in_hand: bytes in memory; there are only so many connections that a piece of each fits.
        first: requests at a time to begin with; on a fast line more would only cost time.
        connections: requests at a time at most.
        fast: bytes a second over one connection, while it does not wait for the disk; where they bring less, there are
            as many as there may be.
        look: seconds between two looks at that, and at what has come.
        most: bytes that one request asks for at most,
        least: at least, where so many are missing in a row.
        shares: requests that a connection would still make for its part of what is left: so they become shorter
            towards the end, and all connections end together.
        slow_most: as ``most``, where connections are slow and many.
        slow_shares: as ``shares`` there, where the last one would be waited for longer.
        chunk: bytes that are collected before Python sees them.
        least_chunk: the same, once a request took too long to bring ``chunk``.
        failures: of a run in a row without a byte in between, before the transfer gives up; stalls do not count.
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
    first: int = 3
    connections: int = 20
    fast: float = 80e6
    look: float = 0.03
    most: int = 32 << 20
    least: int = 1 << 20
    shares: int = 2
    slow_most: int = 8 << 20
    slow_shares: int = 4
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
_CERTAIN = {FaultKind.FINAL: 1, FaultKind.PAST_END: 2, FaultKind.NO_RANGES: 3}
_ROUNDS = 10
_STAND = 1.0
# glibc gives freed memory back, to clear it page by page when it is wanted again, unless the process has once freed a
# block as large as this; asking for it costs nothing, as nobody touches it.
_REUSED = 24 << 20
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
    home = identity(into)
    tally = _Tally(progress)
    wanted = list(files)
    for attempt in range(_ROUNDS):
        landings = _land(wanted, into, piece_size, deadline)
        for landing in landings:
            tally.proven(landing.file, landing.there)
            if not attempt:
                tally.adopted += landing.there

        def stand() -> None:
            if identity(into) != home:
                raise FileNotFoundError(errno.ENOENT, "the folder was replaced", str(into))

        _Fetching(reader, prefix, landings, piece_size, deadline, tally).run(stand)
        wanted = [landing.file for landing in landings if not landing.stands()]
        if not wanted:
            stand()
            return Transferred(tally.fetched, tally.adopted, tally.retries)
    raise OSError(f"Files in {into} are replaced again and again by other processes.")


class _Tally:
    """What was done so far. What is counted and what has landed is told by many threads, the rest by the caller's."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.adopted = 0
        self.fetched = 0
        self.retries = 0
        self.writing = 0.0
        self._progress = progress
        self._told: dict[str, int] = {}
        self._landed = Counter[str]()
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

    def landed(self, file: File, length: int, seconds: float) -> None:
        """Note that so many bytes more of a file are on disk, proven, and how long a thread was busy with that."""
        with self._lock:
            self._landed[file.path] += length
            self.writing += seconds

    def take_landed(self) -> Counter[str]:
        """Bytes that have landed since this was asked last, by path."""
        with self._lock:
            taken, self._landed = self._landed, Counter()
        return taken


class _StoppedError(Exception):
    """The transfer was given up; nobody waits for this thread's work."""


class _DiskFailedError(Exception):
    """This disk cannot be written: nothing that asking again would mend."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class _WrongSizeError(Exception):
    """The object has another size than the manifest says."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _Fetching:
    """Threads that bring all missing pieces; they stop when the first one fails, or the caller does."""

    def __init__(
        self,
        reader: RegistryReader,
        prefix: str,
        landings: Sequence[Landing],
        piece_size: int,
        deadline: Deadline,
        tally: _Tally,
    ) -> None:
        self._reader = reader
        self._deadline = deadline
        self._tally = tally
        self._landings = [landing for landing in landings if landing.missing]
        self._queue = Queue(prefix, self._landings, LIMITS.least)
        self._most = min(LIMITS.connections, max(1, LIMITS.in_hand // piece_size))
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._trouble: ModeldropError | None = None
        self._threads: list[threading.Thread] = []
        self._workers = 0
        self._request, self._shares = LIMITS.most, LIMITS.shares

    def run(self, stand: Callable[[], None]) -> None:
        """Fetch; ``stand`` is asked now and then whether the folder is still there, and raises what it says."""
        bytes(_REUSED)
        try:
            self._grow(LIMITS.first)
            self._watch(stand)
        finally:
            self._stopped.set()
            end = time.monotonic() + LIMITS.linger
            for thread in self._threads:
                thread.join(max(0.0, end - time.monotonic()))

    def _grow(self, most: int) -> None:
        """Work with so many connections, if there is work for them."""
        smallest = max(1, min(self._queue.left, LIMITS.least))
        wanted = min(most, self._most, len(self._threads) + -(-self._queue.left // smallest))
        self._workers = max(self._workers, wanted)  # before they take their first runs, whose length this decides
        while len(self._threads) < wanted:
            thread = threading.Thread(target=self._work, name="modeldrop-transfer", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _watch(self, stand: Callable[[], None]) -> None:
        files = {landing.file.path: landing for landing in self._landings}
        done = {path: landing.there for path, landing in files.items()}
        stood = looked = time.monotonic()
        fetched = ended = 0
        writing = 0.0
        while ended < len(self._threads):
            with contextlib.suppress(Empty):
                error = self._ended.get(timeout=min(LIMITS.look, self._deadline.left()))
                if error is not None:
                    raise error
                ended += 1
            for path, length in self._tally.take_landed().items():
                done[path] += length
                self._tally.proven(files[path].file, done[path])
            self._check_time(done)
            if not self._tally.fetched:  # nothing is known of the line before it has brought something
                looked = time.monotonic()
            seconds = time.monotonic() - looked
            if seconds >= LIMITS.look:
                # More connections help against a slow line, and not against a slow disk.
                asking = seconds * len(self._threads) - (self._tally.writing - writing)
                if self._tally.fetched - fetched < asking * LIMITS.fast:
                    self._request, self._shares = min(LIMITS.slow_most, LIMITS.most), LIMITS.slow_shares
                    self._grow(LIMITS.connections)
                looked, fetched, writing = time.monotonic(), self._tally.fetched, self._tally.writing
            if time.monotonic() > stood + _STAND:
                stand()
                stood = time.monotonic()

    def _check_time(self, done: dict[str, int]) -> None:
        if self._deadline.left():
            return
        total = sum(landing.file.size for landing in self._landings)
        trouble = f" (last trouble: {self._trouble.message})" if self._trouble else ""
        self._deadline.check(
            f"{(total - sum(done.values())) / 1e6:.1f} of {total / 1e6:.1f} MB from {self._reader.url}{trouble}"
        )

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                run = self._queue.take(self._workers * self._shares, self._request)
                if run is None:
                    return
                self._fill(run)
        except _StoppedError:
            pass
        except _DiskFailedError as failed:
            self._ended.put(failed.error)
        except BaseException as error:  # noqa: BLE001  the caller's thread raises it
            self._ended.put(error)
        finally:
            self._ended.put(None)

    def _land(self, run: Run, index: int, chunks: list[memoryview], found: str) -> None:
        """Write a piece if it is what it should be; or ask for it again."""
        landing, remote = run.landing, run.remote
        start, length = landing.start(index), landing.length(index)
        if found == remote.file.pieces[index]:
            began = time.monotonic()
            try:
                landing.write(chunks, start)
            except OSError as error:
                raise _DiskFailedError(error) from error
            self._tally.landed(remote.file, length, time.monotonic() - began)
            return
        if found in run.refused or len(run.refused) >= LIMITS.refusals:
            raise IntegrityError(
                f"{self._reader.url}/{remote.key} is damaged: bytes {start} to {start + length} are not those of the "
                "manifest.",
                _UNTOUCHED,
            )
        remote.etag = ""
        self._tally.count(retries=1)
        self._queue.again(run.again(index, found))

    def _fill(self, run: Run) -> None:
        """Bring a run, however often the line breaks, going on where it broke."""
        remote = run.remote
        chunk, failures = LIMITS.chunk, 0
        seen = Counter[FaultKind]()
        while run.left:
            before, bound = run.left, remote.etag
            fault = self._ask(run, bound, chunk)
            if fault is None:
                return
            brought = before - run.left
            self._tally.count(retries=1)
            self._trouble = fault.error
            seen[fault.kind] += 1
            if fault.kind in _CERTAIN and seen[fault.kind] >= _CERTAIN[fault.kind]:
                raise fault.error
            failures = 0 if brought else failures
            if fault.kind is FaultKind.STALLED:
                chunk = chunk if brought else max(LIMITS.least_chunk, chunk // 8)
            elif fault.kind is FaultKind.CHANGED and bound:
                if remote.etag == bound:  # or another thread has found out
                    remote.changes, remote.etag = remote.changes + 1, ""
            else:
                failures += 1
                if failures >= LIMITS.failures:
                    raise fault.error
                first = LIMITS.busy_pause if fault.kind is FaultKind.BUSY else LIMITS.pause
                self._stopped.wait(jittered(backoff(failures, first, LIMITS.longest_pause)))

    def _ask(self, run: Run, bound: str, chunk: int) -> Fault | None:
        """One request for what a run lacks; what went wrong, None if nothing did."""
        remote = run.remote
        where = f"{self._reader.url}/{remote.key}"
        try:
            self._receive(run, bound, chunk)
        except _WrongSizeError as error:
            said = f"it has {error.size} bytes, not the {remote.file.size} of the manifest."
            return Fault(FaultKind.PAST_END, IntegrityError(f"{where} is damaged: {said}", _UNTOUCHED))
        except (OSError, BaseError) as error:
            fault = self._reader.fault(remote.key, error)
            if fault.kind is FaultKind.PAST_END:
                said = f"it ends before the {remote.file.size} bytes of the manifest."
                return Fault(FaultKind.PAST_END, IntegrityError(f"{where} is damaged: {said}", _UNTOUCHED))
            return fault
        return None if not run.left else Fault(FaultKind.OTHER, self._reader.ended_early(remote.key))

    def _receive(self, run: Run, bound: str, chunk: int) -> None:
        """One request for what a run lacks."""
        if self._stopped.is_set():
            raise _StoppedError
        remote, left = run.remote, run.left
        # A whole file is asked for without a range: that works wherever anything works.
        length = None if left == remote.file.size else left
        stream = self._reader.stream(remote.key, run.start, length, bound, chunk)
        if stream.size != remote.file.size:
            raise _WrongSizeError(stream.size)
        if stream.etag and not remote.etag and remote.changes < LIMITS.changes:
            remote.etag = stream.etag
        for data in stream.chunks:
            if self._stopped.is_set():
                raise _StoppedError
            self._tally.count(fetched=run.take(memoryview(data), self._land))


def _land(files: Sequence[File], into: Path, piece_size: int, deadline: Deadline) -> list[Landing]:
    """Find or make all files, and verify what is there."""
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise _StoppedError
        deadline.check(f"files in {into} to be verified")

    keep, sizes = len(files) <= LIMITS.kept, WriteSizes(in_memory=is_in_memory(into))
    with os.scandir(into) as entries:
        empty = next(entries, None) is None
    if empty:
        return [Landing(into, file, piece_size, check, sizes, keep=keep) for file in files]
    from concurrent.futures import ThreadPoolExecutor  # it takes as long to import as ten small files to fetch

    with ThreadPoolExecutor(LIMITS.verifiers, "modeldrop-verify") as pool:
        jobs = [pool.submit(Landing, into, file, piece_size, check, sizes, keep=keep) for file in files]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
