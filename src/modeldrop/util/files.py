"""Files that are there whole or not at all: written beside their place, synced to disk, renamed over it.

And what others may do with them. A volume may be used by several users in turn: a group's (setgid, as Kubernetes makes
it for ``fsGroup``), or an init container's with umask 077 whose files another container reads. So what is made in a
folder is as open as the folder, not as the umask says: who may read the folder may read it, and where the folder's
group may write, the same group may write it. A file system without permissions, or without a call, does without.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_ONLY = 0o444
NAME_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})
"""What is answered where a folder is renamed to the name of another one, which by now may have gone."""
_TRIES = 10  # to make a folder that other processes remove when it is empty
# What a file system answers that has no permissions, or whose permissions cannot be changed (exFAT, SMB, gcsfuse).
_NO_PERMISSIONS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
# ... and one whose folders cannot be synced.
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EISDIR, errno.EACCES}


def expand_user(path: str | os.PathLike[str]) -> Path:
    """A path whose ``~`` is the user's home folder; as it is where nothing names one, neither HOME nor the system.

    ``Path.expanduser`` raises there, and containers often run as users that the system does not know.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111


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
            set_mode(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(
    path: Path, data: bytes, *, mode: int | None = None, at: float | None = None, sync: bool = False
) -> None:
    """Give a file other bytes, or make it, in one step: whoever reads it finds all of the old ones or of the new ones.

    Without ``sync`` there may be an older file after a power cut, never half of one on the file systems in use.

    Args:
        path: the file; its folder must be there.
        data: all of it.
        mode: its permissions, whatever the umask says; None for a file as open as its folder.
        at: when it was changed, in Unix seconds; None for now.
        sync: make sure that it is on disk.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as temporary:
        if sync:
            write_new(temporary, data)
        else:
            temporary.write_bytes(data)
        if mode is None:
            share(temporary, path.parent)
        else:
            set_mode(temporary, mode)
        if at is not None:
            os.utime(temporary, (at, at))
    if sync:
        sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where the bytes are to be written that then take the place of ``path``, in one step; nowhere if that fails.

    For what is too large to be handed over; see ``replace_file``. The caller syncs, if that matters.

    Raises:
        OSError: it cannot be renamed.
    """
    # The end of its name says what it is: a collector of *.prom files must not read it before it is whole. Without the
    # file's own name, which may be as long as names can be.
    temporary = path.with_name(f".modeldrop-{os.urandom(6).hex()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def set_time(path: Path, at: float) -> None:
    """Give a small file a modification time in Unix seconds. Another user's, who alone may do that, is replaced.

    Raises:
        OSError: it cannot be.
    """
    try:
        os.utime(path, (at, at))
    except PermissionError:
        replace_file(path, path.read_bytes(), at=at)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make sure that a folder's entries are on disk, where the file system can tell."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def set_mode(file: int | str | os.PathLike[str], mode: int) -> None:
    """Give an open file, a file or a folder these permissions; what has none, or is another user's, stays as it is."""
    try:
        os.chmod(file, mode)  # noqa: PTH101  a Path cannot do an open file
    except OSError as error:
        if error.errno not in _NO_PERMISSIONS:
            raise


def share(made: int | str | os.PathLike[str], folder: str | os.PathLike[str]) -> None:
    """Make something new, a folder or an open file or a path, as open as the folder that it is in."""
    found, around = os.stat(made), os.stat(folder)  # noqa: PTH116  a Path cannot be an open file
    if found.st_uid != os.geteuid():
        return
    bits = around.st_mode & 0o055
    if found.st_gid != around.st_gid:  # another group's than the folder's: like everybody
        bits = bits & 0o005 | (bits & 0o005) << 3
    elif is_shared(around):
        bits |= around.st_mode & 0o020
    if not stat.S_ISDIR(found.st_mode):
        bits &= 0o066
    own = found.st_mode & 0o7700
    if stat.S_IMODE(found.st_mode) != own | bits:
        set_mode(made, own | bits)


def is_shared(folder: os.stat_result) -> bool:
    """Whether others than its owner may write a folder and replace what is in it: so not /tmp."""
    return bool(folder.st_mode & 0o022) and not folder.st_mode & stat.S_ISVTX


def make_folder(folder: Path) -> None:
    """Make a folder, as open as the one that it is in; there may be one.

    Raises:
        FileNotFoundError: the folder that it should be in is not there.
        FileExistsError: something else is there.
    """
    for left in reversed(range(_TRIES)):
        try:
            folder.mkdir()
            share(folder, folder.parent)
        except FileExistsError:
            found = _kind(folder)
            if found == stat.S_IFDIR:
                return
            if found or not left:
                raise
        except FileNotFoundError:  # either the one that it is in is not there, or another process has removed it again
            if not left or not folder.parent.is_dir():
                raise
        else:
            return


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the folders that have a new entry by that, to be synced.

    Raises:
        OSError: it cannot be made, or something else is there.
    """
    missing: dict[Path, None] = {}
    for left in reversed(range(_TRIES)):
        missing |= dict.fromkeys(path for path in (folder, *folder.parents) if not path.exists())
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError):  # another process has removed one of them meanwhile, being empty
            if not left:
                raise
        else:
            break
    return [path.parent for path in missing]


def _kind(path: Path) -> int:
    """What is there, in one look, as the ``S_IF…`` of ``stat``; 0 for nothing, and for a link that leads to nothing."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return 0


def make_folders_below(folder: Path, path: str) -> None:
    """Make the folders of the file ``path`` below ``folder``, but never ``folder``: whoever lost it must not remake it.

    Raises:
        FileNotFoundError: ``folder`` is gone.
    """
    for name in path.split("/")[:-1]:
        folder /= name
        with contextlib.suppress(FileExistsError):
            make_folder(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, as far as that can be done; there may be none."""
    from shutil import rmtree  # it imports every compression there is, and a warm start needs none

    rmtree(folder, ignore_errors=True)


def identity(file: int | str | os.PathLike[str]) -> tuple[int, int]:
    """What tells a file or folder from all others, whatever it is called: device and inode.

    Args:
        file: an open descriptor, or a path; a link is itself, not what it points at.

    Raises:
        OSError: it is not there.
    """
    status = os.fstat(file) if isinstance(file, int) else os.lstat(file)
    return status.st_dev, status.st_ino


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    import hashlib  # it loads OpenSSL, and a warm start needs none

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
