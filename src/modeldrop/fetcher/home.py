"""A model's place on the local disk: finished snapshots, links named after channels, work in progress.

A snapshot is put together below ``.partial``, synced, renamed into place, and only then may a link name it. A link is
a symbolic one, or where there are none (exFAT, SMB) a small file that holds the name of the snapshot's folder.

Whoever may read the home may read all in it, and where its group may write it, the group may write all in it but the
files of snapshots. How open a home is that is made here, the umask says; below a folder that others may write too, a
volume, that folder does.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, FormatError, UsageError
from modeldrop.fetcher.layout import PLAIN, Layout, folder_suffix
from modeldrop.fetcher.snapshot import MANIFEST_FILE, LocalSnapshot, folder_name
from modeldrop.fetcher.verify import is_whole, settle
from modeldrop.util.files import (
    NAME_TAKEN,
    READ_ONLY,
    is_shared,
    make_folder,
    remove_tree,
    set_mode,
    share,
    sync_folder,
    write_new,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from modeldrop.fetcher.download.staging import StagingClaim
    from modeldrop.util.retry import Deadline

PARTIAL = ".partial"
TRIAL = "trial-"
"""Begins the names of folders below ``PARTIAL`` in which a volume is tried: for a moment, and without a lock."""
ASIDE = "aside-"
"""... and of snapshots that are about to be removed, if nobody needs them: for a moment, too."""
STALE_SECONDS = 24 * 3600
_REGISTRY = ".registry"
_TRASH = "trash-"
_MAX_LINK = 255
_PAUSE = 0.1
_TRIES = 3
_MISSING_LOOKS = 10
# What is answered where a link is looked for and something else is there: a file or pipe, a folder, a socket.
_NO_SYMLINK = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NOT_A_LINK = _NO_SYMLINK | {errno.EISDIR, errno.ENXIO}


def find_models(home: Path) -> list[str]:
    """Names of the models that a home holds, sorted; none where there is no such home.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with os.scandir(home) as entries:
            return sorted(entry.name for entry in entries if os.path.isfile(os.path.join(entry.path, _REGISTRY)))  # noqa: PTH113, PTH118
    except FileNotFoundError:
        return []


def find_snapshots(model_home: Path) -> list[LocalSnapshot]:
    """All finished snapshots of a model, by the names of their folders, sorted; none where there is no such home.

    Nothing in them is looked at.
    """
    found = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(model_home) as entries:
        for name in sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False)):
            with contextlib.suppress(FormatError):
                found.append(LocalSnapshot(model_home / name))
    return found


def read_link(path: str | os.PathLike[str]) -> str:
    """What a link says: where it leads to, as a rule the name of a folder beside it.

    Raises:
        OSError: there is none, it cannot be read, or something else has its name.
    """
    try:
        return os.readlink(path)  # noqa: PTH115  a name, not a path
    except OSError as error:
        if error.errno not in _NO_SYMLINK:
            raise
        reason = error
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not be waited for
    try:
        name = os.read(descriptor, _MAX_LINK + 1).removesuffix(b"\n").decode(errors="replace")
    finally:
        os.close(descriptor)
    try:
        return LocalSnapshot(Path(name)).path.name
    except FormatError:
        raise reason from None


def find_links(model_home: Path) -> dict[str, str]:
    """All links of a model: their names, sorted, and what they say.

    Raises:
        OSError: the folder cannot be read.
    """
    found = {}
    with os.scandir(model_home) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name[0] != "." and not entry.is_dir(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    found[entry.name] = read_link(entry.path)
    return found


class ModelHome:
    """The folder of one model below the home."""

    def __init__(self, home: Path, model: str) -> None:
        self.path = home / model

    def check_registry(self, registry: str) -> None:
        """Refuse a second registry for the same model name.

        Raises:
            UsageError: this folder holds the model of another registry.
        """
        with contextlib.suppress(FileNotFoundError):
            known = os.fsdecode((self.path / _REGISTRY).read_bytes().removesuffix(b"\n"))
            if known != registry:
                raise UsageError(
                    f"{self.path} holds this model from {known}, not from {registry}.",
                    "Use another folder (-d), or remove this one.",
                )

    def create(self, registry: str) -> None:
        """Make the folder, and write down which registry it belongs to from now on.

        Raises:
            UsageError: it belongs to another one, as another process has just written down.
            OSError: it cannot be written.
        """
        home = self.path.parent
        if not home.is_dir():
            home.mkdir(parents=True, exist_ok=True)
            if is_shared(home.parent.stat()):
                share(home, home.parent)
        make_folder(self.path)
        if not (self.path / _REGISTRY).exists():
            temporary = self._temporary()
            try:
                write_new(temporary, os.fsencode(f"{registry}\n"), 0o644)
                try:
                    os.link(temporary, self.path / _REGISTRY)  # never over what another process has written down
                except FileExistsError:
                    pass
                except OSError:  # there are no links here
                    temporary.replace(self.path / _REGISTRY)
            finally:
                temporary.unlink(missing_ok=True)
            self.check_registry(registry)

    def find(
        self, version: int, digest: str | None, variant: str | None, *, layout: Layout = PLAIN
    ) -> LocalSnapshot | None:
        """A finished snapshot of a version that is still whole, by its sizes.

        Args:
            version: its number.
            digest: the manifest digest it must have, or None for any.
            variant: the variant it must hold, or None for any.
            layout: where its graphs must be.

        Returns:
            The snapshot; None where there is none.
        """
        for snapshot in find_snapshots(self.path):
            if snapshot.version != version or variant not in {None, snapshot.variant}:
                continue
            with contextlib.suppress(OSError, FormatError):
                if (digest is None or snapshot.digest == digest) and layout.fits(snapshot) and is_whole(snapshot):
                    return snapshot
        return None

    def folder(self, version: int, variant: str, digest: str, renamed: Mapping[str, str]) -> Path:
        """Where the finished snapshot of a variant is, or will be."""
        return self.path / folder_name(version, variant, digest, folder_suffix(renamed))

    def staging_folder(self, variant: str, digest: str, renamed: Mapping[str, str]) -> Path:
        """The folder below which a variant is put together: always the same one."""
        return self.path / PARTIAL / f"{digest.removeprefix('sha256:')[:32]}-{variant}{folder_suffix(renamed)}"

    def finish(self, claim: StagingClaim, target: Path, files: Collection[str], deadline: Deadline) -> bool:
        """Give a complete folder its final name, durably.

        Args:
            claim: the folder; its files are synced.
            target: the final name.
            files: the paths that belong into it; anything else is removed.
            deadline: of the whole command.

        Returns:
            False where another process was first, or has taken the folder over.

        Raises:
            DiskError: something else has the name, or the volume does not show what was written.
            OSError: the disk cannot be written.
        """
        wanted = set(files)
        claim.touch(now=True)
        mode = _snapshot_mode(claim.path)
        youngest = 0
        for folder, folders, names in os.walk(claim.path, topdown=False):
            for name in (*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))):  # noqa: PTH114, PTH118
                path = Path(folder, name)
                if path.relative_to(claim.path).as_posix() not in wanted:
                    path.unlink()
                else:
                    youngest = max(youngest, path.stat().st_mtime_ns)
            set_mode(folder, mode)
            sync_folder(folder)
        settle(claim.path, youngest)
        for _ in range(_TRIES):
            if not claim.is_ours():
                return False
            try:
                claim.path.rename(target)
            except FileNotFoundError:
                return False
            except OSError as error:
                if error.errno not in NAME_TAKEN and (not target.is_dir() or target.is_symlink()):
                    raise
                if is_finished_snapshot(target):
                    self.discard(claim.path)
                    return False
                self.discard(target)  # what is there was damaged after it was finished
            else:
                sync_folder(self.path)
                _wait_until_shown(target, deadline)
                return True
        raise DiskError(f"{target} is in the way and cannot be replaced.", "Remove it and run the same command again.")

    def link(self, name: str, target: Path) -> None:
        """Point the link ``name`` at a finished snapshot, atomically; where it already does, write nothing.

        Raises:
            DiskError: something that is not a link has its name.
        """
        link = self.path / name
        try:
            if read_link(link) == target.name:
                return
        except FileNotFoundError:
            pass  # whatever is there by now is another process's link
        except OSError as error:
            if error.errno not in _NOT_A_LINK:
                raise
            raise DiskError(
                f"{link} is in the way: it is not a link.", "Remove it, or use another folder (-d)."
            ) from None
        temporary = self._temporary()
        try:
            temporary.symlink_to(target.name)
        except OSError:  # there are none here, whatever code the file system has for it; or nothing can be written
            write_new(temporary, f"{target.name}\n".encode(), READ_ONLY)
        temporary.replace(link)
        sync_folder(self.path)

    def discard(self, folder: Path) -> bool:
        """Remove a folder: first its name, at once, then what is in it. What stays behind is swept later.

        Returns:
            Whether it was there: of two processes that remove it one has.
        """
        return self._remove(folder, _TRASH)

    def discard_unless(self, folder: Path, needed: Callable[[], bool]) -> bool:
        """Remove a snapshot's folder, unless somebody needs it by now; return whether it is removed.

        Whoever is to use it says so, by a link or a lease, and then looks whether it is there. Here it is the other way
        round: it loses its name, and then ``needed`` is asked. So one of the two sees the other, also where locks
        exclude nobody; what is needed gets its name back.
        """
        with contextlib.suppress(OSError):
            os.utime(folder)  # so that nobody sweeps it while it has no name
        return self._remove(folder, ASIDE, needed)

    def _remove(self, folder: Path, prefix: str, needed: Callable[[], bool] = lambda: False) -> bool:
        make_folder(self.path / PARTIAL)
        trash = self.path / PARTIAL / f"{prefix}{os.urandom(8).hex()}"
        try:
            folder.rename(trash)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # Of an image's layer, whose folders cannot be renamed: it is no snapshot any more without its manifest.
            (folder / MANIFEST_FILE).unlink(missing_ok=True)
            trash = folder
        else:
            if needed():
                with contextlib.suppress(OSError):  # or another process has brought it again meanwhile
                    trash.rename(folder)
                    return False
        remove_tree(trash)
        return True

    def sweep(self, now: float) -> None:
        """Remove what killed processes have left in ``.partial`` and nobody has touched for a day.

        Never raises: what cannot be removed stays.
        """
        with contextlib.suppress(OSError), os.scandir(self.path / PARTIAL) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    path = Path(entry.path)
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if entry.name.startswith(_TRASH) and is_folder:
                        remove_tree(path)
                    elif now - path.lstat().st_mtime <= STALE_SECONDS:
                        continue
                    elif is_folder:
                        self.discard_unlocked(path)
                    else:
                        path.unlink(missing_ok=True)

    def abandoned(self) -> list[Path]:
        """Folders in which a snapshot was put together, and where nobody works for sure: locks count there."""
        from modeldrop.util.locks import try_lock

        found = []
        with contextlib.suppress(OSError), os.scandir(self.path / PARTIAL) as entries:
            for path in sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)):
                if path.name.startswith((TRIAL, ASIDE)):
                    continue
                with contextlib.suppress(OSError):
                    lock = try_lock(path / "lock")
                    if lock is not None:
                        lock.release()
                        found += [path] if lock.works else []
        return found

    def discard_unlocked(self, folder: Path) -> bool:
        """Remove a folder of unfinished work, unless somebody works there; return whether it is removed.

        Raises:
            OSError: it cannot be.
        """
        from modeldrop.util.locks import try_lock

        lock = try_lock(folder / "lock")
        if lock is None:
            return False
        try:
            return self.discard(folder)
        finally:
            lock.release()

    def _temporary(self) -> Path:
        """A new path for work in progress; what a killed process leaves there is swept later."""
        partial = self.path / PARTIAL
        make_folder(partial)
        return partial / os.urandom(8).hex()


def _snapshot_mode(folder: Path) -> int:
    """Permissions of a snapshot's folders: all may read them, and whoever may evict it must write them."""
    return 0o755 | folder.stat().st_mode & 0o2020


def is_finished_snapshot(folder: Path) -> bool:
    """Whether a folder is there, and holds a whole snapshot, by its sizes."""
    with contextlib.suppress(FormatError, OSError):
        return is_whole(LocalSnapshot(folder))
    return False


def _wait_until_shown(folder: Path, deadline: Deadline) -> None:
    """Some mounts (rclone's) show nothing of a renamed folder's files before they have written them back.

    Raises:
        DiskError: nor within the command's time.
    """
    missing = 0
    while not is_finished_snapshot(folder):
        missing = 0 if os.path.lexists(folder) else missing + 1
        if missing == _MISSING_LOOKS:
            return  # another process has removed it already, to make room: whoever is about to use it finds that out
        if not deadline.left():
            raise DiskError(
                f"The volume of {folder} does not show the files that were written there.",
                "A mount of a bucket is too slow: name a folder on a disk (-d or MODELDROP_HOME).",
            )
        time.sleep(_PAUSE)
