"""What the fetcher reads a registry through, bucket or folder: small documents whole, files in ranges, never a list."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, Protocol

from modeldrop.config import registry_settings
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modeldrop.errors import ModeldropError

    Room = Callable[[int], memoryview]


class Unchanged(Enum):
    """The type of ``UNCHANGED``."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""What ``get_if_changed`` gives for an object that still has the ETag it was asked with."""


class Document(NamedTuple):
    """A small object, its ETag, and the number of its generation: "" where the registry gives none."""

    data: bytes
    etag: str
    version: str = ""


class Stream(NamedTuple):
    """The answer to one request, before its body has come.

    Attributes:
        etag: of the object, if it is strong: two answers with it are of the same bytes. Else "".
        size: bytes of the whole object.
        chunks: the body, as it comes.
    """

    etag: str
    size: int
    chunks: Iterable[bytes | memoryview]


def strong(etag: str | None) -> str:
    """An ETag as the service tells it, "" for one that is weak, or none."""
    return "" if not etag or etag.startswith("W/") else etag


class FaultKind(Enum):
    """Why a request failed, as far as it matters for the next attempt."""

    FINAL = "it will fail again"
    CHANGED = "the object has another ETag than the request names"
    PAST_END = "the object has no byte there"
    STALLED = "nothing came, or too slowly"
    NO_RANGES = "the whole object came instead of a part of it"
    BUSY = "the service answers 429 or 503: pause longer"
    OTHER = "anything else; it may be temporary"


RETRYABLE = frozenset({FaultKind.STALLED, FaultKind.BUSY, FaultKind.OTHER})
"""Kinds where the same request may succeed later."""


class Fault(NamedTuple):
    """A failed request: its kind, and the error to raise if no retry succeeds."""

    kind: FaultKind
    error: ModeldropError


class RegistryReader(Protocol):
    """The objects of one registry, by key (``embedder/v1/manifest.json``).

    Attributes:
        url: the registry's URL, or its folder.
        failures: what ``stream`` raises, there or while its chunks are read; ``fault`` says what it means.
    """

    url: str
    failures: tuple[type[BaseException], ...]

    def get(self, key: str, limit: int) -> bytes | None:
        """A small object of at most ``limit`` bytes, None if there is none.

        Raises:
            RegistryError: it cannot be read.
            IntegrityError: it is larger.
        """

    def get_if_changed(self, key: str, limit: int, etag: str) -> Document | Literal[Unchanged.UNCHANGED] | None:
        """A small object, unless it still has the ETag ``etag`` ("": whatever it has); one request.

        Returns:
            The object; None if there is none; UNCHANGED.

        Raises:
            RegistryError: it cannot be read.
            IntegrityError: it has more than ``limit`` bytes.
        """

    def read(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes of an object from ``start`` on; fewer where it ends before.

        Raises:
            RegistryError: it cannot be read, or is not there.
        """

    def stream(
        self, key: str, start: int, length: int | None, etag: str, chunk: int, room: Room | None = None
    ) -> Stream:
        """Ask once for a part of an object, and let its body come in pieces.

        Args:
            key: the object.
            start: its first byte that is wanted.
            length: how many are wanted, at least 1; None: the whole object, which asks for no range.
            etag: refuse it if it has another ETag; "": take any.
            chunk: collect at least so many bytes before they are handed over, except at the end.
            room: gives memory for what comes next, of at most so many bytes, and is not asked again before that was
                handed over; None: what is handed over stays as it is for ever.

        Raises:
            Exception: one of ``failures``, as it is.
        """

    def fault(self, key: str, error: BaseException) -> Fault:
        """What a failure of ``stream`` means for whoever could ask again."""

    def retry_after(self) -> float:
        """Seconds for which a service that was busy wants to be left alone; 0 where it says none."""

    def hang_up(self) -> None:
        """Close the connections that are kept for further parts of files."""


def open_reader(registry: str) -> RegistryReader:
    """Open a registry for reading.

    Args:
        registry: its URL, its folder, or its name in modeldrop.toml.

    Raises:
        UsageError: none is named, or it cannot be one.
        RecipeError: modeldrop.toml is wrong.
        RegistryError: the folder is not there, or the credentials cannot be used.
        MissingExtraError: the credentials need an SDK that is not installed.
    """
    settings = registry_settings(registry)
    if "://" not in settings.url:
        from modeldrop.storage.read.folder import FolderReader

        return FolderReader(settings.url)
    # In this order: it must see whether obstore was in use before. Of both a folder needs nothing.
    from modeldrop.storage.read import runtime  # noqa: F401  isort: skip
    from modeldrop.storage.read.bucket import BucketReader  # isort: skip

    return BucketReader(settings)
