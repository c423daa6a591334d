"""Where a snapshot is put together, by one process at a time, and taken over when that process dies.

``.partial/<digest>-<variant>/`` belongs to one snapshot. It holds a lock file and one folder with a random name: the
files so far. Whoever gave that folder its present name has the claim to fill it.

- Nobody is at work: the lock is free, and the folder is missing or left over. Whoever gets the lock makes the folder,
  or renames the one that is there, and goes on with its files.
- Somebody is at work: the others wait until the snapshot is finished, or the lock is free, or nothing was added to the
  folder for ``STUCK_SECONDS`` (its holder hangs, or locks do not work on this file system). Then one of them renames
  it.
- Who has lost the claim finds nothing where the folder was: every write fails, and so does the final rename. He waits
  again, with twice the patience each time, so that in the end one is left in peace.

The lock only saves time, because it tells at once what watching the folder tells late. What makes it safe is that
renaming is atomic: two processes can never finish the same folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Self

from modeldrop.util.files import NAME_TAKEN, make_folder, remove_tree, share
from modeldrop.util.locks import Lock, try_lock
from modeldrop.util.retry import jittered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.util.retry import Deadline

_LOCK = "lock"
_FIRST = "work"
_PAUSES = (0.02, 0.5)
_TOUCH_SECONDS = 1.0
_MIN_PATIENCE = 0.02

STUCK_SECONDS = 20.0
"""A folder that nothing was added to for so long is taken over, whoever holds the lock. Longer than a stalled request
takes to be cut and made again."""


class StagingClaim:
    """The right to fill the folder ``path``, until another process takes it over.

    Use it in a ``with`` statement: it ends there, and a FileNotFoundError for what was taken over ends with it.
    """

    def __init__(self, path: Path, lock: Lock | None) -> None:
        self.path = path
        self._lock = lock  # if it could be had
        self._touched = 0.0

    def touch(self, *, now: bool = False) -> None:
        """Show those who wait that the work goes on; at most every second, unless it has to be ``now``."""
        moment = time.monotonic()
        if now or moment - self._touched > _TOUCH_SECONDS:
            self._touched = moment
            with contextlib.suppress(OSError):
                os.utime(self.path)
                os.utime(self.path.parent)  # what is swept is this one

    def is_ours(self) -> bool:
        """Whether nobody has taken it over: its random name is never given twice."""
        return self.path.is_dir()  # its inode would not do: on some file systems (rclone's mounts) it changes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        lost = isinstance(error, FileNotFoundError) and not self.is_ours()
        _release(self._lock)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # only if nothing is left to go on with
        return lost


def claims(folder: Path, is_finished: Callable[[], bool], deadline: Deadline) -> Iterator[StagingClaim]:
    """Wait for the turn to put a snapshot together: again and again, until it is finished.

    Args:
        folder: what belongs to this snapshot below ``.partial``.
        is_finished: whether it is there by now.
        deadline: of the whole command.

    Yields:
        The claim to a folder that holds what an earlier attempt has left. If it is not finished there, the claim was
        lost to another process.

    Raises:
        RegistryError: the deadline is over.
        OSError: the disk cannot be written.
    """
    lost = 0
    while (claim := _wait(folder, is_finished, deadline, lost)) is not None:
        yield claim
        lost += 1


def _wait(folder: Path, is_finished: Callable[[], bool], deadline: Deadline, lost: int) -> StagingClaim | None:
    lock: Lock | None = None
    claim: StagingClaim | None = None
    seen: tuple[object, float] = (None, 0.0)
    pause, longest = _PAUSES
    patience = (STUCK_SECONDS + _MIN_PATIENCE) * 2**lost
    others = f"another process to finish its download into {folder.parent.parent}"
    try:
        while not is_finished():
            try:
                make_folder(folder.parent)
                make_folder(folder)
                lock = lock or try_lock(folder / _LOCK)
                found = _contents(folder)
            except (FileNotFoundError, FileExistsError):
                if not folder.parent.parent.is_dir() or _is_taken(folder):
                    raise
                _release(lock)
                lock = None
                deadline.check(others)
                continue  # whoever finished has just cleaned up
            if seen[0] != found:
                seen = (found, time.monotonic())
            # Once a claim was lost in spite of the lock, the lock says nothing any more.
            alone = lock is not None and lock.works and not lost
            nobody = lock is not None and not found
            if alone or nobody or time.monotonic() - seen[1] > patience:
                claim = _claim(folder, found, lock, alone=alone)
                if claim is not None and is_finished():  # by whoever had the lock a moment ago
                    remove_tree(claim.path)
                    claim = None
                if claim is not None:
                    return claim
            deadline.check(others)  # only here: where nobody else is at work, nobody is waited for
            time.sleep(min(jittered(pause), deadline.left()))
            pause = min(pause * 1.5, longest)
        return None
    finally:
        if claim is None:
            _release(lock)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _is_taken(folder: Path) -> bool:
    """Whether something that is no folder has its name: in one look, for others make it and remove it all the time."""
    try:
        return not stat.S_ISDIR(folder.lstat().st_mode)
    except FileNotFoundError:
        return False


def _contents(folder: Path) -> tuple[tuple[int, str], ...]:
    """The folders that somebody fills, or did: when something was last added, and the name; the last one last."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    return tuple(sorted(found))


def _claim(folder: Path, found: tuple[tuple[int, str], ...], lock: Lock | None, *, alone: bool) -> StagingClaim | None:
    """Make the folder, or take over the youngest there is; None where another process was faster."""
    path = folder / os.urandom(8).hex()
    try:
        if found:
            (folder / found[-1][1]).rename(path)
        else:
            (folder / _FIRST).mkdir()  # one name for all: only one can make it
            share(folder / _FIRST, folder)
            (folder / _FIRST).rename(path)
            if not alone and len(_contents(folder)) > 1:
                path.rmdir()  # another one looked before we had made ours, and has made one too
                return None
    except OSError as error:
        if error.errno == errno.EXDEV:  # of an image's layer, where nobody works and no folder can be renamed
            remove_tree(folder / found[-1][1])
            return None
        if isinstance(error, FileNotFoundError) or error.errno in NAME_TAKEN:
            return None
        raise
    claim = StagingClaim(path, lock)
    claim.touch(now=True)
    return claim


def _release(lock: Lock | None) -> None:
    if lock is not None:
        lock.release()
