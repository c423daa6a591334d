"""Claims and build records: who took a number, and which version a recipe produced."""

from __future__ import annotations

from dataclasses import dataclass

from modeldrop.format.fields import check_schema, dump, load
from modeldrop.format.names import HEX64, TIME, VERSION

CLAIM_SCHEMA = "modeldrop/claim/1"
BUILD_SCHEMA = "modeldrop/build/1"
READABLE_BY = "modeldrop>=0.1"
MAX_BYTES = 64 << 10


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
    """The bytes of a claim.

    Raises:
        FormatError: what nobody could read again is never written.
    """
    data = dump(
        {
            "schema": CLAIM_SCHEMA,
            "readable_by": READABLE_BY,
            "nonce": claim.nonce,
            "build_key": claim.build_key,
            "by": claim.by,
            "run": claim.run,
            "at": claim.at,
        }
    )
    parse_claim(data)
    return data


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
    """The bytes of a build record.

    Raises:
        FormatError: what nobody could read again is never written.
    """
    data = dump(
        {
            "schema": BUILD_SCHEMA,
            "readable_by": READABLE_BY,
            "version": f"v{record.version}",
            "nonce": record.nonce,
            "at": record.at,
        }
    )
    parse_build_record(data)
    return data
