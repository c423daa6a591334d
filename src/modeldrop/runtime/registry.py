"""Reading a registry through obstore: small documents whole, files in ranges. Never lists."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as ObjectNotFoundError
from obstore.store import LocalStore

from modeldrop.errors import IntegrityError, RegistryError, UsageError
from modeldrop.format.reference import parse_registry


class RegistryReader:
    """The objects of one registry, by key (``embedder/v1/manifest.json``)."""

    def __init__(self, registry: str) -> None:
        """Open a registry.

        Raises:
            UsageError: none is named, or this release cannot read its kind.
            RegistryError: the folder is not there.
        """
        registry = parse_registry(registry)
        scheme, separator, _ = registry.partition("://")
        if separator:
            raise UsageError(f"This release cannot read {scheme}:// registries.", "Use a folder.")
        folder = Path(registry).expanduser().absolute()
        if ".." in folder.parts:
            folder = folder.resolve()  # one spelling, wherever it was asked from
        self.url = str(folder)
        if not os.path.isdir(folder):  # noqa: PTH112  Path.is_dir raises where a parent may not be searched
            raise RegistryError(f"The registry {folder} is not a folder, or is not there.", "Check path and mount.")
        self._store = LocalStore(folder)

    def get(self, key: str, limit: int) -> bytes | None:
        """A small object of at most ``limit`` bytes, None if there is none.

        Raises:
            RegistryError: it cannot be read.
            IntegrityError: it is larger.
        """
        try:
            result = obstore.get(self._store, key)
            if result.meta["size"] > limit:
                raise IntegrityError(f"{self.url}/{key} has {result.meta['size']} bytes; at most {limit} are read.")
            return bytes(result.bytes())
        except (FileNotFoundError, ObjectNotFoundError):
            return None
        except (OSError, BaseError) as error:
            raise self._unreadable(key, error) from error

    def read(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes of an object from ``start`` on; fewer where it ends before.

        Raises:
            RegistryError: it cannot be read, or is not there.
        """
        try:
            return bytes(obstore.get_range(self._store, key, start=start, length=length))
        except (OSError, BaseError) as error:
            # A range that begins behind the end is an error of its own kind in every store.
            with contextlib.suppress(OSError, BaseError):
                if obstore.head(self._store, key)["size"] <= start:
                    return b""
            raise self._unreadable(key, error) from error

    def _unreadable(self, key: str, error: Exception) -> RegistryError:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        return RegistryError(
            f"Could not read {self.url}/{key}: {first}",
            "Check that this user may read there, and that the file was not removed.",
        )
