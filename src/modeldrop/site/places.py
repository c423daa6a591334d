"""Where pages are written: a folder, or a registry beside its models."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from modeldrop.errors import ConflictError, DiskError
from modeldrop.storage.write.store import Store
from modeldrop.util.files import expand_user, make_folders, replace_file

SITE_FOLDER = "_site"
"""Where the pages are in a registry. No model can be called so."""


class Place(Protocol):
    """Pages by their paths (``m/embedder/v3.html``).

    Attributes:
        beside: from a page at the top, the way to the models' files; "" where those are not beside the pages.
        written: how many pages were written.
    """

    beside: str
    written: int

    def read(self, path: str) -> bytes | None:
        """A page, None if there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Write a page, unless it has these bytes already.

        Raises:
            ConflictError: another writer has replaced it since it was read.
            RegistryError, DiskError: it cannot be written.
        """


class FolderPlace:
    """Pages in a folder of their own.

    Args:
        folder: the folder.
        beside: see ``Place``.
    """

    def __init__(self, folder: Path, beside: str = "") -> None:
        self._folder = expand_user(folder).absolute()
        self.beside = beside
        self._made: set[Path] = set()
        self.written = 0

    def read(self, path: str) -> bytes | None:
        try:
            return (self._folder / path).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._explained(error, path) from error

    def write(self, path: str, data: bytes) -> None:
        target = self._folder / path
        try:
            if target.parent not in self._made:
                make_folders(target.parent)
                self._made.add(target.parent)
            if self.read(path) == data:
                return  # it keeps its time: what copies the folder on need not copy it
            replace_file(target, data)
        except OSError as error:
            raise self._explained(error, path) from error
        self.written += 1

    def _explained(self, error: OSError, path: str) -> DiskError:
        return DiskError(
            f"{self._folder / path} cannot be used: {error.strerror or os.strerror(error.errno or 0)}.",
            "Name another folder (-o), or make room.",
        )


class RegistryPlace:
    """Pages in a registry. What was read is replaced only if nobody else has replaced it since."""

    beside = "../"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, tuple[bytes | None, str | None]] = {}
        self.written = 0

    def read(self, path: str) -> bytes | None:
        stored = self._store.get(f"{SITE_FOLDER}/{path}")
        self._read[path] = (None, None) if stored is None else (stored.data, stored.tag)
        return self._read[path][0]

    def write(self, path: str, data: bytes) -> None:
        if path not in self._read:
            self.read(path)
        before, tag = self._read[path]
        if before == data:
            return
        try:
            if tag is None:
                self._store.create(f"{SITE_FOLDER}/{path}", data)
            else:
                self._store.swap(f"{SITE_FOLDER}/{path}", data, tag)
        except ConflictError:
            # The reply to our own write may have been lost.
            if self.read(path) != data:
                raise
        self.written += 1
        self._read.pop(path, None)
