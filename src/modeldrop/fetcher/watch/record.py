"""The record of what a watch has told its hooks: written before they are told, and kept until they have taken it.

Telling is at least once. Before a link moves or a hook begins, ``begin`` writes down what is about to be told; only
when all have taken what is in use does ``finish`` strike that out. Whoever is killed in between leaves it behind, and
then the next watch tells of what is in use by then, even where that is what was delivered before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from modeldrop.errors import FormatError
from modeldrop.fetcher.notes import confirm_watch_note, read_state, read_watch_note, write_watch_note
from modeldrop.util.retry import backoff, jittered

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.fetcher.notes import ChannelState, WatchNote

LONGEST_PAUSE = 300.0
"""Seconds between two attempts after many failures, unless the interval itself is longer."""
_JITTER = 0.2


class WatchRecord:
    """What is remembered of one link.

    Args:
        model_home: the model's folder.
        link: the link's name.
        lasting: whether whoever is told lives on between watches. If not, what it was told is kept in memory only:
            the note on disk is about other programs.

    Attributes:
        note: what is remembered now.
        interval: seconds between two looks at the registry.
    """

    def __init__(self, model_home: Path, link: str, *, lasting: bool) -> None:
        self.interval = 0.0
        self._home, self._link, self._lasting = model_home, link, lasting
        # A failure of an earlier watch is told again if it goes on; since when it does is kept.
        self.note: WatchNote = read_watch_note(model_home, link)._replace(error="")
        if not lasting:
            self.note = self.note._replace(delivered=None, telling=None, refusal="")
        elif self.note.telling is None and self.note.delivered is not None:
            # Somebody else has moved the link since, or an older release was killed after it had.
            linked = read_state(model_home, link)
            if linked is not None and linked.digest != self.note.delivered.digest:
                self.note = self.note._replace(telling=linked)
        self._unsaved = False
        self._failures, self._again_at = 0, 0.0

    def begin(self, state: ChannelState, used: ChannelState | None) -> None:
        """Write down what is about to be told.

        Args:
            state: what.
            used: what is in use; it may have been there before the first watch.

        Raises:
            OSError: it cannot be written: then nobody may be told.
        """
        refusal = self.note.refusal
        if self.note.telling is None or self.note.telling.digest != state.digest:
            self._failures, self._again_at, refusal = 0, 0.0, ""
        note = self.note._replace(telling=state, refusal=refusal, delivered=self.note.delivered or used)
        self._write(note)
        self.note = note

    def withdraw(self, note: WatchNote) -> None:
        """What was to be told is not: remember what was remembered before."""
        self._try_to_save(telling=note.telling, refusal=note.refusal)

    def finish(self, state: ChannelState) -> None:
        """All have taken it."""
        self._try_to_save(delivered=state, telling=None, refusal="")

    def refuse(self, reason: str) -> bool:
        """They have not; tell them again after a pause. Whether that is news."""
        news = self.note.refusal != reason
        self._again_at = time.monotonic() + next_delay(self.interval, self._failures)
        self._failures += 1
        self._try_to_save(refusal=reason)
        return news

    @property
    def outstanding(self) -> bool:
        """Whether what is in use is still to be told."""
        return self.note.telling is not None

    @property
    def may_tell(self) -> bool:
        """Whether the pause after the last refusal is over."""
        return time.monotonic() >= self._again_at

    def failed(self, error: str) -> bool:
        """The registry could not be asked, or what it names cannot be had. Whether that is news."""
        if error == self.note.error:
            return False
        self._try_to_save(error=error, failed_at=self.note.failed_at or time.time())
        return True

    def answered(self) -> bool:
        """The registry answered, and all is done. Whether that is news."""
        again, now = bool(self.note.error), time.time()
        if self._unsaved or self.note.failed_at or not self.note.answered:
            self._try_to_save(error="", failed_at=0.0, answered=now)
        else:
            self.note = self.note._replace(answered=now)
            confirm_watch_note(self._home, self._link, now)
        return again

    def moved(self, state: ChannelState) -> None:
        """What was delivered is what another move of the channel names."""
        self._try_to_save(delivered=state)

    def _try_to_save(self, **changes: Any) -> None:
        """Remember it; on disk as soon as that can be written."""
        self.note = self.note._replace(**changes)
        try:
            self._write(self.note)
            self._unsaved = False
        except (OSError, FormatError):
            self._unsaved = True

    def _write(self, note: WatchNote) -> None:
        if not self._lasting:
            on_disk = read_watch_note(self._home, self._link)
            note = on_disk._replace(error=note.error, failed_at=note.failed_at, answered=note.answered)
            if note == on_disk:
                return
        if self._home.is_dir():
            write_watch_note(self._home, self._link, note)


def next_delay(interval: float, failures: int) -> float:
    """Seconds to the next attempt: the interval, doubled by every failure up to 5 minutes, and up to a fifth off it."""
    seconds = backoff(failures + 1, interval, max(interval, LONGEST_PAUSE))
    return jittered(seconds, 1 - _JITTER, 1 + _JITTER)
