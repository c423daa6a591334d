"""How often a test that repeats itself does so.

Property tests and crash loops take as long as they are allowed to. ``make quick`` and ``make test`` give them fewer
rounds, with the same examples each time; ``make soak`` gives them all, with new examples each time.
"""

from __future__ import annotations

import os

TEST_ROUNDS = os.environ.get("TEST_ROUNDS", "some")
"""few, some or all."""


def rounds(some: int, every: int) -> int:
    """``some`` rounds, or ``every`` round where TEST_ROUNDS is all; a fifth of some where it is few."""
    return {"few": max(1, some // 5), "some": some, "all": every}[TEST_ROUNDS]
