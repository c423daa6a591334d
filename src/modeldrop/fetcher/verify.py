"""Proving finished snapshots again: every byte against the digests of the manifest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from blake3 import blake3

from modeldrop.errors import FormatError
from modeldrop.fetcher.home import read_snapshot
from modeldrop.fetcher.snapshot import MANIFEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.format.manifest import File

_READ = 1 << 20


def damages(folder: Path) -> Iterator[str]:
    """What is wrong with a finished snapshot, a sentence each; nothing where it is whole.

    Raises:
        OSError: something of it cannot be read, though it is there.
    """
    try:
        held = read_snapshot(folder)
    except FormatError as error:
        yield error.message
        return
    except FileNotFoundError:
        yield f"{folder / MANIFEST} is missing."
        return
    variant = held.manifest.variant(held.variant)
    wanted = set(variant.files if variant else ())
    for file in held.manifest.files:
        if file.path not in wanted:
            continue
        path = folder / held.renamed.get(file.path, file.path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield f"{path} is missing."
            continue
        try:
            size = os.fstat(descriptor).st_size
            if size != file.size:
                yield f"{path} has {size} bytes; the manifest says {file.size}."
            elif not is_proven(descriptor, file, held.manifest.piece_size):
                yield f"{path} does not have the digest that the manifest says."
        finally:
            os.close(descriptor)


def is_proven(descriptor: int, file: File, piece_size: int, progress: Callable[[int], None] = lambda _: None) -> bool:
    """Whether an open file has the size and the pieces that a manifest says.

    Args:
        descriptor: the open file.
        file: what the manifest says of it.
        piece_size: of the manifest.
        progress: told bytes as they are hashed.

    Raises:
        OSError: it cannot be read.
    """
    if os.fstat(descriptor).st_size != file.size:
        return False
    buffer = memoryview(bytearray(min(_READ, max(file.size, 1))))
    for index, digest in enumerate(file.pieces):
        at, end = index * piece_size, min(file.size, (index + 1) * piece_size)
        hasher = blake3()
        while at < end:
            count = os.preadv(descriptor, [buffer[: end - at]], at)
            if not count:
                return False
            hasher.update(buffer[:count])
            at += count
            progress(count)
        if hasher.hexdigest() != digest:
            return False
    return True
