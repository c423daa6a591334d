"""Ed25519 signatures, verified by the standard library alone (RFC 8032). Nothing here signs, or knows a secret.

Stricter than the RFC asks, so that nobody can make a second signature, or a key, of one that is there:

- the equation is checked without the cofactor, by comparing bytes: R has one encoding;
- S is below the group's order;
- a key is the one encoding of a point, and that point is not of small order; nor is R.

All of what is worked with is public: nothing needs to take the same time for all values.
"""

from __future__ import annotations

import sys
from typing import TypeAlias

KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P
_2D = 2 * _D % _P
_ROOT = pow(2, (_P - 1) // 4, _P)  # of -1
_WINDOW = 5

# Extended coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, x·y = T/Z.
_Point: TypeAlias = "tuple[int, int, int, int]"
# A point as it is added: (Y+X, Y-X, 2dT, 2Z).
_Addend: TypeAlias = "tuple[int, int, int, int]"


def is_key(data: bytes) -> bool:
    """Whether these bytes are a public key that ``verify`` takes: the one encoding of a point of large order."""
    point = _decode(data) if len(data) == KEY_BYTES else None
    return point is not None and not _is_small(point)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is that of a message by the owner of a public key.

    Args:
        key: 32 bytes.
        message: what was signed.
        signature: 64 bytes.
    """
    if len(key) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    owner, encoded = _decode(key), signature[:32]
    s = int.from_bytes(signature[32:], "little")
    if owner is None or s >= _L or _is_small(owner):
        return False
    k = int.from_bytes(_sha512(encoded + key + message), "little") % _L
    x, y, z, _ = found = _sum(s, _BASE, k, _negated(owner))
    inverse = pow(z, -1, _P)
    return not _is_small(found) and _encode(x * inverse % _P, y * inverse % _P) == encoded


def _sha512(data: bytes) -> bytes:
    # As names.hex_digest: hashlib loads OpenSSL, which takes longer than this.
    try:
        if sys.version_info >= (3, 12):
            from _sha2 import sha512  # type: ignore[import-not-found]
        else:
            from _sha512 import sha512  # type: ignore[import-not-found]
    except ImportError:  # an interpreter that was built without
        from hashlib import sha512
    return bytes(sha512(data).digest())


def _encode(x: int, y: int) -> bytes:
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _decode(data: bytes) -> _Point | None:
    """The point, None if there is none of this encoding, or another encoding of it is the right one."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (1 << 255) - 1
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    v3 = v * v * v % _P
    x = u * v3 * pow(u * v3 * v3 * v, (_P - 5) // 8, _P) % _P
    if (v * x * x - u) % _P:
        x = x * _ROOT % _P
        if (v * x * x - u) % _P:
            return None
    if not x and sign:
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _negated(point: _Point) -> _Point:
    x, y, z, t = point
    return _P - x, y, z, _P - t


def _is_small(point: _Point) -> bool:
    """Whether eight times the point is nothing."""
    x, y, z, _ = _doubled(_doubled(_doubled(point)))
    return not x and y == z


def _doubled(point: _Point) -> _Point:
    x, y, z, _ = point
    a, b = x * x, y * y
    e = ((x + y) * (x + y) - a - b) % _P
    g = (b - a) % _P
    f = (g - 2 * z * z) % _P
    h = -(a + b) % _P
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _plus(point: _Point, addend: _Addend) -> _Point:
    x, y, z, t = point
    sum_, difference, t2d, z2 = addend
    a, b, c, d = (y - x) * difference % _P, (y + x) * sum_ % _P, t * t2d % _P, z * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _as_addend(point: _Point) -> _Addend:
    x, y, z, t = point
    return y + x, y - x, t * _2D % _P, 2 * z


def _odd_multiples(point: _Point) -> list[_Addend]:
    """1, 3, 5, … times the point: what a window of digits may ask for."""
    twice, multiples = _as_addend(_doubled(point)), [point]
    for _ in range((1 << _WINDOW - 2) - 1):
        multiples.append(_plus(multiples[-1], twice))
    return [_as_addend(multiple) for multiple in multiples]


def _digits(number: int) -> dict[int, int]:
    """The number as a sum of odd digits between -15 and 15, each times two to the power of its key; few of them."""
    digits, place = {}, 0
    while number:
        zeros = (number & -number).bit_length() - 1
        place += zeros
        number >>= zeros
        digit = number & (1 << _WINDOW) - 1
        if digit >> _WINDOW - 1:
            digit -= 1 << _WINDOW
        digits[place] = digit
        number -= digit
    return digits


def _sum(s: int, base: _Point, k: int, owner: _Point) -> _Point:
    """``s`` times one point and ``k`` times another, in one pass."""
    terms = [(_digits(s), _odd_multiples(base)), (_digits(k), _odd_multiples(owner))]
    point: _Point = (0, 1, 1, 0)
    for place in range(max((max(digits, default=0) for digits, _ in terms)), -1, -1):
        point = _doubled(point)
        for digits, multiples in terms:
            digit = digits.get(place)
            if digit is None:
                continue
            sum_, difference, t2d, z2 = multiples[abs(digit) >> 1]
            point = _plus(point, (sum_, difference, t2d, z2) if digit > 0 else (difference, sum_, -t2d, z2))
    return point


_BASE_Y = 4 * pow(5, -1, _P) % _P
_BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BASE: _Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)
