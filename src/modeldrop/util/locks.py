"""Advisory locks between processes. They only save work that two would do twice: correctness never depends on them.

``flock`` is released by the kernel when a process dies. On some network file systems it always succeeds, or is only
known to the same machine; so each lock tests whether it excludes a second one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.util.files import identity, share

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.util.retry import Deadline

_TRIES = 3
_owned: set[int] = set()


class Lock:
    """A lock that is held.

    Attributes:
        path: its file.
        descriptor: what holds it.
        works: whether it excludes others, as far as one machine can tell.
    """

    __slots__ = ("descriptor", "path", "works")

    def __init__(self, path: Path, descriptor: int, *, works: bool) -> None:
        self.path = path
        self.descriptor = descriptor
        self.works = works

    def release(self) -> None:
        """Remove its file and let go."""
        with contextlib.suppress(OSError):
            if _is_named(self.descriptor, self.path):
                self.path.unlink()
        disown(self.descriptor)


def try_lock(path: Path) -> Lock | None:
    """Take the lock ``path``, or None where somebody else has it.

    Raises:
        OSError: its file cannot be made; FileNotFoundError where its folder has just gone.
    """
    descriptor = _open(path)
    try:
        works = _take(descriptor)
        if works is None or not _is_named(descriptor, path):  # whoever had it has removed it
            os.close(descriptor)
            return None
        own(descriptor)
        return Lock(path, descriptor, works=works and _excludes(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise


@contextlib.contextmanager
def held_in_turn(path: Path, limit: Deadline, pause: float) -> Iterator[None]:
    """Hold the lock ``path``, as soon as others let it go; go on without it after ``limit``, or where there are none.

    Args:
        path: the lock.
        limit: how long to wait for it.
        pause: seconds between two looks.
    """
    lock = None
    with contextlib.suppress(OSError):
        while (lock := try_lock(path)) is None and limit.left():
            time.sleep(pause)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def own(descriptor: int) -> None:
    """Close it in forked children: a lock is let go only when all descriptors of it are closed, and they live on."""
    _owned.add(descriptor)


def disown(descriptor: int) -> None:
    """Close it here. Nothing is done in a child that was forked meanwhile: there it is closed."""
    if descriptor in _owned:
        _owned.discard(descriptor)
        os.close(descriptor)


def is_at(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Whether an open file or folder is still the one that is called ``path``."""
    try:
        return identity(descriptor) == identity(path)
    except FileNotFoundError:
        return False


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether a lock that is ours is still called so, even where inodes change without a reason (rclone's mounts)."""
    if is_at(descriptor, path):
        return True
    mark = os.urandom(16)
    try:
        os.pwrite(descriptor, mark, 0)
        return path.read_bytes().startswith(mark)
    except OSError:
        return False


def _close_owned() -> None:
    for descriptor in list(_owned):
        os.close(descriptor)
    _owned.clear()


os.register_at_fork(after_in_child=_close_owned)


def _open(path: Path, create: int = os.O_CREAT) -> int:
    for left in reversed(range(_TRIES)):
        try:
            descriptor = os.open(path, os.O_RDWR | create | os.O_CLOEXEC, 0o666)
        except PermissionError as error:
            try:
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # another user's, which can be locked all the same
            except OSError as other:
                # Either nothing may be made here, or who had it has removed it between these two looks.
                if not left or not isinstance(other, FileNotFoundError):
                    raise error from None
        else:
            break
    try:
        if create:
            share(descriptor, path.parent)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _take(descriptor: int) -> bool | None:
    """True: it is ours. None: it is somebody else's. False: there are no locks here."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return None
    except OSError:
        return False
    return True


def _excludes(path: Path) -> bool:
    with contextlib.suppress(OSError):
        second = _open(path, create=0)  # where locks exclude nobody, somebody else may just have removed it
        try:
            return _take(second) is None
        finally:
            os.close(second)
    return False
