"""Which versions must not be pruned because a channel needs them."""

from __future__ import annotations

import calendar
import itertools
import math
import time
from collections.abc import Mapping

from modeldrop.errors import FormatError
from modeldrop.format.channel import Channel
from modeldrop.registry.versions import list_channels
from modeldrop.storage.write.store import Store
from modeldrop.util.text import iso_time


class Protection:
    """What channels name, have named within the grace, or would roll back to.

    Args:
        channels: all channels of a model, by name.
        now: the present moment, in Unix seconds.
        grace: for how many seconds a version stays after a channel has left it.
    """

    def __init__(self, channels: Mapping[str, Channel], now: float, grace: float) -> None:
        self._reasons: dict[int, str] = {}
        self._all = ""
        for name, channel in channels.items():
            self._add(channel.version, f"{name} names it")
            target = channel.rollback_target()
            if target is not None:
                self._add(target.version, f"a rollback of {name} would go to it")
            moves = channel.moves()
            for later, earlier in itertools.pairwise(moves):
                if age(later.at, now) < grace:
                    self._add(earlier.version, f"{name} named it until {later.at}")
            oldest = moves[-1]
            if oldest.generation > 1 and age(oldest.at, now) < grace:
                self._all = f"{name} may have named it: its history begins at {oldest.at}"

    def reason(self, version: int) -> str:
        """Why a version must stay, or ""."""
        return self._reasons.get(version) or self._all

    def _add(self, version: int, why: str) -> None:
        self._reasons.setdefault(version, why)


def read_protection(store: Store, model: str, now: float, grace: float) -> Protection:
    """Read every channel of a model, and say what they protect.

    Raises:
        FormatError: a channel cannot be read, so it is not known what it names.
    """
    try:
        channels = list_channels(store, model)
    except FormatError as error:
        raise FormatError(
            f"{error.message}. It is not known what this channel names, so nothing of {model} is pruned",
            "Restore it, or promote a version to it. If it is no channel, remove it.",
        ) from None
    return Protection(channels, now, grace)


def age(at: str, now: float) -> float:
    """Seconds since a time in a document; minus infinity, younger than anything, for a date that does not exist."""
    try:
        return now - calendar.timegm(time.strptime(at, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return -math.inf


def time_text(seconds: float) -> str:
    """A moment as documents write it. Fractions are rounded up, so that nothing seems older than it is."""
    return iso_time(math.ceil(seconds))
