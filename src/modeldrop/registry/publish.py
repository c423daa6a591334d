"""Publish a build in one registry: claim a number, upload, decide whose version counts, commit.

The order of these steps is the whole promise. ``stage`` takes a version number with a create-only claim and uploads
the files below it; readers see nothing of them. ``commit`` is a few small requests: the build record decides which
publisher of the same recipe was first, and ``manifest.json``, written last and create-only, makes the version exist.
So a reader never meets a version of which a file is missing, and a crash at any step leaves at most a number that
nobody uses again.

Two publishers of one recipe: both upload, each below a number of its own. Whoever creates the build record first
commits; the other waits for that manifest and adopts the version. If it does not come (the first one crashed), the
record is replaced by compare-and-swap.
"""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modeldrop.errors import ConflictError, FormatError, RegistryError
from modeldrop.format import keys
from modeldrop.format.bom import render_bom
from modeldrop.format.manifest import Manifest, manifest_digest, parse_manifest
from modeldrop.format.names import is_own_file
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    parse_build_record,
    serialize_build_record,
    serialize_claim,
)
from modeldrop.registry.channel_writes import ChannelResult
from modeldrop.registry.promotion import Promotion
from modeldrop.registry.provenance import now
from modeldrop.registry.signing import find_signer, make_statement
from modeldrop.registry.versions import (
    Version,
    claimed_numbers,
    error_in_object,
    find_version,
    is_retired,
    read_version,
)
from modeldrop.storage.errors import no_conditional_writes
from modeldrop.storage.write.conditional import REFUSED_CREATE
from modeldrop.storage.write.store import Store, StoredObject
from modeldrop.util.retry import Deadline

ADOPT_SECONDS = 10.0
BUILT, ADOPTED, MIRRORED, UNCHANGED = "built", "adopted", "mirrored", "unchanged"
_POLL_SECONDS = 0.2
_CLAIM_ATTEMPTS = 1000
_REFUSALS = 5


class Adopt(enum.Enum):
    """Which version of another publisher of the same recipe is as good as ours."""

    ANY = "any"
    SAME = "same bytes"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Build:
    """A finished build on this disk.

    Attributes:
        folder: holds the files of the manifest, ``manifest.json`` and ``report.html``.
        manifest: what ``data`` says.
        data: the bytes of ``manifest.json``.
        statement: the bytes of ``statement.json`` of a version that is copied, b"" if it has none; None for what was
            built here: whoever commits it signs it.
    """

    folder: Path
    manifest: Manifest
    data: bytes
    statement: bytes | None = None

    @property
    def digest(self) -> str:
        """The manifest's digest."""
        return manifest_digest(self.data)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.manifest.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedVersion:
    """A build that is uploaded below a number of its own and is not a version yet."""

    store: Store
    model: str
    number: int
    nonce: str
    build: Build


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The version of a recipe in one registry, and what a publish did there.

    Attributes:
        store: the registry.
        version: the version.
        how: how it got there: ``built`` by this publish, ``adopted`` from another publisher who was first,
            ``mirrored`` from another registry, or ``unchanged``.
        folder: has the version's files on this disk; None if no folder has.
        channel: what became of the channel; None if none was to move.
        tested: whether the user's test succeeded; None if it did not run.
        delta_faults: why it came without some deltas, a sentence each.
    """

    store: Store
    version: Version
    how: str
    folder: Path | None = None
    channel: ChannelResult | None = None
    tested: bool | None = None
    delta_faults: tuple[str, ...] = ()

    @property
    def promotion(self) -> Promotion:
        """What became of the request to have a channel name it."""
        return Promotion.NOT_ASKED if self.channel is None else self.channel.promotion


def read_build(folder: Path) -> Build:
    """The finished build in a folder, as its ``manifest.json`` describes it.

    Raises:
        FormatError: the manifest cannot be read.
    """
    data = (folder / "manifest.json").read_bytes()
    return Build(folder, parse_manifest(data), data)


def find_build(store: Store, model: str, build_key: str) -> Version | None:
    """The version that a recipe produced; None if it was never built, or not to the end, or is retired."""
    key = keys.build_record(model, build_key)
    stored = store.get(key)
    if stored is None:
        return None
    version = find_version(store, model, _recorded(store, key, stored).version)
    return None if version is None or is_retired(store, model, version.number) else version


def stage(store: Store, model: str, build: Build, progress: Callable[[int], None] = lambda _: None) -> StagedVersion:
    """Claim a number and upload a build below it. Readers see nothing of it yet.

    Raises:
        FormatError: a file has a name that the registry keeps for itself.
        IntegrityError: a file changed after it was built.
        RegistryError, DiskError: the registry cannot be written.
    """
    manifest, nonce = build.manifest, secrets.token_hex(16)
    for file in manifest.files:
        if is_own_file(file.path):
            raise FormatError(f"the path {file.path!r} is a name the registry keeps for itself", field="files")
    made = manifest.provenance
    claim = Claim(nonce=nonce, build_key=manifest.build_key, by=made.actor, run=made.run, at=now())
    number = _claim(store, model, claim)
    for file in manifest.files:
        key = keys.file(model, number, file.path)
        store.upload(key, build.folder / file.path, file, manifest.piece_size, progress)
    create_own(store, keys.report(model, number), (build.folder / "report.html").read_bytes())
    create_own(store, keys.bom(model, number), render_bom(model, manifest, build.digest))
    return StagedVersion(store=store, model=model, number=number, nonce=nonce, build=build)


def commit(staged: StagedVersion, adopt: Adopt, *, adopt_seconds: float = ADOPT_SECONDS) -> Published:
    """Make a staged version exist, or adopt the one that another publisher of the recipe made first.

    Args:
        staged: what ``stage`` gave.
        adopt: which version of another publisher is as good as ours.
        adopt_seconds: how long to wait for another publisher of the same recipe to finish.

    Raises:
        ConflictError: prune has sealed the number meanwhile, because the upload took too long.
        RegistryError: the registry cannot be written.
    """
    store, model, number, build = staged.store, staged.model, staged.number, staged.build
    decided = _decide(staged, adopt, adopt_seconds)
    if decided is not None:
        # The bytes of another publisher may differ from ours, so our folder is not that version's.
        return Published(store=store, version=decided, how=ADOPTED)
    statement = build.statement
    if statement is None and (signer := find_signer()) is not None:
        statement = make_statement(signer, model, build.digest)
    try:
        if statement:
            create_own(store, keys.statement(model, number), statement)
        create_own(store, keys.manifest(model, number), build.data)
    except ConflictError as error:
        raise ConflictError(
            f"v{number} of {model} in {store.url} was sealed before its upload was finished.",
            "prune took it for abandoned. Publish again: it gets a new number.",
        ) from error
    version = Version(number, build.digest, build.manifest)
    return Published(store=store, version=version, how=BUILT, folder=build.folder)


def _claim(store: Store, model: str, claim: Claim) -> int:
    number = max(claimed_numbers(store, model), default=0) + 1
    refused = 0
    for candidate in range(number, number + _CLAIM_ATTEMPTS):
        key = keys.claim(model, candidate)
        try:
            store.create(key, serialize_claim(claim))
        except ConflictError:
            # The claim that is there may be our own: the reply to our write can have been lost.
            stored = store.get(key)
            refused = _count_refusals(store, refused, stored)
            if stored is None or stored.data != serialize_claim(claim):
                continue
        return candidate
    raise RegistryError(
        f"{_CLAIM_ATTEMPTS} version numbers in a row were taken by other publishers.", "Run the same command again."
    )


def _count_refusals(store: Store, before: int, stored: StoredObject | None) -> int:
    """How often in a row a write was refused, because of an object that is not ``stored``: it can be gone again, once.

    Raises:
        RegistryError: so often that whoever answers knows nothing of it.
    """
    count = 0 if stored is not None else before + 1
    if count > _REFUSALS:
        raise no_conditional_writes(store.url, REFUSED_CREATE)
    return count


def _decide(staged: StagedVersion, adopt: Adopt, adopt_seconds: float) -> Version | None:
    """Make our build record the recipe's, or return the version of another publisher who was first.

    Every other publisher gets ``adopt_seconds`` to finish before its record is replaced, unless no version of
    others would be adopted anyway.
    """
    store, model = staged.store, staged.model
    key = keys.build_record(model, staged.build.manifest.build_key)
    data = serialize_build_record(BuildRecord(staged.number, staged.nonce, now()))
    deadlines: dict[bytes, Deadline] = {}
    tag: str | None = None
    refused = 0
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
        refused = _count_refusals(store, refused, stored)
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
            and (adopt is Adopt.ANY or found.digest == staged.build.digest)
            and not is_retired(store, model, number)
        ):
            return found
        waited = not deadlines.setdefault(stored.data, Deadline(adopt_seconds)).left()
        if waited or found is not None:  # a version that is there and cannot be adopted will not change
            tag = stored.tag
        else:
            time.sleep(_POLL_SECONDS)


def _recorded(store: Store, key: str, stored: StoredObject) -> BuildRecord:
    try:
        return parse_build_record(stored.data)
    except FormatError as error:
        named = error_in_object(error, store, key)
        named.hint = "It was changed by hand or damaged. To build again and replace it: --force."
        raise named from None


def create_own(store: Store, key: str, data: bytes) -> None:
    """Create an object that only we write. If it is there, it must be ours: the reply to an earlier try was lost.

    Raises:
        ConflictError: it is somebody else's.
    """
    try:
        store.create(key, data)
    except ConflictError:
        stored = store.get(key)
        if stored is None or stored.data != data:
            raise
