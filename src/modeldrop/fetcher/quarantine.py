"""Versions that a channel named and that failed here, so that nobody tries them again until the channel moves.

One file beside the channel's link, ``.quarantine/<link>.json``. All is best effort: a volume may be read-only.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.fetcher.small_files import read_note, write_note
from modeldrop.format.names import DIGEST, TIME
from modeldrop.util.values import asdict, dataclass

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = ".quarantine"
_MAX_REASON = 2000


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A version that failed here.

    Attributes:
        version: its number.
        digest: its manifest digest.
        generation: the channel's generation that named it.
        reason: why, in a sentence.
        at: when, ISO 8601 in UTC.
    """

    version: int
    digest: str
    generation: int
    reason: str
    at: str

    def holds(self, digest: str | None, generation: int | None) -> bool:
        """Whether it is about what a channel names now: a channel that has moved is tried again."""
        return (self.digest, self.generation) == (digest, generation)


def read_quarantine(model_home: Path, link: str) -> Quarantine | None:
    """What is quarantined of the channel behind a link; None where nothing is, or it cannot be read."""
    try:
        found, _ = read_note(_path(model_home, link), "quarantine")
        return Quarantine(
            version=found.integer("version", low=1, high=1 << 53),
            digest=found.text("digest", pattern=DIGEST),
            generation=found.integer("generation", low=1, high=1 << 53),
            reason=found.text("reason", limit=2 * _MAX_REASON),
            at=found.text("at", pattern=TIME),
        )
    except (OSError, FormatError):
        return None


def write_quarantine(model_home: Path, link: str, quarantine: Quarantine) -> None:
    """Remember what failed."""
    write_note(_path(model_home, link), asdict(quarantine) | {"reason": quarantine.reason[:_MAX_REASON]})


def lift_quarantine(model_home: Path, link: str) -> None:
    """Forget it: the channel has moved to a version that is good."""
    with contextlib.suppress(OSError):
        _path(model_home, link).unlink(missing_ok=True)


def _path(model_home: Path, link: str) -> Path:
    return model_home / _FOLDER / f"{link}.json"
