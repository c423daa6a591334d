"""Verifying snapshots on this disk: by the size and time of every file, or by reading every byte.

The same check answers all who ask whether a snapshot is whole: ``fetch`` before it uses one that is there, ``status``,
``verify``, and a download that finds its place taken. The manifest has the time of the youngest file: it is written
last. So a file that is younger was touched since, and is read; whatever has kept its size and its time, only reading
every byte finds.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.fetcher.layout import RENAMES_FILE
from modeldrop.fetcher.snapshot import MANIFEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from modeldrop.fetcher.snapshot import LocalSnapshot
    from modeldrop.format.manifest import File, Manifest

_READ = 1 << 20


def is_whole(snapshot: LocalSnapshot) -> bool:
    """Whether every file is there in its size, and untouched. Reads the manifest, and files that were touched."""
    try:
        return next(find_damage(snapshot), None) is None
    except OSError:
        return False


def find_damage(snapshot: LocalSnapshot, *, read_files: bool = False) -> Iterator[str]:
    """What is wrong with a finished snapshot, a sentence each; nothing where it is whole.

    Args:
        snapshot: the snapshot.
        read_files: whether to compare every byte with the digests of the manifest, and to look for files that do not
            belong there; else by sizes and times.

    Raises:
        OSError: something of it cannot be read, though it is there.
    """
    try:
        settled = youngest = os.stat(os.path.join(snapshot.path, MANIFEST_FILE)).st_mtime_ns  # noqa: PTH116, PTH118
        sizes = snapshot.sizes
        files = _files(snapshot) if read_files else {}
    except FormatError as error:
        yield error.message
        return
    except FileNotFoundError as error:
        yield f"{error.filename} is missing."
        return
    for name, size in sizes.items():
        path = os.path.join(snapshot.path, name)  # noqa: PTH118  a warm start has no time for a Path of each
        try:
            found = os.stat(path)  # noqa: PTH116
        except FileNotFoundError:
            yield f"{path} is missing."
            continue
        youngest = max(youngest, found.st_mtime_ns)
        if found.st_size != size:
            yield f"{path} has {found.st_size} bytes; the manifest says {size}."
        elif read_files or found.st_mtime_ns > settled:
            files = files or _files(snapshot)
            yield from _find_wrong_bytes(path, files[name], snapshot.manifest.piece_size)
    if read_files:
        written = _written(snapshot)
        yield from _find_extra(snapshot.path, {*sizes, MANIFEST_FILE, RENAMES_FILE, *written})
        for name, content in written.items():
            if not (snapshot.path / name).is_file() or (snapshot.path / name).read_bytes() != content:
                yield f"{snapshot.path / name} is not what the signature says."
    elif youngest > settled:
        settle(snapshot.path, youngest)


def find_damage_of_copy(folder: Path, manifest: Manifest, *, all_variants: bool) -> tuple[list[str], list[str]]:
    """Read every byte of a version that was copied here with another tool, or of a snapshot.

    Args:
        folder: holds the version's files by their paths.
        manifest: the version's.
        all_variants: whether every variant must be there; else one is enough.

    Returns:
        What is wrong, a sentence each; and the names of the variants that are there.

    Raises:
        OSError: something of it cannot be read, though it is there.
    """
    from modeldrop.fetcher.layout import read_renames
    from modeldrop.fetcher.triton import configs
    from modeldrop.format.names import DELTAS, OWN_FILES

    renamed = read_renames(folder)
    paths = {file.path: folder / renamed.get(file.path, file.path) for file in manifest.files}
    there = {path for path, local in paths.items() if local.is_file()}
    variants = [variant for variant in manifest.variants if there.issuperset(variant.files)]
    wanted = {path for variant in variants for path in variant.files} if variants and not all_variants else {*paths}
    damages = [f"{paths[path]} is missing." for path in paths if path in wanted - there]
    damages += [
        f"{paths[file.path]} does not have the digest that the manifest says."
        for file in manifest.files
        if file.path in there and not _matches(str(paths[file.path]), file, manifest.piece_size)
    ]
    known = {
        *(path for variant in variants for path in configs(variant, renamed)),
        *(local.relative_to(folder).as_posix() for local in paths.values()),
        *OWN_FILES,
        RENAMES_FILE,
    }
    extra = _find_extra(folder, known, beside=(DELTAS,))
    return [*damages, *extra], [variant.name for variant in variants]


def settle(folder: Path, youngest: int) -> None:
    """Give a snapshot's manifest the time of its youngest file, in nanoseconds, if that can be done."""
    with contextlib.suppress(OSError):
        os.utime(folder / MANIFEST_FILE, ns=(youngest, youngest))


def _files(snapshot: LocalSnapshot) -> Mapping[str, File]:
    """What the manifest says of each file, by its path in the folder."""
    return {snapshot.renamed.get(file.path, file.path): file for file in snapshot.manifest.files}


def _written(snapshot: LocalSnapshot) -> Mapping[str, bytes]:
    """The files of a snapshot that its layout brought, and no version has."""
    from modeldrop.fetcher.triton import configs

    variant = snapshot.manifest.variant(snapshot.variant)
    return configs(variant, snapshot.renamed) if variant is not None and snapshot.renamed else {}


def _find_extra(folder: Path, known: Collection[str], *, beside: Collection[str] = ()) -> Iterator[str]:
    """What is in a folder and not ``known``; the folders ``beside`` are not looked into."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if os.path.relpath(os.path.join(parent, name), folder) not in beside]  # noqa: PTH118
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]  # noqa: PTH114, PTH118
        for name in sorted([*names, *links]):
            path = os.path.join(parent, name)  # noqa: PTH118
            if os.path.relpath(path, folder) not in known:
                yield f"{path} does not belong there."


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


def _find_wrong_bytes(path: str, file: File, piece_size: int) -> Iterator[str]:
    try:
        if not _matches(path, file, piece_size):
            yield f"{path} does not have the digest that the manifest says."
    except FileNotFoundError:  # it was there a moment ago
        yield f"{path} is missing."


def _matches(path: str, file: File, piece_size: int) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return matches_digest(descriptor, file, piece_size)
    finally:
        os.close(descriptor)
