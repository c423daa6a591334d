"""Moving channels: forward after a publish, to any version by promote, back by rollback.

Every write is a compare-and-swap. After a refusal, or a reply that was lost, the channel is read again: our
own nonce there means that we succeeded; else we decide again from what is there now, never overwrite.
"""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.errors import ConflictError, RefusedError, UsageError
from modeldrop.format.channel import Channel, Move, serialize_channel
from modeldrop.registry import layout
from modeldrop.registry.provenance import now
from modeldrop.registry.versions import (
    changed_manifest,
    get_version,
    missing_channel,
    read_channel,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.registry.stores.interface import Store
    from modeldrop.registry.versions import Version

_ATTEMPTS = 200
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
    """

    channel: str
    before: int | None
    after: int | None
    generation: int
    moved: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Stay:
    reason: str


def move_forward(store: Store, model: str, version: Version, channel: str, *, by: str, why: str = "") -> Moved:
    """Move a channel to a version just published, unless that would take it back.

    Never to a version that the channel left by rollback, and not over a higher version that somebody else
    moved it to meanwhile: then it stays, and ``reason`` says why and how to override.
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
        return _move("publish", version.number, version.digest, by, why)

    return _apply(store, model, channel, decide)


def create_if_missing(store: Store, model: str, version: Version, channel: str, *, by: str) -> Moved:
    """Point a channel that does not exist at a version; one that exists stays where it is."""
    promote = f"modeldrop promote {store.url}/{model}@v{version.number} --channel {channel}"

    def decide(present: Channel | None) -> Move | _Stay:
        if present is None:
            return _move("publish", version.number, version.digest, by, "")
        if present.version == version.number:
            return _Stay("it names this version already")
        return _Stay(f"an unchanged recipe moves nothing; it names v{present.version}. To override: {promote}")

    return _apply(store, model, channel, decide)


def promote(store: Store, model: str, number: int, channel: str, *, by: str, why: str = "") -> Moved:
    """Point a channel at a version, whichever it named before.

    Raises:
        NotFoundError: the version does not exist.
        IntegrityError: its manifest is not the one that the channel named before under this number.
    """
    version = get_version(store, model, number)

    def decide(present: Channel | None) -> Move | _Stay:
        if present is not None:
            for move in present.moves():
                if move.version == number and move.digest != version.digest:
                    raise changed_manifest(model, version, move.digest)
            if present.version == number and number not in present.rolled_back():
                return _Stay("it names this version already")
        return _move("promote", number, version.digest, by, why)

    return _apply(store, model, channel, decide)


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
        RefusedError: there is nothing to go back to, or the channel names another version than expected.
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
        version = get_version(store, model, target.version)
        if version.digest != target.digest:
            raise changed_manifest(model, version, target.digest)
        return _move("rollback", target.version, target.digest, by, why)

    return _apply(store, model, channel, decide)


def _move(action: str, version: int, digest: str, by: str, why: str) -> Move:
    if len(why) > _MAX_WHY or not why.isprintable():
        raise UsageError(f"A reason is one line of at most {_MAX_WHY} characters.", "Shorten it (--why).")
    return Move(version, digest, 1, secrets.token_hex(8), action, by, now(), why)


def _apply(store: Store, model: str, name: str, decide: Callable[[Channel | None], Move | _Stay]) -> Moved:
    key = layout.channel(model, name)
    tried: list[tuple[str, int | None]] = []
    for attempt in range(_ATTEMPTS):
        present, tag = read_channel(store, model, name)
        for nonce, before in tried:
            done = next((m for m in (present.moves() if present else ()) if m.nonce == nonce), None)
            if done is not None:
                return Moved(name, before, done.version, done.generation, moved=True)
        before = present.version if present else None
        choice = decide(present)
        if isinstance(choice, _Stay):
            generation = present.generation if present else 0
            return Moved(name, before, before, generation, moved=False, reason=choice.reason)
        wanted = Channel(choice) if present is None else present.moved(choice)
        tried.append((choice.nonce, before))
        try:
            store.swap(key, serialize_channel(wanted), tag)
        except ConflictError:
            time.sleep(random.uniform(0, 0.01 * min(attempt + 1, 20)))  # noqa: S311  not a secret
            continue
        return Moved(name, before, wanted.version, wanted.generation, moved=True)
    raise ConflictError(
        f"{model}@{name} was moved by others {_ATTEMPTS} times in a row.",
        "Wait a little and run the command again.",
    )
