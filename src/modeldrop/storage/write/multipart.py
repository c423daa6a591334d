"""Uploads large files in parts: each read from disk and verified before it is sent, several at a time."""

from __future__ import annotations

import hashlib
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from blake3 import blake3

from modeldrop.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from modeldrop.format.manifest import File

MAX_PARTS = 9_000
"""Fewer than S3 and GCS allow (10,000)."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a file: whole pieces of the manifest. ``number`` counts from 1."""

    number: int
    start: int
    length: int


def split_parts(file: File, piece_size: int, minimum: int = 1) -> list[Part]:
    """The parts of a file: one piece each, or several where there would be more than MAX_PARTS.

    Args:
        file: the file.
        piece_size: bytes in each of its pieces but the last.
        minimum: bytes at least in each part but the last.
    """
    size = piece_size * max(-(-len(file.pieces) // MAX_PARTS), -(-minimum // piece_size))
    starts = range(0, file.size, size)
    return [Part(number, start, min(size, file.size - start)) for number, start in enumerate(starts, 1)]


def read_part(path: Path, file: File, piece_size: int, part: Part) -> bytes:
    """The bytes of a part, each of its pieces verified.

    Raises:
        IntegrityError: they are not those that the manifest describes.
    """
    last = part.start + part.length == file.size  # then one byte more would be one too many
    try:
        with path.open("rb") as source:
            source.seek(part.start)
            data = source.read(part.length + last)
    except OSError as error:
        raise changed(path, error.strerror or str(error)) from error
    view = memoryview(data)
    first = part.start // piece_size
    for index, start in enumerate(range(0, part.length, piece_size), first):
        if blake3(view[start : start + piece_size]).hexdigest() != file.pieces[index]:
            raise changed(path, "it no longer has the digests in the manifest")
    if len(data) != part.length:
        raise changed(path, "it has another size than the manifest says")
    return data


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


def send_all(parts: Sequence[Part], send: Callable[[Part], _Result], *, in_flight: int) -> list[_Result]:
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
