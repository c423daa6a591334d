"""A container in Azure Blob Storage as a registry.

Create-only is ``If-None-Match: *``, a compare-and-swap ``If-Match`` with the blob's ETag; Azure checks both
when it commits, whatever was sent meanwhile. Every request for itself is tried again here, not by the SDK,
which takes a minute to give a wrong address up.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import secrets
import time
import weakref
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from modeldrop.errors import ConflictError, IntegrityError, MissingExtraError, NotFoundError, RegistryError
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.sdk_answers import UnreadableAnswerError, answers_explained, expected, fields_expected
from modeldrop.storage.write.headers import cache_control, content_type
from modeldrop.storage.write.multipart import Part, PartBody, read_whole, send_all, split_parts
from modeldrop.storage.write.store import (
    MAX_DOCUMENT,
    ListedObject,
    StoredObject,
    not_written,
    one_at_a_time,
    too_large,
)
from modeldrop.util.retry import backoff, retry

try:
    from azure.core import MatchConditions
    from azure.core.exceptions import AzureError
    from azure.storage.blob import BlobBlock, BlobClient, ContainerClient, ContentSettings
except ImportError:
    raise MissingExtraError(
        "Registries on Azure need azure-storage-blob.", "Install it: pip install 'modeldrop[azure]'"
    ) from None

from modeldrop.storage.write.azure.errors import MISSING, StoreContext, code, explain, is_retryable, status
from modeldrop.storage.write.azure.sign_in import sign_in, transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from modeldrop.config import RegistrySettings
    from modeldrop.format.manifest import File
    from modeldrop.storage.urls import Bucket
    from modeldrop.storage.write.store import UnfinishedUpload

_Result = TypeVar("_Result")

_SMALLEST_PART = 16 << 20
_LARGE_PART = 64 << 20  # of a file of 1 GiB or more
_SINGLE = 16 << 20  # bytes of a file that are sent in one request
_RANGE = 8 << 20  # bytes in each request of a download
_IN_FLIGHT = 8
_COMPARED_IN_FLIGHT = 2  # parts in memory
_CONNECT_SECONDS = 3
_READ_SECONDS = 30
_FIRST_READ_SECONDS = 8
_PROBE = ".modeldrop"

# The SDK warns of what we turn into sentences. Whoever configures logging still gets it.
for _name in ("azure", "msal"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class AzureContainerStore:
    """Blobs of a container. See ``Store`` for what the methods promise.

    Args:
        bucket: the container and prefix.
        settings: the registry's in modeldrop.toml. ``endpoint`` is the address of the account's blob service.

    Raises:
        RegistryError: the credentials are malformed, or those of another account.
        MissingExtraError: azure-identity is needed and not installed.
    """

    part_size = _SINGLE

    def __init__(self, bucket: Bucket, settings: RegistrySettings) -> None:
        self.url = bucket.url
        self.bucket = bucket
        self.settings = settings
        self.sign_in = sign_in(bucket, settings)
        self._context = StoreContext(bucket, self.sign_in, tags=bool(settings.tags))
        self._limits = _RetryLimits()
        sender = transport(_CONNECT_SECONDS, _READ_SECONDS)
        try:
            self.client = ContainerClient(
                self.sign_in.endpoint,
                bucket.name,
                credential=self.sign_in.credential,
                retry_total=0,
                permit_redirects=False,  # no service redirects: who does is something else
                transport=sender,
                raw_request_hook=self._limits.limit,
                # A document comes in one answer, and every upload that is not in blocks goes in one request.
                max_single_get_size=MAX_DOCUMENT,
                max_single_put_size=5000 << 20,
            )
        except ValueError as error:  # such as: tokens are not sent over http
            raise RegistryError(f"{self.url}: {error}", "Check the endpoint.") from None
        weakref.finalize(self, sender.session.close)

    def get(self, key: str) -> StoredObject | None:
        def read() -> StoredObject:
            stream = self._blob(key).download_blob()
            if expected(stream.size, "Content-Length") > MAX_DOCUMENT:
                raise too_large(f"{self.url}/{key}", MAX_DOCUMENT)
            return StoredObject(stream.readall(), expected(stream.properties.etag, "ETag"))

        return self._unless_missing("read", key, read)

    def exists(self, key: str) -> bool:
        return self._unless_missing("read", key, self._blob(key).get_blob_properties) is not None

    def names(self, prefix: str) -> list[str]:
        start = self._folder(prefix)
        listed = self._listed(prefix, lambda: self.client.walk_blobs(start), lambda blob: blob.name[len(start) :])
        return sorted({name.rstrip("/") for name in listed} - {""})

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        start = self._folder(prefix)
        # Accounts with a hierarchical namespace list folders as blobs that only their metadata gives away.
        begin = functools.partial(self.client.list_blobs, start, include=["metadata"])
        yield from (blob for blob in self._listed(prefix, begin, self._object) if blob is not None)

    def create(self, key: str, data: bytes) -> None:
        self._call("write", key, lambda: self._put(key, data, None))

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        if previous is None:
            self.create(key, data)
            return

        def replace() -> None:
            try:
                self._put(key, data, previous)
            except AzureError as error:
                if code(error) in MISSING:
                    raise storage_errors.taken(key) from None
                raise

        self._call("write", key, replace)

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        if file.size > _SINGLE:
            self._upload_blocks(key, path, file, piece_size, progress)
            return
        data = read_whole(path, file)

        def send() -> None:
            sent = self._put(key, data, None)
            # Put Blob answers with the MD5 of what it stored.
            if bytes(sent.get("content_md5") or _md5(data)) != _md5(data):
                raise self._damaged(key)

        try:
            self._call("write", key, send)
        except ConflictError:
            # After a reply that was lost, it is there because we sent it.
            if not self._holds(key, path, file, piece_size):
                raise
        progress(file.size)

    def download(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        def read(start: int, tag: str | None) -> tuple[bytes, int, str]:
            try:
                stream = self._blob(key).download_blob(offset=start, length=_RANGE, **_if_match(tag))
            except AzureError as error:
                if status(error) == 416 and not start:
                    return b"", 0, ""  # nothing is in it, so it has no range
                raise
            with fields_expected():
                size = int(str(stream.properties.content_range or f"/{stream.size}").rpartition("/")[2])
            return stream.readall()[:_RANGE], size, expected(stream.properties.etag, "ETag")

        found = self._unless_missing("read", key, lambda: read(0, None))
        if found is None:
            raise NotFoundError(f"{self.url}/{key} is not there.", "It was removed by hand, or pruned.")
        first, size, tag = found
        report = one_at_a_time(progress)
        try:
            with path.open("xb") as target:
                target.write(first)
                target.flush()
                report(len(first))

                def fetch(part: Part) -> None:
                    data, *_ = self._call("read", key, lambda: read(part.start, tag))
                    os.pwrite(target.fileno(), data, part.start)
                    report(len(data))

                starts = range(len(first), size, _RANGE)
                parts = [Part(number, start, min(_RANGE, size - start)) for number, start in enumerate(starts, 2)]
                send_all(parts, fetch, in_flight=_IN_FLIGHT)
        except OSError as error:
            raise not_written(path, error) from error

    def delete(self, key: str) -> None:
        self._unless_missing("delete", key, lambda: self._blob(key).delete_blob(delete_snapshots="include"))

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        return []  # Azure drops blocks that were never committed after a week, and lists them nowhere

    def abort(self, upload: UnfinishedUpload) -> None:
        raise AssertionError(upload)

    def check_writable(self, need: int) -> None:
        """Fail now if nothing could be written; how much is left to write, an account does not say.

        It asks to replace a blob on a condition that no blob can meet: who may not write is told so,
        and nothing is written.
        """

        def ask() -> None:
            try:
                self._put(_PROBE, b"", '"0x0"')
            except AzureError as error:
                if status(error) != 412 and code(error) not in MISSING:
                    raise

        self._call("write", "", ask)

    def _upload_blocks(
        self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]
    ) -> None:
        blob, report = self._blob(key), one_at_a_time(progress)
        parts = split_parts(file, piece_size, _SMALLEST_PART, _LARGE_PART)
        # Names of this upload alone, all equally long: what another one staged for the same blob is never mixed in.
        nonce = secrets.token_hex(8)
        blocks = [(f"{nonce}-{part.number:05}", part.length) for part in parts]

        def stage(part: Part) -> None:
            body, md5 = PartBody(path, file, piece_size, part), hashlib.md5(usedforsecurity=False)
            body.verify(md5.update)

            def send() -> None:
                # The service refuses a block whose MD5 is not the one sent with it; what has changed is not sent again.
                checked = {"transactional_content_md5": md5.digest(), **self._scope()}
                with body.sending():
                    blob.stage_block(blocks[part.number - 1][0], body, part.length, **checked)

            self._call("write", key, send)
            report(part.length)

        def commit() -> None:
            blob.commit_block_list(
                [BlobBlock(name) for name, _ in blocks],
                match_condition=MatchConditions.IfMissing,
                validate_content=True,
                **self._content_options(key),
            )

        def committed() -> list[tuple[str, int]]:
            listed = blob.get_block_list("committed")[0]
            with fields_expected():
                return [(block.id, block.size) for block in listed]

        send_all(parts, stage, in_flight=_IN_FLIGHT)
        conflict: ConflictError | None = None
        try:
            self._call("write", key, commit)
        except ConflictError as error:
            conflict = error
        # The service has no digest of a blob made of blocks. It checked each of them; that the blob is these
        # blocks, in this order and at these lengths, is what is left to check.
        if self._call("read", key, committed) == blocks:
            return  # also where it was our own commit that is in our way, its reply lost
        if conflict is None:
            raise self._damaged(key)
        if not self._holds(key, path, file, piece_size):
            raise conflict

    def _put(self, key: str, data: bytes, tag: str | None) -> dict[str, Any]:
        """Write a blob in one request: in context of the one with this tag, None where there must be none."""
        sent: dict[str, Any] = self._blob(key).upload_blob(
            data,
            length=len(data),
            validate_content=True,
            overwrite=tag is not None,
            **_if_match(tag),
            **self._content_options(key, data),
        )
        return sent

    def _holds(self, key: str, path: Path, file: File, piece_size: int) -> bool:
        """Whether the blob has the bytes of the file."""

        def same(part: Part) -> bool:
            stored = self._call("read", key, lambda: self._blob(key).download_blob(part.start, part.length).readall())
            return bool(stored == PartBody(path, file, piece_size, part).verified())

        found = self._unless_missing("read", key, self._blob(key).get_blob_properties)
        if found is None or found.size != file.size:
            return False
        parts = split_parts(file, piece_size, _SMALLEST_PART)
        return all(send_all(parts, same, in_flight=_COMPARED_IN_FLIGHT))

    def _object(self, blob: Any) -> ListedObject | None:
        """What a listing says of an object; None of a folder."""
        if (blob.metadata or {}).get("hdi_isfolder") == "true":
            return None
        key = blob.name[len(self.bucket.prefix) :]
        return ListedObject(key, blob.size, blob.last_modified.timestamp(), expected(blob.etag, "Etag"))

    def _listed(self, prefix: str, begin: Callable[[], Any], read: Callable[[Any], _Result]) -> Iterator[_Result]:
        token: str | None = None
        while True:

            def page(token: str | None = token) -> tuple[list[_Result], str | None]:
                pages = begin().by_page(token)
                items = list(next(pages))
                with fields_expected():
                    return [read(item) for item in items], pages.continuation_token

            before = token
            items, token = self._call("list", prefix, page)
            yield from items
            if not token:
                return
            if token == before:
                raise storage_errors.endless(self.url, prefix)

    def _unless_missing(self, verb: str, key: str, ask: Callable[[], _Result]) -> _Result | None:
        def asked() -> _Result | None:
            try:
                return ask()
            except AzureError as error:
                # To a stranger, Azure does not tell a private container from a missing one.
                missing = code(error) in MISSING and self.sign_in.credential is not None
                if missing or code(error) == "BlobNotFound":
                    return None
                raise

        return self._call(verb, key, asked)

    def _call(self, verb: str, key: str, ask: Callable[[], _Result]) -> _Result:
        """Ask until there is an answer, within bounds; the SDK's errors become our own."""
        begun = time.monotonic()

        def explained() -> _Result:
            with answers_explained(AzureError, OSError):
                return ask()

        def again(error: Exception, pause: float) -> bool:
            if not isinstance(error, AzureError):
                return False
            if status(error) is not None and not is_retryable(error):
                self._limits.answered = True
            return is_retryable(error) and pause < self._limits.seconds(error) - (time.monotonic() - begun)

        try:
            answer = retry(explained, (backoff(failures, 0.4, 5.0) for failures in count(1)), again)
        except (AzureError, UnreadableAnswerError, OSError) as error:  # OSError: a CA file that cannot be read
            raise explain(error, self._context, verb, key) from None
        self._limits.answered = True
        return answer

    def _blob(self, key: str) -> BlobClient:
        return self.client.get_blob_client(self.bucket.prefix + key)

    def _folder(self, prefix: str) -> str:
        return self.bucket.prefix + (f"{prefix.rstrip('/')}/" if prefix else "")

    def _scope(self) -> dict[str, Any]:
        return {"encryption_scope": self.settings.encryption_key} if self.settings.encryption_key else {}

    def _content_options(self, key: str, data: bytes | None = None) -> dict[str, Any]:
        headers = ContentSettings(
            content_type=content_type(key),
            cache_control=cache_control(key),
            content_md5=None if data is None else bytearray(_md5(data)),
        )
        tags = {"tags": dict(self.settings.tags)} if self.settings.tags else {}
        return {"content_settings": headers, **tags, **self._scope()}

    def _damaged(self, key: str) -> IntegrityError:
        return IntegrityError(
            f"{self.url}/{key} is not stored as it was sent.", "Run the same command again: it takes a new number."
        )


@dataclass(slots=True)
class _RetryLimits:
    """How long to retry: not long before the service has answered once, for its address may be wrong."""

    answered: bool = False

    def limit(self, request: Any) -> None:
        """Set how long a request may stall."""
        request.context.options["read_timeout"] = _READ_SECONDS if self.answered else _FIRST_READ_SECONDS

    def seconds(self, error: AzureError) -> float:
        if self.answered:
            return 30.0
        return 4.0 if status(error) is None else 8.0


def _if_match(tag: str | None) -> dict[str, Any]:
    return {"etag": tag, "match_condition": MatchConditions.IfNotModified} if tag else {}


def _md5(data: bytes) -> bytes:
    """The service's own checksum."""
    return hashlib.md5(data, usedforsecurity=False).digest()
