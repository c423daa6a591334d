"""Public keys as people write them: ``ed25519:`` and 48 characters, whose last ones are check digits.

That text is also the key's id in what it has signed. A character that was mistyped makes it no key: else it would be
another key, which nobody has, and whoever trusts it would wait for its signature for ever.
"""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from modeldrop.errors import UsageError
from modeldrop.format.names import hex_digest
from modeldrop.trust.ed25519 import KEY_BYTES, is_key

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "ed25519:"
SECRET_PREFIX = "ed25519-secret:"  # noqa: S105  what stands before one
MAX_KEYS = 16
_CHECK_BYTES = 4
_TO_URL, _FROM_URL = str.maketrans("+/", "-_"), str.maketrans("-_", "+/")


def encode(prefix: str, key: bytes) -> str:
    """A key of 32 bytes as a text with check digits."""
    data = key + bytes.fromhex(hex_digest(key))[:_CHECK_BYTES]
    return prefix + binascii.b2a_base64(data, newline=False).decode().translate(_TO_URL)


def decode(prefix: str, text: str) -> bytes | None:
    """The key of 32 bytes that such a text holds; None if it is none, or not the one text of it."""
    try:
        data = binascii.a2b_base64(text.removeprefix(prefix).translate(_FROM_URL))
    except ValueError:
        return None
    key = data[:KEY_BYTES]
    return key if encode(prefix, key) == text else None


def parse_key(text: str, where: str) -> bytes:
    """The 32 bytes of a public key.

    Args:
        text: as it was written.
        where: where that was, for the message.

    Raises:
        UsageError: it is none, a secret one, or misspelt.
    """
    if text.startswith(SECRET_PREFIX) or "PRIVATE KEY" in text:
        raise UsageError(
            f"{where} has a private key where a public one belongs.",
            "Whoever has read it can sign: make a new one (modeldrop key new), and list its public key here.",
        )
    key = decode(PREFIX, text)
    if key is not None and is_key(key):
        return key
    shown = text[:80]
    if not text.startswith(PREFIX):
        fault = f"it does not begin with {PREFIX}"
    elif len(text) != len(PREFIX) + 48:
        fault = f"it has {len(text) - len(PREFIX)} characters behind {PREFIX}, not 48"
    elif key is None:
        fault = "its check digits are not right: a character of it is mistyped"
    else:
        fault = "no secret belongs to it"
    raise UsageError(
        f"{where}: {shown!r} is no public key: {fault}.",
        "Copy what `modeldrop key show` prints, where the private key is.",
    )


def split_keys(text: str) -> tuple[str, ...]:
    """The keys of a list that was written in one text, between commas or blanks."""
    return tuple(text.replace(",", " ").split())


def check_keys(texts: Iterable[str], where: str) -> dict[str, bytes]:
    """Public keys by their texts.

    Raises:
        UsageError: one is none, one is listed twice, there are none or too many.
    """
    keys: dict[str, bytes] = {}
    for text in texts:
        if text in keys:
            raise UsageError(f"{where} lists {text} twice.", "List each key once.")
        keys[text] = parse_key(text, where)
    if not 0 < len(keys) <= MAX_KEYS:
        raise UsageError(
            f"{where} lists {len(keys) or 'no'} keys.",
            f"List 1 to {MAX_KEYS} public keys; to trust whoever can write the registry, leave it out.",
        )
    return keys
