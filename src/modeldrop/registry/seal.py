"""Seal versions: remove one for good, and only if no channel needs it.

    manifest  →  undecided seal, which holds the manifest  →  final seal  →  its files are deleted

Every arrow is a compare-and-swap. Between the seals the channels are read once more: if one names the version
now, the manifest is put back. Nothing comes back after a final seal, and nothing is deleted before it. If a
prune is killed at any point, the next one finishes its work, and two prunes at the same time do no harm.

What is deleted is deleted without a condition, which many services refuse or ignore: nobody commits below a number that
is sealed. The build record stays, because the recipe's next publisher may just be replacing it; one that names a sealed
version promises nothing.

What was claimed and never committed gets its final seal at once, by a create-only write, so that an owner who
continues late cannot commit. What such an owner still writes is swept by the next prune.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from modeldrop.errors import ConflictError, FormatError
from modeldrop.format import keys
from modeldrop.format.manifest import manifest_digest, parse_manifest
from modeldrop.format.records import Seal, find_seal, serialize_seal
from modeldrop.registry.deltas import forget_base
from modeldrop.registry.protection import read_protection, time_text
from modeldrop.registry.versions import VersionListing, is_retired, list_folder, list_folders
from modeldrop.storage.write.store import Store, StoredObject, UnfinishedUpload

_REPORT = "report.html"
_DELETING = 8


class Sealer:
    """Seals versions of one model.

    Its methods return "" for done, or why it was not.

    Args:
        store: the registry.
        model: the model.
        now: the present moment, in Unix seconds.
        grace: seconds for which a version is protected after a channel has left it, and a claim after the last
            write to it.
        by: who prunes, for the records.
    """

    def __init__(self, store: Store, model: str, *, now: float, grace: float, by: str) -> None:
        self._store = store
        self._model = model
        self._now = now
        self._grace = grace
        self._by = by

    def seal(self, number: int, why: str) -> str:
        """Seal a version that was retired a grace ago, and delete its files; un-retire it if it is needed."""
        stored = self._manifest(number)
        if stored is None:
            return "its manifest was removed"
        if find_seal(stored.data) is None:
            if needed := self._needed(number):
                self.unretire(number)
                return needed
            if damaged := manifest_fault(stored.data):
                return f"its manifest cannot be read: {damaged}"
            undecided = Seal(time_text(self._now), self._by, why, stored.data.decode())
            # A refusal means that another prune was first, or that our reply was lost; finish() reads which.
            with contextlib.suppress(ConflictError):
                self._store.swap(keys.manifest(self._model, number), serialize_seal(undecided), stored.tag)
        return self.finish(number)

    def finish(self, number: int) -> str:
        """Complete a started prune: put the manifest back, or make the seal final and delete the files."""
        stored = self._manifest(number)
        seal = find_seal(stored.data) if stored is not None else None
        if stored is None or seal is None:
            return "another prune has put its manifest back"
        if seal.manifest:
            try:
                needed = self._needed(number)
            except FormatError as error:
                needed = error.message
            if not needed:  # now, while the digest is known; it would be no loss if it was needed after all
                digest = manifest_digest(seal.manifest.encode())
                forget_base(self._store, self._model, digest, self._folders)
            final = Seal(time_text(self._now), seal.by, seal.why)
            data = seal.manifest.encode() if needed else serialize_seal(final)
            try:
                self._store.swap(keys.manifest(self._model, number), data, stored.tag)
            except ConflictError:
                after = self._manifest(number)
                if after is None or after.data != data:
                    return "another prune is working on it"
            if needed:
                return needed
        self._sweep(number)
        return ""

    def abandon(self, number: int, why: str) -> str:
        """Seal a claim that was never committed, unless its owner is writing again, and delete its files."""
        folder = list_folder(self._store, self._model, number)
        uploads = self._store.unfinished(keys.folder(self._model, number))
        if self._now - last_write(self._model, folder, uploads) < self._grace:
            return "its owner is writing to it again"
        seal = serialize_seal(Seal(time_text(self._now), self._by, why))
        try:
            self._store.create(keys.manifest(self._model, number), seal)
        except ConflictError:
            stored = self._manifest(number)
            if stored is None or find_seal(stored.data) is None:
                return "its owner has finished it"
        self._sweep(number)
        return ""

    def unretire(self, number: int) -> None:
        """Take the mark from a version."""
        self._store.delete(keys.retired(self._model, number))

    def _needed(self, number: int) -> str:
        """Why a retired version must stay after all, or ""."""
        if not is_retired(self._store, self._model, number):
            return "it was un-retired meanwhile"
        return read_protection(self._store, self._model, self._now, self._grace).reason(number)

    def _manifest(self, number: int) -> StoredObject | None:
        return self._store.get(keys.manifest(self._model, number))

    @cached_property
    def _folders(self) -> list[VersionListing]:
        """The model's versions. Nobody makes deltas from what is retired: those that there are were there at first."""
        return list_folders(self._store, self._model)

    def _sweep(self, number: int) -> None:
        """Delete what a sealed version has left, the report last; its claim, seal, mark and build record stay."""
        folder = list_folder(self._store, self._model, number)
        leftovers = [listed.key for path, listed in folder.leftovers.items() if path != _REPORT]
        with ThreadPoolExecutor(_DELETING) as pool:
            for _ in pool.map(self._store.delete, leftovers):
                pass
        if _REPORT in folder.objects:
            self._store.delete(keys.report(self._model, number))


def manifest_fault(manifest: bytes) -> str:
    """What is wrong with a manifest's bytes, or ""."""
    try:
        parse_manifest(manifest)
    except FormatError as error:
        return error.message
    return ""


def last_write(model: str, folder: VersionListing, uploads: Iterable[UnfinishedUpload]) -> float:
    """When anything was last written to a version's folder, in Unix seconds of the store's own clock."""
    prefix = f"{keys.folder(model, folder.number)}/"
    begun = [upload.started for upload in uploads if upload.key.startswith(prefix)]
    return max([*(listed.modified for listed in folder.objects.values()), *begun], default=0.0)
