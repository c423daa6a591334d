"""What signatures sign: that a version is what was built, and that a channel names it.

Both are payloads of a DSSE envelope. A version's statement is an in-toto Statement, which other tools read too.
"""

from __future__ import annotations

from modeldrop.format.channel import ENVELOPE, Envelope
from modeldrop.format.codec import (
    ChoiceField,
    GroupField,
    IntegerField,
    ListField,
    ObjectField,
    Record,
    TextField,
    TimeField,
    VersionField,
)
from modeldrop.format.json_fields import dump, load_json
from modeldrop.format.names import DIGEST, HEX64, NAME, TIME
from modeldrop.util.named_tuples import NamedTuple

MAX_BYTES = 64 << 10
STATEMENT_TYPE = "application/vnd.in-toto+json"
CHANNEL_TYPE = "application/vnd.modeldrop.channel.v1+json"
IN_TOTO = "https://in-toto.io/Statement/v1"
_PREDICATE = "https://github.com/modeldrop/modeldrop/version/v1"


class Subject(NamedTuple):
    """What a statement is about: a manifest, by its SHA-256."""

    name: str
    sha256: str


class BuildIdentity(NamedTuple):
    """Who built a version, as the CI run said; "" where nobody did."""

    repository: str = ""
    workflow: str = ""
    commit: str = ""
    run: str = ""


class Statement(NamedTuple):
    """That the version with this manifest is one of a model, and who built it: an in-toto Statement."""

    subject: tuple[Subject, ...]
    model: str
    build: BuildIdentity
    at: str
    type: str = IN_TOTO
    predicate_type: str = _PREDICATE


class SignedMove(NamedTuple):
    """What a channel names, as its mover signed it; ``expires`` is "" where it does not."""

    model: str
    channel: str
    version: int
    digest: str
    generation: int
    nonce: str
    at: str
    expires: str = ""


_SUBJECT = Record(
    Subject,
    name=TextField("The model.", pattern=NAME),
    digest=GroupField("Digest of the manifest.", sha256=TextField("64 hexadecimal digits.", pattern=HEX64)),
)
_BUILD = Record(
    BuildIdentity,
    repository=TextField("The repository.", limit=2048, default=""),
    workflow=TextField("The workflow, with the ref it was at.", limit=2048, default=""),
    commit=TextField("The commit.", limit=128, default=""),
    run=TextField("The CI run.", limit=2048, default=""),
)
STATEMENT = Record(
    Statement,
    _type=ChoiceField("The kind of document.", [IN_TOTO], "a known type", attribute="type"),
    subject=ListField("The manifest that it is about: one.", ObjectField(_SUBJECT), limit=1, minimum=1),
    predicateType=ChoiceField("What it says.", [_PREDICATE], "a known type", attribute="predicate_type"),
    predicate=GroupField(
        "What is said.",
        model=TextField("The model.", pattern=NAME),
        build=ObjectField(_BUILD),
        at=TimeField("When it was signed."),
    ),
)
SIGNED_MOVE = Record(
    SignedMove,
    model=TextField("The model.", pattern=NAME),
    channel=TextField("The channel.", pattern=NAME),
    version=VersionField("As in the channel."),
    digest=TextField("As in the channel.", pattern=DIGEST),
    generation=IntegerField("As in the channel.", low=1, high=1 << 53),
    nonce=TextField("As in the channel.", limit=64),
    at=TimeField("When it was signed."),
    expires=TextField(
        "From when on it counts no more; it does not expire where this is absent.", pattern=TIME, default="", omit=True
    ),
)


def parse_statement(payload: bytes) -> Statement:
    """What the payload of a version's statement says.

    Raises:
        FormatError: it is none.
    """
    statement: Statement = STATEMENT.read(load_json(payload, "signed statement", limit=MAX_BYTES))
    return statement


def parse_signed_move(payload: bytes) -> SignedMove:
    """What the payload of a channel's signature says.

    Raises:
        FormatError: it is none.
    """
    move: SignedMove = SIGNED_MOVE.read(load_json(payload, "signed move", limit=MAX_BYTES))
    return move


def parse_envelope(data: bytes) -> Envelope:
    """The envelope in a ``statement.json``.

    Raises:
        FormatError: it is none.
    """
    envelope: Envelope = ENVELOPE.read(load_json(data, "statement", limit=MAX_BYTES))
    return envelope


def serialize_envelope(envelope: Envelope) -> bytes:
    """The bytes of a ``statement.json``.

    Raises:
        FormatError: ``parse_envelope`` would not read it.
    """
    data = dump(ENVELOPE.write(envelope))
    parse_envelope(data)
    return data
