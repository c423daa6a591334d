"""Write a channel by compare-and-swap, and sign it where that is wanted. What it is to name, ``channels.py`` says.

After a refusal, or a reply that was lost, the channel is read again. If it has our own nonce, our write succeeded; if
not, we decide again from what is there now, and never overwrite it.
"""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from modeldrop.errors import ConflictError, UsageError
from modeldrop.format import keys
from modeldrop.format.channel import REMOVED, Channel, Envelope, Move, Wanted, serialize_channel
from modeldrop.format.records import Rejection
from modeldrop.registry.policy import require_allowed
from modeldrop.registry.promotion import Promotion
from modeldrop.registry.provenance import now
from modeldrop.registry.signing import check_statement, find_signer, is_signed_by, refuse_unsigned, sign_channel
from modeldrop.registry.versions import read_channel
from modeldrop.storage.write.store import Store
from modeldrop.util.retry import jittered

ATTEMPTS = 200
_ATTEMPTS_UNMOVED = 25
_MAX_WHY = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelResult:
    """What became of a channel.

    Attributes:
        channel: its name.
        before: the version it named, None if it did not exist.
        named: the move that it stands at now; None if it does not exist.
        promotion: MOVED if this call made that move.
        reason: why it was not moved, with the command that does it all the same where that was wanted; or "".
        rejection: the mark of the version wanted, if the user's test rejected it. A publish did not move the channel
            to it; a promote did.
    """

    channel: str
    before: int | None
    named: Move | None
    promotion: Promotion
    reason: str = ""
    rejection: Rejection | None = None

    @property
    def moved(self) -> bool:
        """Whether this call moved it to what it names."""
        return self.promotion is Promotion.MOVED

    @property
    def after(self) -> int | None:
        """The version it names now."""
        return None if self.named is None else self.named.version

    @property
    def generation(self) -> int:
        """Its generation now, 0 if it does not exist."""
        return 0 if self.named is None else self.named.generation


class Signing(enum.Enum):
    """Whether what a channel names is to be signed, where there is a key.

    IF_NEEDED: if it moves, or names what was asked for and has no signature by this key that counts. ALWAYS: also if
    it has one, to renew it. TAKE_BACK: if it moves, whatever is known of the version. NEVER: the channel loses its
    signature.
    """

    IF_NEEDED = "if needed"
    ALWAYS = "always"
    TAKE_BACK = "take back"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelChange:
    """What is to be done to a channel: a move, or to remember what is wanted, both, or nothing; and to sign it."""

    move: Move | None = None
    wanted: Wanted | None = None
    promotion: Promotion = Promotion.MOVED
    reason: str = ""
    rejection: Rejection | None = None
    sign: Signing = Signing.IF_NEEDED
    expires_in: float | None = None


NAMED = ChannelChange(promotion=Promotion.UNCHANGED, reason="it names this version already")


def make_move(action: str, version: int, digest: str, by: str, why: str) -> Move:
    """A move of this moment, with a nonce of its own.

    Raises:
        UsageError: the reason is more than a line.
    """
    if len(why) > _MAX_WHY or not why.isprintable():
        raise UsageError(f"A reason is one line of at most {_MAX_WHY} characters.", "Shorten it (--why).")
    return Move(
        version=version,
        digest=digest,
        generation=1,  # of a channel that does not exist yet; ``Channel.moved`` counts on from there
        nonce=secrets.token_hex(8),
        action=action,
        by=by,
        at=now(),
        why=why,
    )


def write_channel(
    store: Store, model: str, name: str, decide: Callable[[Channel | None], ChannelChange]
) -> ChannelResult:
    """Swap a channel until a write of ours is there, deciding anew from what others have written."""
    key = keys.channel(model, name)
    tried: list[tuple[str, int | None]] = []
    renewed: dict[Envelope | None, ChannelResult] = {}
    last_tag: str | None = ""
    unmoved = 0
    refusal = ConflictError("")
    for attempt in range(ATTEMPTS):
        present, tag = read_channel(store, model, name)
        for nonce, before in tried:
            done = next((m for m in (present.moves() if present else ()) if m.nonce == nonce), None)
            if done is not None:
                return ChannelResult(channel=name, before=before, named=done, promotion=Promotion.MOVED)
        if present is not None and present.signed in renewed:
            return renewed[present.signed]
        unmoved = unmoved + 1 if attempt and tag == last_tag else 0
        if unmoved >= _ATTEMPTS_UNMOVED:
            raise ConflictError(f"{model}@{name} could not be moved: {refusal.message}", refusal.hint)
        last_tag = tag
        before = present.version if present else None
        change = decide(present)
        if change.move is not None and change.sign is not Signing.TAKE_BACK:
            require_allowed(store, model, name, change.move.version, change.move.digest)
        result = ChannelResult(
            channel=name,
            before=before,
            named=present.present if present else None,
            promotion=change.promotion,
            reason=change.reason,
            rejection=change.rejection,
        )
        if change.move is not None:
            first = Channel(change.move, wanted=change.wanted)
            after = first if present is None else present.moved(change.move, change.wanted)
            result = replace(result, named=after.present)
            tried.append((change.move.nonce, before))
        elif present is None:
            return result
        else:
            after = present if change.wanted is None else present._replace(wanted=change.wanted)
        after = _signed(store, model, name, change, present, after)
        if after is present:
            return result
        if present is not None and change.move is None and after.signed != present.signed:
            renewed[after.signed] = result
        try:
            store.swap(key, serialize_channel(after), tag)
        except ConflictError as error:
            refusal = error
            give_way(attempt)
            continue
        return result
    raise ConflictError(
        f"{model}@{name} was moved by others {ATTEMPTS} times in a row. The last refusal: {refusal.message}",
        "Wait a little and run the command again.",
    )


def give_way(attempt: int) -> None:
    """Wait a moment, longer after each attempt: others move the same channel."""
    time.sleep(jittered(0.01 * min(attempt + 1, 20), 0))


def _signed(
    store: Store, model: str, name: str, change: ChannelChange, present: Channel | None, after: Channel
) -> Channel:
    """A channel as it is to be, signed where it must be and can be.

    Raises:
        RefusedError: it is to move and was signed before, and there is no key.
        TrustError: there is one, and what it is to name was not signed by it, nor by one that is trusted here.
    """
    if change.sign is Signing.NEVER:
        return after
    signer = find_signer()
    if signer is None:
        if change.move is not None:
            refuse_unsigned(store, model, name, present)
        return after
    if change.sign is Signing.IF_NEEDED and change.move is None:
        named = change.promotion is Promotion.UNCHANGED
        if not named or is_signed_by(signer, model, name, after):
            return after
    if change.sign is Signing.TAKE_BACK:
        return after if change.move is None else sign_channel(signer, model, name, after, before=present)
    check_statement(store, model, after.version, after.present.digest, signer)
    return sign_channel(signer, model, name, after, before=present, expires_in=change.expires_in)


def standing_move(store: Store, model: str, name: str) -> Move | None:
    """The move that a channel stands at; None if it does not exist."""
    channel, _ = read_channel(store, model, name)
    return None if channel is None else channel.present


def take_back(store: Store, model: str, name: str, move: Move, why: str) -> Move | None:
    """Undo ``move``, unless somebody has moved the channel on; return the move that it stands at now."""

    def decide(present: Channel | None) -> ChannelChange:
        if present is None or present.present.nonce != move.nonce or not present.history:
            return replace(NAMED, sign=Signing.TAKE_BACK)
        before = present.history[0]
        # Nobody did this by hand: the next publish of what is wanted is not held by it.
        wanted = present.wanted if move.action == "publish" else None
        back = make_move("rollback", before.version, before.digest, move.by, why)
        return ChannelChange(move=back, wanted=wanted, sign=Signing.TAKE_BACK)

    write_channel(store, model, name, decide)
    present, tag = read_channel(store, model, name)
    if present is None:
        return None
    if present.present.nonce != move.nonce:
        return present.present
    try:
        store.swap(keys.channel(model, name), REMOVED, tag)  # it has named nothing else
    except ConflictError:
        return standing_move(store, model, name)
    return None
