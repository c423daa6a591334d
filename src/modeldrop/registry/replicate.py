"""Copying a version to another registry, byte for byte: same files, same manifest digest, a number of its own."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, IntegrityError
from modeldrop.format import keys
from modeldrop.registry.publish import Adopt, Published, commit, find_build, stage
from modeldrop.registry.versions import changed_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.format.manifest import File
    from modeldrop.registry.versions import Version
    from modeldrop.storage.write.store import Store

_CHUNK = 1 << 20
_NO_REPORT = "<!doctype html><title>No report</title><p>This version came without a report.</p>\n"


def find_copy(store: Store, model: str, version: Version) -> Version | None:
    """The version of a registry that has the same manifest digest, as the recipe's record knows it."""
    found = find_build(store, model, version.manifest.build_key)
    return found if found is not None and found.digest == version.digest else None


def download_version(
    store: Store, model: str, version: Version, folder: Path, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Bring a version to disk as a build leaves it: its files, ``manifest.json`` and ``report.html``.

    Raises:
        IntegrityError: a file does not have the digest in the manifest.
        NotFoundError: a file is gone.
        DiskError: the local disk is full.
        RegistryError: the registry cannot be read.
    """
    need = sum(file.size for file in version.manifest.files)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < need:
        raise DiskError(
            f"{folder} has {free / 1e6:.0f} MB free; {model} v{version.number} has {need / 1e6:.0f} MB.",
            "Set TMPDIR to a folder with more room.",
        )
    stored = store.get(keys.manifest(model, version.number))
    data = b"" if stored is None else stored.data
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != version.digest:
        raise changed_manifest(model, version, version.digest)
    (folder / "manifest.json").write_bytes(data)
    report = store.get(keys.report(model, version.number))
    (folder / "report.html").write_bytes(_NO_REPORT.encode() if report is None else report.data)
    for file in version.manifest.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        key = keys.file(model, version.number, file.path)
        store.download(key, path, progress)
        _check(path, file, f"{store.url}/{key}")


def mirror(
    source: Store,
    model: str,
    version: Version,
    targets: list[Store],
    scratch: Path,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Published]:
    """Copy a version to other registries, under the same model name; those that have it keep what they have.

    Args:
        source: the registry that has it.
        model: the model's name.
        version: the version.
        targets: the registries to copy to.
        scratch: an empty folder for the files on their way.
        progress: told every number of bytes done, on the way in and on every way out.

    Raises:
        IntegrityError, NotFoundError: the version is damaged.
        RegistryError, DiskError: one of the places cannot be read or written.
    """
    copies = [find_copy(target, model, version) for target in targets]
    if None in copies:
        download_version(source, model, version, scratch, progress)
    return [
        Published(copy, adopted=True)
        if copy is not None
        else commit(stage(target, model, scratch, progress), Adopt.SAME)
        for target, copy in zip(targets, copies, strict=True)
    ]


def _check(path: Path, file: File, where: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    if path.stat().st_size != file.size or digest.hexdigest() != file.sha256:
        raise IntegrityError(
            f"{where} does not have the digest in the manifest.", "It was damaged or changed. Nothing was copied."
        )
