"""Channels: movable pointers to a version, and the rules of moving them."""

from __future__ import annotations

from typing import Any

from modeldrop.format.json_fields import Fields, check_schema, dump, load
from modeldrop.format.names import DIGEST, TIME, VERSION
from modeldrop.util.values import dataclass, replace

SCHEMA = "modeldrop/channel/1"
READABLE_BY = "modeldrop>=0.1"
MAX_BYTES = 1 << 20
KEPT_MOVES = 50
KEPT_SECONDS = 24 * 3600
MAX_MOVES = 400
MAX_GENERATION = 1 << 53
ACTIONS = ("publish", "promote", "rollback")


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a channel.

    Attributes:
        version: number of the version it went to.
        digest: that version's manifest digest (``sha256:…``).
        generation: 1 for the first move, +1 at every one.
        nonce: random; a writer that finds its own nonce after a lost reply knows that it succeeded.
        action: ``publish``, ``promote`` or ``rollback``.
        by: who moved it.
        at: when, ISO 8601 in UTC.
        why: the reason given, or "".
    """

    version: int
    digest: str
    generation: int
    nonce: str
    action: str
    by: str
    at: str
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """The move as plain values."""
        return {
            "version": f"v{self.version}",
            "digest": self.digest,
            "generation": self.generation,
            "nonce": self.nonce,
            "action": self.action,
            "by": self.by,
            "at": self.at,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel as it stands: its present move, and those before it, newest first."""

    present: Move
    history: tuple[Move, ...] = ()

    @property
    def version(self) -> int:
        """Number of the version it names."""
        return self.present.version

    @property
    def generation(self) -> int:
        """How often it was moved."""
        return self.present.generation

    def moves(self) -> tuple[Move, ...]:
        """All known moves, newest first, the present one included."""
        return (self.present, *self.history)

    def moved(self, move: Move) -> Channel:
        """The channel after ``move``, which becomes the next generation; the oldest moves fall off.

        The last 50 are kept, and those of the last 24 hours if there is room: prune must know what a channel has
        just left.
        """
        move = replace(move, generation=self.generation + 1)
        recent = _before(move.at, KEPT_SECONDS)
        kept: list[Move] = []
        room = MAX_BYTES // 2
        for old in self.moves()[:MAX_MOVES]:
            room -= len(dump(old.to_json())) + 100
            if len(kept) >= KEPT_MOVES and (old.at < recent or room < 0):
                break
            kept.append(old)
        return Channel(move, tuple(kept))

    def rollback_target(self) -> Move | None:
        """What the channel named before the present version first became current; None if nothing was.

        A rollback after a rollback therefore goes further back, not forth again.
        """
        moves = self.moves()
        first = max(index for index, move in enumerate(moves) if move.version == self.version)
        return moves[first + 1] if first + 1 < len(moves) else None

    def rolled_back(self) -> frozenset[int]:
        """Versions that the channel left by rollback and that nobody has promoted since."""
        left: set[int] = set()
        before: Move | None = None
        for move in reversed(self.moves()):
            if move.action == "rollback" and before is not None:
                left.add(before.version)
            elif move.action == "promote":
                left.discard(move.version)
            before = move
        return frozenset(left)

    def find_digest(self, digest: str) -> Move | None:
        """The newest known move to the version with this manifest digest."""
        return next((move for move in self.moves() if move.digest == digest), None)


def parse_channel(data: bytes) -> Channel:
    """Read a channel.

    Raises:
        FormatError: naming the field that is wrong, or the release that reads an unknown schema.
    """
    fields = load(data, "channel", limit=MAX_BYTES)
    check_schema(fields, SCHEMA)
    channel = Channel(_move(fields), tuple(_move(item) for item in fields.children("history", limit=10_000)))
    generations = [move.generation for move in channel.moves()]
    if generations != sorted(set(generations), reverse=True):
        fields.fail("generations must fall from move to move", "history")
    return channel


def serialize_channel(channel: Channel) -> bytes:
    """The bytes of a channel; they never repeat, because its generation does not.

    Raises:
        FormatError: what nobody could read again, such as a reason that is too long, is never written.
    """
    data = dump(
        {
            "schema": SCHEMA,
            "readable_by": READABLE_BY,
            **channel.present.to_json(),
            "history": [move.to_json() for move in channel.history],
        }
    )
    parse_channel(data)
    return data


def _before(at: str, seconds: int) -> str:
    """The moment so long before ``at``; after every other where ``at`` is no moment, such as 30 February."""
    from datetime import datetime, timedelta  # who only reads channels need not load it

    try:
        return (datetime.fromisoformat(at) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError):
        return "9999"


def _move(fields: Fields) -> Move:
    return Move(
        version=int(fields.text("version", pattern=VERSION)[1:]),
        digest=fields.text("digest", pattern=DIGEST),
        generation=fields.integer("generation", low=1, high=MAX_GENERATION),
        nonce=fields.text("nonce", limit=64),
        action=fields.text("action", limit=32),
        by=fields.text("by", limit=256),
        at=fields.text("at", pattern=TIME),
        why=fields.text("why", default="", limit=4096),
    )
