"""Small documents beside a manifest: claims, build records, marks of tests, retirements and seals."""

from __future__ import annotations

from modeldrop.errors import FormatError
from modeldrop.format.codec import DocumentFormat, GroupField, Record, TextField, TimeField, VersionField
from modeldrop.format.manifest import MAX_BYTES as MAX_MANIFEST
from modeldrop.format.names import DIGEST, HEX64
from modeldrop.util.named_tuples import NamedTuple

MAX_BYTES = 64 << 10
MAX_SEAL = 4 << 10
"""Bytes at most of a final seal: whatever is larger in a listing is a manifest, or may become one again."""


class Claim(NamedTuple):
    """Who took a version's number. Only the owner, who knows the nonce, writes into the version."""

    nonce: str
    build_key: str
    by: str
    run: str
    at: str


CLAIM = DocumentFormat(
    "modeldrop/claim/1",
    "claim",
    Record(
        Claim,
        nonce=TextField("Random; proves ownership.", limit=64),
        build_key=TextField("What is being built.", pattern=HEX64),
        by=TextField("Who claimed it.", limit=256),
        run=TextField("The CI run, or empty.", limit=2048),
        at=TimeField("When it was claimed."),
    ),
    limit=MAX_BYTES,
)
parse_claim, serialize_claim = CLAIM.parse, CLAIM.serialize


class BuildRecord(NamedTuple):
    """Which version a recipe produced, or is about to produce."""

    version: int
    nonce: str
    at: str


BUILD_RECORD = DocumentFormat(
    "modeldrop/build/1",
    "build record",
    Record(
        BuildRecord,
        version=VersionField("The version."),
        nonce=TextField("Nonce of the claim on that version.", limit=64),
        at=TimeField("When it was decided."),
    ),
    limit=MAX_BYTES,
)
parse_build_record, serialize_build_record = BUILD_RECORD.parse, BUILD_RECORD.serialize


class Rejection(NamedTuple):
    """The mark of a version whose own test failed: only a promote moves a channel to it.

    ``why`` never holds the test's command, which may hold a secret.
    """

    at: str
    by: str
    run: str
    why: str


REJECTION = DocumentFormat(
    "modeldrop/rejected/1",
    "rejection",
    Record(
        Rejection,
        at=TimeField("When it was rejected."),
        by=TextField("Who tested it.", limit=256),
        run=TextField("The CI run, or empty.", limit=2048),
        why=TextField("How the test ended.", limit=512),
    ),
    limit=MAX_BYTES,
)
parse_rejection, serialize_rejection = REJECTION.parse, REJECTION.serialize


class TestedMark(NamedTuple):
    """The mark of a version whose own test succeeded; it goes with the version wherever that is copied."""

    digest: str
    at: str
    by: str
    run: str


TESTED = DocumentFormat(
    "modeldrop/tested/1",
    "mark of a test",
    Record(
        TestedMark,
        digest=TextField("Digest of the version's manifest.", pattern=DIGEST),
        at=TimeField("When it was tested."),
        by=TextField("Who tested it.", limit=256),
        run=TextField("The CI run, or empty.", limit=2048),
    ),
    limit=MAX_BYTES,
)
parse_tested, serialize_tested = TESTED.parse, TESTED.serialize


class Retirement(NamedTuple):
    """The mark of a version that prune is about to seal; it stays beside the seal."""

    at: str
    by: str
    why: str


RETIREMENT = DocumentFormat(
    "modeldrop/retired/1",
    "retirement",
    Record(
        Retirement,
        at=TimeField("When it was retired."),
        by=TextField("Who retired it.", limit=256),
        why=TextField("The reason.", limit=512),
    ),
    limit=MAX_BYTES,
)
parse_retirement, serialize_retirement = RETIREMENT.parse, RETIREMENT.serialize


class Seal(NamedTuple):
    """What stands in place of a manifest: the version does not exist, and never will again.

    ``manifest`` is "" once prune will not put it back, and for a claim that was never committed.
    """

    at: str
    by: str
    why: str
    manifest: str = ""


SEAL = DocumentFormat(
    "modeldrop/seal/1",
    "seal",
    Record(
        Seal,
        sealed=GroupField(
            "Who sealed it, when and why.",
            at=TimeField("When it was sealed."),
            by=TextField("Who sealed it.", limit=256),
            why=TextField("The reason.", limit=512),
        ),
        manifest=TextField(
            "The text of the manifest that it replaces, while prune may still put that back.",
            limit=MAX_MANIFEST,
            default="",
            omit=True,
        ),
    ),
    # No byte of a manifest takes more than two here: its only control characters are white space.
    limit=2 * MAX_MANIFEST + MAX_SEAL,
)
parse_seal = SEAL.parse


def serialize_seal(seal: Seal) -> bytes:
    """The bytes of a seal.

    Raises:
        FormatError: it could not be read again, or a final seal would have more than MAX_SEAL bytes.
    """
    data = SEAL.serialize(seal)
    if not seal.manifest and len(data) > MAX_SEAL:
        raise FormatError(f"seal has {len(data)} bytes; at most {MAX_SEAL} are written")
    return data


def find_seal(data: bytes) -> Seal | None:
    """The seal, if these bytes, found where a manifest should be, are one."""
    if b"modeldrop/seal/" not in data:
        return None  # a manifest is large, and is parsed only once
    try:
        return parse_seal(data)
    except FormatError:
        return None
