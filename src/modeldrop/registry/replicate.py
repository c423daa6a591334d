"""The same version in several registries: publish one build to all of them, or copy a version from one to others.

Every copy has the same files and the same manifest digest; its number is each registry's own.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from modeldrop.errors import ConflictError, DiskError
from modeldrop.format import keys
from modeldrop.format.manifest import manifest_digest
from modeldrop.format.records import find_seal
from modeldrop.registry.deltas import SCRATCH, copy_deltas
from modeldrop.registry.publish import (
    ADOPT_SECONDS,
    ADOPTED,
    MIRRORED,
    UNCHANGED,
    Adopt,
    Build,
    Published,
    StagedVersion,
    commit,
    find_build,
    stage,
)
from modeldrop.registry.versions import Version, changed_manifest, download_file, pruned
from modeldrop.storage.write.conditional import require_conditional_writes
from modeldrop.storage.write.store import Store

_NO_REPORT = "<!doctype html><title>No report</title><p>This version came without a report.</p>\n"


class _CancelledError(Exception):
    """Another upload failed: this one need not go on."""


def check_targets(stores: Sequence[Store], need: int) -> None:
    """Refuse, before slow work and before a number is claimed, registries that could not be published to.

    Args:
        stores: the registries.
        need: bytes that each is to take.

    Raises:
        MissingExtraError: the cloud's SDK is not installed.
        RegistryError, DiskError: one cannot be written, or does not honour conditional writes.
    """
    for store in stores:
        store.check_writable(need)
        require_conditional_writes(store)


def stage_all(
    stores: Sequence[Store], model: str, build: Build, progress: Callable[[int], None] = lambda _: None
) -> list[StagedVersion]:
    """Upload a build to several registries at the same time, in threads. Readers see nothing of it yet.

    A signal interrupts the main thread, which then waits for nothing: ``storage/write/interruption.py``.

    Args:
        stores: the registries.
        model: the model's name, the same in all.
        build: what to upload.
        progress: told every number of bytes uploaded.

    Raises:
        IntegrityError: a file changed after it was built.
        RegistryError, DiskError: a registry cannot be written.
    """
    lock = threading.Lock()
    failures: list[BaseException] = []

    def advance(count: int) -> None:
        with lock:
            if failures:
                raise _CancelledError
            progress(count)

    def run(store: Store) -> StagedVersion | None:
        try:
            return stage(store, model, build, advance)
        except _CancelledError:
            return None
        except BaseException as error:
            failures.append(error)
            raise

    with ThreadPoolExecutor(len(stores), "modeldrop-publish") as pool:
        jobs = [pool.submit(run, store) for store in stores]
    if failures:
        raise failures[0]
    return [staged for staged in (job.result() for job in jobs) if staged is not None]


def commit_all(
    staged: Sequence[StagedVersion], scratch: Path, *, force: bool = False, adopt_seconds: float = ADOPT_SECONDS
) -> list[Published]:
    """Make what is staged a version of every registry.

    The first registry decides: if another publisher of the recipe was first there, its version is adopted and copied
    to the other registries. So all of them hold the same manifest digest, whoever publishes at the same time.

    Args:
        staged: what ``stage_all`` gave.
        scratch: an empty folder, for a version that must be copied.
        force: make a new version even where the recipe has one.
        adopt_seconds: how long to wait for another publisher of the same recipe to finish.

    Raises:
        RegistryError, DiskError: a registry cannot be written.
    """
    first = commit(staged[0], Adopt.NONE if force else Adopt.ANY, adopt_seconds=adopt_seconds)
    if first.how == ADOPTED and first.version.digest != staged[0].build.digest:
        targets = [other.store for other in staged[1:]]
        return [first, *replicate(first.store, staged[0].model, first.version, targets, scratch)]
    adopt = Adopt.NONE if force else Adopt.SAME
    return [first, *(commit(other, adopt, adopt_seconds=adopt_seconds) for other in staged[1:])]


def replicate(
    source: Store,
    model: str,
    version: Version,
    targets: Sequence[Store],
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
    build: Build | None = None
    published = []
    for target, copy in zip(targets, copies, strict=True):
        if copy is not None:
            copy_evidence(source, target, model, version, copy)
            published.append(Published(store=target, version=copy, how=UNCHANGED))
            continue
        build = build or download_version(source, model, version, scratch, progress)
        [staged] = stage_all([target], model, build, progress)
        faults = copy_deltas(source, version, staged, scratch / SCRATCH)
        made = commit(staged, Adopt.SAME)
        copy_evidence(source, target, model, version, made.version)
        published.append(replace(made, how=MIRRORED, folder=build.folder, delta_faults=tuple(faults)))
    return published


def copy_evidence(source: Store, target: Store, model: str, version: Version, copy: Version) -> None:
    """Copy what came to a version after it was published: its attestation, and the mark of its test.

    Both name the manifest's digest, which the copy shares; what the copy has already stays.

    Raises:
        RegistryError: one of the registries cannot be read or written.
    """
    for key in (keys.attestation, keys.tested):
        stored = source.get(key(model, version.number))
        if stored is not None:
            try:
                target.create(key(model, copy.number), stored.data)
            except ConflictError:
                continue


def find_copy(store: Store, model: str, version: Version) -> Version | None:
    """The version of a registry that has the same manifest digest, as the recipe's build record names it."""
    found = find_build(store, model, version.manifest.build_key)
    return found if found is not None and found.digest == version.digest else None


def download_version(
    store: Store, model: str, version: Version, folder: Path, progress: Callable[[int], None] = lambda _: None
) -> Build:
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
    if manifest_digest(data) != version.digest:
        if (seal := find_seal(data)) is not None:
            raise pruned(store, model, version.number, seal)
        raise changed_manifest(model, version, version.digest)
    (folder / "manifest.json").write_bytes(data)
    report = store.get(keys.report(model, version.number))
    (folder / "report.html").write_bytes(_NO_REPORT.encode() if report is None else report.data)
    for file in version.manifest.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        key = keys.file(model, version.number, file.path)
        download_file(store, key, path, file, progress)
    statement = store.get(keys.statement(model, version.number))
    return Build(folder, version.manifest, data, b"" if statement is None else statement.data)
