"""Downloading a variant: staged, verified, synced, then given its name."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from modeldrop.errors import DiskError
from modeldrop.fetcher.as_name import RENAMES_FILE, renames_file
from modeldrop.fetcher.download.reuse import reuse
from modeldrop.fetcher.download.staging import Work, take
from modeldrop.fetcher.download.transfer import transfer
from modeldrop.fetcher.snapshot import MANIFEST
from modeldrop.format.manifest import Manifest, Variant, manifest_digest
from modeldrop.util.files import write_new
from modeldrop.util.values import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from modeldrop.fetcher.home import ModelHome
    from modeldrop.format.manifest import File
    from modeldrop.storage.read.reader import RegistryReader
    from modeldrop.util.retry import Deadline

_DISK_RESERVE = 16 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished snapshot and what it took.

    Attributes:
        path: its folder.
        fetched: bytes that came from the registry.
        adopted: bytes that an earlier attempt had left, and that proved their digests.
        linked: bytes that other snapshots on this disk had.
        retries: requests that had to be made again.
    """

    path: Path
    fetched: int = 0
    adopted: int = 0
    linked: int = 0
    retries: int = 0


def download(  # noqa: PLR0913  what is known of a version, and how to bring it
    reader: RegistryReader,
    home: ModelHome,
    prefix: str,
    number: int,
    data: bytes,
    manifest: Manifest,
    variant: Variant,
    *,
    deadline: Deadline,
    progress: Callable[[int, int], None],
    rename: Mapping[str, str] = _NOTHING,
) -> Downloaded:
    """Bring a variant's files from below the key ``prefix`` into a finished snapshot.

    Whatever an earlier attempt or another snapshot has is used, once it has proven its digests. Of several processes
    that want the same, one works and the others wait for it; where locks do not work more than one may.

    Args:
        reader: the registry.
        home: the model's folder on this disk.
        prefix: key of the version.
        number: the version's number.
        data: the manifest as it was read.
        manifest: the same, parsed.
        variant: the variant to bring.
        deadline: of the whole command.
        progress: told bytes done and bytes in all.
        rename: path in the manifest to path in the snapshot, for files that are to have another one.

    Raises:
        DiskError: there is too little room.
        IntegrityError, RegistryError: see ``transfer``.
        OSError: the disk cannot be written.
    """
    digest = manifest_digest(data)
    renamed = {old: new for old, new in rename.items() if old != new}
    target = home.place(number, variant.name, digest, renamed)
    staging = home.partial(variant.name, digest, renamed)
    task = _Task(reader, home, prefix, data, manifest, variant, renamed, deadline, progress)

    def finished() -> bool:
        as_name = renamed.get(variant.model, "")
        return target.exists() and home.find(number, digest, variant.name, as_name=as_name) is not None

    home.prepare(reader.url)
    home.sweep(time.time())
    lost = 0
    vain = Downloaded(target)  # what was brought into work that another process finished
    while True:
        work = take(staging, finished, deadline, lost=lost)
        if work is None:
            return vain
        try:
            done = task.fill(work)
            done = replace(done, path=target, fetched=vain.fetched + done.fetched, retries=vain.retries + done.retries)
            if home.finish(work, target, task.paths):
                return done
            vain = replace(vain, fetched=done.fetched, retries=done.retries)
        except FileNotFoundError:
            if work.is_ours():
                raise
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise _full(home.path, prefix, error.strerror or str(error)) from error
        finally:
            work.release()
            with contextlib.suppress(OSError):
                if staging.exists() and finished():
                    home.discard(staging)  # what slower ones have so far is of no use any more
        lost += 1  # another process was faster, or has taken the work over in spite of the lock


class _Task:
    """What is to be brought, and how far it is."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        reader: RegistryReader,
        home: ModelHome,
        prefix: str,
        data: bytes,
        manifest: Manifest,
        variant: Variant,
        renamed: Mapping[str, str],
        deadline: Deadline,
        progress: Callable[[int, int], None],
    ) -> None:
        wanted = set(variant.files)
        self._reader = cast("RegistryReader", _Renaming(reader, prefix, renamed)) if renamed else reader
        self._home = home
        self._prefix = prefix
        self._files = [
            file._replace(path=renamed.get(file.path, file.path)) for file in manifest.files if file.path in wanted
        ]
        self._piece_size = manifest.piece_size
        self._notes = {MANIFEST: data} | ({RENAMES_FILE: renames_file(renamed)} if renamed else {})
        self._deadline = deadline
        self._progress = progress
        self._total = manifest.size_of(variant)
        self._done = 0
        self.paths = {*self._notes, *(file.path for file in self._files)}

    def fill(self, work: Work) -> Downloaded:
        """Complete the folder; all that is missing is how it will be called."""
        self._done = 0

        def advance(count: int) -> None:
            self._done += count
            work.touch()
            self._progress(max(0, min(self._done, self._total)), self._total)

        reused = reuse(self._home.path, self._files, self._piece_size, work.path, advance)
        missing = [file for file in self._files if file.path not in reused.linked]
        self._check_room(work.path, missing)
        moved = transfer(
            self._reader,
            self._prefix,
            missing,
            self._piece_size,
            work.path,
            deadline=self._deadline,
            progress=advance,
        )
        for name, data in self._notes.items():
            (work.path / name).unlink(missing_ok=True)  # a killed attempt's, perhaps half of it
            write_new(work.path / name, data, 0o444)
        copied = min(reused.copied_bytes, moved.adopted)
        return Downloaded(work.path, moved.fetched, moved.adopted - copied, reused.linked_bytes + copied, moved.retries)

    def _check_room(self, folder: Path, missing: Sequence[File]) -> None:
        """Say before starting what would fail later."""
        needed = 0
        for file in missing:
            there = 0
            with contextlib.suppress(OSError):
                there = (folder / file.path).stat().st_blocks * 512
            needed += max(0, file.size - there)
        free = _free(self._home.path)
        if needed and free < needed + _DISK_RESERVE:
            raise DiskError(
                f"{self._home.path} has {free / 1e6:.0f} MB free; {self._prefix} needs {needed / 1e6:.0f} MB, "
                f"and {_DISK_RESERVE / 1e6:.0f} MB are kept in reserve.",
                "Free some space (modeldrop cache prune), or name another folder (-d); the snapshot in use is "
                "untouched.",
            )


class _Renaming:
    """A reader that is asked for files by their paths in the snapshot, and asks by those in the registry."""

    def __init__(self, reader: RegistryReader, prefix: str, renamed: Mapping[str, str]) -> None:
        self._reader = reader
        self._keys = {f"{prefix}/{new}": f"{prefix}/{old}" for old, new in renamed.items()}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)
        if not callable(found):
            return found
        return lambda key, *arguments, **options: found(self._keys.get(key, key), *arguments, **options)


def _free(folder: Path) -> int:
    """Bytes that this user may still write there."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _full(home: Path, prefix: str, why: str) -> DiskError:
    free = _free(home)
    return DiskError(
        f"{home} became full while {prefix} was written: {why}, {free / 1e6:.0f} MB free.",
        "Free some space (modeldrop cache prune), or name another folder (-d), and run the same again: it goes on "
        "where it was. The snapshot in use is untouched.",
    )
