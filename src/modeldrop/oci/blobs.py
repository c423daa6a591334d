"""Blobs: bytes that are named by their digest, whether they are in memory or are read when they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from modeldrop.format.names import hex_digest


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes whose digest is not known yet.

    Attributes:
        size: in bytes.
        read: as a blob's; the blob that this becomes has the same.
    """

    size: int
    read: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Blob:
    """Something that a registry holds by its digest.

    Attributes:
        digest: ``sha256:…``.
        size: in bytes.
        read: its bytes from the first one on, in chunks; it is called again for every attempt.
    """

    digest: str
    size: int
    read: Callable[[], Iterator[bytes]]


def blob_of(data: bytes) -> Blob:
    """A blob of bytes that are in memory."""
    return Blob(digest_of(data), len(data), lambda: iter((data,) if data else ()))


def digest_of(data: bytes) -> str:
    """The digest that a registry names bytes by."""
    return f"sha256:{hex_digest(data)}"
