"""Another place to build in, where everything is different that must not matter."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def foreign_environment(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of somebody else: another hash seed, language, time zone, number of threads, home and umask."""
    for name in ("home, sweet", "scratch"):
        (folder / name).mkdir()
    before = os.umask(0o077)
    try:
        yield {
            "PYTHONHASHSEED": "4711",
            "LC_ALL": "tr_TR.UTF-8",
            "LANG": "tr_TR.UTF-8",
            "TZ": "Asia/Tokyo",
            "OMP_NUM_THREADS": "1",
            "HOME": str(folder / "home, sweet"),
            "TMPDIR": str(folder / "scratch"),
        }
    finally:
        os.umask(before)
