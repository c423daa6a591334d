"""Signing versions and channels, with the private keys in ``MODELDROP_SIGNING_KEY``; whoever has none signs nothing.

A version's statement is written before its manifest, by the publisher that has built it, and never replaced. A channel
is signed in the same write as its move. With a key at hand no channel is moved to a version whose statement is missing
or of an unknown key, and none is renewed whose own signature is: else whoever can write the registry could have his own
version signed by whoever publishes next.
"""

from __future__ import annotations

import binascii
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.config import setting, trusted_keys, variable
from modeldrop.errors import ConflictError, MissingExtraError, RefusedError, TrustError, UsageError
from modeldrop.format import keys
from modeldrop.format.channel import Channel, Envelope, Signature
from modeldrop.format.json_fields import dump
from modeldrop.format.names import DEFAULT_CHANNEL
from modeldrop.format.signed import (
    CHANNEL_TYPE,
    SIGNED_MOVE,
    STATEMENT,
    STATEMENT_TYPE,
    SignedMove,
    Statement,
    Subject,
    serialize_envelope,
)
from modeldrop.registry.kms import SCHEMES, kms_key
from modeldrop.registry.provenance import build_identity, now
from modeldrop.registry.versions import get_channel, resolve_reference
from modeldrop.trust.public_keys import PREFIX, SECRET_PREFIX, decode, encode
from modeldrop.trust.rules import (
    Trust,
    pre_authentication,
    read_signed_move,
    verify_channel,
    verify_statement,
)
from modeldrop.util.text import iso_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from modeldrop.format.reference import Reference
    from modeldrop.registry.versions import Version
    from modeldrop.storage.write.store import Store

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----.+?-----END [A-Z ]+-----", re.DOTALL)
_MAX_FILE = 64 << 10


@dataclass(frozen=True, slots=True)
class SigningKey:
    """What signs, and the public key that belongs to it: its text, and its 32 bytes."""

    public: str
    key: bytes
    sign: Callable[[bytes], bytes]


class KeySigner:
    """Whoever signs.

    Args:
        signing_keys: each signs everything.
        also_trusted: further public keys, whose statements and channels are known to be right.

    Attributes:
        own: the keys that everything signed by this has been signed with.
        trust: whose signatures are known to be right: these, and what MODELDROP_TRUST or modeldrop.toml lists.
    """

    def __init__(self, signing_keys: Sequence[SigningKey], also_trusted: Trust | None) -> None:
        self._keys = signing_keys
        public = {key.public: key.key for key in signing_keys}
        self.own = Trust(public, len(public))
        self.trust = Trust(public | dict(also_trusted.keys if also_trusted else {}))

    def sign(self, payload_type: str, payload: bytes) -> Envelope:
        """A payload with a signature by every key."""
        message = pre_authentication(payload_type, payload)
        signatures = [Signature(key.public, _base64(key.sign(message))) for key in self._keys]
        return Envelope(_base64(payload), payload_type, tuple(sorted(signatures)))


def new_key() -> tuple[str, SigningKey]:
    """A new key: the private one as a text, for a file that nobody else may read, and what signs with it.

    Raises:
        MissingExtraError: cryptography is not installed.
    """
    private = _ed25519().generate()
    return encode(SECRET_PREFIX, private.private_bytes_raw()), _signing_key(private)


def read_keys(text: str, where: str) -> list[SigningKey]:
    """The private keys in a text: as ``modeldrop key new`` writes them, PEM, or URLs of keys in a cloud's KMS.

    Args:
        text: what was written; no message has any of it.
        where: where that was.

    Raises:
        UsageError: there are none, or one is no Ed25519 key.
        RegistryError: a KMS cannot be reached, or refuses.
        MissingExtraError: cryptography, or a cloud's SDK, is not installed.
    """
    blocks = _PEM.findall(text)
    words = [] if blocks else text.replace(",", " ").split()
    found = [_signing_key(_from_pem(block, where)) for block in blocks]
    for number, word in enumerate(words, 1):
        if word.startswith(SCHEMES):
            kms = kms_key(word)
            found.append(SigningKey(encode(PREFIX, kms.public), kms.public, kms.sign))
            continue
        seed = decode(SECRET_PREFIX, word)
        if seed is None:
            what = "a public key" if word.startswith(PREFIX) else "no private key, or a mistyped one"
            raise UsageError(
                f"{where}: word {number} of {len(words)} is {what}.",
                f"A private key is {SECRET_PREFIX} and 48 characters (modeldrop key new), or Ed25519 in PEM.",
            )
        found.append(_signing_key(_ed25519().from_private_bytes(seed)))
    if not found:
        raise UsageError(f"{where} holds no private key.", "Make one: modeldrop key new FILE")
    return list({key.public: key for key in found}.values())


def signing_keys() -> list[SigningKey]:
    """The keys in MODELDROP_SIGNING_KEY, or in the file that it names; none where it is not set.

    Raises:
        UsageError: there are none in it.
        MissingExtraError: cryptography is not installed.
    """
    text, name = variable("signing_key"), "MODELDROP_SIGNING_KEY"
    if not text:
        return []
    if not text.startswith((SECRET_PREFIX, PREFIX, *SCHEMES)) and not _PEM.search(text):
        try:
            with Path(text).open("rb") as file:
                text = file.read(_MAX_FILE).decode()
        except (OSError, ValueError):
            # Not what it is: it may be a key that was cut, and so a secret.
            raise UsageError(
                f"{name} is neither a private key nor the path of a file that can be read.",
                "Set it to what is in the file that `modeldrop key new FILE` writes, or to that file's path.",
            ) from None
        name = f"The file that {name} names"
    return read_keys(text, name)


def find_signer() -> KeySigner | None:
    """Whoever signs here; None where MODELDROP_SIGNING_KEY is not set.

    Raises:
        UsageError: it has no key, or not enough of those that are trusted here.
        MissingExtraError: cryptography is not installed.
    """
    own = signing_keys()
    if not own:
        return None
    trust = trusted_keys()
    if trust is not None and not trust.is_met_by(key.public for key in own):
        raise UsageError(
            f"MODELDROP_SIGNING_KEY has the key {', '.join(key.public for key in own)}; trusted here are "
            f"{', '.join(trust.keys)}, {trust.threshold} of which must have signed.",
            "Whoever reads with this list would refuse what is signed: list the key first (MODELDROP_TRUST, or trust "
            "in modeldrop.toml), or sign with another one.",
        )
    return KeySigner(own, trust)


def require_signer() -> KeySigner:
    """Whoever signs here.

    Raises:
        UsageError: MODELDROP_SIGNING_KEY is not set; or as ``find_signer``.
    """
    signer = find_signer()
    if signer is None:
        raise UsageError("Nothing is signed without a key.", "Set MODELDROP_SIGNING_KEY; make one: modeldrop key new.")
    return signer


def make_statement(signer: KeySigner, model: str, digest: str) -> bytes:
    """The bytes of the statement on a version that this run has built, or vouches for.

    Args:
        signer: whoever signs.
        model: the model.
        digest: the manifest's digest.
    """
    subject = (Subject(model, digest.removeprefix("sha256:")),)
    statement = Statement(subject=subject, model=model, build=build_identity(), at=now())
    return serialize_envelope(signer.sign(STATEMENT_TYPE, dump(STATEMENT.write(statement))))


def read_statement(store: Store, model: str, number: int) -> bytes | None:
    """The bytes of the statement on a version, None if there is none."""
    stored = store.get(keys.statement(model, number))
    return None if stored is None else stored.data


def check_statement(store: Store, model: str, number: int, digest: str, signer: KeySigner) -> None:
    """Refuse a version that none of the known keys has signed.

    Raises:
        TrustError: it is such a version.
    """
    data, where = read_statement(store, model, number), f"{store.url}/{keys.statement(model, number)}"
    try:
        verify_statement(signer.trust, data, model=model, digest=digest, where=where)
    except TrustError as error:
        error.hint = (
            "With MODELDROP_SIGNING_KEY set no channel is moved to it. If it is yours: modeldrop promote "
            f"{store.url}/{model}@v{number} --vouch; or build it anew, signed: modeldrop publish … --force. If it is "
            "not, somebody else has written there."
        )
        raise


def vouch(store: Store, model: str, number: int, digest: str) -> None:
    """Sign a version that was published without a signature: whoever does it says that it is what was built.

    Raises:
        UsageError: MODELDROP_SIGNING_KEY is not set.
        TrustError: it has a statement already, which is not by a known key.
    """
    signer = require_signer()
    try:
        store.create(keys.statement(model, number), make_statement(signer, model, digest))
    except ConflictError:
        check_statement(store, model, number, digest, signer)


def check_renewable(store: Store, model: str, name: str, channel: Channel, signer: KeySigner) -> None:
    """Refuse to renew the signature of a channel that none of the known keys has signed as it is; old ones will do.

    Raises:
        TrustError: it is such a channel.
    """
    where = f"{store.url}/{keys.channel(model, name)}"
    verify_channel(signer.trust, channel, model=model, name=name, where=where, now="")


def resolve_followed(store: Store, reference: Reference) -> Version:
    """The version that a reference means now; where there is a key, of no channel that no known key has signed so.

    Whoever can write the registry could choose among the signed versions; old signatures will do.

    Raises:
        TrustError: the reference follows such a channel.
        NotFoundError, IntegrityError: as ``resolve_reference``.
    """
    signer = None if reference.version is not None else find_signer()
    if signer is None:
        return resolve_reference(store, reference)
    name = reference.channel or DEFAULT_CHANNEL
    channel = get_channel(store, reference.model, name)
    try:
        check_renewable(store, reference.model, name, channel, signer)
    except TrustError as error:
        error.hint = f"If you know which version is meant, name it: {reference.model}@vN. {error.hint}"
        raise
    return resolve_reference(store, reference, {name: channel})


def is_signed_by(signer: KeySigner, model: str, name: str, channel: Channel) -> bool:
    """Whether a channel has a signature of each of these keys that counts now."""
    try:
        verify_channel(signer.own, channel, model=model, name=name, where="", now=now())
    except TrustError:
        return False
    return True


def sign_channel(
    signer: KeySigner,
    model: str,
    name: str,
    channel: Channel,
    *,
    before: Channel | None,
    expires_in: float | None = None,
) -> Channel:
    """A channel with its present move signed.

    Args:
        signer: whoever signs.
        model: the model.
        name: the channel.
        channel: as it is to be.
        before: as it was: its signature's lifetime is kept where nothing else says one; None for a new one.
        expires_in: seconds that the signature counts, 0 for ever; None for what MODELDROP_EXPIRES_IN says.
    """
    present, moment = channel.present, time.time()
    lifetime = setting("expires_in") if expires_in is None else expires_in
    if lifetime is None and before is not None and before.signed is not None:
        lifetime = _lifetime(read_signed_move(before.signed))
    move = SignedMove(
        model=model,
        channel=name,
        version=present.version,
        digest=present.digest,
        generation=present.generation,
        nonce=present.nonce,
        at=iso_time(moment),
        expires="" if not lifetime else iso_time(moment + lifetime),
    )
    return channel._replace(signed=signer.sign(CHANNEL_TYPE, dump(SIGNED_MOVE.write(move))))


def refuse_unsigned(store: Store, model: str, name: str, channel: Channel | None) -> None:
    """Refuse, for who has no key, to move a channel that is signed: whoever trusts that key could read it no more.

    Raises:
        RefusedError: it is signed.
    """
    if channel is not None and channel.signed is not None:
        by = ", ".join(one.keyid[:80] for one in channel.signed.signatures)
        raise RefusedError(
            f"{model}@{name} in {store.url} is signed by {by}, and there is no key here: whoever trusts that key would "
            "read it no more.",
            "Set MODELDROP_SIGNING_KEY. To have a channel that is not signed any more: "
            f"modeldrop promote {store.url}/{model}@vN --unsigned",
        )


def _lifetime(move: SignedMove | None) -> float | None:
    """Seconds from a signature until it expires, None where it does not."""
    if move is None or not move.expires:
        return None
    from datetime import datetime

    try:
        return max(0.0, (datetime.fromisoformat(move.expires) - datetime.fromisoformat(move.at)).total_seconds())
    except (OverflowError, ValueError):  # no moment, such as 30 February
        return None


def _signing_key(private: Ed25519PrivateKey) -> SigningKey:
    public = private.public_key().public_bytes_raw()
    return SigningKey(encode(PREFIX, public), public, private.sign)


def _ed25519() -> type[Ed25519PrivateKey]:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtraError(
            "Signing needs the package cryptography, which is not installed here.", "pip install 'modeldrop[sign]'"
        ) from error
    return Ed25519PrivateKey


def _from_pem(block: str, where: str) -> Ed25519PrivateKey:
    kind = _ed25519()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(block.encode(), None)
    except (TypeError, ValueError, UnsupportedAlgorithm) as error:
        why = "has a passphrase" if isinstance(error, TypeError) else "cannot be read"
        raise UsageError(f"{where}: the private key in PEM {why}.", "Write PKCS #8, without a passphrase.") from None
    if not isinstance(key, kind):
        raise UsageError(f"{where}: the private key in PEM is not of Ed25519.", "openssl genpkey -algorithm ed25519")
    return key


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()
