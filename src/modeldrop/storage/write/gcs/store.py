"""A bucket of Google Cloud Storage as a registry, on Google's own SDK.

Every conditional write names the generation of what it replaces (0: nothing), and a tag is a generation.
Small objects go in one request of the JSON API. Large files go in parallel parts through the XML API, which
knows no conditions: it is asked before whether the object is there, and nobody but the owner of a claim
writes the files of a version. Every write carries the CRC32C of its bytes, which the service checks.
"""

from __future__ import annotations

import base64
import contextlib
import io
import threading
import xml.etree.ElementTree as ET
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlencode

from modeldrop.errors import ConflictError, IntegrityError, MissingExtraError, NotFoundError

try:
    import google_crc32c
    from google.api_core import exceptions as api

    from modeldrop.storage.write.gcs import client as gcs_client
    from modeldrop.storage.write.gcs.errors import explained, is_elsewhere, is_no_bucket, said, unusable_credentials
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"gs:// needs Google's SDK, which is not installed ({error.name}).", "pip install 'modeldrop[gcs]'"
    ) from None

from modeldrop.storage import errors as storage_errors
from modeldrop.storage.write import headers
from modeldrop.storage.write.multipart import Part, read_part, read_whole, send_all, split_parts
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
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    import requests
    from google.cloud import storage

    from modeldrop.config import RegistrySettings
    from modeldrop.format.manifest import File
    from modeldrop.storage.urls import Bucket

_SMALLEST_PART = 16 << 20
_IN_FLIGHT = 8
_PROBE = ".modeldrop-probe"
_ZEROS = bytes(1 << 20)


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

    def __init__(self, bucket: Bucket, settings: RegistrySettings) -> None:
        self.url = bucket.url
        self.bucket = bucket
        self.settings = settings
        emulator = gcs_client.emulator()
        self._anonymous = bool(emulator) or settings.anonymous
        self._endpoint = emulator or settings.endpoint
        self._connected: tuple[storage.Client, requests.Session] | None = None
        self._lock = threading.Lock()

    @property
    def client(self) -> storage.Client:
        return self._connect()[0]

    def get(self, key: str) -> StoredObject | None:
        with self._explained("read", key):
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
            return StoredObject(document.getvalue(), str(blob.generation))

    def exists(self, key: str) -> bool:
        return self._facts(key) is not None

    def names(self, prefix: str) -> list[str]:
        folder = self._folder(prefix)
        found: set[str] = set()
        with self._explained("list", prefix):
            pages = self._list(folder, "items(name),prefixes,nextPageToken", delimiter="/").pages
            for page in pages:
                found.update(blob.name for blob in page)
                found.update(page.prefixes)
        return sorted({name.removeprefix(folder).rstrip("/") for name in found} - {""})

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        with self._explained("list", prefix):
            for blob in self._list(self._folder(prefix), "items(name,size,updated,generation),nextPageToken"):
                key = blob.name.removeprefix(self.bucket.prefix)
                yield ListedObject(key, blob.size or 0, blob.updated.timestamp(), str(blob.generation))

    def create(self, key: str, data: bytes) -> None:
        self._write(key, data, 0)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        self._write(key, data, int(previous or "0"))

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        parts = split_parts(file, piece_size, _SMALLEST_PART)
        with self._explained("write", key):
            if len(parts) > 1:
                self._upload_parts(key, path, file, piece_size, parts, one_at_a_time(progress))
                return
            data = read_whole(path, file)
            try:
                self._write(key, data, 0, gcs_client.UPLOAD_RETRY)
            except ConflictError:
                if self._facts(key) != (file.size, _encoded(google_crc32c.value(data))):
                    raise
            progress(file.size)

    def download(self, key: str, path: Path, progress: Callable[[int], None]) -> None:
        with self._explained("read", key):
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

    def delete(self, key: str, tag: str | None = None) -> None:
        with self._explained("delete", key):
            try:
                self._blob(key).delete(
                    if_generation_match=None if tag is None else int(tag),
                    timeout=gcs_client.QUICK_TIMEOUT,
                    retry=gcs_client.QUICK_RETRY,
                )
            except api.NotFound as error:
                _check_object(error)
            except api.PreconditionFailed:
                raise storage_errors.taken(key) from None

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        found: list[UnfinishedUpload] = []
        query = {"uploads": "", "prefix": self._folder(prefix), "max-uploads": "1000"}
        with self._explained("list", prefix):
            while True:
                reply = _parsed(self._xml("GET", "", query))
                for upload in (child for child in reply if _tag(child) == "Upload"):
                    started = datetime.fromisoformat(_text(upload, "Initiated")).timestamp()
                    key = _text(upload, "Key").removeprefix(self.bucket.prefix)
                    found.append(UnfinishedUpload(key, _text(upload, "UploadId"), started))
                if _text(reply, "IsTruncated") != "true":
                    return found
                query["key-marker"] = _text(reply, "NextKeyMarker")
                query["upload-id-marker"] = _text(reply, "NextUploadIdMarker")

    def abort(self, upload: UnfinishedUpload) -> None:
        with self._explained("delete", upload.key):
            try:
                self._xml("DELETE", upload.key, {"uploadId": upload.id})
            except api.NotFound as error:
                _check_object(error)

    def check_writable(self, need: int) -> None:
        """Ask for a write that cannot succeed: it names a generation that nothing has.

        The service looks first whether we may write, then at the condition, and writes nothing.
        """
        with self._explained("write", ""):
            try:
                self._put(_PROBE, b"", 1, gcs_client.QUICK_RETRY)
            except api.PreconditionFailed:
                return
            self._blob(_PROBE).delete(timeout=gcs_client.QUICK_TIMEOUT, retry=gcs_client.QUICK_RETRY)
        raise storage_errors.no_conditional_writes(self.url, "it wrote an object although the condition did not hold")

    # --- small writes

    def _write(self, key: str, data: bytes, generation: int, retry: Any = None) -> None:
        """Write ``data`` where the object with this generation is; 0: where there is none."""
        with self._explained("write", key):
            try:
                stored = self._put(key, data, generation, retry or gcs_client.QUICK_RETRY)
            except api.PreconditionFailed:
                raise storage_errors.taken(key) from None
            except api.NotFound as error:
                _check_object(error)
                raise storage_errors.taken(key) from None
            if stored != (len(data), _encoded(google_crc32c.value(data))):
                raise _not_ours(f"{self.url}/{key}")

    def _put(self, key: str, data: bytes, generation: int, retry: Any) -> tuple[int, str]:
        blob = self._blob(key)
        blob.cache_control = headers.cache_control(key)
        if self.settings.tags:
            blob.metadata = dict(self.settings.tags)
        blob.upload_from_string(
            data,
            headers.content_type(key),
            if_generation_match=generation,
            checksum="crc32c",
            timeout=gcs_client.QUICK_TIMEOUT if retry is gcs_client.QUICK_RETRY else gcs_client.TIMEOUT,
            retry=retry,
        )
        return blob.size, blob.crc32c

    # --- large files

    def _upload_parts(
        self,
        key: str,
        path: Path,
        file: File,
        piece_size: int,
        parts: list[Part],
        progress: Callable[[int], None],
    ) -> None:
        there = self._facts(key)
        if there is not None:
            whole = _joined((google_crc32c.value(read_part(path, file, piece_size, part)), part) for part in parts)
            if there != (file.size, _encoded(whole)):
                raise storage_errors.taken(key)
            progress(file.size)
            return
        upload_id = _text(_parsed(self._xml("POST", key, {"uploads": ""}, headers=self._headers(key))), "UploadId")
        if not upload_id:
            raise storage_errors.failed_request(self.url, "write", key, "the service began no upload.")
        try:
            sent = send_all(
                parts,
                lambda part: self._send(key, upload_id, read_part(path, file, piece_size, part), part, progress),
                in_flight=_IN_FLIGHT,
            )
            self._complete(key, upload_id, [(part.number, etag) for part, (etag, _) in zip(parts, sent, strict=True)])
        except BaseException:
            with contextlib.suppress(Exception):
                self._xml("DELETE", key, {"uploadId": upload_id})
            raise
        whole = _joined((crc32c, part) for part, (_, crc32c) in zip(parts, sent, strict=True))
        if self._facts(key) != (file.size, _encoded(whole)):
            raise _not_ours(f"{self.url}/{key}")

    def _send(
        self, key: str, upload_id: str, data: bytes, part: Part, progress: Callable[[int], None]
    ) -> tuple[str, int]:
        crc32c = google_crc32c.value(data)
        query = {"partNumber": str(part.number), "uploadId": upload_id}
        reply = self._xml(
            "PUT",
            key,
            query,
            data=data,
            headers={"x-goog-hash": f"crc32c={_encoded(crc32c)}"},
            timeout=gcs_client.TIMEOUT,
            retry=gcs_client.UPLOAD_RETRY,
        )
        progress(part.length)
        return reply.headers["ETag"], crc32c

    def _complete(self, key: str, upload_id: str, parts: Iterable[tuple[int, str]]) -> None:
        root = ET.Element("CompleteMultipartUpload")
        for number, etag in parts:
            part = ET.SubElement(root, "Part")
            ET.SubElement(part, "PartNumber").text = str(number)
            ET.SubElement(part, "ETag").text = etag
        try:
            self._xml(
                "POST",
                key,
                {"uploadId": upload_id},
                data=ET.tostring(root),
                timeout=gcs_client.LONG_TIMEOUT,
                retry=gcs_client.UPLOAD_RETRY,
            )
        except api.NotFound as error:
            # A reply was lost, and the upload is complete: what is stored is compared anyway.
            if "NoSuchUpload" not in said(error):
                raise

    def _headers(self, key: str) -> dict[str, str | bytes]:
        """The headers that begin the upload of an object by the XML API."""
        told: dict[str, str | bytes] = {
            "Content-Type": headers.content_type(key),
            "Cache-Control": headers.cache_control(key),
        }
        if self.settings.encryption_key:
            told["x-goog-encryption-kms-key-name"] = self.settings.encryption_key
        return told | {f"x-goog-meta-{name}": value.encode() for name, value in self.settings.tags.items()}

    # --- requests

    def _facts(self, key: str) -> tuple[int, str] | None:
        """The size and CRC32C of an object, None if there is none."""
        with self._explained("read", key):
            blob = self._blob(key)
            try:
                blob.reload(timeout=gcs_client.QUICK_TIMEOUT, retry=gcs_client.QUICK_RETRY)
            except api.NotFound as error:
                _check_object(error)
                return None
            return blob.size, blob.crc32c

    def _list(self, folder: str, fields: str, **more: str) -> Any:
        return self.client.list_blobs(
            self.bucket.name,
            prefix=folder,
            fields=fields,
            timeout=gcs_client.QUICK_TIMEOUT,
            retry=gcs_client.QUICK_RETRY,
            **more,
        )

    def _xml(
        self,
        method: str,
        key: str,
        query: Mapping[str, str],
        *,
        data: bytes | None = None,
        headers: Mapping[str, str | bytes] | None = None,
        timeout: tuple[float, float] = gcs_client.QUICK_TIMEOUT,
        retry: Any = gcs_client.QUICK_RETRY,
    ) -> requests.Response:
        client, session = self._connect()
        where = f"/{quote(self.bucket.prefix + key, safe='/~')}" if key else ""
        url = f"{client.api_endpoint}/{self.bucket.name}{where}?{urlencode(query)}"

        def once() -> requests.Response:
            reply = session.request(method, url, data=data, headers=headers, timeout=timeout)
            if reply.status_code >= 300:
                raise api.from_http_status(reply.status_code, reply.text, response=reply)
            return reply

        reply: requests.Response = retry(once)()
        return reply

    def _blob(self, key: str) -> storage.Blob:
        bucket = self.client.bucket(self.bucket.name)
        return bucket.blob(self.bucket.prefix + key, kms_key_name=self.settings.encryption_key or None)

    def _folder(self, prefix: str) -> str:
        return f"{self.bucket.prefix}{prefix.rstrip('/')}/" if prefix.rstrip("/") else self.bucket.prefix

    def _connect(self) -> tuple[storage.Client, requests.Session]:
        with self._lock:
            if self._connected is None:
                try:
                    self._connected = gcs_client.make_client(self._endpoint, anonymous=self._anonymous)
                except Exception as error:  # noqa: BLE001
                    # google-auth parses what others wrote: whatever it raises, the credentials cannot be used.
                    raise unusable_credentials(self.url, error) from None
            return self._connected

    def _explained(self, verb: str, key: str) -> contextlib.AbstractContextManager[None]:
        return explained(self.url, self._endpoint, verb, key, self.settings.encryption_key)


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


def _check_object(error: api.NotFound) -> None:
    """Pass where only an object is not there; a bucket, or a service, that is not there is an error."""
    if is_no_bucket(error) or is_elsewhere(error):
        raise error


def _not_ours(where: str) -> IntegrityError:
    return IntegrityError(
        f"{where} is not what was sent: the service stored other bytes.",
        "Run the same command again. If it happens again, a proxy or the service changes bytes.",
    )


def _encoded(crc32c: int) -> str:
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()


def _joined(parts: Iterable[tuple[int, Part]]) -> int:
    """The CRC32C of a whole, from those of its parts in order."""
    whole = 0
    for crc32c, part in parts:
        # As if as many zeros followed; the two inversions undo those that every CRC32C begins and ends with.
        whole ^= 0xFFFFFFFF
        for start in range(0, part.length, len(_ZEROS)):
            whole = google_crc32c.extend(whole, _ZEROS[: part.length - start])
        whole ^= 0xFFFFFFFF ^ crc32c
    return whole


def _parsed(reply: requests.Response) -> ET.Element:
    return ET.fromstring(reply.content)  # noqa: S314 -- the service's own answer


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: ET.Element, name: str) -> str:
    return next((child.text or "" for child in element if _tag(child) == name), "")
