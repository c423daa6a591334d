"""Verifying snapshots on this disk: by the size of every file, or by reading every byte.

The same check answers all who ask whether a snapshot is whole: ``fetch`` before it uses one that is there, ``status``,
``verify``, and a download that finds its place taken.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modeldrop.fetcher.snapshot import LocalSnapshot
    from modeldrop.format.manifest import File

_READ = 1 << 20


def is_whole(snapshot: LocalSnapshot) -> bool:
    """Whether every file is there in its size. Reads the manifest and no other file."""
    try:
        return next(find_damage(snapshot), None) is None
    except OSError:
        return False


def find_damage(snapshot: LocalSnapshot, *, read_files: bool = False) -> Iterator[str]:
    """What is wrong with a finished snapshot, a sentence each; nothing where it is whole.

    Args:
        snapshot: the snapshot.
        read_files: whether to compare every byte with the digests of the manifest, not sizes alone.

    Raises:
        OSError: something of it cannot be read, though it is there.
    """
    try:
        sizes = snapshot.sizes
        files = (
            {snapshot.renamed.get(file.path, file.path): file for file in snapshot.manifest.files} if read_files else {}
        )
    except FormatError as error:
        yield error.message
        return
    except FileNotFoundError as error:
        yield f"{error.filename} is missing."
        return
    for name, size in sizes.items():
        path = os.path.join(snapshot.path, name)  # noqa: PTH118  a warm start has no time for a Path of each
        try:
            found = os.stat(path).st_size  # noqa: PTH116
        except FileNotFoundError:
            yield f"{path} is missing."
            continue
        if found != size:
            yield f"{path} has {found} bytes; the manifest says {size}."
        elif read_files and not _matches(path, files[name], snapshot.manifest.piece_size):
            yield f"{path} does not have the digest that the manifest says."


def matches_digest(
    descriptor: int, file: File, piece_size: int, progress: Callable[[int], None] = lambda _: None
) -> bool:
    """Whether an open file has the size and the pieces that a manifest says.

    Args:
        descriptor: the open file.
        file: what the manifest says of it.
        piece_size: of the manifest.
        progress: told bytes as they are hashed.

    Raises:
        OSError: it cannot be read.
    """
    return os.fstat(descriptor).st_size == file.size and all(
        piece_matches(descriptor, file, index, piece_size, progress) for index in range(len(file.pieces))
    )


def piece_matches(
    descriptor: int, file: File, index: int, piece_size: int, progress: Callable[[int], None] = lambda _: None
) -> bool:
    """Whether one piece of an open file has its digest. Arguments and errors are those of ``matches_digest``."""
    from blake3 import blake3  # a check by size needs none of it

    at, end = index * piece_size, min(file.size, (index + 1) * piece_size)
    hasher = blake3()
    while at < end:
        data = os.pread(descriptor, min(_READ, end - at), at)
        if not data:
            return False
        hasher.update(data)
        at += len(data)
        progress(len(data))
    return hasher.hexdigest() == file.pieces[index]


def _matches(path: str, file: File, piece_size: int) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return matches_digest(descriptor, file, piece_size)
    finally:
        os.close(descriptor)
