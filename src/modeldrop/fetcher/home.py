"""A model's place on the local disk: finished snapshots, links named after channels, work in progress.

A snapshot is staged below ``.partial``, synced, renamed into place, and only then may a link name it. The umask says
who may read the home and the model's folder; whoever gets that far can read the snapshots.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, FormatError, UsageError
from modeldrop.fetcher.as_name import folder_suffix, read_renames
from modeldrop.fetcher.snapshot import MANIFEST
from modeldrop.util.files import sync_folder, write_new
from modeldrop.util.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from modeldrop.fetcher.download.staging import Work
    from modeldrop.format.manifest import Manifest, Variant

PARTIAL = ".partial"
STALE_SECONDS = 24 * 3600
_REGISTRY = ".registry"
_TRASH = "trash-"
_FOLDER = re.compile(r"v([1-9][0-9]{0,8})-([a-z0-9][a-z0-9._-]{0,63})-([0-9a-f]{12})((?:\+[0-9a-f]{8})?)")


@dataclass(frozen=True)
class Held:
    """A finished snapshot: folder, manifest digest and variant.

    ``renamed`` maps paths of the manifest to those in the folder, where they differ.
    """

    path: Path
    digest: str
    variant: str
    renamed: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def manifest(self) -> Manifest:
        """The manifest, as it lies in the folder."""
        from modeldrop.format.manifest import parse_manifest  # what is found unchanged needs none of it

        return parse_manifest((self.path / MANIFEST).read_bytes())


@dataclass(frozen=True, slots=True)
class FolderName:
    """What the name of a snapshot's folder says: ``v2-int8-3f9a1c2b4d5e``, or with ``+`` and a digest of a renaming.

    Attributes:
        version: its number.
        variant: its variant.
        digest: the first twelve digits of the manifest's digest.
        suffix: how the name ends if files are renamed, else "".
    """

    version: int
    variant: str
    digest: str
    suffix: str = ""

    def __str__(self) -> str:
        return f"v{self.version}-{self.variant}-{self.digest}{self.suffix}"


def parse_folder_name(name: str) -> FolderName | None:
    """What a folder's name says; None if it is not that of a snapshot."""
    match = _FOLDER.fullmatch(name)
    return None if match is None else FolderName(int(match[1]), match[2], match[3], match[4])


def snapshot_names(model_home: Path) -> list[str]:
    """Names of all folders of finished snapshots, sorted; none where there is no such home."""
    try:
        with os.scandir(model_home) as entries:
            return sorted(
                entry.name for entry in entries if parse_folder_name(entry.name) and entry.is_dir(follow_symlinks=False)
            )
    except (FileNotFoundError, NotADirectoryError):
        return []


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


def read_snapshot(folder: Path) -> Held:
    """The manifest of a finished snapshot and what else its folder says; no file is looked at.

    Raises:
        FormatError: it was changed after it was finished.
        OSError: it cannot be read.
    """
    name = parse_folder_name(folder.name)
    if name is None:
        raise FormatError(f"{folder} is not called as a snapshot is.")
    from modeldrop.format.manifest import manifest_digest

    found = manifest_digest((folder / MANIFEST).read_bytes())
    if not found.startswith(f"sha256:{name.digest}"):
        raise FormatError(f"{folder / MANIFEST} has the digest {found}, not that of its folder.")
    held = Held(folder, found, name.variant, read_renames(folder) if name.suffix else {})
    if held.manifest.variant(name.variant) is None:
        raise FormatError(f"{folder / MANIFEST} has no variant {name.variant}.")
    if folder_suffix(held.renamed) != name.suffix:
        raise FormatError(f"The note of renamed files in {folder} is not that of its folder.")
    return held


class ModelHome:
    """The folder of one model below the home."""

    def __init__(self, home: Path, model: str) -> None:
        self.path = home / model

    def belongs_to(self, registry: str) -> None:
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

    def prepare(self, registry: str) -> None:
        """Make the folder, and write down which registry it belongs to from now on."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / _REGISTRY).exists():
            temporary = self._temporary()
            write_new(temporary, os.fsencode(f"{registry}\n"), 0o644)
            temporary.replace(self.path / _REGISTRY)

    def find(self, version: int, digest: str | None, variant: str | None, *, as_name: str = "") -> Held | None:
        """A finished snapshot of a version that is still whole; a check by stat.

        Args:
            version: its number.
            digest: the manifest digest it must have, or None for any.
            variant: the variant it must hold, or None for any.
            as_name: the path that its graph must have, or "" for its own.

        Returns:
            The snapshot; None where there is none.
        """
        for name in snapshot_names(self.path):
            said = parse_folder_name(name)
            if said is None or said.version != version or (variant is not None and said.variant != variant):
                continue
            if digest is not None and said.digest != digest.removeprefix("sha256:")[:12]:
                continue
            if bool(said.suffix) and not as_name:
                continue
            with contextlib.suppress(OSError, FormatError):
                held = read_snapshot(self.path / name)
                chosen = held.manifest.variant(held.variant)
                if chosen is None or (digest is not None and held.digest != digest):
                    continue
                if held.renamed.get(chosen.model, chosen.model) == (as_name or chosen.model) and _is_whole(
                    held, chosen
                ):
                    return held
        return None

    def stands(self, name: str) -> bool:
        """Whether a snapshot that was found once, under its files' own names, is still whole: a check by stat alone."""
        said = parse_folder_name(name)
        if said is None or said.suffix:
            return False
        folder = self.path / name
        try:
            plain = json.loads((folder / MANIFEST).read_bytes())  # it was read with care when it came
            variant = next(item for item in plain["variants"] if item["name"] == said.variant)
            sizes = {item["path"]: item["size"] for item in plain["files"]}
            return all(os.stat(folder / path).st_size == sizes[path] for path in variant["files"])  # noqa: PTH116
        except (OSError, ValueError, LookupError, TypeError, StopIteration, RecursionError):
            return False

    def place(self, version: int, variant: str, digest: str, renamed: Mapping[str, str]) -> Path:
        """Where the finished snapshot of a variant is, or will be."""
        return self.path / str(
            FolderName(version, variant, digest.removeprefix("sha256:")[:12], folder_suffix(renamed))
        )

    def partial(self, variant: str, digest: str, renamed: Mapping[str, str]) -> Path:
        """The folder below which a variant is put together: always the same one."""
        return self.path / PARTIAL / f"{digest.removeprefix('sha256:')[:32]}-{variant}{folder_suffix(renamed)}"

    def finish(self, work: Work, target: Path, files: Collection[str]) -> bool:
        """Give complete work its final name, durably.

        Args:
            work: the folder; its files are synced.
            target: the final name.
            files: the paths that belong into it; anything else is thrown away.

        Returns:
            False where another process was first, or has taken the work over.

        Raises:
            DiskError: something else has the name.
            OSError: the disk cannot be written.
        """
        wanted = set(files)
        work.touch(now=True)
        for folder, folders, names in os.walk(work.path, topdown=False):
            for name in (*names, *(name for name in folders if os.path.islink(os.path.join(folder, name)))):  # noqa: PTH114, PTH118
                path = Path(folder, name)
                if path.relative_to(work.path).as_posix() not in wanted:
                    path.unlink()
            Path(folder).chmod(0o755)
            sync_folder(folder)
        for _ in range(2):
            if not work.is_ours():
                return False
            try:
                work.path.rename(target)
            except FileNotFoundError:
                return False
            except OSError:
                if not target.is_dir() or target.is_symlink():
                    raise
                if self._is_finished(target):
                    self.discard(work.path)
                    return False
                self.discard(target)  # what is there was damaged after it was finished: it makes room
            else:
                sync_folder(self.path)
                return True
        raise DiskError(f"{target} is in the way and cannot be replaced.", "Remove it and run the same command again.")

    def link(self, name: str, target: Path) -> None:
        """Point the link ``name`` at a finished snapshot, atomically; where it already does, write nothing.

        Raises:
            DiskError: something that is not a link has its name.
        """
        link = self.path / name
        with contextlib.suppress(OSError):
            if str(link.readlink()) == target.name:
                return
        if link.exists() and not link.is_symlink():
            raise DiskError(f"{link} is in the way: it is not a link.", "Remove it, or use another folder (-d).")
        temporary = self._temporary()
        temporary.symlink_to(target.name)
        temporary.replace(link)
        sync_folder(self.path)

    def discard(self, folder: Path) -> None:
        """Take a folder away: first its name, at once, then what is in it. What stays behind is swept later."""
        (self.path / PARTIAL).mkdir(exist_ok=True)
        trash = self.path / PARTIAL / f"{_TRASH}{os.urandom(8).hex()}"
        try:
            folder.rename(trash)
        except FileNotFoundError:
            return
        _remove(trash)

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
                        _remove(path)
                    elif now - path.lstat().st_mtime <= STALE_SECONDS:
                        continue
                    elif is_folder:
                        self._discard_unlocked(path)
                    else:
                        path.unlink(missing_ok=True)

    def _discard_unlocked(self, folder: Path) -> None:
        from modeldrop.util.locks import try_lock

        lock = try_lock(folder / "lock")
        if lock is not None:
            try:
                self.discard(folder)
            finally:
                lock.release()

    def _is_finished(self, folder: Path) -> bool:
        with contextlib.suppress(OSError, FormatError):
            held = read_snapshot(folder)
            variant = held.manifest.variant(held.variant)
            return variant is not None and _is_whole(held, variant)
        return False

    def _temporary(self) -> Path:
        """A new path for work in progress; what a killed process leaves there is swept later."""
        partial = self.path / PARTIAL
        partial.mkdir(exist_ok=True)
        return partial / os.urandom(8).hex()


def _is_whole(held: Held, variant: Variant) -> bool:
    wanted = set(variant.files)
    try:
        return all(
            (held.path / held.renamed.get(file.path, file.path)).stat().st_size == file.size
            for file in held.manifest.files
            if file.path in wanted
        )
    except OSError:
        return False


def _remove(folder: Path) -> None:
    from shutil import rmtree  # it brings every compression there is: not for those who find all in place

    rmtree(folder, ignore_errors=True)
