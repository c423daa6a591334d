"""Moving channels: forward after a publish, to any version by promote, back by rollback.

A publish moves none to a version whose acceptance test failed; promote does, and says so.

Every write is a compare-and-swap. After a refusal, or a reply that was lost, the channel is read again: our
own nonce there means that we succeeded; else we decide again from what is there now, never overwrite.

No channel stays on a version that ``prune`` has retired. Whoever moves one looks at the version's mark after
the write, because it may have slept since it read the manifest; prune reads the channels after it has marked.
One of them sees the other.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from modeldrop.errors import ConflictError, NotFoundError, RefusedError, UsageError
from modeldrop.format import keys
from modeldrop.format.channel import Channel, Move, serialize_channel
from modeldrop.registry.provenance import now
from modeldrop.registry.versions import (
    REJECTED,
    RETIRED,
    Version,
    changed_manifest,
    find_rejection,
    get_version,
    is_retired,
    missing_channel,
    read_channel,
    read_marks,
    version_numbers,
)
from modeldrop.util.retry import jittered

if TYPE_CHECKING:
    from modeldrop.format.records import Rejection
    from modeldrop.storage.write.store import Store

_ATTEMPTS = 200
_ATTEMPTS_UNMOVED = 25
_MAX_WHY = 1000


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a channel.

    Attributes:
        channel: its name.
        before: the version it named, None where it did not exist.
        after: the version it names now.
        generation: its generation now.
        moved: whether this call moved it.
        reason: why it was not moved, or "".
        retired: the version that it was not moved to because prune has marked it.
        rejection: the mark of the version asked for, if its acceptance test failed: the channel was not moved to it,
            or was, by a promote.
    """

    channel: str
    before: int | None
    after: int | None
    generation: int
    moved: bool
    reason: str = ""
    retired: int | None = None
    rejection: Rejection | None = None


Accept: TypeAlias = "Callable[[Channel | None], Rejection | None]"
"""Asked, right before a channel is moved by a publish, whether the version may be used. It is told what the channel
is now, and answers with the mark of the version, which it has written, or None. It may take long, and is asked again
where the channel was moved meanwhile."""


@dataclass(frozen=True, slots=True)
class _Stay:
    reason: str
    rejection: Rejection | None = None


def _accept_all(_present: Channel | None) -> Rejection | None:
    return None


def move_forward(
    store: Store,
    model: str,
    version: Version,
    channel: str,
    *,
    by: str,
    why: str = "",
    accept: Accept = _accept_all,
) -> Moved:
    """Move a channel to a version just published, unless that would take it back.

    Never to a version that the channel left by rollback, nor where it names or has ever named a higher one, nor
    to one that was rejected or retired: then it stays, and ``reason`` says why and how to override.
    """
    promote = f"modeldrop promote {store.url}/{model}@v{version.number}"
    if channel != "current":
        promote += f" --channel {channel}"

    def decide(present: Channel | None) -> Move | _Stay:
        if present is not None:
            if present.version == version.number:
                return _Stay("it names this version already")
            if version.number in present.rolled_back():
                return _Stay(f"it was rolled back from v{version.number}. To override: {promote}")
            if present.version > version.number:
                return _Stay(f"it names the newer v{present.version}. To override: {promote}")
            highest = max(move.version for move in present.moves())
            if highest > version.number:
                return _Stay(f"it has left the newer v{highest} already. To override: {promote}")
        rejection = find_rejection(store, model, version.number) or accept(present)
        if rejection is not None:
            return _rejected(version.number, rejection, promote)
        return _move("publish", version.number, version.digest, by, why)

    return _move_unless_marked(store, model, channel, decide, {REJECTED, RETIRED})


def create_if_missing(
    store: Store, model: str, version: Version, channel: str, *, by: str, accept: Accept = _accept_all
) -> Moved:
    """Point a channel that does not exist at a version, unless that was rejected; one that exists stays as it is."""
    promote = f"modeldrop promote {store.url}/{model}@v{version.number} --channel {channel}"

    def decide(present: Channel | None) -> Move | _Stay:
        if present is not None and present.version == version.number:
            return _Stay("it names this version already")
        rejection = find_rejection(store, model, version.number)
        if rejection is None and present is None:
            rejection = accept(present)
        if rejection is not None:
            return _rejected(version.number, rejection, promote)
        if present is not None:
            return _Stay(f"an unchanged recipe moves nothing; it names v{present.version}. To override: {promote}")
        return _move("publish", version.number, version.digest, by, "")

    return _move_unless_marked(store, model, channel, decide, {REJECTED, RETIRED})


def _rejected(number: int, rejection: Rejection, promote: str) -> _Stay:
    return _Stay(f"v{number} failed its test at {rejection.at}: {rejection.why}. To override: {promote}", rejection)


def promote(store: Store, model: str, version: int | Version, channel: str, *, by: str, why: str = "") -> Moved:
    """Point a channel at a version, whichever it named before, and even if that was rejected.

    Args:
        store: the registry.
        model: the model.
        version: its number; or the version, as it was read a moment ago, which saves reading it again.
        channel: the channel.
        by: who asks.
        why: the reason, for the history.

    Raises:
        NotFoundError: the version does not exist.
        IntegrityError: its manifest is not the one that the channel named before under this number.
        RefusedError: it is retired.
    """
    wanted = version if isinstance(version, Version) else get_version(store, model, version)

    def decide(present: Channel | None) -> Move | _Stay:
        if present is not None:
            for move in present.moves():
                if move.version == wanted.number and move.digest != wanted.digest:
                    raise changed_manifest(model, wanted, move.digest)
            if present.version == wanted.number and wanted.number not in present.rolled_back():
                return _Stay("it names this version already")
        return _move("promote", wanted.number, wanted.digest, by, why)

    moved = _move_unless_marked(store, model, channel, decide, {RETIRED})
    if moved.retired is not None:
        raise _retired(store, model, moved.retired)
    return moved


def rollback(store: Store, model: str, channel: str, *, by: str, why: str = "", expected: int | None = None) -> Moved:
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

    def decide(present: Channel | None) -> Move | _Stay:
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
        return _move("rollback", target.version, target.digest, by, why)

    moved = _move_unless_marked(store, model, channel, decide, {RETIRED})
    if moved.retired is not None:
        raise _retired(store, model, moved.retired)
    return moved


def unretire(store: Store, model: str, number: int) -> bool:
    """Take prune's mark from a version; return whether it had one.

    Raises:
        NotFoundError: there is no such version, or it was pruned already.
    """
    get_version(store, model, number)
    stored = store.get(keys.retired(model, number))
    if stored is None:
        return False
    store.delete(keys.retired(model, number), stored.tag)
    # Prune may have been sealing it at this moment; it looks for its mark before it does that for good.
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
        + ("" if channel == "current" else f" --channel {channel}"),
    )


def _move(action: str, version: int, digest: str, by: str, why: str) -> Move:
    if len(why) > _MAX_WHY or not why.isprintable():
        raise UsageError(f"A reason is one line of at most {_MAX_WHY} characters.", "Shorten it (--why).")
    return Move(version, digest, 1, secrets.token_hex(8), action, by, now(), why)


@dataclass(frozen=True, slots=True)
class _Applied:
    """What ``_apply`` did; ``move`` is the one that it made, None where the channel stays."""

    moved: Moved
    move: Move | None


def _move_unless_marked(
    store: Store, model: str, name: str, decide: Callable[[Channel | None], Move | _Stay], refused: set[str]
) -> Moved:
    """Apply a move; then look which marks its version has, and take the move back if one of ``refused`` is there."""
    applied = _apply(store, model, name, decide)
    move = applied.move
    if move is None:
        # A test took its time: say what the channel is after it.
        return _as_it_is(store, model, applied.moved) if applied.moved.rejection is not None else applied.moved
    marks = read_marks(store, model, move.version)
    rejection = find_rejection(store, model, move.version) if REJECTED in marks else None
    if not marks & refused:
        return replace(applied.moved, rejection=rejection)
    if RETIRED in marks:
        why, reason = f"v{move.version} is retired", f"v{move.version} is retired: prune is about to remove it"
    else:
        why, reason = f"v{move.version} was rejected", f"another publisher's test of v{move.version} failed meanwhile"
    back = _take_back(store, model, name, move, why)
    return Moved(
        name,
        applied.moved.before,
        back.version if back is not None else None,
        back.generation if back is not None else 0,
        moved=False,
        reason=reason,
        retired=move.version if RETIRED in marks else None,
        rejection=rejection,
    )


def _as_it_is(store: Store, model: str, moved: Moved) -> Moved:
    present, _ = read_channel(store, model, moved.channel)
    if present is None:
        return replace(moved, after=None, generation=0)
    return replace(moved, after=present.version, generation=present.generation)


def _take_back(store: Store, model: str, name: str, move: Move, why: str) -> Channel | None:
    """Bring the channel to what it named before ``move``, unless somebody has moved it on; return what it is now."""

    def decide(present: Channel | None) -> Move | _Stay:
        if present is None or present.present.nonce != move.nonce or not present.history:
            return _Stay("")
        before = present.history[0]
        return _move("rollback", before.version, before.digest, move.by, why)

    _apply(store, model, name, decide)
    present, tag = read_channel(store, model, name)
    if present is None or present.present.nonce != move.nonce:
        return present
    # The channel has named nothing else, so there is none again.
    try:
        store.delete(keys.channel(model, name), tag)
    except ConflictError:
        return read_channel(store, model, name)[0]
    return None


def _apply(store: Store, model: str, name: str, decide: Callable[[Channel | None], Move | _Stay]) -> _Applied:
    key = keys.channel(model, name)
    tried: list[tuple[str, int | None]] = []
    last_tag: str | None = ""
    unmoved = 0
    refusal = ConflictError("")
    for attempt in range(_ATTEMPTS):
        present, tag = read_channel(store, model, name)
        for nonce, before in tried:
            done = next((m for m in (present.moves() if present else ()) if m.nonce == nonce), None)
            if done is not None:
                return _Applied(Moved(name, before, done.version, done.generation, moved=True), done)
        unmoved = unmoved + 1 if attempt and tag == last_tag else 0
        if unmoved >= _ATTEMPTS_UNMOVED:
            raise ConflictError(f"{model}@{name} could not be moved: {refusal.message}", refusal.hint)
        last_tag = tag
        before = present.version if present else None
        choice = decide(present)
        if isinstance(choice, _Stay):
            generation = present.generation if present else 0
            stays = Moved(
                name, before, before, generation, moved=False, reason=choice.reason, rejection=choice.rejection
            )
            return _Applied(stays, None)
        wanted = Channel(choice) if present is None else present.moved(choice)
        tried.append((choice.nonce, before))
        try:
            store.swap(key, serialize_channel(wanted), tag)
        except ConflictError as error:
            refusal = error
            time.sleep(jittered(0.01 * min(attempt + 1, 20), 0))
            continue
        return _Applied(Moved(name, before, wanted.version, wanted.generation, moved=True), wanted.present)
    raise ConflictError(
        f"{model}@{name} was moved by others {_ATTEMPTS} times in a row. The last refusal: {refusal.message}",
        "Wait a little and run the command again.",
    )
