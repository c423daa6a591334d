"""How long this process's threads could have run and had no processor."""

from __future__ import annotations

from pathlib import Path

_THREADS = Path("/proc/self/task")


def waited() -> float:
    """Seconds of all threads that run now, since each began; 0.0 where the system does not tell (only Linux does)."""
    nanoseconds = 0
    try:
        for thread in _THREADS.iterdir():
            try:
                nanoseconds += int((thread / "schedstat").read_bytes().split()[1])
            except (OSError, ValueError, IndexError):
                continue  # it has ended, or the kernel keeps no such figures
    except OSError:
        return 0.0
    return nanoseconds / 1e9
