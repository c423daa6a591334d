"""Where a snapshot is put together, by one process at a time, and taken over when that process dies.

``.partial/<digest>-<variant>/`` belongs to one snapshot. The folder in it, with the files so far, belongs to whoever
gave it its present name: who takes over renames it, and who has lost it finds nothing where it was. Renaming is
atomic wherever a lock is not, so that two never finish the same folder. The lock only tells at once what the
watching of a folder tells late: that nobody is at work.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from modeldrop.util.locks import Lock, try_lock
from modeldrop.util.retry import jittered
from modeldrop.util.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.util.retry import Deadline

_LOCK = "lock"
_FIRST = "work"
_PAUSES = (0.02, 0.5)
_TOUCH_SECONDS = 1.0
_LEAST_PATIENCE = 0.02

STUCK_SECONDS = 20.0
"""A folder that nothing was added to for so long is taken over, whoever holds the lock. Longer than a stalled request
takes to be cut and made again."""


@dataclass(slots=True)
class Work:
    """The right to work in ``path``, until another process takes it away.

    Attributes:
        path: the folder.
        lock: the lock, if it could be had.
        inode: of the folder; another one of the same name is not this work.
    """

    path: Path
    lock: Lock | None
    inode: tuple[int, int]
    _touched: float = field(default=0.0)

    def touch(self, *, now: bool = False) -> None:
        """Show those who wait that the work goes on; at most every second, unless it has to be ``now``."""
        moment = time.monotonic()
        if now or moment - self._touched > _TOUCH_SECONDS:
            self._touched = moment
            with contextlib.suppress(OSError):
                os.utime(self.path)
                os.utime(self.path.parent)  # what is swept is this one

    def is_ours(self) -> bool:
        """Whether nobody has taken it over."""
        return _inode(self.path) == self.inode

    def release(self) -> None:
        """Let others go on with it."""
        if self.lock is not None:
            self.lock.release()
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # only if nothing is left to go on with


def take(folder: Path, finished: Callable[[], bool], deadline: Deadline, *, lost: int = 0) -> Work | None:
    """Wait for the turn to put a snapshot together.

    Args:
        folder: what belongs to this snapshot below ``.partial``.
        finished: whether it is there by now.
        deadline: of the whole command.
        lost: how often the work was taken away from this process: then the lock keeps nobody away, and the patience
            with others doubles each time, so that in the end one is left in peace.

    Returns:
        The folder to work in, with what an earlier attempt has left; None where the snapshot is there.

    Raises:
        RegistryError: the deadline is over.
        OSError: the disk cannot be written.
    """
    lock: Lock | None = None
    work: Work | None = None
    watched: tuple[object, float] = (None, 0.0)
    pause, longest = _PAUSES
    patience = (STUCK_SECONDS + _LEAST_PATIENCE) * 2**lost
    try:
        while not finished():
            deadline.check(f"another process to finish its download into {folder.parent.parent}")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = lock or try_lock(folder / _LOCK)
                found = _works(folder)
            except (FileNotFoundError, FileExistsError):
                if os.path.lexists(folder) and not folder.is_dir():
                    raise
                _let_go(lock)
                lock = None
                continue  # whoever finished has just cleaned up
            if watched[0] != found:
                watched = (found, time.monotonic())
            alone = lock is not None and lock.works and not lost
            nobody = lock is not None and not found
            if alone or nobody or time.monotonic() - watched[1] > patience:
                work = _claim(folder, found, lock, alone=alone)
                if work is not None and finished():  # by whoever had the lock a moment ago
                    from shutil import rmtree  # see ModelHome.discard

                    rmtree(work.path, ignore_errors=True)
                    work = None
                if work is not None:
                    return work
            time.sleep(min(jittered(pause), deadline.left()))
            pause = min(pause * 1.5, longest)
        return None
    finally:
        if work is None:
            _let_go(lock)
            with contextlib.suppress(OSError):
                folder.rmdir()


def _let_go(lock: Lock | None) -> None:
    if lock is not None:
        lock.release()


def _works(folder: Path) -> tuple[tuple[int, str], ...]:
    """The folders that somebody works in, or did: when something was last added, and the name; the last one last."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.name))
    return tuple(sorted(found))


def _claim(folder: Path, found: tuple[tuple[int, str], ...], lock: Lock | None, *, alone: bool) -> Work | None:
    """Make the folder, or take over the youngest there is; None where another process was faster."""
    path = folder / os.urandom(8).hex()
    try:
        if found:
            (folder / found[-1][1]).rename(path)
        else:
            (folder / _FIRST).mkdir()  # one name for all: only one can make it
            (folder / _FIRST).rename(path)
            if not alone and len(_works(folder)) > 1:
                path.rmdir()  # another one looked before we had made ours, and has made one too
                return None
        inode = _inode(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError | FileExistsError) or error.errno == errno.ENOTEMPTY:
            return None
        raise
    if inode is None:
        return None
    work = Work(path, lock, inode)
    work.touch(now=True)
    return work


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
