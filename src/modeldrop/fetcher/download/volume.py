"""Whether a snapshot can be put together on a volume: tried before a byte is asked for, and said if not.

What has a way around is not tried here: without symbolic links a link is a small file (``home.py``), without hard links
files are copied (``reuse.py``), permissions are given where there are any and folders synced where they can be
(``util/files.py``), and locks only save work (``util/locks.py``).
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError
from modeldrop.fetcher.home import TRIAL
from modeldrop.util.files import make_folder, remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modeldrop.format.manifest import File

_LARGE = 4 << 30
_ODD = set('?*<>|":\\')
# These have a sentence of their own: no right to write, no room.
_OTHER = {errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
_MOUNT = (
    "Name a folder on another volume (-d or MODELDROP_HOME). A bucket's mount must keep whole files on a disk, such as "
    "rclone's with --vfs-cache-mode writes; better, fetch from the bucket itself."
)


def check_volume(partial: Path, files: Iterable[File]) -> None:
    """Try all that putting files together takes, on small files of its own.

    Args:
        partial: the folder for work in progress.
        files: what is to be put there.

    Raises:
        DiskError: naming what the volume lacks.
        OSError: nothing can be written at all.
    """
    make_folder(partial)
    folder = partial / f"{TRIAL}{os.urandom(8).hex()}"
    make_folder(folder)
    first, second, renamed = folder / "1", folder / "2", folder.with_name(f"{folder.name}-renamed")
    try:
        _try(partial, "write the parts of a file in any order", _MOUNT, lambda: _write_anywhere(first))
        _try(partial, "replace a file by renaming another one", _MOUNT, lambda: _replace(second, first))
        for name in {part for file in files for part in file.path.split("/") if _ODD & set(part)}:
            hint = 'Such volumes take no ? * < > | : " in names (exFAT, FAT, SMB): name a folder on another one (-d).'
            _try(partial, f"hold a file that is called {name!r}", hint, (folder / name).touch)
        largest = max((file.size for file in files), default=0)
        if largest >= _LARGE:
            hint = "FAT32 takes files of up to 4 GB: format it as exFAT, or name a folder on another one (-d)."
            _try(partial, f"hold a file of {largest / 1e9:.1f} GB", hint, lambda: os.truncate(first, largest))
            os.truncate(first, 0)
        _try(partial, "rename a folder with files in it", _MOUNT, lambda: folder.rename(renamed))
    finally:
        for path in (folder, renamed):
            remove_tree(path)


def ownership(error: OSError) -> str:
    """Whose it is that this user may not use, as a sentence with a blank before it; "" for any other error."""
    if error.errno not in {errno.EACCES, errno.EPERM} or not isinstance(error.filename, str | os.PathLike):
        return ""
    path = Path(error.filename)
    for there in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = there.stat()
            groups = ", ".join(map(str, sorted({os.getegid(), *os.getgroups()})))
            return (
                f" {there} is of user {found.st_uid}, group {found.st_gid}, mode {found.st_mode & 0o7777:o}; "
                f"this is user {os.geteuid()}, group {groups}."
            )
    return ""


def _try(partial: Path, what: str, hint: str, action: Callable[[], object]) -> None:
    try:
        action()
    except OSError as error:
        if error.errno in _OTHER:
            raise
        why = error.strerror or error
        raise DiskError(f"The volume of {partial.parent} cannot {what}: {why}.", hint) from error


def _write_anywhere(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.ftruncate(descriptor, 8)
        os.pwrite(descriptor, b"4567", 4)
        os.pwrite(descriptor, b"0123", 0)
        if os.pread(descriptor, 8, 0) != b"01234567":
            raise OSError(errno.ENOTSUP, "what was written is not what is read")
    finally:
        os.close(descriptor)


def _replace(new: Path, old: Path) -> None:
    new.write_bytes(b"")
    new.replace(old)
