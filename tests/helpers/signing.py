"""Keys to sign with, and a publisher who does."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modeldrop.trust.public_keys import PREFIX, SECRET_PREFIX, encode
from modeldrop.trust.rules import Trust, make_trust

if TYPE_CHECKING:
    from collections.abc import Iterator


@functools.cache
def private(number: int) -> Ed25519PrivateKey:
    """Always the same key for a number."""
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


def secret(*numbers: int) -> str:
    """As MODELDROP_SIGNING_KEY has them."""
    return " ".join(encode(SECRET_PREFIX, private(number).private_bytes_raw()) for number in numbers)


@functools.cache
def public(number: int) -> str:
    """As a list of trusted keys has it."""
    return encode(PREFIX, private(number).public_key().public_bytes_raw())


@functools.cache
def trusting(*numbers: int, threshold: int = 1) -> Trust:
    return make_trust([public(number) for number in numbers], threshold, "the test")


@contextlib.contextmanager
def signing_with(*numbers: int, expires_in: str = "") -> Iterator[None]:
    """Whoever publishes meanwhile has these keys, none where none is named."""
    variables = {"MODELDROP_SIGNING_KEY": secret(*numbers), "MODELDROP_EXPIRES_IN": expires_in}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
