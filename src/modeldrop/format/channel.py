"""Channels: movable pointers to a version, and the rules of moving them.

A channel may carry a signature; ``trust/rules.py`` says what it is worth, ``format/signed.py`` what it signs.
"""

from __future__ import annotations

from modeldrop.format.codec import (
    BooleanField,
    DocumentFormat,
    InlineField,
    IntegerField,
    ListField,
    ObjectField,
    Record,
    TextField,
    TimeField,
    VersionField,
)
from modeldrop.format.json_fields import Fields, dump
from modeldrop.format.names import DIGEST, HEX64
from modeldrop.util.named_tuples import NamedTuple

MAX_BYTES = 1 << 20
KEPT_MOVES = 50
KEPT_SECONDS = 24 * 3600
MAX_MOVES = 400
REMOVED = b'{"removed": true}\n'
"""Stands in the place of a channel whose only move was taken back: there is no such channel, until somebody makes it.

It is not deleted, because not every service deletes on a condition, and whoever has moved it on meanwhile must win.
"""


class Move(NamedTuple):
    """One move of a channel to a version; ``why`` is "" where no reason was given."""

    version: int
    digest: str
    generation: int
    nonce: str
    action: str
    by: str
    at: str
    why: str = ""


MOVE = Record(
    Move,
    version=VersionField("The version it went to."),
    digest=TextField("Digest of that version's manifest.", pattern=DIGEST),
    generation=IntegerField(
        "1 for the first move, one more at every move; more still where readers have seen that.", low=1, high=1 << 53
    ),
    nonce=TextField(
        "Random. A writer that finds its own nonce after a lost reply knows that its write succeeded.", limit=64
    ),
    action=TextField("publish, promote or rollback; readers accept what later releases add.", limit=32),
    by=TextField("Who moved it.", limit=256),
    at=TimeField("When it was moved."),
    why=TextField("The reason given.", limit=4096, default=""),
)


class Wanted(NamedTuple):
    """What a publish last wanted the channel to name. It is for publishers: readers follow the present move."""

    build_key: str
    at: str
    run: str
    generation: int
    proposal: bool = False


WANTED = Record(
    Wanted,
    build_key=TextField("The build key that was asked for.", pattern=HEX64),
    at=TimeField("When the run that asked began."),
    run=TextField(
        "That run, or empty. Of two runs of one repository the one with the higher number is later.", limit=2048
    ),
    generation=IntegerField(
        "The channel's when this build was first asked for: a higher one was moved by hand since.", low=1, high=1 << 53
    ),
    proposal=BooleanField("Whether a pull request or a merge queue asked.", default=False, omit=True),
)


class Signature(NamedTuple):
    """A signature and the key that it is said to be of, as DSSE names them."""

    keyid: str
    sig: str


class Envelope(NamedTuple):
    """Signatures and what they sign, in the form of DSSE (Dead Simple Signing Envelope)."""

    payload: str
    payload_type: str
    signatures: tuple[Signature, ...]


SIGNATURE = Record(
    Signature,
    keyid=TextField("The public key, ed25519:… and its check digits.", limit=128),
    sig=TextField("The signature, in base64.", limit=128),
)
ENVELOPE = Record(
    Envelope,
    payload=TextField("What is signed, in base64."),
    payloadType=TextField("What that is; signed too.", limit=128, attribute="payload_type"),
    signatures=ListField("The signatures.", ObjectField(SIGNATURE), limit=16, minimum=1),
)


class Channel(NamedTuple):
    """A movable pointer to a version: its present move, and those before it, newest first.

    ``signed`` is the signature of the present move, None where nobody has signed it.
    """

    present: Move
    history: tuple[Move, ...] = ()
    wanted: Wanted | None = None
    signed: Envelope | None = None

    @property
    def version(self) -> int:
        """Number of the version it names."""
        return self.present.version

    @property
    def generation(self) -> int:
        """Grows at every move; mostly how often it was moved."""
        return self.present.generation

    def moves(self) -> tuple[Move, ...]:
        """All known moves, newest first, the present one included."""
        return (self.present, *self.history)

    def moved(self, move: Move, wanted: Wanted | None = None) -> Channel:
        """The channel after ``move``, unsigned, which becomes the next generation at least; the oldest moves fall off.

        If a publish makes it, ``wanted`` is what it wants, from that generation on. The last 50 are kept, and those of
        the last 24 hours if there is room: prune must know what a channel has just left.
        """
        move = move._replace(generation=max(self.generation + 1, move.generation))
        recent = _before(move.at, KEPT_SECONDS)
        kept: list[Move] = []
        room = MAX_BYTES // 2
        for old in self.moves()[:MAX_MOVES]:
            room -= len(dump(MOVE.write(old))) + 100
            if len(kept) >= KEPT_MOVES and (old.at < recent or room < 0):
                break
            kept.append(old)
        if wanted is not None:
            wanted = wanted._replace(generation=move.generation)
        return Channel(move, tuple(kept), wanted or self.wanted)

    def rollback_target(self) -> Move | None:
        """What the channel named before the present version first became current; None if nothing was.

        A rollback after a rollback therefore goes further back, not forth again.
        """
        moves = self.moves()
        first = max(index for index, move in enumerate(moves) if move.version == self.version)
        return moves[first + 1] if first + 1 < len(moves) else None

    def find_digest(self, digest: str) -> Move | None:
        """The newest known move to the version with this manifest digest."""
        return next((move for move in self.moves() if move.digest == digest), None)


def _check_generations(fields: Fields, channel: Channel) -> None:
    generations = [move.generation for move in channel.moves()]
    if generations != sorted(set(generations), reverse=True):
        fields.fail("generations must fall from move to move", "history")


CHANNEL = DocumentFormat(
    "modeldrop/channel/1",
    "channel",
    Record(
        Channel,
        check=_check_generations,
        present=InlineField(MOVE),
        history=ListField(
            "Earlier moves, newest first; generations fall from move to move.", ObjectField(MOVE), limit=10_000
        ),
        wanted=ObjectField(WANTED, "What a publish last wanted; readers ignore it.", default=None, omit=True),
        signed=ObjectField(
            ENVELOPE,
            "The present move, signed; readers that trust nobody in particular ignore it.",
            default=None,
            omit=True,
        ),
    ),
    limit=MAX_BYTES,
)
parse_channel, serialize_channel = CHANNEL.parse, CHANNEL.serialize


def _before(at: str, seconds: int) -> str:
    """The moment so long before ``at``; after every other where ``at`` is no moment, such as 30 February."""
    from datetime import datetime, timedelta  # who only reads channels need not load it

    try:
        return (datetime.fromisoformat(at) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return "9999"
