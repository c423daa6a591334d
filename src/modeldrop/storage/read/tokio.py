"""The threads that obstore works with: half as many as there are CPUs, because the other half verifies and writes.

With one for each CPU, which is what Tokio starts by itself, they take turns with the threads that take their bytes:
on 2 CPUs a transfer then takes a sixth more of both.
"""

from __future__ import annotations

import contextlib
import os
import threading

import obstore
from obstore.store import MemoryStore

_VARIABLE = "TOKIO_WORKER_THREADS"


def start_threads() -> None:
    """Start them, unless the environment says how many there are to be, or another thread could be reading it."""
    if _VARIABLE in os.environ or threading.active_count() > 1:
        return
    os.environ[_VARIABLE] = str(max(1, _cpus() // 2))
    try:
        with contextlib.suppress(FileNotFoundError):
            obstore.head(MemoryStore(), "nothing")  # the first call of a process starts them
    finally:
        del os.environ[_VARIABLE]


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
