"""``Store``: the interface of everything that a registry can be written to.

Implementations: ``folder``, ``s3`` (boto3), ``gcs`` (google-cloud-storage), ``azure`` (azure-storage-blob). They
share ``multipart`` (large files in verified parts) and ``modeldrop.storage.errors``; no error of an SDK leaves them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from modeldrop.errors import DiskError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.format.manifest import File

MAX_DOCUMENT = 64 << 20
"""Bytes at most that ``get`` reads."""


def too_large(where: str, limit: int) -> IntegrityError:
    """The error for an object of more than ``limit`` bytes, which ``get`` does not read."""
    return IntegrityError(f"{where} has more than {limit} bytes; that is no document of a registry.")


def not_written(path: Path, error: OSError) -> DiskError:
    """The error for a download that the local disk does not take."""
    return DiskError(f"Could not write {path}: {error.strerror or error}.", "Free some space, or name another folder.")


def one_at_a_time(progress: Callable[[int], None]) -> Callable[[int], None]:
    """``progress`` for several threads: one call at a time."""
    lock = threading.Lock()

    def report(count: int) -> None:
        with lock:
            progress(count)

    return report


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's bytes, and the tag that a later compare-and-swap must name."""

    data: bytes
    tag: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object in a listing.

    Attributes:
        key: its key.
        size: in bytes.
        modified: when it was last written, in Unix seconds of the store's own clock.
        tag: another one after every write of other bytes: the ETag, or the generation.
    """

    key: str
    size: int
    modified: float
    tag: str = ""


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload in parts that was begun and neither completed nor aborted.

    Attributes:
        key: of the object it would have become.
        id: the store's name for the upload.
        started: when it was begun, in Unix seconds of the store's own clock.
    """

    key: str
    id: str
    started: float


class Store(Protocol):
    """Objects by key (``embedder/v1/manifest.json``) below one registry.

    Every method raises RegistryError where the place cannot be reached, read or written, and DiskError
    where it, or the local disk, is full. A store may be used by several threads at once.
    """

    url: str

    part_size: int
    """Bytes of a file that are sent in one request; larger ones are uploaded in parts. 0 where there are no parts."""

    def get(self, key: str) -> StoredObject | None:
        """A small object, or None if there is none.

        Raises:
            IntegrityError: it has more than MAX_DOCUMENT bytes.
        """

    def exists(self, key: str) -> bool:
        """Whether there is an object."""

    def names(self, prefix: str) -> list[str]:
        """The names directly below ``prefix`` (of objects and of further prefixes), sorted."""

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        """All objects below ``prefix``, however deep, in whatever order the service lists them."""

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

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        """Write a file, checked against its digests on the way and in the store.

        Args:
            key: where to.
            path: the file on disk.
            file: what it must hold.
            piece_size: bytes in each of ``file.pieces`` but the last.
            progress: told every number of bytes done, from any thread, one call at a time.

        Raises:
            IntegrityError: the bytes on disk, or those that arrived, are not those that ``file`` describes.
            ConflictError: it is there already; not raised for our own bytes, found after a lost reply.
        """

    def download(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        """Write an object to ``path``, which must not exist. The caller checks the digest.

        Raises:
            NotFoundError: there is no such object.
        """

    def delete(self, key: str) -> None:
        """Remove an object, whatever it holds by now; one that is not there is fine.

        There is no condition: many services refuse or ignore it. What others may write must be swapped instead.
        """

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        """Uploads in parts below ``prefix`` that were never finished.

        Empty where the store cleans up itself, and where it cannot be asked.
        """

    def abort(self, upload: UnfinishedUpload) -> None:
        """Give up an unfinished upload and free its parts; one that is gone is fine."""

    def check_writable(self, need: int) -> None:
        """Fail now if ``need`` bytes could not be written, as far as that can be known without writing them."""
