"""Disk space: what the snapshots of a model take, and which of them are removed.

Never removed is

- what a living process uses: by its lock or lease (``leases``). ``run`` hands a lock on to the program, ``watch`` has
  both, and a program that calls ``fetch`` has a lock as long as it lives;
- what a link names: the last good snapshot of a channel, whoever was given its path;
- the ``keep`` snapshots that were used last.

After a new version has come, the rest goes, but for what was used a moment ago: it may have been printed by ``fetch``
for a program that has not opened it yet. Where a download does not fit, that goes as well, before it begins.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from modeldrop.fetcher.home import PARTIAL, ModelHome, find_links, find_models, find_snapshots
from modeldrop.fetcher.leases import LEASE_SECONDS, forget, holder, last_use, leaseholder, user_of
from modeldrop.fetcher.options import DEFAULT_KEEP
from modeldrop.util.locks import held_in_turn
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modeldrop.fetcher.snapshot import LocalSnapshot

_LOCK = ".removing.lock"
_PAUSE = 0.02  # seconds
_TURN_SECONDS = 10.0  # a process may be stopped while it removes something


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
            found.append(
                DiskUse(
                    snapshot=snapshot,
                    disk_bytes=disk_bytes(path),
                    own_bytes=own_bytes(path),
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


def own_bytes(*folders: Path) -> int:
    """What removing some folders would free: a file that has a name elsewhere stays."""
    inodes: dict[tuple[int, int], tuple[os.stat_result, int]] = {}
    for status in (status for folder in folders for status in _files(folder)):
        key = (status.st_dev, status.st_ino)
        inodes[key] = (status, inodes[key][1] + 1 if key in inodes else 1)
    return sum(status.st_blocks * 512 for status, names in inodes.values() if status.st_nlink == names)


def evict(
    home: ModelHome, keep: int = DEFAULT_KEEP, *, now: float, idle: float = LEASE_SECONDS, dry_run: bool = False
) -> list[Path]:
    """Remove snapshots that nobody needs, and what killed processes have left. Never raises.

    A snapshot loses its name before any of its files goes.

    Args:
        home: the model's folder.
        keep: how many stay at least, the last used ones.
        now: in Unix seconds.
        idle: what was used within so many seconds stays too.
        dry_run: remove nothing.

    Returns:
        The folders that were removed, or with ``dry_run`` would be; the last used first.
    """
    removed = []
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        if not dry_run:
            stack.enter_context(removing(home))
            home.sweep(now)
        paths = [snapshot.path for snapshot in find_snapshots(home.path)]
        for path in sorted(paths, key=last_use, reverse=True)[max(0, keep) :]:
            with contextlib.suppress(OSError):
                if _evict(home, path, now, idle, dry_run=dry_run):
                    removed.append(path)
    return removed


def make_room(home: ModelHome, missing: int, keep: int, *, spare: Path, partly: bool = False, now: float) -> bool:
    """Free so many bytes by removing what nobody needs. Never raises.

    First goes unfinished work that nobody goes on with, then snapshots of this model, then those of the other models
    in the same home, each the longest unused first.

    Args:
        home: the model's folder.
        missing: bytes.
        keep: how many snapshots of each model stay, the last used ones; the one that is to come is one of this model's.
        spare: unfinished work that is gone on with.
        partly: remove all of it even if that is less; without, nothing is removed where it would not be enough.
        now: in Unix seconds.

    Returns:
        Whether something is gone that was there.
    """
    with contextlib.suppress(OSError):
        others = [ModelHome(home.path.parent, name) for name in find_models(home.path.parent) if name != home.path.name]
        chosen: list[tuple[ModelHome, Path]] = [
            (one, path) for one in (home, *others) for path in one.abandoned() if path != spare
        ]
        works = len(chosen)
        for one, kept in ((home, keep - 1), *((other, keep) for other in others)):
            chosen += [(one, path) for path in reversed(evict(one, kept, now=now, idle=0, dry_run=True))]
        counts = range(1, len(chosen) + 1)
        enough = (count for count in counts if own_bytes(*(path for _, path in chosen[:count])) >= missing)
        freed = False
        for index, (one, path) in enumerate(chosen[: next(enough, len(chosen) if partly else 0)]):
            with contextlib.suppress(OSError):
                freed |= one.discard_unlocked(path) if index < works else _evict(one, path, now, 0, dry_run=False)
            freed |= not path.exists()  # another process may have removed it
        return freed
    return False


def removing(home: ModelHome) -> contextlib.AbstractContextManager[None]:
    """Let one process or thread after the other remove what lies in a home, as far as there are locks.

    What another one is removing is neither there to be removed nor free yet: who looks in that moment finds no room.
    """
    return held_in_turn(home.path.parent / _LOCK, Deadline(_TURN_SECONDS), _PAUSE)


def _evict(home: ModelHome, path: Path, now: float, idle: float, *, dry_run: bool) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Locked from here on: whoever wants to use it waits, and then finds it gone.
        if holder(descriptor) or (idle and now - last_use(path) < idle) or _is_needed(home.path, path, now):
            return False
        if dry_run:
            return True
        removed = home.discard_unless(path, lambda: _is_needed(home.path, path, now))
        if removed:
            forget(path)
        return removed
    finally:
        os.close(descriptor)


def _is_needed(model_home: Path, path: Path, now: float) -> bool:
    """Whether somebody has said that he uses a snapshot, by a link or a lease; or nobody knows."""
    try:
        return bool(leaseholder(path, now)) or path.name in _links(model_home)
    except OSError:
        return True


def _links(model_home: Path) -> dict[str, tuple[str, ...]]:
    """Names of links by the folder they lead to."""
    found: dict[str, tuple[str, ...]] = {}
    for name, says in find_links(model_home).items():
        target = os.path.basename(os.path.normpath(says))  # noqa: PTH119
        found[target] = (*found.get(target, ()), name)
    return found


def _files(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield os.lstat(os.path.join(parent, name))  # noqa: PTH118


def leftovers(model_home: Path) -> int:
    """Bytes of unfinished and discarded work."""
    return disk_bytes(model_home / PARTIAL)
