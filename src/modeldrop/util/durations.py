"""Durations on the command line: ``90s``, ``5m``, ``24h``, ``30d``, ``2w``."""

from __future__ import annotations

import re

from modeldrop.errors import UsageError

_DURATION = re.compile(r"([0-9]{1,6})([smhdw]?)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_duration(text: str, option: str, *, unit: str = "") -> float:
    """Seconds of ``90m``, ``24h``, ``30d``.

    Args:
        text: what was written.
        option: where it was written, for the message.
        unit: what a bare number counts, such as ``s``; "" refuses a bare number.

    Raises:
        UsageError: it is no duration.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not (match[2] or unit):
        raise UsageError(
            f"{option} {text[:40]!r} is not a duration.",
            "Write a number and a unit: 90m, 24h, 30d (s, m, h, d or w).",
        )
    return float(int(match[1]) * _UNITS[match[2] or unit])
