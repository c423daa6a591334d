"""Making large files of those that an older snapshot has, and of the deltas that the registry keeps beside a version.

1. Files are looked at that are large, still missing, and have another content of the same path in a snapshot on this
   disk. Only where there is one is the registry asked for the version's index of deltas.
2. Of each file's deltas the smallest is brought as any other file is, into a folder beside what is put together.
3. Piece by piece the base's bytes and the delta's are put together, from the first bytes that come on, in a thread of
   its own (``_DeltaThread``), and what is left then in the caller's. A piece that has the digest of the manifest is
   written to its place; any other one stays missing. Where large deltas have come faster than pieces are made, the
   pieces themselves will: the rest stays missing, too.

Whatever is wrong with an index, a delta or a base: the transfer that follows brings what is missing then. So nothing
here raises but what ends the fetch: its deadline, or that another process has taken the work over.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from itertools import accumulate
from queue import SimpleQueue
from typing import TYPE_CHECKING

from blake3 import blake3

from modeldrop.errors import FormatError, ModeldropError, RegistryError
from modeldrop.fetcher.download.partial_file import PartialFile, has_data
from modeldrop.fetcher.home import find_snapshots
from modeldrop.fetcher.snapshot import TransferStats
from modeldrop.format.deltas import DELTA_INDEX_FILE, MAX_BYTES, MAX_PIECE, MIN_FILE, decode_piece, parse_delta_index
from modeldrop.util.files import make_folder, remove_tree
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from modeldrop.fetcher.helper import HelperReader
    from modeldrop.format.deltas import DeltaIndex, FileDelta
    from modeldrop.format.manifest import File
    from modeldrop.storage.read.interface import RegistryReader
    from modeldrop.util.retry import Deadline

DELTAS_FOLDER = ".modeldrop-deltas"
"""Where deltas are while a snapshot is put together; no file of a version can be called so."""
_TRIES = 2  # of a piece while its delta comes
_TELLS_A_RATE = 4 << 20
"""Bytes of deltas that tell how fast the line is: fewer come in the time of a few answers, on any line."""


class DeltaSource(NamedTuple):
    """Where deltas come from, and where what they are of is.

    Attributes:
        reader: the registry.
        move: ``transfer.transfer``, or what does the same in another process; without the reader.
        prefix: of the version in the registry, such as ``embedder/v3``.
        model_home: the model's folder on this disk, which holds its snapshots.
        published: path of a file in the snapshot to its path in the version, where they differ.
    """

    reader: RegistryReader | HelperReader
    move: Callable[..., TransferStats]
    prefix: str
    model_home: Path
    published: Mapping[str, str]


class RebuiltFiles(NamedTuple):
    """What was made of deltas.

    Attributes:
        size: bytes of the pieces that were made.
        stats: what it took to bring the deltas.
        notes: why some could not be used, a sentence each.
    """

    size: int = 0
    stats: TransferStats = TransferStats()
    notes: tuple[str, ...] = ()


class _Chosen(NamedTuple):
    """A file that is wanted, the delta that it is to be made of, and where the base's file is, by now unverified."""

    file: File
    delta: FileDelta
    base: Path


def make_of_deltas(
    source: DeltaSource,
    files: Sequence[File],
    piece_size: int,
    into: Path,
    *,
    has_room: Callable[[int], bool],
    deadline: Deadline,
    progress: Callable[[int], None],
    unfinished: Path,
) -> RebuiltFiles:
    """Make what can be made of the pieces of ``files`` in the folder ``into``; the rest stays missing.

    Args:
        source: where deltas come from.
        files: what is missing; their paths are those below ``into``.
        piece_size: of their digests.
        into: the folder; may hold some of them.
        has_room: whether the disk takes so many bytes besides the files themselves.
        deadline: of the whole command.
        progress: told bytes as they are brought or made: no more in all than the files have.
        unfinished: see ``transfer``.

    Raises:
        FileNotFoundError: ``into`` is gone: another process has taken it over.
        Exception: what the deadline raises.
    """
    large = [file for file in files if file.size >= MIN_FILE and piece_size <= MAX_PIECE]
    bases = _find_bases(source.model_home, {source.published.get(file.path, file.path): file for file in large})
    if not bases:
        return RebuiltFiles()
    try:
        index = _read_index(source)
        deadline.check(f"deltas of {source.prefix}")
        chosen = [] if index is None else _choose(index, large, source.published, bases, into)
        if index is None or not chosen:
            return RebuiltFiles()
        if not has_room(sum(one.delta.stored.size for one in chosen)):
            return RebuiltFiles(notes=(_fallback("There is too little room for deltas beside the files."),))
        return _make(source, chosen, index.piece_size, piece_size, into, deadline, progress, unfinished)
    except ModeldropError as error:
        deadline.check(f"deltas of {source.prefix}")
        return RebuiltFiles(notes=(_fallback(error.message),))
    except OSError as error:
        into.stat()
        if isinstance(error, FileNotFoundError):  # another process has made room
            return RebuiltFiles(notes=(_fallback("The older version was removed from this disk meanwhile."),))
        return RebuiltFiles(notes=(_fallback(f"{error.strerror or error}."),))


def discard_deltas(folder: Path) -> None:
    """Remove the deltas from a folder whose files are made, or cannot be made of them. Never fails."""
    with contextlib.suppress(OSError):
        if (folder / DELTAS_FOLDER).is_dir():
            remove_tree(folder / DELTAS_FOLDER)


def _fallback(why: str) -> str:
    return f"Deltas could not be used, so files are fetched whole: {why}"


def _find_bases(model_home: Path, wanted: Mapping[str, File]) -> dict[tuple[str, str, int], Path]:
    """Files of snapshots that have a wanted path and another content: by path in their version, SHA-256 and size."""
    found: dict[tuple[str, str, int], Path] = {}
    for snapshot in find_snapshots(model_home) if wanted else ():
        with contextlib.suppress(OSError, FormatError):
            for file in snapshot.manifest.files:
                path = snapshot.renamed.get(file.path, file.path)
                if file.path in wanted and path in snapshot.sizes and file.sha256 != wanted[file.path].sha256:
                    found[file.path, file.sha256, file.size] = snapshot.path / path
    return found


def _read_index(source: DeltaSource) -> DeltaIndex | None:
    """The version's index; None if it has none, or none can be had.

    Raises:
        FormatError, IntegrityError: it is none.
    """
    try:
        data = source.reader.get(f"{source.prefix}/{DELTA_INDEX_FILE}", MAX_BYTES)
    except RegistryError:
        # What is not there S3 refuses to whoever may not list; and of a registry that is down the files will tell.
        return None
    return None if data is None else parse_delta_index(data)


def _choose(
    index: DeltaIndex,
    files: Sequence[File],
    published: Mapping[str, str],
    bases: Mapping[tuple[str, str, int], Path],
    into: Path,
) -> list[_Chosen]:
    """For each file the smallest delta of a base that is here, if it is smaller than what is missing of the file."""
    chosen = []
    deltas = [delta for base in index.bases for delta in base.files]
    for file in files:
        path = published.get(file.path, file.path)
        usable = [
            _Chosen(file, delta, bases[key])
            for delta in deltas
            if (key := (delta.path, delta.base_sha256, delta.base_size)) in bases
            and delta.path == path
            and delta.is_readable
            and len(delta.lengths) == len(file.pieces)
            and delta.stored.size <= file.size // 2
        ]
        best = min(usable, key=lambda one: one.delta.stored.size, default=None)
        if best is not None and best.delta.stored.size < _missing(into / file.path, file.size):
            chosen.append(best)
    return chosen


def _missing(path: Path, size: int) -> int:
    """Bytes that an earlier attempt has not written to a file."""
    try:
        return size - path.stat().st_blocks * 512
    except OSError:
        return size


def _make(
    source: DeltaSource,
    chosen: Sequence[_Chosen],
    stored_piece_size: int,
    piece_size: int,
    into: Path,
    deadline: Deadline,
    progress: Callable[[int], None],
    unfinished: Path,
) -> RebuiltFiles:
    folder, came = into / DELTAS_FOLDER, 0

    def check() -> None:
        deadline.check(f"files of {source.prefix} to be made of their deltas")

    def brought(count: int) -> None:
        nonlocal came
        came += count
        progress(count)
        delta_thread.look()

    make_folder(folder)
    making = [_FileRebuild(one, folder=folder, piece_size=piece_size, into=into, check=check) for one in chosen]
    why, began = "", time.monotonic()
    with _DeltaThread(making, progress) as delta_thread:
        try:
            stored = [one.delta.stored for one in chosen]
            more = {"deadline": deadline, "progress": brought, "published": {}, "unfinished": unfinished}
            stats = source.move(source.prefix, stored, stored_piece_size, folder, **more)
        except ModeldropError as error:
            deadline.check(f"deltas of {source.prefix}")
            # What has come of them is good for some pieces.
            stats, why = TransferStats(fetched=max(0, came)), error.message
    seconds = max(0.001, time.monotonic() - began)
    rate = stats.fetched / seconds if stats.fetched >= _TELLS_A_RATE else 0.0
    for one in making:
        one.make_rest(rate, progress)
    made, wrong = sum(one.made for one in making), sum(one.wrong for one in making)
    if wrong and not why:
        what = "1 piece that was made of them does not have its digest"
        why = f"{what if wrong == 1 else f'{wrong} pieces that were made of them do not have their digests'}."
    return RebuiltFiles(made, stats, (_fallback(why),) if why else ())


class _FileRebuild:
    """A file that is made of a base and a delta, piece by piece.

    Attributes:
        made: bytes of the pieces that were made.
        wrong: pieces that could not be, though the delta has come.

    Raises:
        OSError: the file cannot be made or read; any method may.
        Exception: what ``check`` raises; any method may.
    """

    def __init__(self, one: _Chosen, *, folder: Path, piece_size: int, into: Path, check: Callable[[], None]) -> None:
        self.made = self.wrong = 0
        self._one = one
        self._stored = folder / one.delta.stored.path
        self._check = check
        self._partial = PartialFile(into, one.file, piece_size, check, keep=False)
        self._pending = self._partial.missing
        self._tries = Counter[int]()
        self._starts = (0, *accumulate(one.delta.lengths))

    def make_some(self, stopped: Callable[[], bool]) -> int:
        """Make the pieces whose part of the delta has come; bytes of the file that need not be brought for them.

        What seems to have come, and has not, gives no piece with the right digest: it stays for later.
        """
        gained, left = 0, []
        with contextlib.ExitStack() as opened:
            try:
                base, stored = (opened.enter_context(_open(path)) for path in (self._one.base, self._stored))
            except FileNotFoundError:
                return 0  # no byte of the delta has come
            for index in self._pending:
                start, length = self._starts[index], self._one.delta.lengths[index]
                has_come = not length or has_data(stored, start + length - 1, 1)
                if not stopped() and has_come and self._tries[index] < _TRIES:
                    self._tries[index] += 1
                    if self._make(index, base, stored):
                        gained += max(0, self._partial.length(index) - length)
                        continue
                left.append(index)
        self._pending = left
        return gained

    def make_rest(self, rate: float, progress: Callable[[int], None]) -> None:
        """Make what is left, the delta being there.

        No more once that is slower than ``rate``, the line's in bytes a second; 0 where it is not known.
        """
        began, before = time.monotonic(), self.made
        with contextlib.ExitStack() as opened:
            base, stored = (opened.enter_context(_open(path)) for path in (self._one.base, self._stored))
            for index in self._pending:
                if self._make(index, base, stored):
                    progress(max(0, self._partial.length(index) - self._one.delta.lengths[index]))
                else:
                    self.wrong += 1
                if self.made - before < rate * (time.monotonic() - began):
                    break

    def _make(self, index: int, base: int, stored: int) -> bool:
        self._check()
        partial, delta = self._partial, self._one.delta
        start, size = partial.start(index), partial.length(index)
        data = os.pread(stored, min(delta.lengths[index], 2 * size), self._starts[index])
        piece = decode_piece(os.pread(base, size, start), data, size, delta.width)
        if piece is None or blake3(piece).hexdigest() != self._one.file.pieces[index]:
            return False
        partial.write([memoryview(piece)], start)
        self.made += size
        return True


class _DeltaThread:
    """Makes pieces in a thread while deltas come: the line and the processor need not wait for each other.

    Args:
        making: the files.
        progress: told bytes that need not be brought, in the thread that calls ``look``.
    """

    def __init__(self, making: Sequence[_FileRebuild], progress: Callable[[int], None]) -> None:
        self._making = making
        self._progress = progress
        self._gained: SimpleQueue[int] = SimpleQueue()
        self._looks = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="modeldrop-deltas", daemon=True)

    def __enter__(self) -> Self:
        with contextlib.suppress(RuntimeError):  # no thread to be had: all pieces are made when the deltas are there
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, with the piece that it is at."""
        self._stopped.set()
        self._looks.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._report()

    def look(self) -> None:
        """Something has come."""
        self._looks.set()
        self._report()

    def _report(self) -> None:
        while not self._gained.empty():
            self._progress(self._gained.get())

    def _work(self) -> None:
        # What fails here fails in the caller's thread too, which says so.
        with contextlib.suppress(OSError, ModeldropError):
            while not self._stopped.is_set():
                self._looks.wait()
                self._looks.clear()
                for one in self._making:
                    self._gained.put(one.make_some(self._stopped.is_set))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
