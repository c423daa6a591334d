"""What this disk has of every channel: version, age, wholeness, quarantine. Reads only the disk."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError, FormatError, HookError, IntegrityError, NotFoundError, RegistryError
from modeldrop.fetcher.home import find_links, find_snapshots, read_link
from modeldrop.fetcher.last_good import Fallback, read_fallback
from modeldrop.fetcher.notes import Quarantine, age_of, links_with_notes, read_quarantine, read_state, read_watch_note
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.verify import find_damage
from modeldrop.format.names import NAME
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.text import iso_time

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.fetcher.notes import WatchNote

HEALTHY = 0
_LOOKS = 5
_PAUSE = 0.02


class ChannelStatus(NamedTuple):
    """One link of a model, or a snapshot that no link names in a model without links.

    Attributes:
        model: the model's name.
        link: the link's name: the channel, and ``-VARIANT`` behind it if one was asked for; None for a pinned version.
        snapshot: the one in use, None where there is none.
        generation: the channel's generation then, None where it is not known.
        fault: what is damaged, or "".
        age: seconds since the registry last answered, None where that is not known.
        quarantine: a version that failed here and is not used.
        untold: that a watch has not told every hook which version is in use, and why; "" where it has.
        error: why a watch could not ask the registry or take what it names, "" where it could.
        error_seconds: for how long that has been so.
        fallback: since when, and why, what is in use is the last good version; None where the registry has answered.
    """

    model: str
    link: str | None
    snapshot: LocalSnapshot | None = None
    generation: int | None = None
    fault: str = ""
    age: float | None = None
    quarantine: Quarantine | None = None
    untold: str = ""
    error: str = ""
    error_seconds: float = 0.0
    fallback: Fallback | None = None

    def code(self, max_age: float | None = None) -> int:
        """0 if all is well, else the exit code of what is not.

        Args:
            max_age: seconds that the registry's last answer may be old; None for any age.
        """
        if self.fault:
            return IntegrityError.exit_code
        if self.snapshot is None:
            return NotFoundError.exit_code
        if self.untold:
            return HookError.exit_code
        stale = max_age is not None and self.link is not None and (self.age is None or self.age > max_age)
        return RegistryError.exit_code if stale else HEALTHY

    def to_json(self) -> dict[str, object]:
        """All about it as plain values."""
        found, quarantine = self.snapshot, self.quarantine
        return {
            "model": self.model,
            "link": self.link,
            "version": None if found is None else f"v{found.version}",
            "generation": self.generation,
            "variant": None if found is None else found.variant,
            "digest": None if found is None else _digest(found),
            "path": None if found is None else str(found.path),
            "whole": found is not None and not self.fault,
            "fault": self.fault or None,
            "age_seconds": None if self.age is None else round(self.age, 3),
            "quarantine": None if quarantine is None else quarantine._asdict() | {"version": f"v{quarantine.version}"},
            "untold": self.untold or None,
            "error": self.error or None,
            "error_seconds": round(self.error_seconds) if self.error else None,
            "last_good": None
            if self.fallback is None
            else {
                "since": iso_time(self.fallback.since),
                "registry_unreachable": self.fallback.unreachable,
                "reason": self.fallback.error,
            },
        }


def read_status(home: Path) -> list[ChannelStatus]:
    """All channels of all models below a home, ordered by name.

    Raises:
        DiskError: the home cannot be read.
    """
    try:
        # By their names: a volume has folders of its own (lost+found), which not everybody may read.
        models = sorted(entry.name for entry in os.scandir(home) if NAME.fullmatch(entry.name) and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(home, error) from error
    try:
        return [status for model in models for status in _of_model(home / model)]
    except OSError as error:
        raise _unreadable(home, error) from error


def _unreadable(home: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{error.filename or home} cannot be read: {error.strerror}.", "Check whether this user may read there."
    )


def overall_code(found: list[ChannelStatus], max_age: float | None = None) -> int:
    """The exit code for all of them: damage first, then what is missing, then what was not told, then what is old."""
    codes = {status.code(max_age) for status in found}
    for code in (
        IntegrityError.exit_code,
        NotFoundError.exit_code,
        HookError.exit_code,
        RegistryError.exit_code,
    ):
        if code in codes:
            return code
    return HEALTHY if found else NotFoundError.exit_code


def _of_model(folder: Path) -> list[ChannelStatus]:
    """All of a model; nothing, if it has just been removed.

    Other processes may move a link on and remove what it named between two looks of this one. So a fault counts once it
    was found twice.
    """
    seen: list[tuple[str | None, str]] = []
    found: list[ChannelStatus] = []
    for look in range(_LOOKS):
        time.sleep(_PAUSE if look else 0)
        try:
            found = _look_at_model(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        before, seen = seen, [(one.link, one.fault) for one in found if one.fault]
        if seen == before:
            break
    return found


def _look_at_model(folder: Path) -> list[ChannelStatus]:
    links = {*find_links(folder), *links_with_notes(folder)}
    if links:
        return [_of_link(folder, link) for link in sorted(links)]
    return [
        ChannelStatus(folder.name, None, snapshot=snapshot, fault=_fault(snapshot))
        for snapshot in find_snapshots(folder)
    ]


def _of_link(folder: Path, link: str) -> ChannelStatus:
    state, note = read_state(folder, link), read_watch_note(folder, link)
    known = ChannelStatus(
        folder.name,
        link,
        quarantine=read_quarantine(folder, link),
        untold=_untold(note),
        error=note.error,
        error_seconds=age_of(note.failed_at) or 0.0 if note.error else 0.0,
    )
    try:
        target = read_link(folder / link)
        linked = (folder / link).lstat().st_mtime
    except OSError:
        if state is None:
            return known
        fault = f"{folder / link} is not there, though {state.snapshot} was fetched for it."
        return known._replace(fault=fault, error="", error_seconds=0.0)
    # A release that kept no state still made the link when the registry had answered.
    answers = (linked if state is None else state.checked, note.answered)
    known = known._replace(
        age=min((age for age in map(age_of, answers) if age is not None), default=None),
        generation=state.generation if state is not None and state.snapshot == target else None,
    )
    try:
        snapshot = LocalSnapshot(folder / target)
    except FormatError:
        return known._replace(fault=f"{folder / link} names no snapshot, but {target[:80]!r}.")
    checked = max(answers)
    fallback = read_fallback(folder, link, checked)
    if note.error and fallback is None:
        fallback = Fallback(note.error, note.answered < note.failed_at, note.failed_at)
    return known._replace(snapshot=snapshot, fault=_fault(snapshot), fallback=fallback)


def _untold(note: WatchNote) -> str:
    if note.telling is None:
        return ""
    why = note.refusal or f"a watch has begun to tell of v{note.telling.version}, and has not come to its end."
    return f"not every hook has been told of what is in use: {why} A watch tells them again."


def _fault(snapshot: LocalSnapshot) -> str:
    """What is not as it should be, by the sizes of the files; "" if all is."""
    try:
        return next(find_damage(snapshot), "")
    except OSError as error:
        return str(error)


def _digest(snapshot: LocalSnapshot) -> str | None:
    try:
        return snapshot.digest
    except (OSError, FormatError):
        return None
