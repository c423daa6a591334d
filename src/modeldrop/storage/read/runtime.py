"""obstore's threads, which all that it does needs: how many there are, and in which process.

They are of one process, begin with its first call, and do not come along when it forks: every call of a forked child
then waits for ever, and nothing can start them anew. So it is remembered where they began.
"""

from __future__ import annotations

import contextlib
import os
import sys

_VARIABLE = "TOKIO_WORKER_THREADS"
_TASKS = "/proc/self/task"
_LOOKS, _LOOK_SECONDS = 50, 0.01

# Somebody else may have used it here, or in the process that this one was forked from.
_unknown = "obstore" in sys.modules
_started_in: int | None = None


def runs_here() -> bool:
    """Whether obstore works in this process: its threads are here, or can still begin here."""
    global _unknown, _started_in
    if _unknown and _started_in is None:
        _unknown, _started_in = False, os.getpid() if _has_threads() else 0
    return _started_in in {None, os.getpid()}


def start() -> None:
    """Let obstore have half as many threads as there are CPUs: the other half verifies and writes.

    With one for each CPU, which is what Tokio starts by itself, they take turns with the threads that take their
    bytes: on 2 CPUs a transfer then takes a sixth more of both. Their number is left alone where the environment names
    one, or where another thread could be reading the environment.
    """
    global _started_in  # noqa: PLW0603
    if _started_in is not None or not runs_here():
        return
    import threading

    if _VARIABLE in os.environ or threading.active_count() > 1:
        _started_in = os.getpid()
        return
    os.environ[_VARIABLE] = str(max(1, _cpus() // 2))
    try:
        _ask()  # the first call of a process starts them
    finally:
        del os.environ[_VARIABLE]
    _started_in = os.getpid()


def _has_threads() -> bool:
    """Whether they are here; where that cannot be seen, they may be."""
    import time

    _ask()  # begins them, if nobody ever has; what is in memory is answered without them
    for _ in range(_LOOKS):
        try:
            tasks = os.listdir(_TASKS)  # noqa: PTH208
        except OSError:
            return True
        for task in tasks:
            with contextlib.suppress(OSError), open(f"{_TASKS}/{task}/comm") as name:  # noqa: PTH123
                if name.read().startswith("tokio"):
                    return True
        time.sleep(_LOOK_SECONDS)  # one that has just begun gives itself its name
    return False


def _ask() -> None:
    import obstore
    from obstore.store import MemoryStore

    with contextlib.suppress(FileNotFoundError):
        obstore.head(MemoryStore(), "nothing")


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
