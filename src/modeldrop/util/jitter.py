"""Chance in waiting: containers that failed together do not come back together."""

from __future__ import annotations

import os


def jittered(seconds: float) -> float:
    """0.5 to 1 times as long. Without ``random``, whose import takes as long as a small file to fetch."""
    return seconds * (1 + os.urandom(1)[0] / 255) / 2
