from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import example, given
from hypothesis import strategies as st

from modeldrop.trust.ed25519 import is_key, verify

if TYPE_CHECKING:
    from typing import Any

WYCHEPROOF = Path(__file__).parents[1] / "fixtures" / "wycheproof" / "ed25519_test.json"
P, L = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
# Every point of small order, with the encodings that are not the one of the point.
SMALL = [
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    (0).to_bytes(32, "little"),
    (1 << 255).to_bytes(32, "little"),
    *(
        bytes.fromhex(text)
        for text in (
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        )
    ),
]
NOT_CANONICAL = [(P + y).to_bytes(32, "little") for y in range(19)] + [
    (1 | 1 << 255).to_bytes(32, "little"),
    (P - 1 | 1 << 255).to_bytes(32, "little"),
]
seeds = st.binary(min_size=32, max_size=32)


def by_cryptography(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def is_answered_as_by_cryptography(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether both say the same, but for points of small order and other encodings, which only we refuse."""
    refused = {key, signature[:32]} & {*SMALL, *NOT_CANONICAL}
    return verify(key, message, signature) == (not refused and by_cryptography(key, message, signature))


def test_all_cases_of_wycheproof() -> None:
    groups: list[dict[str, Any]] = json.loads(WYCHEPROOF.read_text("utf-8"))["testGroups"]
    answers = [
        (case["tcId"], case["result"] == "valid", verify(key, *map(bytes.fromhex, (case["msg"], case["sig"]))))
        for group in groups
        for key in [bytes.fromhex(group["publicKey"]["pk"])]
        for case in group["tests"]
    ]
    assert len(answers) > 150
    assert [number for number, valid, accepted in answers if valid != accepted] == []


@given(seeds, st.binary(max_size=200))
def test_what_cryptography_signs_is_accepted(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key = private.public_key().public_bytes_raw()
    assert is_key(key)
    assert verify(key, message, private.sign(message))


@given(seeds, st.binary(max_size=50), st.integers(0, 255 + 511 + 8), st.data())
def test_what_was_changed_is_answered_as_cryptography_does(
    seed: bytes, message: bytes, bit: int, data: st.DataObject
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    parts = private.public_key().public_bytes_raw() + private.sign(message) + message
    changed = bytearray(parts)
    changed[bit // 8 % len(parts)] ^= 1 << bit % 8
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(parts) - 1))
        changed[at] = data.draw(st.integers(0, 255))
    key, signature, text = bytes(changed[:32]), bytes(changed[32:96]), bytes(changed[96:])
    assert is_answered_as_by_cryptography(key, text, signature)


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=20), st.binary(min_size=64, max_size=64))
@example(bytes(32), b"\0\xb5", bytes(64))
def test_any_bytes_are_answered_as_cryptography_does(key: bytes, message: bytes, signature: bytes) -> None:
    assert is_answered_as_by_cryptography(key, message, signature)


@pytest.mark.parametrize("key", SMALL, ids=bytes.hex)
def test_a_key_of_small_order_signs_nothing(key: bytes) -> None:
    # With S = 0 and R = -kA, which is one of a few points: cryptography accepts some of these.
    assert not is_key(key)
    for r in SMALL:
        for number in range(16):
            assert not verify(key, bytes([number]), r + bytes(32))


@pytest.mark.parametrize("r", SMALL, ids=bytes.hex)
def test_a_signature_whose_r_is_of_small_order_is_refused(r: bytes) -> None:
    """Made with the private key, and so right by the equation: S = k·a where R is nothing."""
    import hashlib

    seed = bytes(32)
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ~7 & (1 << 254) - 1 | 1 << 254
    key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    k = int.from_bytes(hashlib.sha512(r + key + b"m").digest(), "little")
    signature = r + (k * scalar % L).to_bytes(32, "little")
    assert by_cryptography(key, b"m", signature) == (r == SMALL[0])
    assert not verify(key, b"m", signature)


@pytest.mark.parametrize("encoding", NOT_CANONICAL, ids=bytes.hex)
def test_another_encoding_of_a_point_is_no_key(encoding: bytes) -> None:
    assert not is_key(encoding)
    assert not verify(encoding, b"", SMALL[0] + bytes(32))


@given(seeds, st.binary(max_size=20), st.integers(1, 15))
def test_a_second_signature_cannot_be_made_of_one(seed: bytes, message: bytes, times: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    s = int.from_bytes(signature[32:], "little") + times * L
    if s < 1 << 256:
        assert not verify(key, message, signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize(("key", "signature"), [(31, 64), (33, 64), (32, 63), (32, 65), (0, 0)])
def test_other_lengths_are_refused(key: int, signature: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(bytes(32))
    right = private.public_key().public_bytes_raw(), private.sign(b"")
    assert verify(right[0], b"", right[1])
    assert not verify((right[0] + b"\0")[:key], b"", (right[1] + b"\0")[:signature])
    assert not is_key((right[0] + b"\0")[:key]) or key == 32
