"""Files that have another path in a snapshot than in the manifest, such as the model that ``--as`` gives a fixed name.

Such a snapshot is another one than the plain: its folder's name ends in ``+`` and a digest of the renaming, and it
holds the renaming as a note that no version can have a file at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modeldrop.format.json_fields import dump, load
from modeldrop.format.names import check_path
from modeldrop.format.sha256 import hex_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NOTE = ".modeldrop.json"
_MAX_BYTES = 64 << 10
_DIGITS = 8


def suffix_of(rename: Mapping[str, str]) -> str:
    """How the name of a snapshot's folder ends: "" for a plain one."""
    if not rename:
        return ""
    return f"+{hex_digest(note_of(rename))[:_DIGITS]}"


def note_of(rename: Mapping[str, str]) -> bytes:
    """The note's bytes."""
    pairs: dict[str, Any] = dict(sorted(rename.items()))
    return dump({"renamed": pairs})


def read_renaming(folder: Path) -> dict[str, str]:
    """The renaming of a finished snapshot; {} for a plain one.

    Raises:
        FormatError: the note was changed by hand.
        OSError: it cannot be read.
    """
    try:
        data = (folder / NOTE).read_bytes()
    except FileNotFoundError:
        return {}
    found = load(data, "note of renamed files", limit=_MAX_BYTES).child("renamed")
    return {old: check_path(found.text(old)) for old in found.names()}
