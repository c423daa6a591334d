"""Text for people, and as people write it: tables, sizes, ages, durations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DURATION = re.compile(r"([0-9]{1,6})([smhdw]?)")
_MOST_DIGITS = 10
_TRUE = {"1", "true", "yes", "on"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A plain table for people: columns padded to their widest cell, two blanks apart.

    ``right`` names the columns (from 0) that are aligned to the right.
    """
    lines = [list(header), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _printable(text: str) -> str:
    # Cells come from registries: what they say must not move the cursor.
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def size_text(size: float) -> str:
    """``90.4 MB``, ``711.6 kB`` or ``24 B``; powers of 1000."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def apart(value: float, limit: float, digits: int = 6) -> tuple[str, str]:
    """A figure and its limit with so many digits, or more where they would not show which is above the other."""
    for precision in range(digits, 18):
        shown, asked = f"{value:.{precision}g}", f"{limit:.{precision}g}"
        tells = (float(shown) > float(asked)) == (value > limit) and (float(shown) < float(asked)) == (value < limit)
        if tells and (float(asked) == limit or precision >= _MOST_DIGITS):
            break
    return shown, asked


def age_text(seconds: float) -> str:
    """An age for people: ``40 s``, ``12 min``, ``3.5 h``, ``2.0 d``."""
    for unit, length in (("d", 86400), ("h", 3600)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"


def ago_text(seconds: float | None) -> str:
    """When something was, by its age: ``12 min ago``; None for an age that is not known."""
    return "at a time that is not known: the clock was set back" if seconds is None else f"{age_text(seconds)} ago"


def clock_text(seconds: float) -> str:
    """``0:42``, ``12:05`` or ``1:02:03``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def parse_duration(text: str, unit: str = "") -> float:
    """Seconds of ``90s``, ``5m``, ``24h``, ``30d``, ``2w``.

    Args:
        text: what was written.
        unit: what a bare number counts, such as ``s``; "" refuses a bare number.

    Raises:
        ValueError: it is no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not (match[2] or unit):
        raise ValueError(f"{text[:40]!r} is not a duration.")
    return float(int(match[1]) * _UNITS[match[2] or unit])


def first_line(error: BaseException) -> str:
    """What a library says went wrong, cut to what a sentence bears."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def iso_time(seconds: float) -> str:
    """A moment in Unix seconds, as ISO 8601 in UTC."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def is_true(text: str | None) -> bool:
    """Whether a variable or setting says something that means yes."""
    return (text or "").strip().lower() in _TRUE
