"""Channels: movable pointers to a version, and the rules of moving them."""

from __future__ import annotations

from modeldrop.format.codec import (
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
from modeldrop.format.names import DIGEST
from modeldrop.util.named_tuples import NamedTuple

MAX_BYTES = 1 << 20
KEPT_MOVES = 50
KEPT_SECONDS = 24 * 3600
MAX_MOVES = 400


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


class Channel(NamedTuple):
    """A movable pointer to a version: its present move, and those before it, newest first."""

    present: Move
    history: tuple[Move, ...] = ()

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

    def moved(self, move: Move) -> Channel:
        """The channel after ``move``, which becomes the next generation at least; the oldest moves fall off.

        The last 50 are kept, and those of the last 24 hours if there is room: prune must know what a channel has
        just left.
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
        return Channel(move, tuple(kept))

    def rollback_target(self) -> Move | None:
        """What the channel named before the present version first became current; None if nothing was.

        A rollback after a rollback therefore goes further back, not forth again.
        """
        moves = self.moves()
        first = max(index for index, move in enumerate(moves) if move.version == self.version)
        return moves[first + 1] if first + 1 < len(moves) else None

    def rolled_back(self) -> frozenset[int]:
        """Versions that the channel left by rollback and that were not promoted since."""
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
