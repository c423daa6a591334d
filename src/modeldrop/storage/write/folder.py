"""A folder as a registry, with the promises of an object store.

Create-only is link(2) of a finished, synced temporary file: the name appears with all its bytes, once.
A compare-and-swap commits by linking ``<model>/.moves/<rest of the key>/<n>.json``, n being one more than
the highest there: of all writers that saw the same state one succeeds. The object itself is replaced after
that; whoever reads for writing takes the highest link as the truth and repairs an object that lags behind.
No lock is used, because flock is silently absent on some network file systems.

A file system without hard links (exFAT, FAT, SMB) cannot promise that, so nothing is published there. A version can be
carried on it all the same: ``mirror`` writes as the only one, and renames finished files to their names.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from modeldrop.errors import DiskError, NotFoundError, RegistryError
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.write.multipart import changed
from modeldrop.storage.write.store import MAX_DOCUMENT, ListedObject, StoredObject, too_large
from modeldrop.util.files import expand_user, make_folders, sync_folder, write_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modeldrop.format.manifest import File
    from modeldrop.storage.write.store import UnfinishedUpload

_CHUNK = 1 << 20
_TEMPORARY = ".tmp"
_MOVES = ".moves"
_STALE_SECONDS = 24 * 3600
# What link(2) says where there are no hard links; EIO is rclone's word for it.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO}


class FolderStore:
    """Objects as files below a folder. See ``Store`` for what the methods promise.

    Args:
        folder: the registry.
        carrier: whether it may be a disk without hard links, which only this process writes now.
    """

    part_size = 0

    def __init__(self, folder: str, *, carrier: bool = False) -> None:
        self._carrier = carrier
        self._root = expand_user(folder).absolute()
        self.url = str(self._root)

    def get(self, key: str) -> StoredObject | None:
        with self._explained("read", key):
            while number := self._last_move(key):
                # A reader without the right to write still gets the truth; only the repair waits.
                with contextlib.suppress(OSError):
                    self._settle(key)
                with contextlib.suppress(FileNotFoundError):  # it was deleted since: is anything there now?
                    return StoredObject(self._read(self._move(key, number)), str(number))
            try:
                return StoredObject(self._read(self._root / key), "0")
            except (FileNotFoundError, NotADirectoryError):
                return None

    def exists(self, key: str) -> bool:
        with self._explained("read", key):
            return (self._root / key).is_file()

    def names(self, prefix: str) -> list[str]:
        with self._explained("list", prefix):
            try:
                return sorted(entry.name for entry in os.scandir(self._root / prefix) if entry.name[0] != ".")
            except (FileNotFoundError, NotADirectoryError):
                return []

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        with self._explained("list", prefix):
            for key in sorted(self._walk(prefix.rstrip("/")), key=os.fsencode):
                try:
                    status = os.stat(os.path.join(self._root, key))  # noqa: PTH116, PTH118  see _walk
                except FileNotFoundError:
                    continue  # deleted since
                yield ListedObject(key, status.st_size, status.st_mtime, str(status.st_mtime_ns))

    def create(self, key: str, data: bytes) -> None:
        with self._explained("write", key), self._temporary(key) as temporary:
            write_new(temporary, data)
            self._link(temporary, self._root / key, key)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        target = self._root / key
        with (
            self._explained("write", key),
            self._temporary(key) as move,
            self._temporary(key) as replacement,
        ):
            # The link decides between rivals; these look for tags that it would not refuse.
            if target.exists() if previous is None else not self._is_present(key, previous):
                raise storage_errors.taken(key)
            write_new(move, data)
            write_new(replacement, data)
            number = int(previous or "0") + 1
            self._link(move, self._move(key, number), key)
            # The move is made. What is left to do needs no room, so a full disk cannot fail it.
            if self._last_move(key) == number:  # else it was moved on, and what is newer must not be put back
                replacement.replace(target)
                sync_folder(target.parent)
            self._settle(key)

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        with self._explained("write", key), self._temporary(key) as temporary:
            digest = hashlib.sha256()
            size = 0
            with _open(path) as source, temporary.open("xb") as target:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
                    size += len(chunk)
                    progress(len(chunk))
                target.flush()
                os.fsync(target.fileno())
            if size != file.size or digest.hexdigest() != file.sha256:
                raise changed(path, "it no longer has the digest in the manifest")
            self._link(temporary, self._root / key, key)

    def download(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        source = self._root / key
        with self._explained("read", key):
            try:
                readable = source.open("rb")
            except (FileNotFoundError, NotADirectoryError):
                raise NotFoundError(f"{source} is not there.", "It was removed by hand, or pruned.") from None
            with readable, path.open("xb") as target:
                while chunk := readable.read(_CHUNK):
                    target.write(chunk)
                    progress(len(chunk))

    def delete(self, key: str) -> None:
        with self._explained("delete", key):
            shutil.rmtree(self._move(key, 0).parent, ignore_errors=True)
            with contextlib.suppress(NotADirectoryError):
                (self._root / key).unlink(missing_ok=True)
            self._remove_empty((self._root / key).parent)

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        return []  # temporary files are swept by the next writer

    def abort(self, upload: UnfinishedUpload) -> None:
        raise AssertionError(upload)

    def check_writable(self, need: int) -> None:
        with self._explained("write", ""):
            self._root.mkdir(parents=True, exist_ok=True)
            probe = self._root / f"{_TEMPORARY}-{secrets.token_hex(8)}"
            probe.touch()
            probe.unlink()
            free = shutil.disk_usage(self._root).free
        if free < need:
            raise DiskError(
                f"The registry {self.url} has {free / 1e6:.0f} MB free; this version needs about {need / 1e6:.0f} MB.",
                "Free some space, or publish to another registry.",
            )

    def _read(self, path: Path) -> bytes:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT + 1)
        if len(data) > MAX_DOCUMENT:
            raise too_large(str(path), MAX_DOCUMENT)
        return data

    def _walk(self, prefix: str) -> Iterator[str]:
        """The keys below ``prefix``, in no order. Strings: a listing has many, and a ``Path`` of each takes longest."""
        try:
            entries = list(os.scandir(os.path.join(self._root, prefix)))  # noqa: PTH118  see above
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.name[0] != ".":
                key = f"{prefix}/{entry.name}" if prefix else entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(key)
                else:
                    yield key

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _move(self, key: str, number: int) -> Path:
        model, _, rest = key.partition("/")
        return self._root / model / _MOVES / rest / f"{number}.json"

    def _last_move(self, key: str) -> int:
        try:
            names = [entry.name.partition(".")[0] for entry in os.scandir(self._move(key, 0).parent)]
        except (FileNotFoundError, NotADirectoryError):
            return 0
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _is_present(self, key: str, tag: str) -> bool:
        """Whether ``get`` would give this tag now; never that of what was deleted since."""
        number = self._last_move(key)
        return str(number) == tag and (number > 0 or (self._root / key).is_file())

    def _settle(self, key: str) -> None:
        """Bring the object to the last committed move.

        And look again: a slow writer may have put an older one.
        """
        target = self._root / key
        while number := self._last_move(key):
            data = self._move(key, number).read_bytes()
            with contextlib.suppress(FileNotFoundError):
                if target.read_bytes() == data:
                    return
            with self._temporary(key) as temporary:
                write_new(temporary, data)
                if self._last_move(key) == number:
                    temporary.replace(target)
                    sync_folder(target.parent)

    def _link(self, temporary: Path, target: Path, key: str) -> None:
        made = make_folders(target.parent)
        try:
            try:
                os.link(temporary, target)
            except FileNotFoundError:  # who has deleted the last object in that folder has removed it too
                made += make_folders(target.parent)
                os.link(temporary, target)
        except FileExistsError:
            raise storage_errors.taken(key) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if not self._carrier:
                raise RegistryError(
                    f"The file system of {self.url} has no hard links, so nothing can be created there only once.",
                    "Publish to a file system that has them (ext4, xfs, btrfs, zfs, apfs, NFS). To carry a version on "
                    f"this disk: modeldrop mirror REFERENCE {self.url}",
                ) from error
            self._rename(temporary, target, key)
        for folder in (target.parent, *made):
            sync_folder(folder)

    def _rename(self, temporary: Path, target: Path, key: str) -> None:
        """The same without hard links: good against other processes of this machine, where its locks work."""
        descriptor = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.lexists(target):
                raise storage_errors.taken(key)
            temporary.rename(target)
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _temporary(self, key: str) -> Iterator[Path]:
        folder = self._root / key.partition("/")[0] / _TEMPORARY
        make_folders(folder)
        _sweep(folder)
        path = folder / secrets.token_hex(16)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = self._root / key if key else self._root
            if error.errno == errno.EFBIG:
                raise DiskError(
                    f"The file system of {self.url} takes no file as large as {where}.",
                    "FAT32 takes files of up to 4 GB: format the disk as exFAT.",
                ) from error
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise DiskError(
                    f"The disk of the registry {self.url} is full: could not {verb} {where}.",
                    "Nothing that readers see has changed. Free some space and run the same command again.",
                ) from error
            hint = "Check the path."
            if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
                hint = f"Give this user (uid {os.geteuid()}) the right to {verb} there, or name another registry."
            raise RegistryError(f"Could not {verb} {where}: {error.strerror or error}.", hint) from error


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise changed(path, error.strerror or str(error)) from error


def _sweep(folder: Path) -> None:
    """Remove what crashed writers left here."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if time.time() - entry.stat().st_mtime > _STALE_SECONDS:
                Path(entry.path).unlink(missing_ok=True)
