"""What a publish does to a channel: the rules of promotion, without any I/O.

A channel follows what its publishers last wanted. It remembers that beside its moves: the build key last asked for,
when its run began, and which run that was. So can be told

- that another run, which began later, has asked already: then nothing moves, though this one ends last;
- that something else is wanted than before: then the channel moves, whether the version's number is higher (the merge
  of what a branch had published, the re-run of a run that was killed) or lower (``git revert``);
- or the same again: then a person's promote or rollback since holds, and without one a move that is missing is made.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from modeldrop.format.channel import Channel, Move, Wanted

_RUN = re.compile(r"(.*/)([0-9]{1,20})/?")
_BELIEVED_AHEAD = timedelta(days=1)


class Promotion(enum.StrEnum):
    """What became of the request to have a channel name a version.

    HELD: it stays, because a person has moved it since, a later run has asked for something else, or a pull request may
    not move it. PROPOSED: it would be moved, and is left to somebody's approval. NOT_ASKED: none was to move.
    """

    MOVED = "moved"
    UNCHANGED = "unchanged"
    HELD = "held"
    PROPOSED = "proposed"
    REJECTED = "rejected"
    NOT_ASKED = "not-asked"


@dataclass(frozen=True, slots=True)
class Asked:
    """When somebody asks, and in which run.

    Attributes:
        at: when the run began, ISO 8601 in UTC, to the second.
        run: its address, or "" outside of CI.
        proposal: whether a pull request or a merge queue asks, which moves only channels that nobody else does.
    """

    at: str
    run: str = ""
    proposal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRequest:
    """A channel is to name a version: its number, the build key that it was built under, and who asks."""

    version: int
    build_key: str
    asked: Asked


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a request.

    Attributes:
        promotion: MOVED if the channel is to be moved.
        why: why it is not, for people.
        wanted: what the channel is to remember, if that is not what it remembers now. Of a move, ``Channel.moved`` sets
            the generation.
    """

    promotion: Promotion
    why: str = ""
    wanted: Wanted | None = None


def decide(channel: Channel | None, request: PromotionRequest, *, now: str, rejected: str = "") -> Decision:
    """Decide what becomes of a request.

    Args:
        channel: what it is now, with what it wants (else ``assumed_wanted``); None if it does not exist.
        request: what is asked for.
        now: the present moment by our clock. One from more than a day later was made by a clock that was wrong.
        rejected: why the version was rejected, if it was.
    """
    asked = request.asked
    fresh = Wanted(request.build_key, asked.at, asked.run, generation=1, proposal=asked.proposal)
    if channel is None:
        return Decision(Promotion.REJECTED, rejected) if rejected else Decision(Promotion.MOVED, wanted=fresh)
    wanted = channel.wanted
    if wanted is None:
        raise ValueError("what the channel wants must be known")
    named, same = channel.version == request.version, wanted.build_key == request.build_key
    held = ""
    if _earlier(asked, wanted, now):
        which, run = "the same" if same else "another", wanted.run or f"somebody, at {wanted.at}"
        held = f"a later run has asked for {which} build: {run}"
    elif asked.proposal and not wanted.proposal:
        held = "no pull request or merge queue may move it, because others publish to it"
    if held:
        return _named() if named else Decision(Promotion.HELD, held)
    # Noted also where nothing moves: an older run that asks for something else may still be on its way. But not for
    # whom no run is known, such as a person at a laptop: an unchanged publish writes nothing there.
    note = None
    if not same:
        note = fresh._replace(generation=channel.generation)
    elif asked.run and asked.run != wanted.run:
        note = fresh._replace(generation=wanted.generation)
    if named:
        return _named(note)
    if same and channel.generation > wanted.generation:
        return Decision(Promotion.HELD, f"{_by_hand(channel.present)}, and nothing else was asked for since", note)
    if rejected:
        return Decision(Promotion.REJECTED, rejected, note)
    return Decision(Promotion.MOVED, wanted=fresh)


def last_published(channel: Channel) -> Move:
    """The move to what a channel wants that does not say it: the last that a publish made, else the present one."""
    return next((move for move in channel.moves() if move.action == "publish"), channel.present)


def assumed_wanted(published: Move, build_key: str) -> Wanted:
    """What a channel wants that does not say it.

    Args:
        published: what ``last_published`` gives.
        build_key: of its version; "" if that is gone.
    """
    return Wanted(build_key, published.at, "", published.generation)


def _named(note: Wanted | None = None) -> Decision:
    return Decision(Promotion.UNCHANGED, "it names this version already", note)


def _earlier(asked: Asked, wanted: Wanted, now: str) -> bool:
    """Whether somebody asks in a run that began before the one whose request a channel remembers."""
    one, other = _RUN.fullmatch(asked.run), _RUN.fullmatch(wanted.run)
    if one and other and one[1] == other[1]:  # of one repository: clocks differ, numbers do not
        return int(one[2]) < int(other[2])
    return asked.at < wanted.at and not _ahead(wanted.at, now)


def _ahead(at: str, now: str) -> bool:
    try:
        return datetime.fromisoformat(at) > datetime.fromisoformat(now) + _BELIEVED_AHEAD
    except (OverflowError, ValueError):  # no moment, such as 30 February
        return True


def _by_hand(move: Move) -> str:
    did = "was rolled back" if move.action == "rollback" else "was promoted"
    return f"it {did} to v{move.version} by {move.by} at {move.at}"
