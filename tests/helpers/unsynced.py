"""Tests wait for no disk: half of the time of ``make quick`` went into ``os.fsync``, and no test cuts the power.

That all is synced that must be, and when, is tested with an ``os.fsync`` of the tests' own. ``make soak`` syncs: it
writes to volumes where that may fail.
"""

from __future__ import annotations

import os

from tests.helpers.rounds import TEST_ROUNDS


def _check(descriptor: int) -> None:
    """Fail as ``os.fsync`` does where nothing is open."""
    os.fstat(descriptor)


def wait_for_no_disk() -> None:
    """Let ``os.fsync`` return at once in this process and its forks, but in ``make soak``."""
    if TEST_ROUNDS != "all":
        os.fsync = _check  # type: ignore[assignment]
