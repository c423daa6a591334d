"""Reads a registry in a folder with the standard library alone: what starts no thread also works after a fork."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal

from modeldrop.config import one_spelling
from modeldrop.errors import IntegrityError, RegistryError
from modeldrop.format.names import hex_digest
from modeldrop.storage.read.interface import UNCHANGED, Document, Fault, FaultKind, Stream, Unchanged
from modeldrop.util.text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.storage.read.interface import Room

_BLOCK = 1 << 20
_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_ATTEMPTS = 3


class FolderReader:
    """A registry in a folder; see ``RegistryReader``.

    Raises:
        RegistryError: the folder is not there.
    """

    failures: tuple[type[BaseException], ...] = (OSError,)

    def __init__(self, folder: str) -> None:
        self.url = one_spelling(folder)
        if not os.path.isdir(self.url):  # noqa: PTH112  Path.is_dir raises where a parent may not be searched
            raise RegistryError(f"The registry {self.url} is not a folder, or is not there.", "Check path and mount.")

    def get(self, key: str, limit: int) -> bytes | None:
        found = self.get_if_changed(key, limit, "")
        return found.data if isinstance(found, Document) else None

    def get_if_changed(self, key: str, limit: int, etag: str) -> Document | Literal[Unchanged.UNCHANGED] | None:
        try:
            size, data = _read_whole(self._path(key), limit)
        except _MISSING:
            return None
        except OSError as error:
            raise self._unreadable(key, error) from error
        if size > limit:
            raise IntegrityError(f"{self.url}/{key} has {size} bytes; at most {limit} are read.")
        # Not inode and time: the one changes by itself on some mounts, the other is too coarse on others.
        found = hex_digest(data)
        return UNCHANGED if found == etag else Document(data, found)

    def read(self, key: str, start: int, length: int) -> bytes:
        try:
            return b"".join(_blocks(self._path(key), start, start + length))
        except OSError as error:
            raise self._unreadable(key, error) from error

    def stream(
        self,
        key: str,
        start: int,
        length: int | None,
        etag: str,  # noqa: ARG002
        chunk: int,  # noqa: ARG002
        room: Room | None = None,  # noqa: ARG002
    ) -> Stream:
        size = os.stat(self._path(key)).st_size  # noqa: PTH116
        return Stream("", size, _blocks(self._path(key), start, size if length is None else start + length))

    def fault(self, key: str, error: BaseException) -> Fault:
        return Fault(FaultKind.FINAL, self._unreadable(key, error))

    def retry_after(self) -> float:
        return 0.0

    def hang_up(self) -> None:
        """There is none."""

    def _path(self, key: str) -> str:
        return os.path.join(self.url, key)  # noqa: PTH118  a key, which was checked

    def _unreadable(self, key: str, error: BaseException) -> RegistryError:
        said = error.strerror if isinstance(error, OSError) else None
        return RegistryError(
            f"Could not read {self.url}/{key}: {said or first_line(error)}.",
            "Check that this user may read there, and that the file was not removed.",
        )


def _read_whole(path: str, limit: int) -> tuple[int, bytes]:
    """A file's size, and at most ``limit`` bytes; read again where NFS says that another machine has replaced it."""
    for attempt in range(_ATTEMPTS):
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                return os.fstat(file.fileno()).st_size, file.read(limit)
        except OSError as error:
            if error.errno != errno.ESTALE or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError


def _blocks(path: str, start: int, end: int) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while start < end:
            data = os.pread(file.fileno(), min(_BLOCK, end - start), start)
            if not data:
                return
            start += len(data)
            yield data
