"""Making large files of those that an older snapshot has, and of the deltas that the registry keeps beside a version.

1. Files are looked at that are large, still missing, and have another content of the same path in a snapshot on this
   disk. Only where there is one is the registry asked for the version's index of deltas.
2. Of each file's deltas the smallest is brought as any other file is, into a folder beside what is put together.
3. Piece by piece the base's bytes and the delta's are put together. A piece that has the digest of the manifest is
   written to its place; any other one stays missing. Where large deltas have come faster than pieces are made, the
   pieces themselves will: the rest stays missing, too.

Whatever is wrong with an index, a delta or a base: the transfer that follows brings what is missing then. So nothing
here raises but what ends the fetch: its deadline, or that another process has taken the work over.
"""

from __future__ import annotations

import contextlib
import os
import time
from itertools import accumulate
from typing import TYPE_CHECKING

from blake3 import blake3

from modeldrop.errors import FormatError, ModeldropError, RegistryError
from modeldrop.fetcher.download.partial_file import PartialFile
from modeldrop.fetcher.home import find_snapshots
from modeldrop.fetcher.snapshot import TransferStats
from modeldrop.format.deltas import INDEX, MAX_BYTES, MAX_PIECE, MIN_FILE, decode_piece, parse_delta_index
from modeldrop.util.files import make_folder, remove_tree
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from modeldrop.fetcher.helper import HelperReader
    from modeldrop.format.deltas import DeltaIndex, FileDelta
    from modeldrop.format.manifest import File
    from modeldrop.storage.read.interface import RegistryReader
    from modeldrop.util.retry import Deadline

FOLDER = ".modeldrop-deltas"
"""Where deltas are while a snapshot is put together; no file of a version can be called so."""
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


class Made(NamedTuple):
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
) -> Made:
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
        return Made()
    try:
        index = _read_index(source)
        deadline.check(f"deltas of {source.prefix}")
        chosen = [] if index is None else _choose(index, large, source.published, bases, into)
        if index is None or not chosen:
            return Made()
        if not has_room(sum(one.delta.stored.size for one in chosen)):
            return Made(notes=(_fallback("There is too little room for deltas beside the files."),))
        return _make(source, chosen, index.piece_size, piece_size, into, deadline, progress, unfinished)
    except ModeldropError as error:
        deadline.check(f"deltas of {source.prefix}")
        return Made(notes=(_fallback(error.message),))
    except OSError as error:
        into.stat()
        return Made(notes=(_fallback(f"{error.strerror or error}."),))


def discard_deltas(folder: Path) -> None:
    """Remove the deltas from a folder whose files are made, or cannot be made of them. Never fails."""
    with contextlib.suppress(OSError):
        if (folder / FOLDER).is_dir():
            remove_tree(folder / FOLDER)


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
        data = source.reader.get(f"{source.prefix}/{INDEX}", MAX_BYTES)
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
        fitting = [
            _Chosen(file, delta, bases[key])
            for delta in deltas
            if (key := (delta.path, delta.base_sha256, delta.base_size)) in bases
            and delta.path == path
            and delta.is_readable
            and len(delta.lengths) == len(file.pieces)
            and delta.stored.size <= file.size // 2
        ]
        best = min(fitting, key=lambda one: one.delta.stored.size, default=None)
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
) -> Made:
    folder, came = into / FOLDER, 0

    def brought(count: int) -> None:
        nonlocal came
        came += count
        progress(count)

    make_folder(folder)
    why, began = "", time.monotonic()
    try:
        stored = [one.delta.stored for one in chosen]
        more = {"deadline": deadline, "progress": brought, "published": {}, "unfinished": unfinished}
        stats = source.move(source.prefix, stored, stored_piece_size, folder, **more)
    except ModeldropError as error:
        deadline.check(f"deltas of {source.prefix}")
        stats, why = TransferStats(fetched=max(0, came)), error.message  # what has come of them is good for some pieces
    seconds = max(0.001, time.monotonic() - began)
    rate = stats.fetched / seconds if stats.fetched >= _TELLS_A_RATE else 0.0
    results = [_put_together(one, folder, piece_size, into, rate, deadline, progress) for one in chosen]
    made, wrong = (sum(counts) for counts in zip(*results, strict=True))
    if wrong and not why:
        what = "1 piece that was made of them does not have its digest"
        why = f"{what if wrong == 1 else f'{wrong} pieces that were made of them do not have their digests'}."
    return Made(made, stats, (_fallback(why),) if why else ())


def _put_together(
    one: _Chosen,
    folder: Path,
    piece_size: int,
    into: Path,
    rate: float,
    deadline: Deadline,
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """Make the pieces that are missing of a file; the bytes of those that are right, and how many are not.

    No more of them are made once that is slower than ``rate``, the line's in bytes a second; 0 where it is not known.

    Raises:
        OSError: a file cannot be read or written.
        Exception: what the deadline raises.
    """
    file, lengths = one.file, one.delta.lengths
    made = wrong = 0
    began = time.monotonic()
    with contextlib.ExitStack() as opened:
        base, stored = (opened.enter_context(_open(path)) for path in (one.base, folder / one.delta.stored.path))

        def check() -> None:
            deadline.check(f"{file.path} to be made of its delta")

        partial = PartialFile(into, file, piece_size, check, keep=False)
        starts = (0, *accumulate(lengths))
        for index in partial.missing:
            check()
            start, size = partial.start(index), partial.length(index)
            data = os.pread(stored, min(lengths[index], 2 * size), starts[index])
            piece = decode_piece(os.pread(base, size, start), data, size, one.delta.width)
            if piece is not None and blake3(piece).hexdigest() == file.pieces[index]:
                partial.write([memoryview(piece)], start)
                made += size
                progress(max(0, size - lengths[index]))
            else:
                wrong += 1
            if made < rate * (time.monotonic() - began):
                break
    return made, wrong


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
