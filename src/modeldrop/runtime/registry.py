"""Reading a registry through obstore: small documents whole, files in ranges. Never lists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as ObjectNotFoundError
from obstore.store import LocalStore

from modeldrop.config import settings_of
from modeldrop.errors import IntegrityError, RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.runtime.stores import Access

_Result = TypeVar("_Result")


class RegistryReader:
    """The objects of one registry, by key (``embedder/v1/manifest.json``)."""

    def __init__(self, registry: str) -> None:
        """Open a registry.

        Args:
            registry: its URL, its folder, or its name in modeldrop.toml.

        Raises:
            UsageError: none is named, or it cannot be one.
            RecipeError: modeldrop.toml is wrong.
            RegistryError: the folder is not there, or the credentials cannot be used.
            MissingExtraError: the credentials need an SDK that is not installed.
        """
        settings = settings_of(registry)
        self._access: Access | None = None
        if "://" in settings.url:
            from modeldrop.runtime.stores import open_access  # a folder needs none of it

            self.url = settings.url
            self._access = open_access(settings)
            return
        folder = Path(settings.url).expanduser().absolute()
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

        def ask(store: Any) -> bytes:
            result = obstore.get(store, key)
            if result.meta["size"] > limit:
                raise IntegrityError(f"{self.url}/{key} has {result.meta['size']} bytes; at most {limit} are read.")
            return bytes(result.bytes())

        try:
            return self._followed(ask)
        except (FileNotFoundError, ObjectNotFoundError) as error:
            if self._access is not None:
                from modeldrop.runtime.store_errors import no_bucket, parse

                missing = no_bucket(self._access, parse(error))
                if missing is not None:
                    raise missing from error
            return None
        except (OSError, BaseError) as error:
            raise self._unreadable(key, error) from error

    def read(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes of an object from ``start`` on; fewer where it ends before.

        Raises:
            RegistryError: it cannot be read, or is not there.
        """
        try:
            return self._followed(lambda store: bytes(obstore.get_range(store, key, start=start, length=length)))
        except (OSError, BaseError) as error:
            if self._ends_before(key, start, error):
                return b""
            raise self._unreadable(key, error) from error

    def _followed(self, ask: Callable[[Any], _Result]) -> _Result:
        """Ask the store; and once more where an S3 bucket turns out to be in another region."""
        access = self._access  # several threads may find out at once
        if access is None:
            return ask(self._store)
        try:
            return ask(access.store)
        except BaseError as error:
            if access.scheme != "s3":
                raise
            from modeldrop.runtime.regions import moved

            there = moved(access, error)
            if there is None:
                raise
            self._access = there
            return ask(there.store)

    def _ends_before(self, key: str, start: int, error: Exception) -> bool:
        """Whether a range could not be read because the object has no byte there: each store has an error for it."""
        if self._access is not None:
            from modeldrop.runtime.store_errors import parse

            return parse(error).status == 416 or "StartTooLarge" in str(error)
        try:
            return bool(obstore.head(self._store, key)["size"] <= start)
        except (OSError, BaseError):
            return False

    def _unreadable(self, key: str, error: Exception) -> RegistryError:
        if self._access is not None:
            from modeldrop.runtime.store_errors import explain

            return explain(self._access, "read", key, error)
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        return RegistryError(
            f"Could not read {self.url}/{key}: {first}",
            "Check that this user may read there, and that the file was not removed.",
        )
