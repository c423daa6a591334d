"""CRC32C as Cloud Storage writes it, and of a whole from its parts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import google_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modeldrop.storage.write.multipart import Part, PartBody

_ZEROS = bytes(1 << 20)


def encoded(crc32c: int) -> str:
    """In Base64, the first byte first."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()


def verified(body: PartBody) -> int:
    """The CRC32C of a part, which is verified."""
    checksum = google_crc32c.Checksum()  # type: ignore[no-untyped-call]
    body.verify(checksum.update)
    return int.from_bytes(checksum.digest(), "big")  # type: ignore[no-untyped-call]


def joined(parts: Iterable[tuple[int, Part]]) -> int:
    """The CRC32C of a whole, from those of its parts in order."""
    whole = 0
    for crc32c, part in parts:
        # As if as many zeros followed; the two inversions undo those that every CRC32C begins and ends with.
        whole ^= 0xFFFFFFFF
        for start in range(0, part.length, len(_ZEROS)):
            whole = google_crc32c.extend(whole, _ZEROS[: part.length - start])
        whole ^= 0xFFFFFFFF ^ crc32c
    return whole
