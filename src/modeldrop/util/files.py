"""Files that are there whole or not at all: written beside their place, synced to disk, renamed over it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def write_new(path: Path, data: bytes, mode: int | None = None) -> None:
    """Create a file and make sure that its bytes are on disk.

    Args:
        path: there must be nothing.
        data: all of it.
        mode: its permissions, whatever the umask says; None leaves them to the umask.

    Raises:
        OSError: it cannot be written; FileExistsError where something is there.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if mode is None else mode)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        if mode is not None:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, mode: int | None = None, at: float | None = None) -> None:
    """Give a file other bytes, or make it, in one step: whoever reads it finds all of the old ones or of the new ones.

    It is not synced: after a power cut there may be an older file, never half of one on the file systems in use.

    Args:
        path: the file; its folder must be there.
        data: all of it.
        mode: its permissions, whatever the umask says; None leaves them to the umask.
        at: when it was changed, in Unix seconds; None for now.

    Raises:
        OSError: it cannot be written.
    """
    # The end of its name says what it is: a collector of *.prom files must not read it before it is whole.
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        temporary.write_bytes(data)
        if mode is not None:
            temporary.chmod(mode)
        if at is not None:
            os.utime(temporary, (at, at))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make sure that a folder's entries are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the folders that have a new entry by that, to be synced."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [path.parent for path in missing]


def make_folders_below(folder: Path, path: str) -> None:
    """Make the folders of the file ``path`` below ``folder``, but never ``folder``: whoever lost it must not remake it.

    Raises:
        FileNotFoundError: ``folder`` is gone.
    """
    for name in path.split("/")[:-1]:
        folder /= name
        with contextlib.suppress(FileExistsError):
            folder.mkdir()


def identity(file: int | str | os.PathLike[str]) -> tuple[int, int]:
    """What tells a file or folder from all others, whatever it is called: device and inode.

    Args:
        file: an open descriptor, or a path; a link is itself, not what it points at.

    Raises:
        OSError: it is not there.
    """
    status = os.fstat(file) if isinstance(file, int) else os.lstat(file)
    return status.st_dev, status.st_ino
