"""The small documents of a registry in a bucket, through obstore: what is left of a store where no SDK is installed.

It is enough to plan, and to publish what has a version already: documents are read, and a channel is swapped. Files are
uploaded and downloaded by the clouds' SDKs alone, which check them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.exceptions import NotFoundError as ObjectNotFoundError

from modeldrop.errors import MissingExtraError
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.read.bucket import BucketReader
from modeldrop.storage.read.interface import Document
from modeldrop.storage.read.obstore_calls import obstore_call
from modeldrop.storage.write import headers
from modeldrop.storage.write.store import MAX_DOCUMENT, StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.config import RegistrySettings
    from modeldrop.format.manifest import File
    from modeldrop.storage.write.store import ListedObject, UnfinishedUpload


def serves(settings: RegistrySettings) -> bool:
    """Whether what the settings say of new objects can be said by obstore: only if they say nothing."""
    said = settings.encryption_key, settings.tags, settings.encryption, settings.acl
    return not any(said)


class DocumentStore:
    """The documents of a registry in a bucket; a ``Store`` that refuses whatever needs the cloud's SDK.

    Args:
        settings: the registry's.
        missing: what to say where the SDK is needed.

    Raises:
        RegistryError, MissingExtraError: see ``BucketReader``.
    """

    part_size = 0

    def __init__(self, settings: RegistrySettings, missing: MissingExtraError) -> None:
        self.url = settings.url
        self._missing = missing
        self._reader = BucketReader(settings)
        self._counts = settings.url.startswith("gs://")

    def get(self, key: str) -> StoredObject | None:
        found = self._reader.get_if_changed(key, MAX_DOCUMENT, "")
        if not isinstance(found, Document):
            return None
        return StoredObject(found.data, found.version if self._counts else found.etag)

    def exists(self, key: str) -> bool:
        try:
            self._reader.ask(key, lambda store: obstore.head(store, key))
        except (FileNotFoundError, ObjectNotFoundError):
            return False
        except (OSError, BaseError) as error:
            raise self._reader.failure("read", key, error) from error
        return True

    def names(self, prefix: str) -> list[str]:
        def ask(store: Any) -> list[str]:
            found = obstore.list_with_delimiter(store, prefix or None)
            paths = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
            return sorted({path.rstrip("/").rpartition("/")[2] for path in paths})

        try:
            return self._reader.ask(prefix, ask)
        except (OSError, BaseError) as error:
            raise self._reader.failure("list", prefix, error) from error

    def create(self, key: str, data: bytes) -> None:
        self._put(key, data, "create")

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        tag = "version" if self._counts else "e_tag"
        self._put(key, data, "create" if previous is None else {tag: previous})

    def _put(self, key: str, data: bytes, mode: Any) -> None:
        """Write once: whoever asks again does so because it has read what is there now."""
        attributes: Any = {"Content-Type": headers.content_type(key), "Cache-Control": headers.cache_control(key)}
        try:
            with obstore_call():
                self._reader.ask_once(
                    lambda store: obstore.put(store, key, data, mode=mode, attributes=attributes, use_multipart=False)
                )
        except (AlreadyExistsError, PreconditionError, FileNotFoundError, ObjectNotFoundError):
            raise storage_errors.taken(key) from None
        except (OSError, BaseError) as error:
            raise self._reader.failure("write", key, error) from error

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        self._refuse()

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        self._refuse()

    def download(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        self._refuse()

    def delete(self, key: str) -> None:
        self._refuse()

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        self._refuse()

    def abort(self, upload: UnfinishedUpload) -> None:
        self._refuse()

    def check_writable(self, need: int) -> None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise MissingExtraError(self._missing.message, self._missing.hint)
