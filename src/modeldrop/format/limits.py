"""Thresholds of own metrics: on which side a good value lies, and whether it is a share of the original's value."""

from __future__ import annotations

import math
import re

from modeldrop.util.values import dataclass

OWN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
"""What an own metric may be called."""
FORMS = '">= 0.9", "<= 0.1", or as a share of the original\'s value, ">= 99%"'
"""How a limit is written, for messages."""
_LIMIT = re.compile(r"(?P<side>>=|<=) ?(?P<number>-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?)(?P<share> ?%)?")


@dataclass(frozen=True, slots=True)
class Limit:
    """What a value must reach, or stay below.

    Attributes:
        side: ``>=`` or ``<=``.
        number: the value; or percent of the original's value.
        relative: whether it is percent.
    """

    side: str
    number: float
    relative: bool = False

    def value(self, original: float) -> float:
        """The value that is asked where the original has ``original``."""
        return self.number / 100 * original if self.relative else self.number

    def holds(self, value: float, original: float) -> bool:
        """Whether a value is on the good side, where the original has ``original``."""
        return value >= self.value(original) if self.side == ">=" else value <= self.value(original)

    def __str__(self) -> str:
        return f"{self.side} {self.number!r}".removesuffix(".0") + ("%" if self.relative else "")


def parse_limit(text: str) -> Limit | None:
    """Read a limit, such as ``>= 0.9`` or ``<= 105%``; None where it is none."""
    match = _LIMIT.fullmatch(text)
    if match is None or not math.isfinite(number := float(match["number"])):
        return None
    return Limit(match["side"], number, match["share"] is not None)
