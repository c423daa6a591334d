"""A long-lived process's hold on the snapshot that it uses: a lock, and a lease for where locks do not count."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from modeldrop.fetcher.leases import LEASE_SECONDS, Lease, hold, lease, note_use
from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from pathlib import Path

TOUCH_SECONDS = LEASE_SECONDS / 5


@dataclass(frozen=True, slots=True)
class InUse:
    """A snapshot that is not evicted until ``release``, if it is touched every ``TOUCH_SECONDS``."""

    snapshot: Path
    descriptor: int
    lease: Lease

    @classmethod
    def take(cls, snapshot: Path) -> Self:
        """Use a snapshot from now on.

        Raises:
            FileNotFoundError: it has just been evicted.
            OSError: it cannot be opened.
        """
        descriptor = hold(snapshot)
        os.set_inheritable(descriptor, False)  # this process's own use, not that of what it starts
        return cls(snapshot, descriptor, lease(snapshot))

    def touch(self) -> None:
        """It is still used."""
        self.lease.touch()
        note_use(self.snapshot)

    def release(self) -> None:
        """It is not used any more."""
        self.lease.release()
        os.close(self.descriptor)
