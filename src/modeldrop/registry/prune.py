"""Prune: remove old versions without ever removing one that is in use.

There are two phases. The first marks versions (``retired.json``) and deletes nothing. The second, a grace later, reads
every channel again, and seals the versions that no channel names or has named within the grace (``seal.py``). Claims
that were never committed, and multipart uploads that were never finished, are removed if nothing was written to them
for a grace.

``claim.json``, the seal and ``retired.json`` stay: so numbers are never reused, and a process that has just moved a
channel sees that the version is about to be removed, or was.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from modeldrop.errors import ConflictError, FormatError
from modeldrop.format import keys
from modeldrop.format.records import Retirement, find_seal, parse_retirement, serialize_retirement
from modeldrop.registry.protection import Protection, age, read_protection, time_text
from modeldrop.registry.seal import Sealer, last_write, manifest_fault
from modeldrop.registry.versions import CLAIM_FILE, MANIFEST_FILE, VersionListing, list_folders
from modeldrop.storage.write.store import Store, UnfinishedUpload

RETIRE, UNRETIRE, SEAL, ABANDON, SWEEP, ABORT = "retire", "unretire", "seal", "abandon", "sweep", "abort"
DONE = "done"


@dataclass(frozen=True, slots=True)
class PruneRules:
    """What may be removed.

    Attributes:
        keep: how many of the newest versions stay, whatever their age.
        older_than: the age in seconds that a version must have.
        grace: seconds between retiring and sealing. A version that a channel has left stays as long, and so does a
            claim or an unfinished upload after the last write to it.
    """

    keep: int = 5
    older_than: float = 30 * 86400.0
    grace: float = 86400.0


@dataclass(frozen=True, slots=True)
class PruneStep:
    """Something that prune would do, or has done.

    Attributes:
        action: ``retire`` a version; ``unretire`` it; ``seal`` it and delete its files; ``abandon`` a claim that was
            never committed; ``sweep`` what came to a version after it was sealed; ``abort`` an unfinished upload.
        version: the number concerned; None for an upload that belongs to none.
        size: bytes that it frees; for ``retire``, that sealing will free. Parts of uploads are not counted.
        why: the reason.
        outcome: "" in a plan; ``done``; or why it was not done.
    """

    action: str
    version: int | None
    size: int
    why: str
    outcome: str = ""


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A version that stays, for the reason ``why``."""

    version: int
    why: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What prune would do to a model, or has done."""

    model: str
    steps: tuple[PruneStep, ...]
    kept: tuple[KeptVersion, ...]

    @property
    def frees_now(self) -> int:
        """Bytes that the steps free."""
        return sum(step.size for step in self.steps if step.action != RETIRE and step.outcome in {"", DONE})

    @property
    def frees_later(self) -> int:
        """Bytes that sealing what these steps retire will free."""
        return sum(step.size for step in self.steps if step.action == RETIRE and step.outcome in {"", DONE})


def prune(store: Store, model: str, rules: PruneRules, *, now: float, apply: bool, by: str = "") -> Pruned:
    """Prune a model, or say what that would do.

    Args:
        store: the registry.
        model: the model.
        rules: what may go.
        now: the present moment, in Unix seconds; see ``store_clock``.
        apply: do it.
        by: who asks, for the records.

    Raises:
        FormatError: a channel cannot be read, so it is not known what it names: nothing was pruned.
        RegistryError: the registry cannot be read or written; the next prune goes on from there.
    """
    plan = _PrunePlan(store, model, rules, now)
    if apply:
        plan.apply(by)
    return Pruned(model, tuple(plan.steps), tuple(sorted(plan.kept, key=lambda kept: kept.version)))


def store_clock(store: Store) -> float:
    """The earlier of a store's clock and our own, in Unix seconds: what is old by it is old by both.

    Writes a small object, lists it and deletes it. A folder's clock is our own.
    """
    if "://" not in store.url:
        return time.time()
    key = f".prune/{secrets.token_hex(8)}.json"
    store.create(key, b"{}\n")
    try:
        times = [listed.modified for listed in store.objects(".prune") if listed.key == key]
    finally:
        store.delete(key)
    return min([time.time(), *times])


def duration_text(seconds: float) -> str:
    """``30d``, ``24h``, ``90m`` or ``45s``: the largest unit that gives a whole number, days from two on."""
    for unit, length, minimum in (("d", 86400, 2), ("h", 3600, 1), ("m", 60, 1)):
        if seconds >= length * minimum and seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


class _PrunePlan:
    """What is to be done to one model."""

    def __init__(self, store: Store, model: str, rules: PruneRules, now: float) -> None:
        self._store = store
        self._model = model
        self._rules = rules
        self._now = now
        self._grace = duration_text(rules.grace)
        self._uploads: dict[int, UnfinishedUpload] = {}  # by the index of their step
        self.steps: list[PruneStep] = []
        self.kept: list[KeptVersion] = []

        protection = self._protection()
        folders = list_folders(store, model)
        uploads = [upload for upload in store.unfinished(model) if upload.key.startswith(f"{model}/")]
        uploading = {folder.number for folder in folders if not self._add_claim(folder, uploads)}
        live = [folder for folder in folders if folder.committed and not folder.emptied]
        live = [folder for folder in live if not (folder.may_be_sealed and self._add_marked(folder, protection))]
        for folder in live[::-1][rules.keep :]:
            self._add_old(folder, protection)
        for upload in uploads:
            self._add_upload(upload, uploading)

    def apply(self, by: str) -> None:
        """Do it, and write into every step what came of it."""
        sealer = Sealer(self._store, self._model, now=self._now, grace=self._rules.grace, by=by)
        retired = [index for index, step in enumerate(self.steps) if step.action == RETIRE]
        for index in retired:
            self._set(index, self._retire(self.steps[index], by))
        if retired:
            # A channel may have been moved before the mark was written. A later mover sees the mark.
            protection = self._protection()
            for index in retired:
                number = self.steps[index].version or 0
                if why := protection.reason(number):
                    sealer.unretire(number)
                    self._set(index, why)
        for index, step in enumerate(self.steps):
            number = step.version or 0
            if step.action == UNRETIRE:
                sealer.unretire(number)
                self._set(index, "")
            elif step.action == SEAL:
                self._set(index, sealer.seal(number, step.why))
            elif step.action == SWEEP:
                self._set(index, sealer.finish(number))
            elif step.action == ABANDON:
                self._set(index, sealer.abandon(number, step.why))
            elif step.action == ABORT:
                self._store.abort(self._uploads[index])
                self._set(index, "")

    def _retire(self, step: PruneStep, by: str) -> str:
        key = keys.retired(self._model, step.version or 0)
        data = serialize_retirement(Retirement(time_text(self._now), by, step.why))
        try:
            self._store.create(key, data)
        except ConflictError:
            stored = self._store.get(key)
            if stored is None or stored.data != data:
                return "another prune has retired it"
        return ""

    def _set(self, index: int, fault: str) -> None:
        self.steps[index] = replace(self.steps[index], outcome=fault or DONE)

    def _add_claim(self, folder: VersionListing, uploads: Iterable[UnfinishedUpload]) -> bool:
        """Add the sealing of a claim that was never committed; return False if its owner may be at work."""
        if folder.committed or CLAIM_FILE not in folder.objects:
            return True  # without a claim it is no version: files were put there by hand
        if self._now - last_write(self._model, folder, uploads) < self._rules.grace:
            self._keep(folder, f"is being uploaded: it was written to within the last {self._grace}")
            return False
        self._add(ABANDON, folder, f"never finished, and not written to for {self._grace}")
        return True

    def _add_marked(self, folder: VersionListing, protection: Protection) -> bool:
        """Add what follows for a version that is marked or sealed; return False if it is neither."""
        stored = self._store.get(keys.manifest(self._model, folder.number))
        if stored is None:
            return True  # removed since the listing
        seal = find_seal(stored.data)
        if seal is not None:
            self._add(SEAL if seal.manifest else SWEEP, folder, seal.why)
        elif not folder.retired:
            return False
        elif why := protection.reason(folder.number):
            self.steps.append(PruneStep(UNRETIRE, folder.number, 0, why))
        elif why := manifest_fault(stored.data):
            self._keep(folder, f"is retired, but its manifest cannot be read: {why}")
        else:
            self._add_retired(folder)
        return True

    def _add_retired(self, folder: VersionListing) -> None:
        stored = self._store.get(keys.retired(self._model, folder.number))
        if stored is None:
            return  # un-retired since the listing
        try:
            mark = parse_retirement(stored.data)
        except FormatError as error:
            self._keep(folder, f"is retired, but it is not known since when: {error.message}")
            return
        if age(mark.at, self._now) < self._rules.grace:
            self._keep(folder, f"was retired at {mark.at}, and is sealed {self._grace} after that")
        else:
            self._add(SEAL, folder, mark.why)

    def _add_old(self, folder: VersionListing, protection: Protection) -> None:
        rules = self._rules
        min_age = max(rules.older_than, rules.grace)
        if why := protection.reason(folder.number):
            self._keep(folder, f"stays: {why}")
        elif self._now - folder.objects[MANIFEST_FILE].modified >= min_age:
            stored = self._store.get(keys.manifest(self._model, folder.number))
            if stored is None:
                return  # removed since the listing
            if find_seal(stored.data) is not None:  # a prune was killed, and the mark taken away at that moment
                self._add(SEAL, folder, "its prune was not finished")
                return
            if why := manifest_fault(stored.data):
                self._keep(folder, f"stays: its manifest cannot be read: {why}")
                return
            older = f", older than {duration_text(rules.older_than)}" if rules.older_than else ""
            self._add(RETIRE, folder, f"not among the newest {rules.keep}{older}")

    def _add_upload(self, upload: UnfinishedUpload, uploading: set[int]) -> None:
        path = upload.key.partition("/")[2]
        number = keys.version_number(path.partition("/")[0])
        if number not in uploading and self._now - upload.started >= self._rules.grace:
            why = f"an upload of {path}, begun at {time_text(upload.started)}, never finished"
            self._uploads[len(self.steps)] = upload
            self.steps.append(PruneStep(ABORT, number, 0, why))

    def _add(self, action: str, folder: VersionListing, why: str) -> None:
        self.steps.append(PruneStep(action, folder.number, sum(one.size for one in folder.leftovers.values()), why))

    def _keep(self, folder: VersionListing, why: str) -> None:
        self.kept.append(KeptVersion(folder.number, why))

    def _protection(self) -> Protection:
        return read_protection(self._store, self._model, self._now, self._rules.grace)
