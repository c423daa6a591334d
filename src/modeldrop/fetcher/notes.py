"""What this disk remembers of a channel: small JSON files beside its link, replaced atomically.

``.state/<link>.json``       what the channel named when the registry was last asked
``.quarantine/<link>.json``  the version it named that failed here; nobody tries it again until the channel moves
``.fallback/<link>.json``    since when a fetch uses what is here for want of something newer, and why (``last_good``)
``.watch/<link>.json``       what the last watch has delivered, what it was telling, and since when it fails

Writing is best effort: a volume may be read-only. Only what a watch is about to tell must be on the disk before. The
state is written after the link: whoever is killed in between knows a little less than there is, and asks again. The
modification time of a state is when the registry last confirmed it; of a watch's note, when the registry last answered.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.format.json_fields import Fields, dump, load_json
from modeldrop.format.names import DIGEST, TIME
from modeldrop.util.files import make_folder, replace_file, set_time
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_STATE, _QUARANTINE, _WATCH = ".state", ".quarantine", ".watch"
_MAX_BYTES = 64 << 10
MAX_TEXT = 2000
MAX_NUMBER = 1 << 53
_SKEW = 300.0


class ChannelState(NamedTuple):
    """A channel as it was last seen.

    Attributes:
        version: number of the version it named.
        digest: that version's manifest digest.
        generation: its generation.
        nonce: of its present move.
        variant: the variant that was fetched.
        snapshot: name of the snapshot's folder.
        checked: when the registry last said so, in Unix seconds.
        choice_key: what the choice of that variant depended on; "" where it was not written down.
    """

    version: int
    digest: str
    generation: int
    nonce: str
    variant: str
    snapshot: str
    checked: float
    choice_key: str = ""

    def is_same(self, other: ChannelState | None) -> bool:
        """Whether another state says the same, whenever it was confirmed."""
        return other is not None and other._replace(checked=self.checked) == self

    def allows(self, generation: int, nonce: str) -> bool:
        """Whether the channel may say this now: a later move, or the one that was seen. Else it went back."""
        return generation > self.generation or (generation, nonce) == (self.generation, self.nonce)


class Quarantine(NamedTuple):
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

    def applies_to(self, digest: str | None, generation: int | None) -> bool:
        """Whether it is about what a channel names now: a channel that has moved is tried again."""
        return (self.digest, self.generation) == (digest, generation)


class WatchNote(NamedTuple):
    """What a watch remembers for the next watch, and for ``status``.

    Attributes:
        delivered: what was handed over last: its hooks ran well. None before the first.
        telling: what hooks may have heard of since, without all of them having taken what is in use; None where
            all have.
        refusal: why they did not take it when they were told last; "" where they were not told to the end.
        error: why the last attempt failed, "" where it did not.
        failed_at: when that was first so, in Unix seconds; 0 where it did not fail.
        answered: when the registry last answered, in Unix seconds; 0 where it never did.
    """

    delivered: ChannelState | None = None
    telling: ChannelState | None = None
    refusal: str = ""
    error: str = ""
    failed_at: float = 0.0
    answered: float = 0.0


def age_of(moment: float) -> float | None:
    """Seconds since a moment that was written down, in Unix seconds; None where that cannot be known.

    A moment in the future was written by a clock that was ahead, then or by now corrected. How old it is nobody knows,
    and so it is no answer to how old something may be; as 0 s it would be young until the clock has caught up. Clocks
    of machines that share a volume differ a little.
    """
    age = time.time() - moment
    return max(0.0, age) if moment > 0 and age >= -_SKEW else None


def read_state(model_home: Path, link: str) -> ChannelState | None:
    """What is known of the channel behind a link; None where nothing is, or it cannot be read."""
    try:
        return _state(*read_note(state_path(model_home, link), "channel state"))
    except (OSError, FormatError):
        return None


def write_state(model_home: Path, link: str, state: ChannelState) -> None:
    """Remember what a channel names, as of ``state.checked``."""
    write_note(state_path(model_home, link), _state_json(state), state.checked)


def confirm_state(model_home: Path, link: str, checked: float) -> None:
    """Remember that the registry still said the same at ``checked``, in Unix seconds."""
    _confirm(state_path(model_home, link), checked)


def read_quarantine(model_home: Path, link: str) -> Quarantine | None:
    """What is quarantined of the channel behind a link; None where nothing is, or it cannot be read."""
    try:
        found, _ = read_note(note_path(model_home, _QUARANTINE, link), "quarantine")
        return Quarantine(
            version=found.integer("version", low=1, high=MAX_NUMBER),
            digest=found.text("digest", pattern=DIGEST),
            generation=found.integer("generation", low=1, high=MAX_NUMBER),
            reason=found.text("reason", limit=2 * MAX_TEXT),
            at=found.text("at", pattern=TIME),
        )
    except (OSError, FormatError):
        return None


def write_quarantine(model_home: Path, link: str, quarantine: Quarantine) -> None:
    """Remember what failed."""
    values = quarantine._replace(reason=quarantine.reason[:MAX_TEXT])._asdict()
    write_note(note_path(model_home, _QUARANTINE, link), values)


def clear_quarantine(model_home: Path, link: str) -> None:
    """Forget it: the channel has moved to a version that is good."""
    with contextlib.suppress(OSError):
        note_path(model_home, _QUARANTINE, link).unlink(missing_ok=True)


def read_watch_note(model_home: Path, link: str) -> WatchNote:
    """What a watch has remembered; nothing, where it cannot be read."""
    try:
        found, changed = read_note(note_path(model_home, _WATCH, link), "watch note")
        return WatchNote(
            delivered=_state(found.child("told"), changed) if found.has("told") else None,
            telling=_state(found.child("telling"), changed) if found.has("telling") else None,
            refusal=found.text("refusal", default="", limit=2 * MAX_TEXT),
            error=found.text("error", limit=2 * MAX_TEXT),
            failed_at=float(found.integer("failed_at", low=0, high=MAX_NUMBER)),
            answered=changed if found.boolean("answered") else 0.0,
        )
    except (OSError, FormatError):
        return WatchNote()


def write_watch_note(model_home: Path, link: str, note: WatchNote) -> None:
    """Remember it, durably; a failure during which nobody answered keeps the time of the last answer.

    Raises:
        OSError: it cannot be written.
    """
    values = {
        "told": None if note.delivered is None else _state_json(note.delivered),
        "telling": None if note.telling is None else _state_json(note.telling),
        "refusal": note.refusal[:MAX_TEXT],
        "error": note.error[:MAX_TEXT],
        "failed_at": int(note.failed_at),
        "answered": note.answered > 0,
    }
    path = note_path(model_home, _WATCH, link)
    make_folder(path.parent)
    replace_file(path, dump(values), at=note.answered or None, sync=True)


def confirm_watch_note(model_home: Path, link: str, answered: float) -> None:
    """Remember that the registry answered, and nothing else is new."""
    _confirm(note_path(model_home, _WATCH, link), answered)


def links_with_notes(model_home: Path) -> set[str]:
    """The links that a state or a watch's note tells of, whether or not they are there."""
    found: set[str] = set()
    for folder in (_STATE, _WATCH):
        with contextlib.suppress(OSError), os.scandir(model_home / folder) as entries:
            names = [entry.name for entry in entries]
            found |= {name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != "."}
    return found


def _state(found: Fields, checked: float) -> ChannelState:
    return ChannelState(
        version=found.integer("version", low=1, high=MAX_NUMBER),
        digest=found.text("digest", pattern=DIGEST),
        generation=found.integer("generation", low=1, high=MAX_NUMBER),
        nonce=found.text("nonce", limit=64),
        variant=found.text("variant", limit=128),
        snapshot=found.text("snapshot", limit=255),
        checked=checked,
        choice_key=found.text("settled", default="", limit=256),
    )


def _state_json(state: ChannelState) -> dict[str, object]:
    values = state._asdict()
    del values["checked"]
    values["settled"] = values.pop("choice_key")
    return values


def state_path(model_home: Path, link: str) -> Path:
    """Where the state of the channel behind a link is kept."""
    return note_path(model_home, _STATE, link)


def note_path(model_home: Path, folder: str, link: str) -> Path:
    """Where a note of this kind about a link is kept."""
    return model_home / folder / f"{link}.json"


def read_note(path: Path, what: str) -> tuple[Fields, float]:
    """A note's fields and its modification time.

    Raises:
        OSError: it is not there, or cannot be read.
        FormatError: it is damaged.
    """
    with path.open("rb") as file:
        found = load_json(file.read(_MAX_BYTES + 1), what, limit=_MAX_BYTES)
        return found, os.fstat(file.fileno()).st_mtime  # of these very bytes


def write_note(path: Path, values: Mapping[str, object], at: float | None = None) -> None:
    """Write a note, if that can be done."""
    with contextlib.suppress(OSError, FormatError):
        make_folder(path.parent)
        replace_file(path, dump(values), at=at)


def _confirm(path: Path, at: float) -> None:
    with contextlib.suppress(OSError):
        set_time(path, at)
