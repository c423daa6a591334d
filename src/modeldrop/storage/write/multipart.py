"""Uploads large files in parts: each read from disk and verified before it is sent, several at a time."""

from __future__ import annotations

import contextlib
import hashlib
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from blake3 import blake3

from modeldrop.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from io import FileIO
    from pathlib import Path

    from modeldrop.format.manifest import File

MAX_PARTS = 9_000
"""Fewer than S3 and GCS allow (10,000)."""

BLOCK = 64 << 10
"""Bytes of a part that are read and sent at a time. A socket's time limit is for one such block."""

_READ = 256 << 10
_LARGE_PARTS = 16

_Result = TypeVar("_Result")
_Sent = TypeVar("_Sent")


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a file: whole pieces of the manifest. ``number`` counts from 1."""

    number: int
    start: int
    length: int


def split_parts(file: File, piece_size: int, minimum: int = 1, large: int = 0) -> list[Part]:
    """The parts of a file: one piece each, or several where there would be more than MAX_PARTS.

    Args:
        file: the file.
        piece_size: bytes in each of its pieces but the last.
        minimum: bytes at least in each part but the last.
        large: bytes in each of sixteen parts or more, where the file has so many: fewer are less work for the service.
    """
    minimum = max(minimum, min(large, file.size // _LARGE_PARTS))
    size = piece_size * max(-(-len(file.pieces) // MAX_PARTS), -(-minimum // piece_size))
    starts = range(0, file.size, size)
    return [Part(number, start, min(size, file.size - start)) for number, start in enumerate(starts, 1)]


class PartBody:
    """A part of a file as the body of a request: read from disk as it is sent, a block at a time, as often as it is.

    What is sent is what was verified, or the service refuses it: it is told a digest that ``verify`` made.

    Args:
        path: the file on disk.
        file: what it must hold.
        piece_size: bytes in each of ``file.pieces`` but the last.
        part: which of its bytes.
    """

    def __init__(self, path: Path, file: File, piece_size: int, part: Part) -> None:
        self.part = part
        self._path = path
        self._file = file
        self._piece_size = piece_size
        self._unread: Iterator[bytes] | None = None

    def __len__(self) -> int:
        return self.part.length

    def __iter__(self) -> Iterator[bytes]:
        with self._opened() as source:
            yield from _blocks(source, self.part.length, BLOCK)

    def read(self, _size: int = -1) -> bytes:
        """The next block, b"" after the last one; botocore takes no body that has no such method."""
        self._unread = self._unread or iter(self)
        block = next(self._unread, b"")
        if not block:
            self._unread = None
        return block

    def verify(self, *updates: Callable[[bytes], object]) -> None:
        """Compare each piece with its digest, and give all bytes in turn to ``updates``, of other digests.

        Raises:
            IntegrityError: they are not those that the manifest describes.
        """
        start, left = self.part.start, self.part.length
        with self._opened() as source:
            while left:
                piece, length = blake3(), min(self._piece_size, left)
                for block in _blocks(source, length, _READ):
                    for update in (piece.update, *updates):
                        update(block)
                if piece.hexdigest() != self._file.pieces[start // self._piece_size]:
                    raise changed(self._path, "it no longer has the digests in the manifest")
                start, left = start + length, left - length

    def verified(self) -> bytes:
        """All bytes at once, verified.

        Raises:
            IntegrityError: they are not those that the manifest describes.
        """
        blocks: list[bytes] = []
        self.verify(blocks.append)
        return b"".join(blocks)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """If what is done meanwhile fails, say so where that is because the file has changed since it was verified."""
        try:
            yield
        except Exception:
            self.verify()
            raise

    @contextlib.contextmanager
    def _opened(self) -> Iterator[FileIO]:
        """The file where the part begins; in the end all of the part must have been read."""
        end = self.part.start + self.part.length
        try:
            with self._path.open("rb", buffering=0) as source:
                source.seek(self.part.start)
                yield source
                # Behind the last part, one byte more would be one too many.
                if source.tell() != end or (end == self._file.size and source.read(1)):
                    raise changed(self._path, "it has another size than the manifest says")
        except OSError as error:
            raise changed(self._path, error.strerror or str(error)) from error


def _blocks(source: FileIO, length: int, most: int) -> Iterator[bytes]:
    """The next bytes of a file, so many at a time; fewer where it ends."""
    while length and (block := source.read(min(most, length))):
        length -= len(block)
        yield block


def read_whole(path: Path, file: File) -> bytes:
    """All bytes of a small file, verified by size and SHA-256.

    Raises:
        IntegrityError: they are not those that the manifest describes.
    """
    try:
        with path.open("rb") as source:
            data = source.read(file.size + 1)
    except OSError as error:
        raise changed(path, error.strerror or str(error)) from error
    if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
        raise changed(path, "it no longer has the digest in the manifest")
    return data


def send_all(parts: Sequence[_Sent], send: Callable[[_Sent], _Result], *, in_flight: int) -> list[_Result]:
    """Call ``send`` for every part, ``in_flight`` at a time; return the results in the parts' order.

    After the first failure nothing more is begun, and that failure is raised.
    """
    with ThreadPoolExecutor(in_flight, "modeldrop-upload") as pool:
        jobs = [pool.submit(send, part) for part in parts]
        try:
            done, _ = wait(jobs, return_when=FIRST_EXCEPTION)
            for job in jobs:
                if job in done and job.exception() is not None:
                    job.result()
            return [job.result() for job in jobs]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def changed(path: Path, how: str) -> IntegrityError:
    """The error for a file that is not what was built."""
    return IntegrityError(
        f"{path} changed while it was published: {how}.",
        "Build again, and keep other programs from writing to the build folder.",
    )
