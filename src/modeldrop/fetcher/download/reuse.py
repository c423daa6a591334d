"""Files that other snapshots on this disk have already: verified, then linked or copied instead of downloaded."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.fetcher.home import find_snapshots
from modeldrop.fetcher.verify import matches_digest
from modeldrop.util.files import READ_ONLY, make_folders_below, share
from modeldrop.util.locks import is_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from modeldrop.fetcher.snapshot import LocalSnapshot
    from modeldrop.format.manifest import File

_READ = 1 << 20
_MAX_SNAPSHOTS = 64
_LINKED, _COPIED = "linked", "copied"
_FULL = {errno.ENOSPC, errno.EDQUOT}


def reuse(
    model_home: Path, files: Sequence[File], piece_size: int, into: Path, progress: Callable[[int], None]
) -> tuple[set[str], int]:
    """Bring what can be had from other snapshots of this model, then from other models beside it, into ``into``.

    Args:
        model_home: the model's folder.
        files: what is wanted; their paths are those below ``into``.
        piece_size: of their digests.
        into: the folder to fill; nobody else works in it.
        progress: told bytes as they are verified.

    Returns:
        The paths that were linked: complete, verified and read-only. And the bytes of those that were copied, and are
        still to be verified.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    wanted = {(file.size, file.pieces): file for file in files if file.size}
    linked: set[str] = set()
    copied: dict[str, int] = {}
    for source, size, pieces in _candidates(model_home, piece_size):
        file = wanted.get((size, pieces))
        if file is None or file.path in linked:
            continue
        make_folders_below(into, file.path)
        how = _bring(source, file, piece_size, into / file.path, progress)
        if how == _LINKED:
            linked.add(file.path)
            copied.pop(file.path, None)
        elif how == _COPIED:
            copied[file.path] = file.size
        if len(linked) == len(wanted):
            break
    return linked, sum(copied.values())


def _candidates(model_home: Path, piece_size: int) -> Iterator[tuple[Path, int, tuple[str, ...]]]:
    """Files that manifests on this disk describe: path, size, pieces. Nothing of it is verified."""
    for snapshot in _snapshots(model_home):
        with contextlib.suppress(OSError, FormatError):
            if snapshot.manifest.piece_size != piece_size:
                continue
            for file in snapshot.manifest.files:
                path = snapshot.renamed.get(file.path, file.path)
                if path in snapshot.sizes:
                    yield snapshot.path / path, file.size, file.pieces


def _snapshots(model_home: Path) -> Iterable[LocalSnapshot]:
    """Snapshots of this model, then of its neighbours, the newest first; not too many to read their manifests."""
    neighbours: list[Path] = []
    with contextlib.suppress(OSError), os.scandir(model_home.parent) as entries:
        neighbours = [
            model_home.parent / entry.name
            for entry in entries
            if entry.name != model_home.name and entry.is_dir(follow_symlinks=False)
        ]
    found: list[LocalSnapshot] = []
    for home in (model_home, *sorted(neighbours)):
        if len(found) >= _MAX_SNAPSHOTS:
            break
        dated = []
        with contextlib.suppress(OSError):
            for snapshot in find_snapshots(home):
                with contextlib.suppress(OSError):
                    dated.append((snapshot.path.stat().st_mtime, str(snapshot.path), snapshot))
        found += [snapshot for _, _, snapshot in sorted(dated, reverse=True)]
    return found[:_MAX_SNAPSHOTS]


def _bring(source: Path, file: File, piece_size: int, target: Path, progress: Callable[[int], None]) -> str:
    """Link or copy one file; "" where that source is not good for it."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        # A file that somebody may write into must not be shared.
        if os.fstat(descriptor).st_mode & 0o777 == READ_ONLY:
            told = 0

            def tell(count: int) -> None:
                nonlocal told
                told += count
                progress(count)

            if not matches_digest(descriptor, file, piece_size, tell):
                progress(-told)
                return ""
            if _link(source, descriptor, target):
                os.fsync(descriptor)
                return _LINKED
            progress(-told)  # it will be told when the copy is verified
        _copy(descriptor, file.size, target)
        return _COPIED
    except OSError as error:
        if error.errno in _FULL or not target.parent.is_dir():
            raise
        return ""
    finally:
        os.close(descriptor)


def _link(source: Path, descriptor: int, target: Path) -> bool:
    """Give the open file another name; False where that is not possible."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # on another disk, with too many links, not ours to link, or there are no links: a copy will do
        return False
    if is_at(descriptor, target):
        return True
    target.unlink()  # what was verified has just been replaced
    return False


def _copy(descriptor: int, size: int, target: Path) -> None:
    """Copy an open file, sharing its blocks where the file system can."""
    target.unlink(missing_ok=True)
    copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        share(copy, target.parent)
        done = 0
        with contextlib.suppress(OSError):
            while done < size and hasattr(os, "copy_file_range"):
                count = os.copy_file_range(descriptor, copy, min(size - done, 1 << 30), done, done)
                if not count:
                    break
                done += count
        while done < size:
            data = os.pread(descriptor, min(_READ, size - done), done)
            if not data:
                break
            done += os.pwrite(copy, data, done)
    finally:
        os.close(copy)
