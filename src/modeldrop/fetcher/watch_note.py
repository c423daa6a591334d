"""What a watch knows of a channel, for the next watch and for ``status``: one file, ``.watch/<link>.json``.

Its time of change is when the registry last answered.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.fetcher.notes import ChannelState
from modeldrop.fetcher.small_files import read_note, write_note
from modeldrop.format.names import DIGEST
from modeldrop.util.values import asdict, dataclass

if TYPE_CHECKING:
    from pathlib import Path

_FOLDER = ".watch"
_MAX_ERROR = 2000


@dataclass(frozen=True, slots=True)
class WatchNote:
    """What a watch knows.

    Attributes:
        told: what was handed over last: its hooks ran well. None before the first.
        error: why the last attempt failed, "" where it did not.
        failed_at: when that was first so, in Unix seconds; 0 where it did not fail.
        answered: when the registry last answered, in Unix seconds; 0 where it never did.
    """

    told: ChannelState | None = None
    error: str = ""
    failed_at: float = 0.0
    answered: float = 0.0


def read_watch_note(model_home: Path, link: str) -> WatchNote:
    """What is known; nothing, where it cannot be read."""
    try:
        found, changed = read_note(_path(model_home, link), "watch note")
        told = found.child("told") if found.has("told") else None
        return WatchNote(
            told=None
            if told is None
            else ChannelState(
                version=told.integer("version", low=1, high=1 << 53),
                digest=told.text("digest", pattern=DIGEST),
                generation=told.integer("generation", low=1, high=1 << 53),
                nonce=told.text("nonce", limit=64),
                variant=told.text("variant", limit=128),
                snapshot=told.text("snapshot", limit=255),
                checked=changed,
            ),
            error=found.text("error", limit=2 * _MAX_ERROR),
            failed_at=float(found.integer("failed_at", low=0, high=1 << 53)),
            answered=changed if found.boolean("answered") else 0.0,
        )
    except (OSError, FormatError):
        return WatchNote()


def write_watch_note(model_home: Path, link: str, note: WatchNote) -> None:
    """Write it down; a failure that nobody answered keeps the time of the last answer."""
    path = _path(model_home, link)
    told = None
    if note.told is not None:
        told = {name: value for name, value in asdict(note.told).items() if name != "checked"}
    write_note(
        path,
        {
            "told": told,
            "error": note.error[:_MAX_ERROR],
            "failed_at": int(note.failed_at),
            "answered": note.answered > 0,
        },
    )
    with contextlib.suppress(OSError):
        at = note.answered or time.time()
        os.utime(path, (at, at))


def confirm_watch_note(model_home: Path, link: str, answered: float) -> None:
    """The registry answered, and nothing else is new."""
    with contextlib.suppress(OSError):
        os.utime(_path(model_home, link), (answered, answered))


def _path(model_home: Path, link: str) -> Path:
    return model_home / _FOLDER / f"{link}.json"
