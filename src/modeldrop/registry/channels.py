"""Move channels: to what a publish wants, to any version by promote, back by rollback.

Every write is a compare-and-swap (``channel_writes.py``), for which is decided again after each refusal.

No channel stays on a version that ``prune`` has retired. Two writers could pass each other here: a mover reads the
manifest, prune marks the version and finds that no channel names it, the mover writes. So both look once more after
their own write: a mover reads the marks and the manifest of the version, prune reads the channels. At least one of them
sees the other: a version whose manifest is there after a channel was moved to it is sealed only after another look at
the channels.

Nothing here, nor in ``seal.py``, rests on deleting on a condition, which few services offer: a channel that is not to
be there is replaced, and what is deleted is a mark, without which a version only stays longer.

What a publish wants is decided in ``promotion.py``. It moves no channel to a version that the user's test rejected;
``promote`` does, and says so. The mark of such a version, ``rejected.json``, is written here too. Whoever asks, no
channel is moved to a version that lacks what the registry's policy requires (``policy.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from modeldrop.errors import ConflictError, NotFoundError, RefusedError
from modeldrop.format import keys
from modeldrop.format.channel import REMOVED, Channel, Move
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.format.records import Rejection, serialize_rejection
from modeldrop.registry import promotion
from modeldrop.registry.channel_writes import (
    ATTEMPTS,
    NAMED,
    ChannelChange,
    ChannelResult,
    Signing,
    give_way,
    make_move,
    standing_move,
    take_back,
    write_channel,
)
from modeldrop.registry.promotion import Asked, Promotion, PromotionRequest
from modeldrop.registry.provenance import asked_now, now, provenance
from modeldrop.registry.signing import check_renewable, require_signer
from modeldrop.registry.versions import (
    REJECTED,
    RETIRED,
    Version,
    changed_manifest,
    find_rejection,
    find_version,
    get_version,
    is_retired,
    missing_channel,
    read_channel,
    read_marks,
    version_numbers,
    was_pruned,
)
from modeldrop.storage.write.store import Store

VersionCheck: TypeAlias = "Callable[[Channel | None], Rejection | None]"
"""Asked by a publish, right before it moves a channel, whether the version may be used. It is told what the channel
is now, and returns the mark of a rejected version, which it has written, or None. It may take long (it runs the user's
test), and is asked again if the channel was moved meanwhile."""


def move_forward(  # noqa: PLR0913  by name
    store: Store,
    model: str,
    version: Version,
    channel: str,
    *,
    by: str,
    asked: Asked | None = None,
    check: VersionCheck = lambda _present: None,
    why: Callable[[], str] = lambda: "",
    propose: bool = False,
) -> ChannelResult:
    """Have a channel name a version that a publish has made or found, as ``promotion.decide`` says.

    Where it stays although that was wanted, ``reason`` says why, and how to override. ``check`` is asked only if the
    channel is about to move.

    Args:
        store: the registry.
        model: the model.
        version: the version.
        channel: the channel.
        by: who asks.
        asked: when and in which run; by default now, in this one.
        check: whether the version may be used.
        why: the reason that a move records, asked after ``check``.
        propose: only find out whether it would move, which is left to a later call, ``asked`` at the same time.

    Raises:
        RegistryError, ConflictError: the registry cannot be read or written.
    """
    request = PromotionRequest(version=version.number, build_key=version.manifest.build_key, asked=asked or asked_now())
    override = f". To override: modeldrop promote {store.url}/{model}@v{version.number}" + (
        "" if channel == DEFAULT_CHANNEL else f" --channel {channel}"
    )

    def decide(present: Channel | None) -> ChannelChange:
        known = None if present is None else _with_wanted(store, model, present)
        decision, rejection = promotion.decide(known, request, now=now()), None
        if decision.promotion is Promotion.MOVED:
            rejection = find_rejection(store, model, version.number) or check(present)
            if rejection is None and propose:
                return ChannelChange(promotion=Promotion.PROPOSED, reason="it is to move once that is approved")
            if rejection is None:
                move = make_move("publish", version.number, version.digest, by, why())
                return ChannelChange(move=move, wanted=decision.wanted)
            failed = f"v{version.number} failed its test at {rejection.at}: {rejection.why}"
            decision = promotion.decide(known, request, now=now(), rejected=failed)
        stays = decision.promotion is Promotion.UNCHANGED
        assumed = None if known is None or known is present else known.wanted
        return ChannelChange(
            wanted=decision.wanted or assumed,
            promotion=decision.promotion,
            reason=decision.why + ("" if stays else override),
            rejection=rejection,
        )

    return _move_unless_marked(store, model, channel, decide, refused={REJECTED, RETIRED})


def _with_wanted(store: Store, model: str, present: Channel) -> Channel:
    """A channel with what it wants: one of an earlier release, or one that only people have moved, does not say it."""
    if present.wanted is not None:
        return present
    published = promotion.last_published(present)
    version = find_version(store, model, published.version)
    build_key = "" if version is None else version.manifest.build_key
    return present._replace(wanted=promotion.assumed_wanted(published, build_key))


def promote(
    store: Store,
    model: str,
    version: int | Version,
    channel: str,
    *,
    by: str,
    why: str = "",
    generation_above: int = 0,
    unsigned: bool = False,
) -> ChannelResult:
    """Point a channel at a version, whichever it named before, and even if that was rejected.

    Args:
        store: the registry.
        model: the model.
        version: its number; or the version, as it was read a moment ago, which saves reading it again.
        channel: the channel.
        by: who asks.
        why: the reason, for the history.
        generation_above: what readers have seen of a registry that was lost since: the channel's generation becomes
            higher than that, even if it names the version already.
        unsigned: take the channel's signature away.

    Raises:
        NotFoundError: the version does not exist.
        IntegrityError: its manifest is not the one that the channel named before under this number.
        RefusedError: it is retired; or the channel is signed, and there is no key to sign the move with.
        TrustError: there is a key, and the version is not signed by it, nor by one that is trusted here.
    """
    wanted = version if isinstance(version, Version) else get_version(store, model, version)
    signing = Signing.NEVER if unsigned else Signing.IF_NEEDED

    def decide(present: Channel | None) -> ChannelChange:
        if present is not None:
            for move in present.moves():
                if move.version == wanted.number and move.digest != wanted.digest:
                    raise changed_manifest(model, wanted, move.digest)
            signed = present.signed is not None
            if present.version == wanted.number and present.generation > generation_above and not (unsigned and signed):
                return NAMED
        elif is_retired(store, model, wanted.number):  # else nothing but the rest of a channel would be left
            raise _retired(store, model, wanted.number)
        move = make_move("promote", wanted.number, wanted.digest, by, why)
        return ChannelChange(move=move._replace(generation=generation_above + 1), sign=signing)

    return _move_unless_marked(store, model, channel, decide, refused={RETIRED})


def rollback(
    store: Store, model: str, channel: str, *, by: str, why: str = "", expected: int | None = None
) -> ChannelResult:
    """Point a channel at what it named before the present version first became current.

    Args:
        store: the registry.
        model: the model.
        channel: the channel.
        by: who asks.
        why: the reason, for the history.
        expected: roll back only if the channel names this version.

    Raises:
        NotFoundError: no such model or channel, or the version to go back to is gone.
        IntegrityError: the manifest of the version to go back to was changed.
        RefusedError: there is nothing to go back to, or that is retired, or the channel names another version
            than expected.
    """

    def decide(present: Channel | None) -> ChannelChange:
        if present is None:
            raise missing_channel(store, model, channel)
        if expected is not None and present.version != expected:
            raise RefusedError(
                f"{model}@{channel} names v{present.version}, not v{expected}: nothing was rolled back.",
                f"See how it got there: modeldrop history {store.url}/{model}",
            )
        target = present.rollback_target()
        if target is None:
            raise RefusedError(
                f"{model}@{channel} has named nothing before v{present.version}: there is nothing to go back to.",
                f"To name another version: modeldrop promote {store.url}/{model}@vN",
            )
        try:
            version = get_version(store, model, target.version)
        except NotFoundError as error:
            raise _nowhere_back(store, model, channel, present, error) from None
        if version.digest != target.digest:
            raise changed_manifest(model, version, target.digest)
        # Asked before the write too: a rollback is an emergency, and should not go there and back.
        if is_retired(store, model, target.version):
            raise _retired(store, model, target.version)
        return ChannelChange(move=make_move("rollback", target.version, target.digest, by, why))

    return _move_unless_marked(store, model, channel, decide, refused={RETIRED})


def remove(store: Store, model: str, channel: str) -> Move:
    """Take a channel away, whatever it names; return the move that it stood at. Its versions stay until pruned.

    Raises:
        NotFoundError: no such model or channel.
        RefusedError: it is the channel that containers follow by default.
    """
    if channel == DEFAULT_CHANNEL:
        raise RefusedError(
            f"{model}@{channel} is what containers follow by default: it is not removed.",
            f"To name another version: modeldrop promote {store.url}/{model}@vN",
        )
    for attempt in range(ATTEMPTS):
        present, tag = read_channel(store, model, channel)
        if present is None:
            raise missing_channel(store, model, channel)
        try:
            store.swap(keys.channel(model, channel), REMOVED, tag)
        except ConflictError:  # somebody has moved it meanwhile
            give_way(attempt)
            continue
        return present.present
    raise ConflictError(f"{model}@{channel} was moved by others {ATTEMPTS} times in a row.", "Run the command again.")


def unretire(store: Store, model: str, number: int) -> bool:
    """Take prune's mark from a version; return whether it had one.

    Raises:
        NotFoundError: there is no such version, or it was pruned already.
    """
    get_version(store, model, number)
    if not is_retired(store, model, number):
        return False
    store.delete(keys.retired(model, number))
    # Prune may be sealing it at this moment: it reads the mark once more before the final seal.
    get_version(store, model, number)
    return True


def _retired(store: Store, model: str, number: int) -> RefusedError:
    where = f"{store.url}/{model}"
    return RefusedError(
        f"v{number} of {model} is retired: prune is about to remove it, so no channel may name it.",
        f"To keep it: modeldrop prune {where} --unretire v{number}; or publish it again, or name another version: "
        f"modeldrop ls {where}",
    )


def _nowhere_back(store: Store, model: str, channel: str, present: Channel, error: NotFoundError) -> NotFoundError:
    others = [f"v{number}" for number in version_numbers(store, model) if number != present.version]
    there = f"These versions are there: {', '.join(others[-8:])}." if others else "No other version is there."
    return NotFoundError(
        f"{model}@{channel} cannot go back: {error.message}",
        f"{there} To name one: modeldrop promote {store.url}/{model}@vN"
        + ("" if channel == DEFAULT_CHANNEL else f" --channel {channel}"),
    )


def _move_unless_marked(
    store: Store,
    model: str,
    name: str,
    decide: Callable[[Channel | None], ChannelChange],
    *,
    refused: set[str],
) -> ChannelResult:
    """Move a channel as ``decide`` says; then look at its version, and undo the move if a mark of it is ``refused``.

    One that was sealed meanwhile counts as retired.

    Raises:
        RefusedError: the version is retired, and a person asked for the move (``refused`` has no REJECTED).
    """
    result = write_channel(store, model, name, decide)
    move = result.named
    if not result.moved or move is None:
        # A test has taken its time: say what the channel names after it.
        return replace(result, named=standing_move(store, model, name)) if result.rejection is not None else result
    marks = read_marks(store, model, move.version)
    if was_pruned(store, model, move.version):
        marks |= {RETIRED}
    rejection = find_rejection(store, model, move.version) if REJECTED in marks else None
    if not marks & refused:
        return replace(result, rejection=rejection)
    if RETIRED in marks:
        why, became = f"v{move.version} is retired", Promotion.HELD
        retired = _retired(store, model, move.version)
        reason = f"{retired.message} {retired.hint}"
    else:
        why, became = f"v{move.version} was rejected", Promotion.REJECTED
        reason = f"another publisher's test of v{move.version} failed meanwhile"
    named = take_back(store, model, name, move, why)
    if RETIRED in marks and REJECTED not in refused:
        raise _retired(store, model, move.version)
    return replace(result, named=named, promotion=became, reason=reason, rejection=rejection)


def refresh(store: Store, model: str, channel: str, *, expires_in: float | None = None) -> ChannelResult:
    """Renew the signature of a channel, which stays at what it names.

    Args:
        store: the registry.
        model: the model.
        channel: the channel.
        expires_in: seconds that the signature counts, 0 for ever; None for as long as the one before did, unless
            MODELDROP_EXPIRES_IN says otherwise.

    Raises:
        NotFoundError: no such model or channel.
        UsageError: there is no key.
        TrustError: the channel, or the version that it names, was not signed by this key, nor by one that is trusted
            here: nobody may have that signed by renewing it.
    """
    signer = require_signer()

    def decide(present: Channel | None) -> ChannelChange:
        if present is None:
            raise missing_channel(store, model, channel)
        check_renewable(store, model, channel, present, signer)
        return ChannelChange(
            promotion=Promotion.UNCHANGED,
            reason="its signature was renewed",
            sign=Signing.ALWAYS,
            expires_in=expires_in,
        )

    return write_channel(store, model, channel, decide)


def reject(store: Store, model: str, number: int, rejection: Rejection) -> Rejection:
    """Mark a version that the user's test rejected; return the mark that it has now, maybe another publisher's.

    Raises:
        RegistryError: the registry cannot be written.
    """
    try:
        store.create(keys.rejected(model, number), serialize_rejection(rejection))
    except ConflictError:
        return find_rejection(store, model, number) or rejection
    return rejection


def rejection_now(why: str) -> Rejection:
    """A mark of this moment and this run."""
    here = provenance()
    return Rejection(at=here.created, by=here.actor, run=here.run, why=why)
