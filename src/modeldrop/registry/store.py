"""What a registry needs of a place that keeps objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.format.manifest import File


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's bytes, and the tag that a later compare-and-swap must name."""

    data: bytes
    tag: str


class Store(Protocol):
    """Objects by key (``embedder/v1/manifest.json``) below one registry.

    Every method raises RegistryError where the place cannot be reached, read or written, and DiskError
    where it is full.
    """

    url: str

    def get(self, key: str) -> Stored | None:
        """A small object, or None if there is none."""

    def exists(self, key: str) -> bool:
        """Whether there is an object."""

    def names(self, prefix: str) -> list[str]:
        """The names directly below ``prefix`` (of objects and of further prefixes), sorted."""

    def create(self, key: str, data: bytes) -> None:
        """Write an object that must not be there yet.

        Raises:
            ConflictError: it is there.
        """

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        """Replace the object that ``get`` gave with the tag ``previous``; None: there must be none.

        Raises:
            ConflictError: it is not that one any more.
        """

    def upload(self, key: str, path: Path, file: File, progress: Callable[[int], None]) -> None:
        """Write a file, checked against its digest; ``progress`` is told every number of bytes done.

        Raises:
            IntegrityError: the bytes on disk are not those that ``file`` describes.
            ConflictError: it is there already; not raised for our own bytes, found after a lost reply.
        """

    def check_writable(self, need: int) -> None:
        """Fail now if ``need`` bytes could not be written, as far as that can be known."""
