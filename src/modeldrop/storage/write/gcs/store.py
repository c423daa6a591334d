"""A bucket of Google Cloud Storage as a registry, on Google's own SDK.

Every conditional write names the generation of what it replaces (0: nothing), and a tag is a generation.
Small objects go in one request of the JSON API. Large files go in parallel parts through the XML API, and where the
service lacks that, in one stream through the JSON API. Every write carries the CRC32C of its bytes, which the
service checks, and what it says of the whole is compared.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from modeldrop.errors import ConflictError, IntegrityError, MissingExtraError, NotFoundError

try:
    import google_crc32c
    from google.api_core import exceptions as api

    from modeldrop.storage.write.gcs import client as gcs_client
    from modeldrop.storage.write.gcs.checksums import encoded, joined, verified
    from modeldrop.storage.write.gcs.connection import Connection
    from modeldrop.storage.write.gcs.errors import (
        is_busy,
        is_elsewhere,
        is_no_bucket,
        is_no_object,
        is_retryable,
    )
    from modeldrop.storage.write.gcs.resumable import ResumableUpload, send_resumable
    from modeldrop.storage.write.gcs.xml_multipart import XMLMultipart
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"gs:// needs Google's SDK, which is not installed ({error.name}).", "pip install 'modeldrop[gcs]'"
    ) from None

from modeldrop.storage import errors as storage_errors
from modeldrop.storage.sdk_answers import expected, fields_expected
from modeldrop.storage.write import headers
from modeldrop.storage.write.interruption import freed_on_failure
from modeldrop.storage.write.multipart import PartBody, read_whole, split_parts
from modeldrop.storage.write.store import (
    MAX_DOCUMENT,
    ListedObject,
    StoredObject,
    UnfinishedUpload,
    not_written,
    one_at_a_time,
    too_large,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.cloud import storage

    from modeldrop.config import RegistrySettings
    from modeldrop.format.manifest import File
    from modeldrop.storage.urls import Bucket

_SMALLEST_PART = 16 << 20
_PROBE = ".modeldrop-probe"
_NO_GENERATION = "none"
"""The tag where a service gives no generations."""
_BUSY_RETRY = gcs_client.Retry(first=1.0, longest=8.0, limit=120.0, again=is_busy)
"""For an object to which others write, too."""


class GCSBucketStore:
    """Objects in a bucket. See ``Store`` for what the methods promise.

    Nothing is sent, and nobody signs in, before the first method is called. Besides the errors that ``Store``
    names, every method raises RegistryError where nobody is signed in.

    Attributes:
        url: the registry's URL.
        bucket: the same, parsed.
        settings: what modeldrop.toml says about it.
        client: Google's client, signed in.
    """

    part_size = _SMALLEST_PART

    def __init__(self, bucket: Bucket, settings: RegistrySettings) -> None:
        self.url = bucket.url
        self.bucket = bucket
        self.settings = settings
        self._connection = Connection(bucket, settings)
        self._multipart = XMLMultipart(self._connection)

    @property
    def client(self) -> storage.Client:
        return self._connection.client

    def get(self, key: str) -> StoredObject | None:
        with self._connection.explained("read", key):
            blob = self._blob(key)
            document = _Document(f"{self.url}/{key}")
            try:
                blob.download_to_file(
                    document,
                    raw_download=True,
                    checksum="crc32c",
                    timeout=gcs_client.QUICK_TIMEOUT,
                    retry=gcs_client.QUICK_RETRY,
                )
            except api.NotFound as error:
                _check_object(error)
                return None
            return StoredObject(document.getvalue(), str(blob.generation or _NO_GENERATION))

    def exists(self, key: str) -> bool:
        return self._look(key) is not None

    def names(self, prefix: str) -> list[str]:
        folder = self._folder(prefix)
        found: set[str] = set()
        with self._connection.explained("list", prefix):
            for page in self._pages(folder, "items(name),prefixes,nextPageToken", delimiter="/"):
                with fields_expected():
                    names = [*(blob.name for blob in page), *page.prefixes]
                    found.update(name.removeprefix(folder).rstrip("/") for name in names)
        return sorted(found - {""})

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        with self._connection.explained("list", prefix):
            for page in self._pages(self._folder(prefix), "items(name,size,updated,generation),nextPageToken"):
                with fields_expected():
                    found = [self._listed(blob) for blob in page]
                yield from found

    def create(self, key: str, data: bytes) -> None:
        self._write(key, data, 0)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        if previous == _NO_GENERATION:
            raise storage_errors.no_conditional_writes(self.url, "it gives objects no generation")
        self._write(key, data, int(previous or "0"))

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        with self._connection.explained("write", key):
            if file.size > _SMALLEST_PART:
                parts = split_parts(file, piece_size, _SMALLEST_PART)
                bodies = [PartBody(path, file, piece_size, part) for part in parts]
                self._upload_large(key, bodies, file.size, one_at_a_time(progress))
                return
            data = read_whole(path, file)
            try:
                self._write(key, data, 0, gcs_client.UPLOAD_RETRY)
            except ConflictError:
                there = self._look(key)
                if there is None or _facts(there) != (file.size, encoded(google_crc32c.value(data))):
                    raise
            progress(file.size)

    def download(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        with self._connection.explained("read", key):
            blob = self._blob(key)
            try:
                with _created(path) as target:
                    blob.download_to_file(
                        _Target(target, path, progress),
                        raw_download=True,
                        checksum="crc32c",
                        timeout=gcs_client.TIMEOUT,
                        retry=gcs_client.UPLOAD_RETRY,
                    )
            except api.NotFound as error:
                _check_object(error)
                raise NotFoundError(f"{self.url}/{key} is not there.", "It was removed by hand, or pruned.") from None

    def delete(self, key: str) -> None:
        with self._connection.explained("delete", key):
            try:
                self._blob(key).delete(timeout=gcs_client.QUICK_TIMEOUT, retry=gcs_client.QUICK_RETRY)
            except api.NotFound as error:
                _check_object(error)

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        with self._connection.explained("list", prefix):
            return self._multipart.unfinished(self._folder(prefix))

    def abort(self, upload: UnfinishedUpload) -> None:
        with self._connection.explained("delete", upload.key):
            try:
                self._multipart.abort(upload.key, upload.id)
            except api.NotFound as error:
                _check_object(error)

    def check_writable(self, need: int) -> None:
        """Ask for a write that cannot succeed: it names a generation that nothing has.

        The service looks first whether we may write, then at the condition, and writes nothing.
        """
        with self._connection.explained("write", ""):
            try:
                self._put(_PROBE, b"", 1, gcs_client.QUICK_RETRY)
            except ConflictError:
                return
            self._blob(_PROBE).delete(timeout=gcs_client.QUICK_TIMEOUT, retry=gcs_client.QUICK_RETRY)
        raise storage_errors.no_conditional_writes(self.url, "it wrote an object although the condition did not hold")

    def takes_parts(self, key: str) -> bool:
        """Whether a large file goes in parallel parts, or else in one stream; an upload is begun and given up.

        Args:
            key: an object that will not come to be.

        Raises:
            RegistryError: it goes in no way.
        """
        with self._connection.explained("write", key):
            upload_id = self._multipart.begin(key)
            if upload_id:
                self._multipart.abort(key, upload_id)
            else:
                ResumableUpload(self._connection, key, _SMALLEST_PART + 1).cancel()
            return bool(upload_id)

    # --- writes

    def _write(self, key: str, data: bytes, generation: int, retry: gcs_client.Retry = gcs_client.QUICK_RETRY) -> None:
        """Write ``data`` where the object with this generation is; 0: where there is none.

        The service takes about one write a second to an object and refuses more. Then somebody else's may have come
        first, so it is looked at before the next attempt.
        """
        attempts = itertools.count(1)

        def attempt() -> storage.Blob:
            if next(attempts) > 1:
                there = self._look(key)
                if generation != (there.generation if there else 0):
                    raise storage_errors.taken(key)
            return self._put(key, data, generation, retry)

        with self._connection.explained("write", key):
            stored = _BUSY_RETRY(attempt)()
            if _facts(stored) != (len(data), encoded(google_crc32c.value(data))):
                raise _not_ours(f"{self.url}/{key}")

    def _put(self, key: str, data: bytes, generation: int, retry: gcs_client.Retry) -> storage.Blob:
        blob = self._blob(key)
        blob.cache_control = headers.cache_control(key)
        if self.settings.tags:
            blob.metadata = dict(self.settings.tags)
        try:
            blob.upload_from_string(
                data,
                headers.content_type(key),
                if_generation_match=generation,
                checksum="crc32c",
                timeout=gcs_client.QUICK_TIMEOUT if retry is gcs_client.QUICK_RETRY else gcs_client.TIMEOUT,
                retry=replace(retry, again=_passes),
            )
        except api.PreconditionFailed:
            raise storage_errors.taken(key) from None
        except api.NotFound as error:
            _check_object(error)
            if not generation:  # then only the bucket can be missing, whatever the service says
                raise storage_errors.no_bucket(self.url, f"bucket {self.bucket.name}") from None
            if not is_no_object(error):
                raise
            raise storage_errors.taken(key) from None
        expected(blob.size, "size")
        expected(blob.crc32c, "crc32c")
        return blob

    def _upload_large(self, key: str, bodies: list[PartBody], size: int, progress: Callable[[int], None]) -> None:
        if self._has(key, bodies, size):
            progress(size)
            return
        left = size

        def count(sent: int) -> None:
            nonlocal left
            left -= sent
            progress(sent)

        with freed_on_failure(
            lambda: self._multipart.begin(key), lambda upload_id: self._multipart.abort(key, upload_id)
        ) as upload_id:
            if upload_id:
                crc32c = self._multipart.send(key, upload_id, bodies, progress)
        if not upload_id:
            try:
                crc32c = send_resumable(self._connection, key, bodies, count)
            except api.PreconditionFailed:
                # Somebody came first: we ourselves, where a reply was lost.
                if not self._has(key, bodies, size):
                    raise storage_errors.taken(key) from None
                progress(left)
                return
        stored = self._look(key)
        if stored is None or _facts(stored) != (size, encoded(crc32c)):
            raise _not_ours(f"{self.url}/{key}")

    def _has(self, key: str, bodies: list[PartBody], size: int) -> bool:
        """Whether an object is there, with our bytes.

        Raises:
            ConflictError: it has others.
        """
        there = self._look(key)
        if there is None:
            return False
        crc32c = joined((verified(body), body.part) for body in bodies)
        if _facts(there) != (size, encoded(crc32c)):
            raise storage_errors.taken(key)
        return True

    # --- requests

    def _look(self, key: str) -> storage.Blob | None:
        """What the service says about an object, None if there is none."""
        with self._connection.explained("read", key):
            blob = self._blob(key)
            try:
                blob.reload(timeout=gcs_client.QUICK_TIMEOUT, retry=gcs_client.QUICK_RETRY)
            except api.NotFound as error:
                _check_object(error)
                return None
            return blob

    def _listed(self, blob: storage.Blob) -> ListedObject:
        key = blob.name.removeprefix(self.bucket.prefix)
        return ListedObject(key, blob.size or 0, blob.updated.timestamp(), str(blob.generation or _NO_GENERATION))

    def _pages(self, folder: str, fields: str, **more: str) -> Iterator[Any]:
        listing = self.client.list_blobs(
            self.bucket.name,
            prefix=folder,
            fields=fields,
            timeout=gcs_client.QUICK_TIMEOUT,
            retry=gcs_client.QUICK_RETRY,
            **more,
        )
        token = None
        for page in listing.pages:
            if token is not None and listing.next_page_token == token:
                raise storage_errors.endless(self.url, folder)
            token = listing.next_page_token
            yield page

    def _blob(self, key: str) -> storage.Blob:
        bucket = self.client.bucket(self.bucket.name)
        return bucket.blob(self.bucket.prefix + key, kms_key_name=self.settings.encryption_key or None)

    def _folder(self, prefix: str) -> str:
        return f"{self.bucket.prefix}{prefix.rstrip('/')}/" if prefix.rstrip("/") else self.bucket.prefix


class _Document(io.BytesIO):
    """Memory for a document of a registry: not for more."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_DOCUMENT:
            raise too_large(self._what, MAX_DOCUMENT)
        return super().write(data)


class _Target:
    """A file that tells how much was written to it, and says when its disk is full."""

    def __init__(self, file: BinaryIO, path: Path, progress: Callable[[int], None]) -> None:
        self._file = file
        self._path = path
        self._progress = progress

    def write(self, data: bytes) -> int:
        try:
            count = self._file.write(data)
        except OSError as error:
            raise not_written(self._path, error) from error
        self._progress(count)
        return count


@contextlib.contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """A new file, which is removed again where what fills it fails."""
    try:
        file = path.open("xb")
    except OSError as error:
        raise not_written(path, error) from error
    try:
        with file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _facts(blob: storage.Blob) -> tuple[int, str]:
    """The size and CRC32C of an object. Of one without bytes, some services say neither."""
    return blob.size or 0, blob.crc32c or encoded(0)


def _passes(error: Exception) -> bool:
    """Whether the same write may be tried again without a look at what is there now."""
    return is_retryable(error) and not is_busy(error)


def _check_object(error: api.NotFound) -> None:
    """Pass where only an object is not there; a bucket, or a service, that is not there is an error."""
    if is_no_bucket(error) or is_elsewhere(error):
        raise error


def _not_ours(where: str) -> IntegrityError:
    return IntegrityError(
        f"{where} is not what was sent: the service stored other bytes.",
        "Run the same command again. If it happens again, a proxy or the service changes bytes.",
    )
