"""A model's place on the local disk: finished snapshots, links named after channels, work in progress.

A snapshot is staged below ``.partial``, synced, renamed into place, and only then may a link name it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, FormatError, UsageError
from modeldrop.format.manifest import Manifest, manifest_digest, parse_manifest
from modeldrop.runtime.snapshot import MANIFEST, is_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTIAL = ".partial"
_REGISTRY = ".registry"
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Held:
    """A finished snapshot: folder, manifest, manifest digest, variant, and bytes just downloaded for it."""

    path: Path
    manifest: Manifest
    digest: str
    variant: str
    downloaded: int = 0


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
            temporary.write_bytes(os.fsencode(f"{registry}\n"))
            temporary.replace(self.path / _REGISTRY)

    def find(self, version: int, digest: str | None, variant: str | None) -> Held | None:
        """A finished snapshot of a version that is still whole.

        Args:
            version: its number.
            digest: the manifest digest it must have, or None for any.
            variant: the variant it must hold, or None for any.

        Returns:
            The snapshot; None where there is none.
        """
        try:
            folders = sorted(entry.name for entry in os.scandir(self.path) if entry.is_dir(follow_symlinks=False))
        except (FileNotFoundError, NotADirectoryError):
            return None
        for name in folders:
            number, _, rest = name.partition("-")
            held, _, short = rest.rpartition("-")
            if number != f"v{version}" or (variant is not None and held != variant):
                continue
            if digest is not None and short != digest.removeprefix("sha256:")[:12]:
                continue
            with contextlib.suppress(OSError, FormatError):
                data = (self.path / name / MANIFEST).read_bytes()
                found = manifest_digest(data)
                if not found.startswith(f"sha256:{short}") or (digest is not None and found != digest):
                    continue
                manifest = parse_manifest(data)
                chosen = manifest.variant(held)
                if chosen is not None and is_whole(self.path / name, manifest, chosen):
                    return Held(self.path / name, manifest, found, held)
        return None

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder for work in progress, removed in any case."""
        folder = self._temporary()
        _sweep(folder.parent)
        folder.mkdir()
        try:
            yield folder
        finally:
            _remove(folder)

    def finish(self, staged: Path, version: int, variant: str, digest: str) -> Path:
        """Give a complete staged folder its final name, durably; return it."""
        target = self.path / f"v{version}-{variant}-{digest.removeprefix('sha256:')[:12]}"
        for folder, _, _ in os.walk(staged, topdown=False):
            _sync(folder)
        for _ in range(2):
            try:
                staged.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
                if self.find(version, digest, variant) is not None:
                    return target  # another process was first
                # What is there was damaged after it was finished: it makes room.
                target.rename(self._temporary())
            else:
                _sync(self.path)
                return target
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
        _sync(self.path)

    def _temporary(self) -> Path:
        """A new path for work in progress; what a killed process leaves there is swept later."""
        partial = self.path / _PARTIAL
        partial.mkdir(exist_ok=True)
        return partial / os.urandom(8).hex()


def _sync(folder: str | os.PathLike[str]) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(partial: Path) -> None:
    """Remove what killed processes left here a day ago or longer."""
    for entry in os.scandir(partial):
        with contextlib.suppress(OSError):
            if time.time() - entry.stat(follow_symlinks=False).st_mtime <= _STALE_SECONDS:
                continue
            if entry.is_dir(follow_symlinks=False):
                _remove(Path(entry.path))
            else:
                Path(entry.path).unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    from shutil import rmtree  # it brings every compression there is: not for those who find all in place

    rmtree(folder, ignore_errors=True)
