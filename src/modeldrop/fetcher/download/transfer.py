"""Bringing files from a registry to a folder, every piece verified before it counts.

1. Every file is found or made in its full size, and what a killed attempt has left there is verified piece by piece.
2. What is missing is handed out as runs (see ``pieces``) to a few threads, each with one connection. A thread asks for
   its run, hashes the bytes as they come, and writes each piece that has its digest to its place; a piece that has not
   is asked for again. Where a connection breaks, the run goes on behind the last byte that came; where this process
   does, behind what was kept of the pieces that came slowly (``unfinished``).
3. The caller's thread watches: it reports progress, keeps the deadline, adds threads where a connection alone is slow
   and more would bring more (``pace``), and stops all of them at the first error that asking again cannot fix.
4. When all pieces are there, each name must still mean the file that was filled. Another process may have replaced it;
   such files are done again, from step 1.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter, deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from modeldrop.errors import IntegrityError, ModeldropError
from modeldrop.fetcher.download.pace import Growth, Pace
from modeldrop.fetcher.download.partial_file import PartialFile
from modeldrop.fetcher.download.pieces import Queue, Run
from modeldrop.fetcher.download.unfinished import UnfinishedPieces
from modeldrop.fetcher.snapshot import TransferStats
from modeldrop.storage.read.interface import Fault, FaultKind
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.retry import backoff, jittered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from modeldrop.format.manifest import File
    from modeldrop.storage.read.interface import RegistryReader
    from modeldrop.util.retry import Deadline


class Limits(NamedTuple):
    """How much is done at once, and how patient a transfer is. Bytes and seconds.

    Attributes:
        memory: bytes in memory; there are only so many connections that a piece of each fits.
        first: connections to begin with; on a fast line more would only cost time.
        connections: connections at most.
        fast: bytes a second over one connection, while it does not wait for the disk; where they bring less, there are
            as many as there may be.
        interval: seconds between two looks at that, and at what has come.
        window: seconds of which such a look takes the mean.
        max_request: bytes that one request asks for at most,
        min_request: at least, where so many are missing in a row,
        short_request: and at least where a connection brings so many in a tenth of a second.
        shares: requests that a connection would still make for its part of what is left: so they become shorter
            towards the end, and all connections end together.
        slow_max_request: as ``max_request``, where connections are slow and many.
        slow_shares: as ``shares`` there, where the last one would be waited for longer.
        chunk: bytes that are collected before Python sees them, at most,
        first_chunk: before it is known how fast a connection is,
        min_chunk: and at least.
        slow_chunk: seconds; where a chunk takes longer, smaller ones are asked for.
        failures: of a run in a row without a byte in between, before the transfer gives up; stalls do not count.
        quiet: seconds without a byte for which it goes on even so, where the error says that asking again may help.
        refusals: of a piece whose bytes were wrong, each time in another way.
        changes: of a file's ETag before it is not looked at any more.
        pause: after the first failure; doubled after each further one.
        busy_pause: the same where the service says that it is busy.
        max_pause: the most that both grow to.
        stop_seconds: how long to wait, when it is given up, for threads that wait for the network.
        verifiers: threads that verify what is on disk.
        max_open: files that are held open until the end at most.
    """

    memory: int = 96 << 20
    first: int = 3
    connections: int = 20
    fast: float = 80e6
    interval: float = 0.03
    window: float = 0.3
    max_request: int = 32 << 20
    min_request: int = 1 << 20
    short_request: int = 8 << 20
    shares: int = 2
    slow_max_request: int = 8 << 20
    slow_shares: int = 4
    chunk: int = 256 << 10
    first_chunk: int = 64 << 10
    min_chunk: int = 4 << 10
    slow_chunk: float = 2.0
    failures: int = 8
    quiet: float = 120.0
    refusals: int = 8
    changes: int = 3
    pause: float = 0.1
    busy_pause: float = 0.5
    max_pause: float = 2.0
    stop_seconds: float = 0.5
    verifiers: int = 2
    max_open: int = 100


LIMITS = Limits()
# After so many faults of these kinds there is no doubt: to ask more often would not help.
_CERTAIN = {FaultKind.FINAL: 1, FaultKind.PAST_END: 2, FaultKind.NO_RANGES: 3}
_ROUNDS = 10
_ASK_WHEN = 2  # failures of a run in a row after which a busy service is asked, once, for how long it is
_FOLDER_SECONDS = 1.0
_UNTOUCHED = "The snapshot in use is untouched. Publish the version again, or promote another one."


def transfer(  # noqa: PLR0913  by name
    reader: RegistryReader,
    prefix: str,
    files: Sequence[File],
    piece_size: int,
    into: Path,
    *,
    deadline: Deadline,
    progress: Callable[[int], None],
    published: Mapping[str, str] | None = None,
    unfinished: Path | str = "",
    spend: Callable[[TransferStats], object] = lambda _: None,
) -> TransferStats:
    """Complete ``files``, found below the key ``prefix``, in the folder ``into``: verified, synced, mode 0444.

    Several processes may do so in the same folder at once. Syncing folders is left to the caller.

    Args:
        reader: the registry.
        prefix: such as ``embedder/v3``.
        files: what is wanted.
        piece_size: of the manifest, bytes.
        into: an existing folder; may hold some of it.
        deadline: of the whole command.
        progress: told bytes that are there, as they come, and negative ones for those that were refused; called in this
            thread. The sum is that of the files' sizes.
        published: path of a file here to its path in the version, where they differ.
        unfinished: an existing folder for what has come of unfinished pieces; "" keeps nothing of them.
        spend: told once, at the end, what came and how often it was asked again, also where that was in vain.

    Returns:
        What came from the registry, and what was adopted.

    Raises:
        IntegrityError: a piece or a size is not what the manifest says, and asking again did not help.
        RegistryError: it cannot be read, or not in time.
        FileNotFoundError: ``into`` is gone: who finished it first renamed it.
        OSError: the disk is full, or cannot be written. What has come is kept.
    """
    counters = _Counters(progress)
    wanted = list(files)
    adopted = 0

    def key(path: str) -> str:
        return f"{prefix}/{(published or {}).get(path, path)}"

    def check_folder() -> None:
        into.stat()

    try:
        for attempt in range(_ROUNDS):
            partial_files = _open_files(wanted, into, piece_size, deadline)
            for partial in partial_files:
                counters.report(partial.file, partial.verified_bytes)
                adopted += partial.verified_bytes if not attempt else 0
            incomplete = [partial for partial in partial_files if partial.missing]
            queue = Queue(incomplete, key, UnfinishedPieces(unfinished), LIMITS.min_request)
            connections = _Connections(reader, queue, piece_size, counters)
            try:
                connections.add(LIMITS.first)
                _watch(connections, incomplete, deadline, check_folder)
            finally:
                connections.stop()
            wanted = [partial.file for partial in partial_files if not partial.is_current()]
            if not wanted:
                check_folder()
                return counters.stats()._replace(adopted=adopted + counters.resumed)
        raise OSError(f"Files in {into} are replaced again and again by other processes.")
    finally:
        spend(counters.stats())


class _Counters:
    """What was done so far. Threads count what they fetch and write; ``report`` is for the caller's thread."""

    def __init__(self, progress: Callable[[int], None]) -> None:
        self.fetched = 0
        self.retries = 0
        self.resumed = 0
        self.writing = 0.0
        self._progress = progress
        self._reported: dict[str, int] = {}
        self._came = Counter[str]()
        self._lock = threading.Lock()

    def stats(self) -> TransferStats:
        """What came so far, and how often it was asked again."""
        with self._lock:
            return TransferStats(fetched=self.fetched, retries=self.retries)

    def report(self, file: File, total: int, *, less: bool = False) -> None:
        """Note that so many bytes of a file are there; tell what was not told before, or that it is ``less`` again."""
        news = total - self._reported.get(file.path, 0)
        if news > 0 or less:  # a file that was replaced by another process is looked at again, and told once
            self._reported[file.path] = total
            self._progress(news)

    def count_retry(self) -> None:
        """Note that a request must be made again."""
        with self._lock:
            self.retries += 1

    def count_came(self, file: File, count: int, *, fetched: bool = True) -> None:
        """Note that so many bytes of a file have come, or were refused (fewer than 0)."""
        with self._lock:
            self._came[file.path] += count
            self.fetched += count if fetched else 0

    def count_written(self, resumed: int, seconds: float) -> None:
        """Note that a piece is on disk, verified, what of it was resumed, and how long a thread was busy with that."""
        with self._lock:
            self.resumed += resumed
            self.writing += seconds

    def take_came(self) -> Counter[str]:
        """Bytes that came since this was asked last, without those that were refused, by path."""
        with self._lock:
            taken, self._came = self._came, Counter()
        return taken


class _StoppedError(Exception):
    """The transfer was given up; nobody waits for this thread's work."""


class _DiskFailedError(Exception):
    """This disk cannot be written: asking the registry again would not help."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class _WrongSizeError(Exception):
    """The object has another size than the manifest says."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class _Connections:
    """Threads with a connection each, which bring what a queue hands out.

    Attributes:
        ended: gets an entry of each thread that ends: None, or what it failed with before.
        trouble: the last failure that was answered by asking again.
    """

    def __init__(self, reader: RegistryReader, queue: Queue, piece_size: int, counters: _Counters) -> None:
        self.reader = reader
        self.counters = counters
        self.ended: SimpleQueue[BaseException | None] = SimpleQueue()
        self.trouble: ModeldropError | None = None
        self._queue = queue
        self._failures: tuple[type[BaseException], ...] = (_WrongSizeError, *reader.failures)
        self._max = min(LIMITS.connections, max(1, LIMITS.memory // piece_size))
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers = 0  # those that should work; the others end with the run that they have
        self._max_request, self._shares = LIMITS.max_request, LIMITS.shares

    def __len__(self) -> int:
        return self._workers

    @property
    def started(self) -> int:
        """Threads that have begun, those that have ended included."""
        return len(self._threads)

    def add(self, maximum: int, rate: float = 0.0) -> None:
        """Work with so many connections, if there is work for them; ``rate`` is what each may bring, 0 for unknown."""
        smallest = max(1, min(self._queue.left, LIMITS.min_request))
        begun = self._workers
        # Before they take their first runs, whose length this decides.
        self._workers = max(begun, min(maximum, self._max, begun + -(-self._queue.left // smallest)))
        for number in range(begun, self._workers):
            arguments = number, Pace(LIMITS, rate)
            thread = threading.Thread(target=self._work, args=arguments, name="modeldrop-transfer", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._workers = number
                if number:
                    return  # those that could be started do all of it
                from modeldrop.storage.errors import no_threads

                raise no_threads(self.reader.url) from error
            self._threads.append(thread)

    def add_slow(self, maximum: int, rate: float) -> None:
        """Connections are slow: use so many, with shorter requests; together they bring ``rate`` bytes a second."""
        self._max_request, self._shares = min(LIMITS.slow_max_request, LIMITS.max_request), LIMITS.slow_shares
        self.add(maximum, rate / maximum)

    def reduce(self, maximum: int) -> None:
        """Go back to so many connections, and to long requests."""
        self._workers = maximum
        self._max_request, self._shares = LIMITS.max_request, LIMITS.shares

    def stop(self) -> None:
        """End the threads; one that waits for the network ends later, and touches nothing any more."""
        self._stopped.set()
        end = time.monotonic() + LIMITS.stop_seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self.reader.hang_up()

    def _work(self, number: int, pace: Pace) -> None:
        """A thread: bring runs until there are none, or there are more threads than there should be."""
        try:
            while not self._stopped.is_set() and (number < self._workers or self._queue.has_retries):
                run = self._queue.next_run(self._workers * self._shares, self._max_request, pace.shortest())
                if run is None:
                    return
                self._fetch_run(run, pace)
        except _StoppedError:
            pass
        except _DiskFailedError as failed:
            self.ended.put(failed.error)
        except BaseException as error:  # noqa: BLE001  the caller's thread raises it
            self.ended.put(error)
        finally:
            self.ended.put(None)

    def _fetch_run(self, run: Run, pace: Pace) -> None:
        """Bring a run, however often the connection breaks, going on where it broke."""
        remote, failures, quiet_since = run.remote, 0, time.monotonic()
        seen = Counter[FaultKind]()
        self.counters.count_came(remote.file, run.resumed, fetched=False)
        while run.left:
            before, etag = run.left, remote.etag
            try:
                fault = None
                if not self._request(run, etag, pace):
                    from modeldrop.storage.errors import unavailable  # only needed in trouble

                    why = "answers end before they are complete"
                    fault = Fault(FaultKind.OTHER, unavailable(self.reader.url, "read", remote.key, why))
            except self._failures as error:
                fault = self._explain(run, error)
            came = before - run.left
            if fault is None:
                continue
            run.keep()
            self.counters.count_retry()
            self.trouble = fault.error
            seen[fault.kind] += 1
            if fault.kind in _CERTAIN and seen[fault.kind] >= _CERTAIN[fault.kind]:
                raise fault.error
            if came:
                failures, quiet_since = 0, time.monotonic()
            if fault.kind is FaultKind.STALLED:
                if not came:
                    pace.stalled()
            elif fault.kind is FaultKind.CHANGED and etag:
                if remote.etag == etag:  # or another thread has found out
                    remote.changes, remote.etag = remote.changes + 1, ""
            else:
                failures += 1
                self._pause(fault, failures, time.monotonic() - quiet_since)

    def _pause(self, fault: Fault, failures: int, quiet: float) -> None:
        """Wait after a failure, the last of so many in a row, or raise it where so many seconds without a byte do."""
        patience = min(LIMITS.quiet, getattr(fault.error, "patience", 0.0))
        if failures >= LIMITS.failures and quiet >= patience:
            raise fault.error
        is_busy = fault.kind is FaultKind.BUSY
        pause = jittered(backoff(failures, LIMITS.busy_pause if is_busy else LIMITS.pause, LIMITS.max_pause))
        if is_busy and failures == _ASK_WHEN:
            pause = max(pause, self.reader.retry_after())
        self._stopped.wait(pause)

    def _request(self, run: Run, etag: str, pace: Pace) -> bool:
        """One request for what a run lacks, or less where that would take too long; whether the answer was complete."""
        if self._stopped.is_set():
            raise _StoppedError
        remote, chunk, left = run.remote, pace.chunk, pace.length(run.left)
        # A whole file is asked for without a range: that works wherever anything works.
        length = None if left == remote.file.size else left
        stream = self.reader.stream(remote.key, run.start, length, etag, chunk, run.room)
        began = looked = time.monotonic()  # how long the service thinks about it says nothing of the line
        if stream.size != remote.file.size:
            raise _WrongSizeError(stream.size)
        if stream.etag and not remote.etag and remote.changes < LIMITS.changes:
            remote.etag = stream.etag
        wanted = left
        try:
            for data in stream.chunks:
                if self._stopped.is_set():
                    raise _StoppedError
                came = run.receive(memoryview(data), self._complete)
                self.counters.count_came(remote.file, came)
                left -= came
                before, looked = looked, time.monotonic()
                # What is under way would be lost with this process; smaller chunks come sooner. But who was asked for
                # the whole file may know no ranges.
                if left and length and looked - before > LIMITS.slow_chunk and chunk > LIMITS.min_chunk:
                    return True
        finally:
            pace.note(wanted - left, time.monotonic() - began)
        return left <= 0

    def _complete(self, run: Run, index: int, buffers: list[memoryview], found: str) -> None:
        """Write a piece if it has its digest; else ask for it again."""
        partial, remote = run.partial, run.remote
        start, length = partial.start(index), partial.length(index)
        if found == remote.file.pieces[index]:
            began = time.monotonic()
            try:
                partial.write(buffers, start)
            except OSError as error:
                raise _DiskFailedError(error) from error
            self.counters.count_written(run.resumed, time.monotonic() - began)
            return
        self.counters.count_came(remote.file, -length, fetched=False)
        if found in run.refused or len(run.refused) >= LIMITS.refusals:
            raise IntegrityError(
                f"{self.reader.url}/{remote.key} is damaged: bytes {start} to {start + length} are not those of the "
                "manifest.",
                _UNTOUCHED,
            )
        remote.etag = ""
        self.counters.count_retry()
        self._queue.retry(run.retry(index, found))

    def _explain(self, run: Run, error: BaseException) -> Fault:
        """What a failed request means for whoever could ask again."""
        key, size = run.remote.key, run.remote.file.size
        where = f"{self.reader.url}/{key}"
        if isinstance(error, _WrongSizeError):
            said = f"it has {error.size} bytes, not the {size} of the manifest."
            return Fault(FaultKind.PAST_END, IntegrityError(f"{where} is damaged: {said}", _UNTOUCHED))
        fault = self.reader.fault(key, error)
        if fault.kind is FaultKind.PAST_END:
            said = f"it ends before the {size} bytes of the manifest."
            return Fault(FaultKind.PAST_END, IntegrityError(f"{where} is damaged: {said}", _UNTOUCHED))
        return fault


def _watch(
    connections: _Connections,
    partial_files: Sequence[PartialFile],
    deadline: Deadline,
    check_folder: Callable[[], None],
) -> None:
    """Report progress until all threads have ended, and add some where connections are slow.

    Raises:
        BaseException: what a thread, the deadline or the check of the folder has raised.
    """
    counters = connections.counters
    files = {partial.file.path: partial for partial in partial_files}
    done = {path: partial.verified_bytes for path, partial in files.items()}
    folder_checked = time.monotonic()
    growth = Growth(LIMITS, folder_checked)
    lately = deque([(folder_checked, 0, 0.0)])
    ended = 0
    while ended < connections.started:
        with contextlib.suppress(Empty):
            error = connections.ended.get(timeout=min(LIMITS.interval, deadline.left()))
            if error is not None:
                raise error
            ended += 1
        for path, count in counters.take_came().items():
            done[path] += count
            counters.report(files[path].file, done[path], less=count < 0)
        _check_time(connections, partial_files, sum(done.values()), deadline)
        _adapt(connections, growth, lately)
        if time.monotonic() > folder_checked + _FOLDER_SECONDS:
            check_folder()
            folder_checked = time.monotonic()


def _adapt(connections: _Connections, growth: Growth, lately: deque[tuple[float, int, float]]) -> None:
    """Add connections where they are slow, and take those back that did not help.

    Args:
        connections: those that there are.
        growth: what has been tried.
        lately: when it was looked, and how many bytes and seconds of writing there were.
    """
    counters, now = connections.counters, time.monotonic()
    if not counters.fetched:  # nothing is known of the line before it has brought something
        lately[-1] = now, 0, 0.0
    if now - lately[-1][0] < LIMITS.interval:
        return
    lately.append((now, counters.fetched, counters.writing))
    while now - lately[0][0] > LIMITS.window and len(lately) > 2:
        lately.popleft()
    since, fetched, writing = lately[0]
    came, seconds = counters.fetched - fetched, max(now - since, 1e-9)
    # More connections help against a slow line, and not against a slow disk.
    waiting = seconds * len(connections) - (counters.writing - writing)
    slow = came < waiting * LIMITS.fast
    wanted = growth.look(len(connections), counters.fetched, now, rate=came / seconds, slow=slow)
    if wanted is not None and wanted < len(connections):
        connections.reduce(wanted)
    elif wanted is not None:
        connections.add_slow(wanted, growth.rate)


def _check_time(connections: _Connections, partial_files: Sequence[PartialFile], done: int, deadline: Deadline) -> None:
    if deadline.left():
        return
    total = sum(partial.file.size for partial in partial_files)
    trouble = f" (last trouble: {connections.trouble.message})" if connections.trouble else ""
    deadline.check(f"{(total - done) / 1e6:.1f} of {total / 1e6:.1f} MB from {connections.reader.url}{trouble}")


def _open_files(files: Sequence[File], into: Path, piece_size: int, deadline: Deadline) -> list[PartialFile]:
    """Find or make all files, and verify what is there."""
    stopped = threading.Event()

    def check() -> None:
        if stopped.is_set():
            raise _StoppedError
        deadline.check(f"files in {into} to be verified")

    keep = len(files) <= LIMITS.max_open
    with os.scandir(into) as entries:
        empty = next(entries, None) is None
    if empty:
        return [PartialFile(into, file, piece_size, check, keep=keep) for file in files]
    from concurrent.futures import ThreadPoolExecutor  # it takes as long to import as ten small files to fetch

    with ThreadPoolExecutor(LIMITS.verifiers, "modeldrop-verify") as pool:
        jobs = [pool.submit(PartialFile, into, file, piece_size, check, keep=keep) for file in files]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
