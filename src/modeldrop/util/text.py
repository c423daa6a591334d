"""Text for people, and as people write it: tables, sizes, ages, durations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_DURATION = re.compile(r"([0-9]{1,6})([smhdw]?)")
_MOST_DIGITS = 10
_LEAST_WIDTH = 8
_TRUE = {"1", "true", "yes", "on"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[int] = (),
    width: int = 0,
    cut: Sequence[int] = (),
    paint: Callable[[str, int, int], str] | None = None,
) -> str:
    """A plain table for people: columns padded to their widest cell, two blanks apart.

    Args:
        header: the columns' names.
        rows: their cells.
        right: the columns (from 0) that are aligned to the right.
        width: how many columns of a terminal a line may take, 0 for any.
        cut: which columns may be cut for that, the widest first; they keep a few letters.
        paint: gives a padded cell its colours; told its row (0 is the header) and its column.
    """
    lines = [list(header), *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(text_width(line[column]) for line in lines) for column in range(len(header))]
    if width:
        _narrow(widths, cut, width)
    shown = []
    for row, line in enumerate(lines):
        cells = [_padded(cell, widths[column], to_right=column in right) for column, cell in enumerate(line)]
        end = max((column for column, cell in enumerate(cells) if cell.strip()), default=-1)
        cells = [*cells[:end], *(cell.rstrip() for cell in cells[end : end + 1])]
        shown.append("  ".join(paint(cell, row, column) if paint else cell for column, cell in enumerate(cells)))
    return "\n".join(shown)


def text_width(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese and emoji take two each, combining marks none."""
    if text.isascii():
        return len(text)
    import unicodedata  # most texts are ASCII

    return sum(
        0
        if unicodedata.category(char) in {"Mn", "Me", "Cf"}
        else 2
        if unicodedata.east_asian_width(char) in "WF"
        else 1
        for char in text
    )


def _narrow(widths: list[int], cut: Sequence[int], width: int) -> None:
    """Take from the widest of the columns that may be cut until a line fits, or none of them has anything to give."""
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    while excess > 0:
        widest = max(cut, key=lambda column: widths[column], default=None)
        if widest is None or widths[widest] <= _LEAST_WIDTH:
            return
        widths[widest] -= 1
        excess -= 1


def _padded(text: str, width: int, *, to_right: bool) -> str:
    if text_width(text) > width:
        while text_width(text) >= width:
            text = text[:-1]
        text = f"{text.rstrip()}…"
    blanks = " " * (width - text_width(text))
    return blanks + text if to_right else text + blanks


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


def latency_text(milliseconds: float) -> str:
    """A latency for people: ``0.031 ms``, ``1.8 ms``, ``123 ms``, ``1.24 s``."""
    if 0 <= milliseconds < 0.95:
        return f"{milliseconds:.2g} ms"
    if milliseconds < 9.95:
        return f"{milliseconds:.1f} ms"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    return f"{three_digits(milliseconds / 1000)} s" if milliseconds < 1e9 else f"{milliseconds:.3g} ms"


def latencies_text(one: float, batch: float) -> str:
    """Two latencies in milliseconds, of one input and of a batch of them: ``1.8/53 ms``."""
    first, second = latency_text(one), latency_text(batch)
    same_unit = first.partition(" ")[2] == second.partition(" ")[2]
    return f"{first.partition(' ')[0] if same_unit else first}/{second}"


def three_digits(value: float) -> str:
    """A figure by three digits, more only before the point: ``1.23``, ``23.0``, ``456``."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


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
