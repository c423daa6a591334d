"""Which snapshots are in use, and when each was last used, so that none is evicted under a program's feet.

In use is what a living process holds: by a shared lock on the snapshot's folder, whose descriptor ``run`` passes
through exec, or by a lease, a small file that ``watch`` touches. The lock goes with the process, whatever ends it; a
lease counts where locks do not, and for ten minutes where it cannot be told whether its process lives. All of it is
best effort: on a read-only volume nothing is written, and nothing evicted either.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time
from pathlib import Path
from typing import Self

from modeldrop.util.files import make_folder, replace_file
from modeldrop.util.locks import disown, is_at, own

LEASE_SECONDS = 600
"""A lease that nobody has touched for so long is over. Touch it more often."""

TOUCH_SECONDS = LEASE_SECONDS / 5

_LEASES = ".leases"
_USED = ".used"
_USED_SECONDS = 60
_WAIT_SECONDS = 1.0
_PAUSE = 0.01
_TRIES = 3


def hold(snapshot: str | os.PathLike[str]) -> int:
    """Keep a snapshot from being evicted as long as the returned descriptor is open, in this process or its children.

    Raises:
        FileNotFoundError: it has just been evicted, or is being so: fetch it again.
        OSError: it cannot be opened.
    """
    for attempt in range(_TRIES):
        descriptor = os.open(snapshot, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _share(descriptor)
            # Evicted while we waited, perhaps fetched again since: then it is opened again. Where it is there and still
            # another one, its inode says nothing (rclone's mounts).
            if is_at(descriptor, snapshot) or (attempt == _TRIES - 1 and os.path.isdir(snapshot)):  # noqa: PTH112
                os.set_inheritable(descriptor, True)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise FileNotFoundError(f"{os.fspath(snapshot)} has been removed.")


class _SnapshotLock:
    """A lock that ends when nothing refers to it any more."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)  # this process's own use, not that of the programs it starts
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


_held: dict[str, _SnapshotLock] = {}


def let_go() -> None:
    """Let go of all that ``note_use`` holds for this process, such as before a volume is unmounted."""
    _held.clear()


def note_use(snapshot: Path, now: float | None = None, *, reader: str = "") -> bool:
    """Remember that a snapshot is used ``now``; at most once a minute, and where the volume can be written.

    Args:
        snapshot: its folder.
        now: in Unix seconds.
        reader: what this process reads there, such as a channel: the snapshot is not evicted as long as the process
            lives, or its children by fork, and until another one is used as the same. "" holds nothing.

    Returns:
        False if it has been evicted meanwhile: look again what is there.
    """
    try:
        descriptor = hold(snapshot)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # it can be used without being held
    try:
        moment = time.time() if now is None else now
        path = snapshot.parent / _USED / snapshot.name
        with contextlib.suppress(OSError):
            if moment - _mtime(path) >= _USED_SECONDS:
                make_folder(path.parent)
                replace_file(path, b"", at=moment)
        return True
    finally:
        held = _SnapshotLock(descriptor)
        if reader:
            _held[reader] = held


def last_use(snapshot: Path) -> float:
    """When a snapshot was last used, as far as is known, in Unix seconds."""
    return max(_mtime(snapshot), _mtime(snapshot.parent / _USED / snapshot.name))


def forget(snapshot: Path) -> None:
    """Remove what is noted of a snapshot that has been evicted."""
    with contextlib.suppress(OSError):
        (snapshot.parent / _USED / snapshot.name).unlink(missing_ok=True)
    leases = snapshot.parent / _LEASES / snapshot.name
    with contextlib.suppress(OSError):
        for lease in leases.iterdir():
            lease.unlink(missing_ok=True)
        leases.rmdir()


class Lease:
    """A file that says that a process uses a snapshot. ``touch`` it well within ``LEASE_SECONDS``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def touch(self) -> None:
        """Say it again. Best effort."""
        with contextlib.suppress(OSError):
            make_folder(self.path.parent.parent)
            for _ in range(_TRIES):
                make_folder(self.path.parent)
                with contextlib.suppress(FileNotFoundError):  # the last one but us has just tidied up
                    self.path.touch()
                    os.utime(self.path)
                    break

    def release(self) -> None:
        """Take it back."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # the last one tidies up


def lease(snapshot: Path) -> Lease:
    """Say that this process uses a snapshot, until released or not touched for ``LEASE_SECONDS``."""
    given = Lease(snapshot.parent / _LEASES / snapshot.name / f"{_here()}-{os.getpid()}-{os.urandom(3).hex()}")
    given.touch()
    return given


class InUse:
    """A long-lived process's hold on the snapshot that it uses: a lock, and a lease for where locks do not count.

    The snapshot is not evicted until ``release``, if it is touched every ``TOUCH_SECONDS``.
    """

    def __init__(self, snapshot: Path, descriptor: int, given: Lease) -> None:
        self.snapshot = snapshot
        self.descriptor = descriptor
        self.lease = given

    @classmethod
    def take(cls, snapshot: Path) -> Self:
        """Use a snapshot from now on.

        Raises:
            FileNotFoundError: it has just been evicted.
            OSError: it cannot be opened.
        """
        descriptor = hold(snapshot)
        os.set_inheritable(descriptor, False)  # this process's own use, not that of what it starts
        own(descriptor)
        using = cls(snapshot, descriptor, lease(snapshot))
        if not os.path.isdir(snapshot):  # noqa: PTH112  who evicts looks for leases once more, after that
            using.release()
            raise FileNotFoundError(errno.ENOENT, "it has just been removed", os.fspath(snapshot))
        return using

    def touch(self) -> None:
        """It is still used."""
        self.lease.touch()
        note_use(self.snapshot)

    def release(self) -> None:
        """It is not used any more."""
        self.lease.release()
        disown(self.descriptor)


def user_of(snapshot: Path, now: float) -> str:
    """Who uses a snapshot, in words; "" for nobody.

    Raises:
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(snapshot, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return holder(descriptor) or leaseholder(snapshot, now)
    finally:
        os.close(descriptor)


def holder(descriptor: int) -> str:
    """Who else holds an open snapshot folder, in words; "" for nobody, and then it is this descriptor's alone."""
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if left:
                time.sleep(_PAUSE)  # somebody else may be asking the same: for that it is held alone, for a moment
        except OSError as error:
            return f"whether a process holds it cannot be told: {error.strerror}"
        else:
            return ""
    return "a process holds it"


def leaseholder(snapshot: Path, now: float) -> str:
    """Whose lease of a snapshot is still good, in words; "" for nobody's."""
    here = _here()
    try:
        names = sorted(path.name for path in (snapshot.parent / _LEASES / snapshot.name).iterdir())
    except OSError:
        return ""
    for name in names:
        if now - _mtime(snapshot.parent / _LEASES / snapshot.name / name) > LEASE_SECONDS:
            continue
        host, _, rest = name.rpartition("-")[0].rpartition("-")
        if host == here and rest.isdigit() and not _lives(int(rest)):
            continue
        return f"process {rest} on {host.partition('+')[0]} uses it"
    return ""


def _share(descriptor: int) -> None:
    """Wait a moment for whoever is about to evict it; where there are no locks, go without."""
    end = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            if time.monotonic() > end:
                return  # somebody holds it alone and does not let go: it stays usable, unlocked
            time.sleep(_PAUSE)
        except OSError:
            return
        else:
            return


def _here() -> str:
    """This machine, and this container on it: process numbers mean something only within."""
    host = re.sub(r"[^A-Za-z0-9._]", "_", os.uname().nodename)[:100]
    with contextlib.suppress(OSError):
        return f"{host}+{re.sub('[^0-9]', '', str(Path('/proc/self/ns/pid').readlink()))}"
    return host


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
