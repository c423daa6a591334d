"""Ports for servers that must be told which one to use."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from pathlib import Path

# Below those that the system gives to connections and to whoever asks for any.
_PORTS = range(20_000, 32_000)
_candidates = itertools.cycle((*_PORTS[os.getpid() % len(_PORTS) :], *_PORTS[: os.getpid() % len(_PORTS)]))


def own_port() -> int:
    """A port of 127.0.0.1 where nobody listens, and which no other test is given before this process ends."""
    folder = Path(tempfile.gettempdir()) / f"modeldrop-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    port: int
    for port in _candidates:
        lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            os.close(lock)
        else:
            return port  # the lock is kept
    raise AssertionError
