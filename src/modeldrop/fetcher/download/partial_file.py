"""Files on this disk while they are being filled: found, verified, written in place, and finished.

Several processes may fill one folder at once, without a lock. That is safe because none of them writes anything
but verified bytes, each to its place: whoever comes second writes the same again. A file that this could harm (of
another size, or with a second name, which may be a snapshot's) is replaced, never changed; and who finds at the end
that his file was replaced by somebody else looks at the new one.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import sys
import time
from threading import Lock
from typing import TYPE_CHECKING

from modeldrop.fetcher.verify import piece_matches
from modeldrop.util.files import READ_ONLY, identity, make_folders_below, set_mode, share

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from modeldrop.format.manifest import File

_TRIES = 20
_PAUSE = 0.01
# Longer writes are slower on a virtual machine, because Linux takes the memory for a file's pages in blocks as long as
# a write; shorter ones are slower beside Python threads that compute, because each write waits for its turn.
_WRITE = 256 << 10
_WRITEBACK_BLOCK = 8 << 20
_SYNC_FILE_RANGE_WRITE = 2
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class _Descriptor:
    """An open file that is closed when nobody uses it any more: a thread that was given up may still write."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class PartialFile:
    """A file of the wanted size in the folder; some of its pieces may be right already.

    Attributes:
        file: what it is to be.
        missing: indices of the pieces that do not have their digests, in order.
    """

    def __init__(
        self,
        into: Path,
        file: File,
        piece_size: int,
        check: Callable[[], None],
        *,
        keep: bool = True,
    ) -> None:
        """Find or make it, and verify what is there.

        Args:
            into: the folder.
            file: what it is to be.
            piece_size: of the manifest.
            check: called while bytes are verified; what it raises ends that.
            keep: hold it open once it is finished, so that no other file can be taken for it: whoever replaces it
                may get its inode.

        Raises:
            FileNotFoundError: the folder is gone.
            OSError: the disk cannot be read or written.
        """
        self.file = file
        self._path = into / file.path
        self._piece_size = piece_size
        self._keep = keep
        self._lock = Lock()
        self._writing = Lock()
        self._open: _Descriptor | None = None
        self._identity = (0, 0)
        self._lost = False
        make_folders_below(into, file.path)
        self.missing = self._find(check)
        self._left = len(self.missing)
        if not self.missing:
            self._finish()

    @property
    def verified_bytes(self) -> int:
        """Bytes that were there, verified."""
        return self.file.size - sum(self.length(index) for index in self.missing)

    def start(self, index: int) -> int:
        """Where a piece begins."""
        return index * self._piece_size

    def length(self, index: int) -> int:
        """Bytes of a piece."""
        return min(self._piece_size, self.file.size - index * self._piece_size)

    def write(self, buffers: Sequence[memoryview], offset: int) -> None:
        """Write a verified piece; after the last one the file is synced and read-only.

        Raises:
            OSError: the disk is full, or cannot be written.
        """
        target = self._target()
        if target is not None:
            with self._writing:  # the system writes a file for one at a time, and whoever waits there burns the CPU
                end = offset
                for buffer in buffers:
                    for start in range(0, len(buffer), _WRITE):
                        end = _write_all(target.number, buffer[start : start + _WRITE], end)
                _start_writeback(target.number, offset, end)
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._finish()

    def is_current(self) -> bool:
        """Whether the name still means the file that was filled.

        Raises:
            FileNotFoundError: somebody took it away, or renamed the folder.
        """
        found = identity(self._path)
        return not self._lost and found == self._identity

    def _target(self) -> _Descriptor | None:
        """The file that was looked at, opened; None if its name means another one now, or nothing."""
        with self._lock:
            if self._open is None and not self._lost:
                try:
                    self._open = _Descriptor(os.open(self._path, os.O_RDWR | _FLAGS))
                except (FileNotFoundError, PermissionError):  # replaced, or finished by another user's process
                    self._lost = True
                else:
                    if identity(self._open.number) != self._identity:
                        self._open, self._lost = None, True
            return self._open

    def _find(self, check: Callable[[], None]) -> list[int]:
        for attempt in range(_TRIES):
            found = _open_existing(self._path)
            if found is None:
                if self._make():
                    return list(range(len(self.file.pieces)))
                continue
            target, writable = found
            status = os.fstat(target.number)
            if status.st_size == 0 < self.file.size and attempt < _TRIES // 2:
                time.sleep(_PAUSE)  # somebody is making it just now
                continue
            if status.st_size == self.file.size:
                missing = [
                    index for index in range(len(self.file.pieces)) if not self._is_verified(target, index, check)
                ]
                if not missing or (writable and status.st_nlink == 1):
                    self._open = None if missing else target
                    self._identity = identity(target.number)
                    return missing
            _remove(self._path)
        raise OSError(f"{self._path} is replaced again and again by other processes.")

    def _make(self) -> bool:
        """Make it; False if somebody else just did."""
        try:
            target = _Descriptor(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o644))
        except FileExistsError:
            return False
        share(target.number, self._path.parent)
        os.ftruncate(target.number, self.file.size)
        self._identity = identity(target.number)
        self._open = None if self.file.size else target
        return True

    def _is_verified(self, target: _Descriptor, index: int, check: Callable[[], None]) -> bool:
        return has_data(target.number, self.start(index), self.length(index)) and piece_matches(
            target.number, self.file, index, self._piece_size, lambda _: check()
        )

    def _finish(self) -> None:
        target = self._open
        if target is None:
            return  # lost
        set_mode(target.number, READ_ONLY)
        os.fsync(target.number)
        if not self._keep:
            self._open = None


def _write_all(descriptor: int, data: memoryview, offset: int) -> int:
    """Write it there; return where it ends."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        offset += written
        data = data[written:]
    return offset


def _start_writeback(descriptor: int, start: int, end: int) -> None:
    """Let the disk begin with the blocks of 8 MiB that end within the bytes from ``start`` to ``end``, just written.

    Linux would hold a model's bytes in memory for half a minute, and then the final fsync waits for all of them.
    sync_file_range(2) starts the writing and waits for nothing. Never fails: it is a matter of time, not of safety.
    """
    first, last = start // _WRITEBACK_BLOCK, end // _WRITEBACK_BLOCK
    if first < last and (call := _sync_file_range()):
        call(descriptor, first * _WRITEBACK_BLOCK, (last - first) * _WRITEBACK_BLOCK, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], object] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes  # Python has no function for it

        call = ctypes.CDLL(None).sync_file_range
    except (ImportError, OSError, AttributeError):  # a Python without it, or a C library
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call


def _open_existing(path: Path) -> tuple[_Descriptor, bool] | None:
    """The regular file of that name, and whether this user may write it; None if there is none now."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # before it is opened: that could wait for ever on a pipe
            _remove(path)
            return None
        try:
            return _Descriptor(os.open(path, os.O_RDWR | _FLAGS)), True
        except PermissionError:
            return _Descriptor(os.open(path, os.O_RDONLY | _FLAGS)), False
    except FileNotFoundError:
        return None
    except PermissionError:
        _remove(path)
        return None


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.unlink()


def has_data(descriptor: int, start: int, length: int) -> bool:
    """Whether anything was ever written there: what was not need not be read to be known as missing."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA) < start + length
    except OSError as error:
        return error.errno != errno.ENXIO  # which means: nothing from there to the end
