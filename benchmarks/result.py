"""What a benchmark found: rows of one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HEADER = ("what", "ours", "peer", "ratio", "target", "met")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of ours, beside a peer's where there is one, and whether it is as good as we want it."""

    name: str
    ours: float
    target: str
    met: bool
    peer: float | None = None
    unit: str = ""
    digits: int = 2

    @property
    def ratio(self) -> float | None:
        """Ours for 1 of the peer's."""
        return self.ours / self.peer if self.peer else None

    def cells(self) -> tuple[str, ...]:
        """As people read it, in the order of ``HEADER``."""
        ratio = "" if self.ratio is None else f"{self.ratio:.3f}"
        return (self.name, self._shown(self.ours), self._shown(self.peer), ratio, self.target, _yes(self.met))

    def to_json(self) -> dict[str, Any]:
        """As programs read it."""
        return {
            "name": self.name,
            "ours": self.ours,
            "peer": self.peer,
            "unit": self.unit,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
        }

    def _shown(self, value: float | None) -> str:
        return "" if value is None else f"{value:.{self.digits}f} {self.unit}".rstrip()


def _yes(met: bool) -> str:  # noqa: FBT001
    return "yes" if met else "NO"
