"""Text and numbers as people write them."""

from __future__ import annotations

import math
from typing import Any

from modeldrop.util.text import three_digits


def printable(value: Any) -> Any:
    """A value on its way into the page: control characters and lone surrogates, which HTML forbids, become visible."""
    if not isinstance(value, str):
        return value
    if value.isprintable():  # nearly every value, in a hundredth of the time
        return value
    if hasattr(value, "__html__"):  # HTML was made of values that came through here
        return value
    return "".join(map(_visible, value))


def _visible(char: str) -> str:
    code = ord(char)
    if code < 0x20 and char not in "\n\t":
        return chr(0x2400 + code)
    if 0x7F <= code < 0xA0 or 0xD800 <= code < 0xE000 or code & 0xFFFE == 0xFFFE:
        return "\ufffd"
    return char


def moment(time_of_day: str) -> str:
    """A time of a manifest: ``2026-11-20 at 09:41 UTC``."""
    return f"{time_of_day[:10]} at {time_of_day[11:16]} UTC"


def counted(number: int, one: str, several: str) -> str:
    """``1 file``, ``7 files``."""
    return f"{number} {one if number == 1 else several}"


def size(count: float) -> str:
    """Bytes for people: ``90.4 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < (1000 if unit == "bytes" else 999.5):
            return f"{three_digits(count)} {unit}" if unit != "bytes" else f"{count:.0f} {unit}"
        count /= 1000
    return f"{three_digits(count)} TB"


def number(value: float, digits: int = 4) -> str:
    """A figure without a unit: ``0.9905``, ``1.8e-7``."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.{max(1, digits - 3)}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{digits}f}"


def threshold(value: float) -> str:
    """A threshold as it was written: ``0.98``."""
    return f"{value:.10g}"


def smaller(count: int, original: int) -> str:
    """How a size compares, in words: ``3.9× smaller``; "" where it does not."""
    return _compared(original, count, "smaller", "larger", "same size")


def faster(milliseconds: float, than: float) -> str:
    """How a latency compares, in words: ``3.1× faster``; "" where it does not."""
    return _compared(than, milliseconds, "faster", "slower", "as fast")


def _compared(before: float, after: float, better: str, worse: str, same: str) -> str:
    if before <= 0 or after <= 0:
        return ""
    ratio = before / after
    if not math.isfinite(ratio) or ratio == 0:
        return ""
    if f"{max(ratio, 1 / ratio):.1f}" == "1.0":
        return same
    return f"{_ratio(ratio)} {better}" if ratio > 1 else f"{_ratio(1 / ratio)} {worse}"


def _ratio(value: float) -> str:
    return f"{value:.1f}×" if value < 99.95 else f"{value:.0f}×"
