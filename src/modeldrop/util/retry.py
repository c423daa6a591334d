"""The overall limit of one command: whatever it waits for, it does not wait longer."""

from __future__ import annotations

import time

from modeldrop.errors import RegistryError

DEFAULT_SECONDS = 30 * 60


class Deadline:
    """So many seconds from now on, by a clock that nobody sets."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until it is over; never negative."""
        return max(0.0, self._end - time.monotonic())

    def check(self, what: str) -> None:
        """Do nothing while there is time.

        Args:
            what: what is waited for, such as ``12 of 90 MB of embedder/v3``.

        Raises:
            RegistryError: the time is over.
        """
        if not self.left():
            raise RegistryError(
                f"The time limit of {self.seconds:g} s is over, waiting for {what}.",
                "What is on disk already is kept: run the same command again, or give it more time (--timeout).",
            )
