"""Publishing: claim a number, upload, decide, commit. The order is the whole promise.

Nothing that readers see exists before ``manifest.json`` is written, which is last; a crash at any step
leaves at most a burnt number. ``stage`` is all that takes long; ``commit`` is a few small requests.
"""

from __future__ import annotations

import enum
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.errors import ConflictError, FormatError, RegistryError
from modeldrop.format import keys
from modeldrop.format.manifest import Manifest, manifest_digest, parse_manifest
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    parse_build_record,
    serialize_build_record,
    serialize_claim,
)
from modeldrop.registry.provenance import now
from modeldrop.registry.versions import Version, claimed_numbers, find_version, is_retired, located, read_version
from modeldrop.util.retry import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.storage.write.store import Store, Stored

ADOPT_SECONDS = 10.0
_POLL_SECONDS = 0.2
_CLAIM_ATTEMPTS = 1000


class Adopt(enum.Enum):
    """Which version of another publisher of the same recipe is as good as ours."""

    ANY = "any"
    SAME = "same bytes"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Staged:
    """A build that is uploaded below a number of its own and not a version yet."""

    store: Store
    model: str
    number: int
    nonce: str
    data: bytes
    manifest: Manifest

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return manifest_digest(self.data)


@dataclass(frozen=True, slots=True)
class Published:
    """A version that exists now, and whether this call made it or adopted another publisher's."""

    version: Version
    adopted: bool


def find_build(store: Store, model: str, build_key: str) -> Version | None:
    """The version that a recipe produced, None where it was never built (to the end) or is retired."""
    key = keys.build_record(model, build_key)
    stored = store.get(key)
    if stored is None:
        return None
    version = find_version(store, model, _recorded(store, key, stored).version)
    return None if version is None or is_retired(store, model, version.number) else version


def stage(store: Store, model: str, folder: Path, progress: Callable[[int], None] = lambda _: None) -> Staged:
    """Claim a number and upload a finished build below it. Readers see nothing of it yet.

    Args:
        store: the registry.
        model: the model's name.
        folder: what a build left: the files, ``manifest.json`` and ``report.html``.
        progress: told every number of bytes uploaded.

    Raises:
        IntegrityError: a file changed after it was built.
        RegistryError, DiskError: the registry cannot be written.
    """
    data = (folder / "manifest.json").read_bytes()
    manifest = parse_manifest(data)
    nonce = secrets.token_hex(16)
    claim = Claim(nonce, manifest.build_key, manifest.provenance.actor, manifest.provenance.run, now())
    number = _claim(store, model, claim)
    for file in manifest.files:
        key = keys.file(model, number, file.path)
        store.upload(key, folder / file.path, file, manifest.piece_size, progress)
    _create_own(store, keys.report(model, number), (folder / "report.html").read_bytes())
    return Staged(store, model, number, nonce, data, manifest)


def commit(staged: Staged, adopt: Adopt, *, adopt_seconds: float = ADOPT_SECONDS) -> Published:
    """Make what is staged a version; or adopt the one that another publisher of the recipe made first.

    Args:
        staged: what ``stage`` gave.
        adopt: which version of another publisher is as good as ours.
        adopt_seconds: how long to wait for another publisher of the same recipe to finish.

    Raises:
        ConflictError: prune gave the upload up, because it took too long.
        RegistryError: the registry cannot be written.
    """
    store, model, number = staged.store, staged.model, staged.number
    decided = _decide(staged, adopt, adopt_seconds)
    if decided is not None:
        return Published(decided, adopted=True)
    try:
        _create_own(store, keys.manifest(model, number), staged.data)
    except ConflictError as error:
        raise ConflictError(
            f"v{number} of {model} in {store.url} was sealed before its upload was finished.",
            "prune took it for abandoned. Publish again: it gets a new number.",
        ) from error
    return Published(Version(number, staged.digest, staged.manifest), adopted=False)


def publish(
    store: Store,
    model: str,
    folder: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    adopt_seconds: float = ADOPT_SECONDS,
) -> Published:
    """``stage`` and ``commit``: publish a finished build as the next version of one registry.

    ``force`` makes a new version even where the recipe has one.
    """
    staged = stage(store, model, folder, progress)
    return commit(staged, Adopt.NONE if force else Adopt.ANY, adopt_seconds=adopt_seconds)


def _claim(store: Store, model: str, claim: Claim) -> int:
    number = max(claimed_numbers(store, model), default=0) + 1
    for candidate in range(number, number + _CLAIM_ATTEMPTS):
        key = keys.claim(model, candidate)
        try:
            store.create(key, serialize_claim(claim))
        except ConflictError:
            # After a lost reply the claim that is in our way may be our own.
            stored = store.get(key)
            if stored is None or stored.data != serialize_claim(claim):
                continue
        return candidate
    raise RegistryError(f"{_CLAIM_ATTEMPTS} numbers in a row were taken by others.", "Run the same command again.")


def _decide(staged: Staged, adopt: Adopt, adopt_seconds: float) -> Version | None:
    """Make our record the recipe's; or return the version of another publisher who was first.

    Every publisher met gets ``adopt_seconds`` to finish before its record is replaced, unless nothing of
    others would be adopted anyway.
    """
    store, model = staged.store, staged.model
    key = keys.build_record(model, staged.manifest.build_key)
    data = serialize_build_record(BuildRecord(staged.number, staged.nonce, now()))
    deadlines: dict[bytes, Deadline] = {}
    tag: str | None = None
    while True:
        try:
            if tag is None:
                store.create(key, data)
            else:
                store.swap(key, data, tag)
        except ConflictError:
            tag = None
        else:
            return None
        stored = store.get(key)
        if stored is None:
            continue
        if stored.data == data:
            return None
        if adopt is Adopt.NONE:
            tag = stored.tag
            continue
        number = _recorded(store, key, stored).version
        found = read_version(store, model, number)
        if (
            isinstance(found, Version)
            and (adopt is Adopt.ANY or found.digest == staged.digest)
            and not is_retired(store, model, number)
        ):
            return found
        waited = not deadlines.setdefault(stored.data, Deadline(adopt_seconds)).left()
        if waited or found is not None:  # what is there already, and not for us, will not change
            tag = stored.tag
        else:
            time.sleep(_POLL_SECONDS)


def _recorded(store: Store, key: str, stored: Stored) -> BuildRecord:
    try:
        return parse_build_record(stored.data)
    except FormatError as error:
        located_error = located(error, store, key)
        located_error.hint = "It was changed by hand or damaged. To build again and replace it: --force."
        raise located_error from None


def _create_own(store: Store, key: str, data: bytes) -> None:
    """Create an object that only we may write: after a lost reply our own bytes may be there already."""
    try:
        store.create(key, data)
    except ConflictError:
        stored = store.get(key)
        if stored is None or stored.data != data:
            raise
