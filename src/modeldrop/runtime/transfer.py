"""Bringing files from a registry to a folder, every piece verified before it counts."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from modeldrop.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from modeldrop.format.manifest import File
    from modeldrop.runtime.registry import RegistryReader

_IN_FLIGHT = 4
_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class _Piece:
    file: File
    start: int
    length: int
    digest: str


def transfer(
    reader: RegistryReader,
    prefix: str,
    files: Iterable[File],
    piece_size: int,
    into: Path,
    progress: Callable[[int], None],
) -> None:
    """Write ``files``, found below the key ``prefix``, into the folder ``into``; synced, mode 0444.

    Memory is bounded by four pieces, whatever the files' sizes.

    Raises:
        IntegrityError: a piece is not what the manifest says, twice.
        RegistryError: it cannot be read.
        OSError: the disk cannot be written.
    """
    files = list(files)
    for file in files:
        path = into / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as target:
            target.truncate(file.size)
    with ThreadPoolExecutor(_IN_FLIGHT, "modeldrop-transfer") as pool:
        pieces = [piece for file in files for piece in _pieces(file, piece_size)]
        jobs = [pool.submit(_copy, reader, prefix, piece, into) for piece in pieces]
        try:
            for job in as_completed(jobs):
                progress(job.result())
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    for file in files:
        with (into / file.path).open("rb") as target:
            os.fchmod(target.fileno(), 0o444)
            os.fsync(target.fileno())


def _pieces(file: File, piece_size: int) -> Iterator[_Piece]:
    for index, digest in enumerate(file.pieces):
        start = index * piece_size
        yield _Piece(file, start, min(piece_size, file.size - start), digest)


def _copy(reader: RegistryReader, prefix: str, piece: _Piece, into: Path) -> int:
    for _ in range(_ATTEMPTS):
        data = reader.read(f"{prefix}/{piece.file.path}", piece.start, piece.length)
        if len(data) == piece.length and blake3(data).hexdigest() == piece.digest:
            with (into / piece.file.path).open("r+b") as target:
                target.seek(piece.start)
                target.write(data)
            return piece.length
    raise IntegrityError(
        f"{reader.url}/{prefix}/{piece.file.path} is damaged: bytes {piece.start} to "
        f"{piece.start + piece.length} are not those of the manifest.",
        "The snapshot in use is untouched. Publish the version again, or promote another one.",
    )
