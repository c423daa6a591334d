"""Waiting for what must happen, however busy the machine is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

HANG_SECONDS = 300.0
"""What is not there after this long never comes. A test that fails because of it has found something that hangs."""
GROWING_SECONDS = (0.5, 5.0, 50.0)
"""Limits to try one after another, where a process must have got so far before its time is over."""


def wait_until(condition: Callable[[], T], what: object = "") -> T:
    """Wait until ``condition`` returns something true; return that."""
    end = time.monotonic() + HANG_SECONDS
    while not (found := condition()):
        assert time.monotonic() < end, what or condition
        time.sleep(0.01)
    return found


def wait_for_line(path: Path) -> str:
    """What a file holds, as soon as there is a whole line in it."""
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), path)
    return path.read_text()


def wait_for_end(pid: int) -> None:
    """Wait until a process has ended; nobody need have collected it yet."""

    def ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    wait_until(ended, f"process {pid}")
