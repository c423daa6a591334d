"""Downloading a variant: staged, verified, synced, then given its name."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError
from modeldrop.format.manifest import Manifest, Variant, manifest_digest
from modeldrop.runtime.snapshot import MANIFEST
from modeldrop.runtime.transfer import transfer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.runtime.home import ModelHome
    from modeldrop.runtime.registry import RegistryReader

_DISK_RESERVE = 16 << 20


def download(
    reader: RegistryReader,
    home: ModelHome,
    prefix: str,
    number: int,
    data: bytes,
    manifest: Manifest,
    variant: Variant,
    progress: Callable[[int, int], None],
) -> Path:
    """Bring a variant's files from below the key ``prefix`` into a finished snapshot; return its folder.

    Raises:
        DiskError: there is too little room.
        IntegrityError, RegistryError: see ``transfer``.
        OSError: the disk cannot be written.
    """
    total = manifest.size_of(variant)
    home.prepare(reader.url)
    free = shutil.disk_usage(home.path).free
    if free < total + _DISK_RESERVE:
        raise DiskError(
            f"{home.path} has {free / 1e6:.0f} MB free; {prefix} needs {total / 1e6:.0f} MB.",
            "Free some space, or name another folder (-d); the snapshot in use is untouched.",
        )
    wanted = set(variant.files)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    with home.staging() as staged:
        files = [file for file in manifest.files if file.path in wanted]
        transfer(reader, prefix, files, manifest.piece_size, staged, advance)
        note = staged / MANIFEST
        note.write_bytes(data)
        note.chmod(0o444)
        with note.open("rb") as file:
            os.fsync(file.fileno())
        return home.finish(staged, number, variant.name, manifest_digest(data))
