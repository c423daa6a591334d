"""Room on the disk for a download: looked for before it begins, made where nobody needs what is there."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from modeldrop.errors import DiskError
from modeldrop.fetcher.home import ModelHome, find_models
from modeldrop.util.text import size_text

if TYPE_CHECKING:
    from pathlib import Path

_RESERVE = 1 << 20  # folders, and what is noted beside the files
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SHOWN = 6
_ATTEMPTS = 8  # to fill a disk that others fill too


class Room:
    """The room that one download needs.

    Args:
        home: the model's folder.
        staging: where the download is put together; that is not made room from.
        prefix: what is downloaded, such as ``embedder/v3``.
        keep: how many snapshots to keep, the one that is to come included.
    """

    def __init__(self, home: ModelHome, staging: Path, prefix: str, keep: int) -> None:
        self._home = home
        self._staging = staging
        self._prefix = prefix
        self._keep = keep
        self._needed = 0
        self._failures = 0
        self._made = True

    def check(self, needed: int) -> None:
        """Make sure that so many bytes can be written, by removing what nobody needs, if that would be enough.

        Raises:
            DiskError: they cannot.
        """
        self._needed = needed
        while needed and self._missing() > 0:
            if not self._make():
                raise self._too_little(f"{self._home.path} has too little room for {self._prefix}")

    def has_besides(self, more: int) -> bool:
        """Whether there is room for so many bytes besides those that were checked for, without making any."""
        return self._missing() + more <= 0

    def make_after(self, error: OSError) -> None:
        """Make room after writing has failed because the disk was full, or a quota; the caller then writes again.

        What was made may be another download's before this one goes on; so there are some attempts. The last room
        may have been made by another one at this moment; so one attempt follows where there was none to make.

        Raises:
            OSError: ``error``, where it says something else.
            DiskError: no room could be made, or too little.
        """
        if error.errno not in _FULL:
            raise error
        self._failures += 1
        could, self._made = self._made, self._make(full=True)
        if self._failures == _ATTEMPTS or not (could or self._made):
            raise self._full(error) from error

    def _missing(self) -> int:
        return self._needed + _RESERVE - free_bytes(self._home.path)

    def _make(self, *, full: bool = False) -> bool:
        """Make what is missing; return whether there is more room than before.

        Args:
            full: what is free does not say how much is missing: there may be a quota, and others who write.
        """
        from modeldrop.fetcher.eviction import make_room, removing

        with removing(self._home):
            missing = self._missing()
            if missing <= 0 and not full:
                return True  # another process has made it
            missing = max(missing, self._needed) if full else missing
            return make_room(self._home, missing, self._keep, spare=self._staging, partly=full, now=time.time())

    def _full(self, error: OSError) -> DiskError:
        return self._too_little(f"{self._home.path} became full while {self._prefix} was written ({error.strerror})")

    def _too_little(self, what: str) -> DiskError:
        """The error: what is needed, what holds the room, and what would help."""
        from modeldrop.fetcher.eviction import evict, own_bytes, survey

        home, now, missing = self._home.path.parent, time.time(), self._missing()
        uses: list[tuple[int, str]] = []
        kept: list[Path] = []
        with contextlib.suppress(OSError):
            for model in find_models(home):
                for use in survey(home / model, now):
                    why = ", ".join([*use.links, *filter(None, [use.used_by])]) or "kept"
                    name = f"{model}/{use.snapshot.path.name}"
                    uses.append((use.disk_bytes, f"{name} {size_text(use.disk_bytes)} ({why})"))
                kept += evict(ModelHome(home, model), 0, now=now, idle=0, dry_run=True)
        uses.sort(reverse=True)
        there = ", ".join(text for _, text in uses[:_SHOWN]) + (" and more" if len(uses) > _SHOWN else "")
        elsewhere = "name another folder (-d or MODELDROP_HOME)"
        if kept and own_bytes(*kept) >= missing:
            less = ", or keep fewer (--keep 1)" if self._keep > 1 else ""
            hint = f"Remove what is only kept: modeldrop cache prune -d {home} --keep 0{less}; or {elsewhere}"
        else:
            hint = f"Free {size_text(max(missing, _RESERVE))} there, or {elsewhere}"
        return DiskError(
            f"{what}: it needs {size_text(self._needed)} and {size_text(_RESERVE)} in reserve, "
            f"{size_text(free_bytes(self._home.path))} are free.{f' There are {there}.' if there else ''}",
            f"{hint}. What has come is kept and gone on with; the snapshot in use is untouched.",
        )


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write there, or below the nearest folder that is there."""
    while True:
        try:
            found = os.statvfs(folder)
        except FileNotFoundError:
            folder = folder.parent
        else:
            return found.f_bavail * found.f_frsize
