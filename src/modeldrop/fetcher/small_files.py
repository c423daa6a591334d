"""Notes on this disk: small JSON files, replaced atomically. Writing is best effort, a volume may be read-only."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from modeldrop.errors import FormatError
from modeldrop.format.json_fields import Fields, dump, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_BYTES = 64 << 10


def read_note(path: Path, what: str) -> tuple[Fields, float]:
    """What a note holds, and when it was last written or confirmed, in Unix seconds.

    Raises:
        OSError: it is not there, or cannot be read.
        FormatError: it is damaged.
    """
    with path.open("rb") as file:
        found = load(file.read(_MAX_BYTES + 1), what, limit=_MAX_BYTES)
        return found, os.fstat(file.fileno()).st_mtime  # of these very bytes


def write_note(path: Path, values: Mapping[str, object], at: float | None = None) -> None:
    """Replace a note, or make it, where that is possible; written ``at``, in Unix seconds, or now."""
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    with contextlib.suppress(OSError, FormatError):
        path.parent.mkdir(exist_ok=True)
        try:
            temporary.write_bytes(dump(values))
            if at is not None:
                os.utime(temporary, (at, at))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
