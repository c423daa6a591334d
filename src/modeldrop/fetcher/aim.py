"""From a reference, and what its channel says, to the version that is meant. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.errors import FormatError, NotFoundError, RefusedError, RegistryError
from modeldrop.format.channel import Channel, parse_channel
from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from modeldrop.fetcher.notes import ChannelState
    from modeldrop.format.reference import Reference


@dataclass(frozen=True, slots=True)
class Aim:
    """The version that is meant.

    Attributes:
        version: its number.
        digest: the manifest digest that it must have; None for a pinned version without one.
        generation: the channel's, None for a pinned version.
        nonce: of the channel's present move, "" for a pinned version.
    """

    version: int
    digest: str | None
    generation: int | None = None
    nonce: str = ""


def aim_at_pin(reference: Reference) -> Aim | None:
    """What a pinned reference means; None where it follows a channel."""
    return None if reference.version is None else Aim(reference.version, reference.digest)


def aim_at_channel(reference: Reference, where: str, data: bytes) -> Aim:
    """What a reference means by what its channel says.

    Args:
        reference: follows a channel.
        where: the channel's address, for errors.
        data: the channel's document.

    Raises:
        FormatError: it does not parse.
        NotFoundError: the channel has never named the digest that the reference wants.
    """
    try:
        channel = parse_channel(data)
    except FormatError as error:
        raise located(error, where) from None
    return Aim(*_wanted(reference, where, channel), channel.generation, channel.present.nonce)


def check_generation(aim: Aim, where: str, *, least: int, known: ChannelState | None) -> None:
    """Refuse an old pointer.

    Args:
        aim: what the channel says now.
        where: its address, for errors.
        least: the generation that it must have at least.
        known: what this disk knows of the channel.

    Raises:
        RefusedError: its generation is below ``least``.
        RegistryError: it went back since this disk last saw it, or its history was rewritten.
    """
    generation = aim.generation or 0
    if generation < least:
        raise RefusedError(
            f"{where} has generation {generation}, below the {least} that is asked for: an old pointer was replayed.",
            "Look at the registry: modeldrop history. To accept it, ask for a lower --min-generation.",
        )
    if known is None:
        return
    hint = "The registry was restored from an older copy, or an old pointer is replayed. To accept what it says now, "
    if generation < known.generation:
        raise RegistryError(
            f"{where} went back from generation {known.generation} to {generation}.",
            f"{hint}move it on: modeldrop promote; or remove this model's folder.",
        )
    if generation == known.generation and aim.nonce != known.nonce:
        raise RegistryError(
            f"{where} has another move under generation {generation} than this disk has seen.",
            f"{hint}move it on: modeldrop promote; or remove this model's folder.",
        )


def located(error: FormatError, where: str) -> FormatError:
    """The same error, saying which document does not parse."""
    return FormatError(
        f"{where}: {error.message}",
        error.hint or "It was changed by hand or damaged; the snapshot in use is untouched. Promote another version.",
    )


def _wanted(reference: Reference, where: str, channel: Channel) -> tuple[int, str]:
    move = channel.present
    if reference.digest is not None and reference.digest != move.digest:
        older = channel.find_digest(reference.digest)
        if older is None:
            raise NotFoundError(
                f"{where} has never named {reference.digest}.",
                f"Name its version too: {reference.model}@vN@{reference.digest[:19]}…",
            )
        move = older
    return move.version, move.digest
