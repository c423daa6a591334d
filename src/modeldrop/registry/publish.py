"""Publishing: claim a number, upload, decide, commit. The order is the whole promise.

Nothing that readers see exists before ``manifest.json`` is written, which is last; a crash at any step
leaves at most a burnt number.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.errors import ConflictError, FormatError, RegistryError
from modeldrop.format.manifest import manifest_digest, parse_manifest
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    parse_build_record,
    serialize_build_record,
    serialize_claim,
)
from modeldrop.registry import layout
from modeldrop.registry.provenance import now
from modeldrop.registry.versions import Version, claimed_numbers, find_version, located

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.registry.stores.interface import Store, Stored

ADOPT_SECONDS = 10.0
_POLL_SECONDS = 0.2
_CLAIM_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class Published:
    """A version that exists now, and whether this call made it or adopted another publisher's."""

    version: Version
    adopted: bool


def find_build(store: Store, model: str, build_key: str) -> Version | None:
    """The version that a recipe produced, None where it was never built (to the end)."""
    key = layout.build_record(model, build_key)
    stored = store.get(key)
    return None if stored is None else find_version(store, model, _recorded(store, key, stored).version)


def publish(
    store: Store,
    model: str,
    folder: Path,
    *,
    force: bool = False,
    progress: Callable[[int], None] = lambda _: None,
    adopt_seconds: float = ADOPT_SECONDS,
) -> Published:
    """Publish a finished build as the next version.

    Args:
        store: the registry.
        model: the model's name.
        folder: what a build left: the files, ``manifest.json`` and ``report.html``.
        force: make a new version even where the recipe has one.
        progress: told every number of bytes uploaded.
        adopt_seconds: how long to wait for another publisher of the same recipe to finish.

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
        store.upload(layout.file(model, number, file.path), folder / file.path, file, manifest.piece_size, progress)
    _create_own(store, layout.report(model, number), (folder / "report.html").read_bytes())
    key = layout.build_record(model, manifest.build_key)
    record = BuildRecord(number, nonce, now())
    decided = _decide(store, model, key, record, adopt_seconds=None if force else adopt_seconds)
    if decided is not None:
        return Published(decided, adopted=True)
    _create_own(store, layout.manifest(model, number), data)
    return Published(Version(number, manifest_digest(data), manifest), adopted=False)


def _claim(store: Store, model: str, claim: Claim) -> int:
    number = max(claimed_numbers(store, model), default=0) + 1
    for candidate in range(number, number + _CLAIM_ATTEMPTS):
        key = layout.claim(model, candidate)
        try:
            store.create(key, serialize_claim(claim))
        except ConflictError:
            # After a lost reply the claim that is in our way may be our own.
            stored = store.get(key)
            if stored is None or stored.data != serialize_claim(claim):
                continue
        return candidate
    raise RegistryError(f"{_CLAIM_ATTEMPTS} numbers in a row were taken by others.", "Run the same command again.")


def _decide(store: Store, model: str, key: str, record: BuildRecord, *, adopt_seconds: float | None) -> Version | None:
    """Make ``record`` the recipe's; or return the version of another publisher who was first.

    Every publisher met gets ``adopt_seconds`` to finish before its record is replaced; None: no time at all,
    and what it made is not adopted either.
    """
    data = serialize_build_record(record)
    deadlines: dict[bytes, float] = {}
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
        if adopt_seconds is None:
            tag = stored.tag
            continue
        version = find_version(store, model, _recorded(store, key, stored).version)
        if version is not None:
            return version
        if time.monotonic() > deadlines.setdefault(stored.data, time.monotonic() + adopt_seconds):
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
