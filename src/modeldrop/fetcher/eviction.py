"""Disk space: what the snapshots of a model take, and which of them are removed."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from modeldrop.fetcher.home import PARTIAL, STALE_SECONDS, ModelHome, find_links, find_snapshots
from modeldrop.fetcher.leases import forget, holder, last_use, leaseholder, user_of
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modeldrop.fetcher.snapshot import LocalSnapshot

DEFAULT_KEEP = 3


class DiskUse(NamedTuple):
    """What a snapshot takes on this disk, and who needs it.

    Attributes:
        snapshot: the snapshot.
        disk_bytes: what its files take on disk, shared ones included.
        own_bytes: what removing it would free.
        last_use: in Unix seconds.
        links: names of the links that lead to it.
        used_by: who uses it, in words; "" for nobody.
    """

    snapshot: LocalSnapshot
    disk_bytes: int
    own_bytes: int
    last_use: float
    links: tuple[str, ...]
    used_by: str


def survey(model_home: Path, now: float) -> list[DiskUse]:
    """All snapshots of a model on this disk, the last used first."""
    links = _links(model_home)
    found = []
    for snapshot in find_snapshots(model_home):
        path = snapshot.path
        with contextlib.suppress(OSError):
            size, own = _sizes(path)
            found.append(
                DiskUse(
                    snapshot=snapshot,
                    disk_bytes=size,
                    own_bytes=own,
                    last_use=last_use(path),
                    links=links.get(path.name, ()),
                    used_by=user_of(path, now),
                )
            )
    return sorted(found, key=lambda one: (-one.last_use, one.snapshot.path.name))


def disk_bytes(*folders: Path) -> int:
    """What all below some folders takes on disk, each file once however many names it has."""
    seen = {(status.st_dev, status.st_ino): status.st_blocks * 512 for folder in folders for status in _files(folder)}
    return sum(seen.values())


def evict(
    home: ModelHome, keep: int = DEFAULT_KEEP, *, now: float, idle: float = STALE_SECONDS, dry_run: bool = False
) -> list[Path]:
    """Remove snapshots that nobody needs, and what killed processes have left. Never raises.

    Kept are the ``keep`` snapshots that were used last, whatever a link names, whatever a process uses, and
    whatever was used within ``idle`` seconds. A snapshot loses its name before any of its files goes.

    Returns:
        The folders that were removed, or with ``dry_run`` would be.
    """
    if not dry_run:
        home.sweep(now)
    removed = []
    with contextlib.suppress(OSError):
        paths = [snapshot.path for snapshot in find_snapshots(home.path)]
        for path in sorted(paths, key=last_use, reverse=True)[max(0, keep) :]:
            with contextlib.suppress(OSError):
                if _evict(home, path, now, idle, dry_run=dry_run):
                    removed.append(path)
    return removed


def _evict(home: ModelHome, path: Path, now: float, idle: float, *, dry_run: bool) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Locked from here on: whoever wants to use it waits, and then finds it gone.
        if holder(descriptor) or leaseholder(path, now):
            return False
        if now - last_use(path) < idle or path.name in _links(home.path):
            return False
        if not dry_run:
            home.discard(path)
            forget(path)
        return True
    finally:
        os.close(descriptor)


def _links(model_home: Path) -> dict[str, tuple[str, ...]]:
    """Names of links by the folder they lead to."""
    found: dict[str, tuple[str, ...]] = {}
    for name, says in find_links(model_home).items():
        target = os.path.basename(os.path.normpath(says))  # noqa: PTH119
        found[target] = (*found.get(target, ()), name)
    return found


def _sizes(folder: Path) -> tuple[int, int]:
    """Bytes on disk of what is in a folder, and of what only this folder has."""
    inodes: dict[tuple[int, int], tuple[os.stat_result, int]] = {}
    for status in _files(folder):
        key = (status.st_dev, status.st_ino)
        inodes[key] = (status, inodes[key][1] + 1 if key in inodes else 1)
    size = sum(status.st_blocks * 512 for status, _ in inodes.values())
    return size, sum(status.st_blocks * 512 for status, names in inodes.values() if status.st_nlink == names)


def _files(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield os.lstat(os.path.join(parent, name))  # noqa: PTH118


def leftovers(model_home: Path) -> int:
    """Bytes of unfinished and discarded work."""
    return disk_bytes(model_home / PARTIAL)
