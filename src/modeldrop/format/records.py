"""Claims, build records, rejections, retirements and seals: who took a number, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.format.json_fields import check_schema, dump, load
from modeldrop.format.manifest import MAX_BYTES as MAX_MANIFEST
from modeldrop.format.names import HEX64, TIME, VERSION
from modeldrop.util.values import asdict, dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CLAIM_SCHEMA = "modeldrop/claim/1"
BUILD_SCHEMA = "modeldrop/build/1"
REJECTED_SCHEMA = "modeldrop/rejected/1"
RETIRED_SCHEMA = "modeldrop/retired/1"
SEAL_SCHEMA = "modeldrop/seal/1"
READABLE_BY = "modeldrop>=0.1"
MAX_BYTES = 64 << 10
MAX_SEAL = 4 << 10
"""Bytes at most of a final seal: whatever is larger in a listing is a manifest, or may become one again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who took a version's number. Only its owner, who knows the nonce, writes into the version."""

    nonce: str
    build_key: str
    by: str
    run: str
    at: str


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """Which version a recipe produced, or is about to produce."""

    version: int
    nonce: str
    at: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """The mark of a version that failed its acceptance test. Only a person's ``promote`` takes a channel to it.

    Attributes:
        at: when, ISO 8601 in UTC.
        by: who tested it.
        run: the CI run, or "".
        why: how the test ended. It never holds the test's command, which may hold a secret.
    """

    at: str
    by: str
    run: str
    why: str


@dataclass(frozen=True, slots=True)
class Retirement:
    """The mark of a version that is about to be pruned: who set it, when and why."""

    at: str
    by: str
    why: str


@dataclass(frozen=True, slots=True)
class Seal:
    """What stands where a manifest stood, or would have: the version does not exist, and never will again.

    Attributes:
        at: when, ISO 8601 in UTC.
        by: who pruned it.
        why: the reason.
        manifest: the text of the manifest that it replaces, while prune may still put that back; "" once it
            will not, and for a claim that was never committed.
    """

    at: str
    by: str
    why: str
    manifest: str = ""


def parse_claim(data: bytes) -> Claim:
    """Read a claim.

    Raises:
        FormatError: naming the field that is wrong.
    """
    fields = load(data, "claim", limit=MAX_BYTES)
    check_schema(fields, CLAIM_SCHEMA)
    return Claim(
        nonce=fields.text("nonce", limit=64),
        build_key=fields.text("build_key", pattern=HEX64),
        by=fields.text("by", limit=256),
        run=fields.text("run", limit=2048),
        at=fields.text("at", pattern=TIME),
    )


def serialize_claim(claim: Claim) -> bytes:
    """The bytes of a claim. Raises what ``_written`` does."""
    return _written(CLAIM_SCHEMA, asdict(claim), parse_claim)


def parse_build_record(data: bytes) -> BuildRecord:
    """Read a build record.

    Raises:
        FormatError: naming the field that is wrong.
    """
    fields = load(data, "build record", limit=MAX_BYTES)
    check_schema(fields, BUILD_SCHEMA)
    return BuildRecord(
        version=int(fields.text("version", pattern=VERSION)[1:]),
        nonce=fields.text("nonce", limit=64),
        at=fields.text("at", pattern=TIME),
    )


def serialize_build_record(record: BuildRecord) -> bytes:
    """The bytes of a build record. Raises what ``_written`` does."""
    return _written(BUILD_SCHEMA, {**asdict(record), "version": f"v{record.version}"}, parse_build_record)


def parse_rejection(data: bytes) -> Rejection:
    """Read the mark of a rejected version.

    Raises:
        FormatError: naming the field that is wrong.
    """
    fields = load(data, "rejection", limit=MAX_BYTES)
    check_schema(fields, REJECTED_SCHEMA)
    return Rejection(
        at=fields.text("at", pattern=TIME),
        by=fields.text("by", limit=256),
        run=fields.text("run", limit=2048),
        why=fields.text("why", limit=512),
    )


def serialize_rejection(rejection: Rejection) -> bytes:
    """The bytes of a rejection. Raises what ``_written`` does."""
    return _written(REJECTED_SCHEMA, asdict(rejection), parse_rejection)


def parse_retirement(data: bytes) -> Retirement:
    """Read the mark of a retired version.

    Raises:
        FormatError: naming the field that is wrong.
    """
    fields = load(data, "retirement", limit=MAX_BYTES)
    check_schema(fields, RETIRED_SCHEMA)
    return Retirement(
        at=fields.text("at", pattern=TIME),
        by=fields.text("by", limit=256),
        why=fields.text("why", limit=512),
    )


def serialize_retirement(retirement: Retirement) -> bytes:
    """The bytes of a retirement. Raises what ``_written`` does."""
    return _written(RETIRED_SCHEMA, asdict(retirement), parse_retirement)


def parse_seal(data: bytes) -> Seal:
    """Read a seal.

    Raises:
        FormatError: it is none, naming the field that is wrong.
    """
    # No byte of a manifest takes more than two here: its only control characters are white space.
    fields = load(data, "seal", limit=2 * MAX_MANIFEST + MAX_SEAL)
    check_schema(fields, SEAL_SCHEMA)
    sealed = fields.child("sealed")
    return Seal(
        at=sealed.text("at", pattern=TIME),
        by=sealed.text("by", limit=256),
        why=sealed.text("why", limit=512),
        manifest=fields.text("manifest", default="", limit=MAX_MANIFEST),
    )


def find_seal(data: bytes) -> Seal | None:
    """The seal, if these bytes, found where a manifest should be, are one."""
    if b"modeldrop/seal/" not in data:
        return None  # a manifest is large, and is parsed only once
    try:
        return parse_seal(data)
    except FormatError:
        return None


def serialize_seal(seal: Seal) -> bytes:
    """The bytes of a seal.

    Raises:
        FormatError: what nobody could read again is never written, nor a final seal of more than MAX_SEAL bytes.
    """
    sealed = {"at": seal.at, "by": seal.by, "why": seal.why}
    data = _written(
        SEAL_SCHEMA, {"sealed": sealed} | ({"manifest": seal.manifest} if seal.manifest else {}), parse_seal
    )
    if not seal.manifest and len(data) > MAX_SEAL:
        raise FormatError(f"seal has {len(data)} bytes; at most {MAX_SEAL} are written")
    return data


def _written(schema: str, values: Mapping[str, object], parse: Callable[[bytes], object]) -> bytes:
    """A record's bytes.

    Raises:
        FormatError: ``parse`` does not take them: what nobody could read again is never written.
    """
    data = dump({"schema": schema, "readable_by": READABLE_BY, **values})
    parse(data)
    return data
