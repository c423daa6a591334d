"""What this disk has of every channel: version, age, wholeness, quarantine. Reads only the disk."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from modeldrop.errors import DiskError, FormatError, IntegrityError, NotFoundError, RegistryError
from modeldrop.fetcher.home import Held, parse_folder_name, read_snapshot, snapshot_names
from modeldrop.fetcher.notes import Quarantine, read_quarantine, read_state, read_watch_note
from modeldrop.util.values import dataclass

HEALTHY = 0
_NOTES = (".state", ".watch")


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """One link of a model, or a snapshot that no link names in a model without links.

    Attributes:
        model: the model's name.
        link: the link's name: the channel, and ``-VARIANT`` behind it if one was asked for; None for a pinned version.
        version: number of the version in use, None where there is none.
        generation: the channel's generation then, None where it is not known.
        variant: the variant's name, "" where there is none.
        digest: the manifest's digest, "" where it cannot be read.
        path: the snapshot's folder, None where there is none.
        fault: what is damaged, or "".
        age: seconds since the registry last answered, None where that is not known.
        quarantine: a version that failed here and is not used.
        error: why a watch could not ask the registry or take what it names, "" where it could.
        error_seconds: for how long that has been so.
    """

    model: str
    link: str | None
    version: int | None = None
    generation: int | None = None
    variant: str = ""
    digest: str = ""
    path: Path | None = None
    fault: str = ""
    age: float | None = None
    quarantine: Quarantine | None = None
    error: str = ""
    error_seconds: float = 0.0

    def code(self, max_age: float | None = None) -> int:
        """0 if all is well, else the exit code of what is not.

        Args:
            max_age: seconds that the registry's last answer may be old; None for any age.
        """
        if self.fault:
            return IntegrityError.exit_code
        if self.path is None:
            return NotFoundError.exit_code
        stale = max_age is not None and self.link is not None and (self.age is None or self.age > max_age)
        return RegistryError.exit_code if stale else HEALTHY

    def to_json(self) -> dict[str, object]:
        """All about it as plain values."""
        return {
            "model": self.model,
            "link": self.link,
            "version": None if self.version is None else f"v{self.version}",
            "generation": self.generation,
            "variant": self.variant or None,
            "digest": self.digest or None,
            "path": None if self.path is None else str(self.path),
            "whole": self.path is not None and not self.fault,
            "fault": self.fault or None,
            "age_seconds": None if self.age is None else round(self.age, 3),
            "quarantine": None
            if self.quarantine is None
            else self.quarantine._asdict() | {"version": f"v{self.quarantine.version}"},
            "error": self.error or None,
            "error_seconds": round(self.error_seconds) if self.error else None,
        }


def read_status(home: Path) -> list[ChannelStatus]:
    """All channels of all models below a home, ordered by name.

    Raises:
        DiskError: the home cannot be read.
    """
    try:
        models = sorted(entry.name for entry in os.scandir(home) if entry.is_dir() and not entry.name.startswith("."))
        return [status for model in models for status in _of_model(home / model)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DiskError(
            f"{error.filename or home} cannot be read: {error.strerror}.", "Check whether this user may read there."
        ) from error


def overall_code(found: list[ChannelStatus], max_age: float | None = None) -> int:
    """The exit code for all of them: damage first, then what is missing, then what is old."""
    codes = {status.code(max_age) for status in found}
    for code in (IntegrityError.exit_code, NotFoundError.exit_code, RegistryError.exit_code):
        if code in codes:
            return code
    return HEALTHY if found else NotFoundError.exit_code


def _of_model(folder: Path) -> list[ChannelStatus]:
    links = {entry.name for entry in os.scandir(folder) if entry.is_symlink()}
    for notes in _NOTES:
        with contextlib.suppress(OSError):
            names = [entry.name for entry in os.scandir(folder / notes)]
            links |= {name.removesuffix(".json") for name in names if name.endswith(".json") and name[0] != "."}
    if links:
        return [_of_link(folder, link) for link in sorted(links)]
    return [_of_snapshot(folder, name, None) for name in snapshot_names(folder)]


def _of_link(folder: Path, link: str) -> ChannelStatus:
    now = time.time()
    state, note = read_state(folder, link), read_watch_note(folder, link)
    quarantine = read_quarantine(folder, link)
    error_seconds = max(0.0, now - note.failed_at) if note.error else 0.0
    try:
        target = str((folder / link).readlink())
    except OSError:
        if state is not None:
            fault = f"{folder / link} is not there, though {state.snapshot} was fetched for it."
            return ChannelStatus(folder.name, link, fault=fault, quarantine=quarantine)
        return ChannelStatus(folder.name, link, quarantine=quarantine, error=note.error, error_seconds=error_seconds)
    found = _of_snapshot(folder, target, link)
    here = state if state is not None and state.snapshot == target else None
    # A release that kept no state still made the link when the registry had answered.
    answered = max((folder / link).lstat().st_mtime if state is None else state.checked, note.answered)
    return ChannelStatus(
        found.model,
        link,
        found.version,
        here.generation if here else None,
        found.variant,
        found.digest,
        found.path,
        found.fault,
        max(0.0, now - answered),
        quarantine,
        note.error,
        error_seconds,
    )


def _of_snapshot(model: Path, name: str, link: str | None) -> ChannelStatus:
    said = parse_folder_name(name)
    if said is None:
        return ChannelStatus(model.name, link, fault=f"{model / (link or name)} names no snapshot, but {name[:80]!r}.")
    path = model / name
    digest = ""
    try:
        held = read_snapshot(path)
        digest, fault = held.digest, _fault(held)
    except FileNotFoundError as error:
        fault = f"{error.filename} is not there."
    except (OSError, FormatError) as error:
        fault = str(error)
    return ChannelStatus(model.name, link, said.version, None, said.variant, digest, path, fault)


def _fault(held: Held) -> str:
    """What is not as it should be, by stat; "" if all is."""
    variant = held.manifest.variant(held.variant)
    wanted = set() if variant is None else set(variant.files)
    for file in held.manifest.files:
        if file.path in wanted:
            path = held.path / held.renamed.get(file.path, file.path)
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                return f"{path} is not there."
            if size != file.size:
                return f"{path} has {size} bytes instead of {file.size}."
    return ""
