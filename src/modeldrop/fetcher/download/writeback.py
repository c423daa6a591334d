"""Letting the disk begin with what was written, long before it is synced: so there is little left to wait for.

Linux would hold a model's bytes in memory for half a minute, and then the final fsync waits for all of them. Its
sync_file_range(2) starts the writing and waits for nothing. Python has no name for it; elsewhere nothing is done.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 8 << 20
_START = 2  # SYNC_FILE_RANGE_WRITE


def start_writeback(descriptor: int, start: int, end: int) -> None:
    """Begin to write back the blocks of 8 MiB that end within the bytes from ``start`` to ``end``, just written.

    Never fails: it is a matter of time, not of safety.
    """
    first, last = start // _BLOCK, end // _BLOCK
    if first < last and (call := _sync_file_range()):
        call(descriptor, first * _BLOCK, (last - first) * _BLOCK, _START)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], object] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        call = ctypes.CDLL(None).sync_file_range
    except (ImportError, OSError, AttributeError):  # a Python without it, or a C library
        return None
    call.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return call
