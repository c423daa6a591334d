"""The rules of trust, all of them, without any I/O: what must be signed, by whom, and what a signature is good for.

A reader has a list of public keys, and a threshold: how many of them must have signed each document (``Trust``).

- A channel's signature must be about this model and this channel, about the very move that the channel shows, and not
  expired. So neither another model's pointer, nor an older one, nor a new version under an old signature will do.
- A version's statement must be about this model and about the digest of the manifest that is to be read. Everything
  else of a version follows from that digest.
- Signatures of other keys are ignored, and several of one key count once.

Whoever follows a channel needs both; a pinned version needs its statement. Each failure says which document it is
about, which keys were looked for, and what to do.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError, TrustError, UsageError
from modeldrop.format.signed import (
    CHANNEL_TYPE,
    STATEMENT_TYPE,
    parse_envelope,
    parse_signed_move,
    parse_statement,
)
from modeldrop.trust.public_keys import check_keys
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modeldrop.format.channel import Channel, Envelope
    from modeldrop.format.signed import SignedMove, Statement


class Trust(NamedTuple):
    """Who is trusted.

    Attributes:
        keys: public keys by their texts.
        threshold: how many of them must have signed.
    """

    keys: Mapping[str, bytes]
    threshold: int = 1

    def is_met_by(self, signers: Iterable[str]) -> bool:
        """Whether enough of the keys are among those that have signed."""
        return len(self.keys.keys() & set(signers)) >= self.threshold


class Verified(NamedTuple):
    """What was signed, and by which of the trusted keys.

    Attributes:
        digest: of the manifest that it names.
        signers: the texts of the keys, sorted.
        expires: from when on it counts no more, "" where it does not expire.
    """

    digest: str
    signers: tuple[str, ...]
    expires: str = ""


def make_trust(keys: Iterable[str], threshold: int, where: str) -> Trust:
    """Who is trusted, as it was written.

    Raises:
        UsageError: a key is none, or there are fewer than must have signed.
    """
    trust = Trust(check_keys(keys, where), threshold)
    if not 1 <= threshold <= len(trust.keys):
        raise UsageError(
            f"{where} requires signatures by {threshold} of {len(trust.keys)} keys: that can never be met.",
            f"Write a threshold of 1 to {len(trust.keys)}, or list more keys.",
        )
    return trust


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """What is signed of an envelope: DSSE's PAE."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def verify_channel(trust: Trust, channel: Channel, *, model: str, name: str, where: str, now: str) -> Verified:
    """Check what a channel names now.

    Args:
        trust: who is trusted.
        channel: as it was read.
        model: the model that is wanted.
        name: the channel that is wanted.
        where: its address, for messages.
        now: the present moment, ISO 8601 in UTC; "" for whoever renews what has expired.

    Raises:
        TrustError: it is not signed, or not for this.
    """
    present, document = channel.present, f"The channel {where}"
    if channel.signed is None:
        raise TrustError(
            f"{document} is not signed. {_wanted(trust)}",
            "Whoever moves it must have MODELDROP_SIGNING_KEY set. To sign what it names: modeldrop promote with that "
            "key. Or somebody has taken the signature away: look at the registry.",
        )
    payload, signers = _signed(trust, channel.signed, CHANNEL_TYPE, document)
    try:
        move = parse_signed_move(payload)
    except FormatError as error:
        raise _damaged(document, error) from None
    said = (move.model, move.channel)
    if said != (model, name):
        raise TrustError(
            f"{document} carries the signature of another channel: of {move.model}@{move.channel}.",
            f"Somebody has copied it here. {_again(signers)}",
        )
    if (move.version, move.digest, move.generation, move.nonce) != (
        present.version,
        present.digest,
        present.generation,
        present.nonce,
    ):
        raise TrustError(
            f"{document} names v{present.version} {present.digest[:19]}… in generation {present.generation}; what is "
            f"signed is v{move.version} {move.digest[:19]}… in generation {move.generation}.",
            f"Somebody has changed it after it was signed. {_again(signers)}",
        )
    if move.expires and now and now >= move.expires:
        raise TrustError(
            f"The signature of the channel {where}, made at {move.at}, expired at {move.expires}; here it is {now}.",
            "Nobody has renewed it (modeldrop refresh), or an old one is shown: look at the registry and at the clock.",
        )
    return Verified(move.digest, signers, move.expires)


def verify_statement(trust: Trust, data: bytes | None, *, model: str, digest: str | None, where: str) -> Verified:
    """Check the statement on a version.

    Args:
        trust: who is trusted.
        data: the bytes of ``statement.json``; None if there is none.
        model: the model that is wanted.
        digest: the manifest's digest that is wanted; None for the one that the statement says.
        where: its address, for messages.

    Raises:
        TrustError: it is not there, not signed, or about something else.
    """
    document = f"The statement {where}"
    if data is None:
        raise TrustError(
            f"{document} is missing. {_wanted(trust)}",
            "The version was published without MODELDROP_SIGNING_KEY, or somebody has put it there or taken the "
            "statement away. To sign it after you have looked at it: modeldrop promote --vouch",
        )
    try:
        envelope = parse_envelope(data)
    except FormatError as error:
        raise _damaged(document, error) from None
    payload, signers = _signed(trust, envelope, STATEMENT_TYPE, document)
    try:
        statement = parse_statement(payload)
    except FormatError as error:
        raise _damaged(document, error) from None
    found = _subject(statement)
    if statement.model != model or statement.subject[0].name != model:
        raise TrustError(
            f"{document} is about the model {statement.model}, not about {model}.",
            "Somebody has copied it here: look at the registry. Nothing of this version is used.",
        )
    if digest is not None and found != digest:
        raise TrustError(
            f"{document} is about a manifest with the digest {found}, not {digest}.",
            "Somebody has put another version in its place: look at the registry. Nothing of this version is used.",
        )
    return Verified(found, signers)


def read_signed_move(envelope: Envelope) -> SignedMove | None:
    """What a channel's envelope says, whoever has signed it; None if it says nothing. Believe none of it."""
    payload = _base64(envelope.payload)
    try:
        return None if payload is None else parse_signed_move(payload)
    except FormatError:
        return None


def _subject(statement: Statement) -> str:
    return f"sha256:{statement.subject[0].sha256}"


def _signed(trust: Trust, envelope: Envelope, payload_type: str, document: str) -> tuple[bytes, tuple[str, ...]]:
    """The payload of an envelope that enough trusted keys have signed, and which those are."""
    from modeldrop.trust.ed25519 import verify

    payload = _base64(envelope.payload)
    if envelope.payload_type != payload_type or payload is None:
        what = "not base64" if payload is None else repr(envelope.payload_type[:80])
        raise TrustError(f"{document} is signed as something else: its payload is {what}, not {payload_type}.", _LOOK)
    message = pre_authentication(payload_type, payload)
    good: set[str] = set()
    bad: set[str] = set()
    for keyid, encoded in envelope.signatures:
        key = trust.keys.get(keyid)
        if key is None or keyid in good:
            continue
        signature = _base64(encoded)
        (good if signature is not None and verify(key, message, signature) else bad).add(keyid)
    if len(good) >= trust.threshold:
        return payload, tuple(sorted(good))
    if bad - good:
        named = ", ".join(sorted(bad - good))
        raise TrustError(f"{document} has a signature that is not that of {named}, as it says.", _LOOK)
    if good:
        raise TrustError(
            f"{document} is signed by {len(good)} of the trusted keys ({', '.join(sorted(good))}); "
            f"{trust.threshold} are needed. {_wanted(trust)}",
            "Whoever signs must have as many keys in MODELDROP_SIGNING_KEY as the threshold says.",
        )
    others = ", ".join(sorted({_shown(one.keyid) for one in envelope.signatures}))
    raise TrustError(
        f"{document} is signed by {others}, which is not trusted here. {_wanted(trust)}",
        "If that key is yours (modeldrop key show), list it: MODELDROP_TRUST, or trust in modeldrop.toml. "
        "If it is not, somebody else has written there: look at the registry.",
    )


_LOOK = "It was changed or damaged after it was signed: look at the registry. The snapshot in use is untouched."


def _wanted(trust: Trust) -> str:
    keys = ", ".join(trust.keys)
    if len(trust.keys) == 1:
        return f"Trusted is {keys}."
    return f"Trusted are {keys}" + (f", of which {trust.threshold} must have signed." if trust.threshold > 1 else ".")


def _again(signers: tuple[str, ...]) -> str:
    return f"To sign it anew: modeldrop promote, with the key {', '.join(signers)}. The snapshot in use is untouched."


def _damaged(document: str, error: FormatError) -> TrustError:
    return TrustError(f"{document} cannot be read: {error.message}.", _LOOK)


def _shown(keyid: str) -> str:
    return keyid if keyid.isprintable() and len(keyid) <= 80 else repr(keyid[:80])


def _base64(text: str) -> bytes | None:
    """The bytes of a base64 text; None if it is none, or not the one text of these bytes."""
    try:
        data = binascii.a2b_base64(text)
    except ValueError:
        return None
    return data if binascii.b2a_base64(data, newline=False).decode() == text else None
