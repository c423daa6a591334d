"""Large files by the JSON API's resumable uploads: one stream, on the condition that the object is not there yet.

A connection that was cut goes on from the byte that the service has kept. The address of an upload is a secret: who
has it may write.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import google_crc32c
import requests
from google.api_core import exceptions as api

from modeldrop.storage import errors as storage_errors
from modeldrop.storage.write import headers
from modeldrop.storage.write.gcs import checksums
from modeldrop.storage.write.gcs import client as gcs_client
from modeldrop.storage.write.interruption import freed_on_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from modeldrop.storage.write.gcs.connection import Connection
    from modeldrop.storage.write.multipart import PartBody

_UNIT = 256 << 10
"""All that is sent but the end is a multiple of this, as the service demands."""
_STARTS = 3
_KEPT = re.compile(r"bytes=0-(\d+)")
_GIVEN_UP = 499
_FORGOTTEN = frozenset({404, 410})


class _LostUploadError(Exception):
    """The service has given up the upload."""


def send_resumable(
    connection: Connection,
    key: str,
    bodies: Sequence[PartBody],
    progress: Callable[[int], None],
) -> int:
    """Write an object that must not be there yet; return its CRC32C.

    Whatever fails, or interrupts, the upload is cancelled.

    Args:
        connection: the bucket.
        key: the object.
        bodies: its parts in order; one at a time is in memory.
        progress: told every number of bytes that the service has taken.

    Raises:
        PreconditionFailed: the object is there.
        GoogleAPICallError, RequestException: it could not be written.
        RegistryError: the service does not keep to the protocol.
    """
    told = 0
    size = sum(map(len, bodies))

    def report(done: int) -> None:  # what is sent again counts once
        nonlocal told
        if done > told:
            progress(done - told)
            told = done

    for _ in range(_STARTS):
        with (
            contextlib.suppress(_LostUploadError),
            freed_on_failure(lambda: ResumableUpload(connection, key, size), ResumableUpload.cancel) as upload,
        ):
            return upload.send(bodies, report)
    raise storage_errors.failed_request(
        connection.bucket.url, "write", key, f"the service gave up the upload {_STARTS} times before its end."
    )


class ResumableUpload:
    """An upload that has begun.

    Args:
        connection: the bucket.
        key: the object.
        size: in bytes.
    """

    def __init__(self, connection: Connection, key: str, size: int) -> None:
        self._connection = connection
        self._key = key
        self._size = size
        settings = connection.settings
        name = connection.bucket.prefix + key
        query = {"uploadType": "resumable", "name": name, "ifGenerationMatch": "0"}
        if settings.encryption_key:
            query["kmsKeyName"] = settings.encryption_key
        document: dict[str, Any] = {
            "name": name,
            "contentType": headers.content_type(key),
            "cacheControl": headers.cache_control(key),
        }
        if settings.tags:
            document["metadata"] = dict(settings.tags)
        reply = connection.request(
            "POST",
            f"{connection.endpoint}/upload/storage/v1/b/{connection.bucket.name}/o?{urlencode(query)}",
            data=json.dumps(document).encode(),
            headers={
                "Content-Type": "application/json; charset=UTF-8",
                "X-Upload-Content-Type": headers.content_type(key),
                "X-Upload-Content-Length": str(size),
            },
            retry=gcs_client.UPLOAD_RETRY,
        )
        there = urlsplit(reply.headers.get("Location", ""))
        if not there.query:
            raise self._failed("the service began no upload")
        # Emulators and gateways name hosts that cannot be reached from here; and a token goes nowhere else.
        self._url = f"{connection.endpoint}{there.path}?{there.query}"

    def send(self, bodies: Sequence[PartBody], report: Callable[[int], None]) -> int:
        """Send everything; return its CRC32C.

        Args:
            bodies: the parts in order.
            report: told how many bytes the service has, again and again.
        """
        crc32c, position, rest = 0, 0, b""
        for body in bodies:
            data = body.verified()
            crc32c = google_crc32c.extend(crc32c, data)
            data = rest + data
            count = len(data) if body is bodies[-1] else len(data) // _UNIT * _UNIT
            rest = data[count:]
            position = self._send_all(data[:count], position, crc32c, report)
        return crc32c

    def cancel(self) -> None:
        """Give it up."""
        try:
            self._connection.request("DELETE", self._url, retry=None)
        except api.GoogleAPICallError as error:
            if error.code != _GIVEN_UP:
                raise

    def _send_all(self, data: bytes, begin: int, crc32c: int, report: Callable[[int], None]) -> int:
        position, end = begin, begin + len(data)
        while position < end:
            position = self._advance(data[position - begin :], position, crc32c)
            if not begin <= position <= end:
                raise _LostUploadError
            report(position)
        return position

    def _advance(self, data: bytes, position: int, crc32c: int) -> int:
        """Send what follows ``position``; after a failure, ask first what has arrived. Where it goes on."""
        failed = False

        def attempt() -> int:
            nonlocal failed
            kept = self._put(b"", f"*/{self._size}", {}) if failed else position
            failed = True
            if kept == position:
                end = position + len(data)
                checked = {"x-goog-hash": f"crc32c={checksums.encoded(crc32c)}"} if end == self._size else {}
                kept = self._put(data, f"{position}-{end - 1}/{self._size}", checked)
            if kept == position:
                raise requests.ConnectionError("the service keeps nothing of what is sent")
            return kept

        return gcs_client.UPLOAD_RETRY(attempt)()

    def _put(self, data: bytes, sent: str, more: Mapping[str, str | bytes]) -> int:
        """Send bytes, or with none only ask; return how many the service has of all."""
        told = {"Content-Range": f"bytes {sent}", **more}
        try:
            reply = self._connection.request(
                "PUT", self._url, data=data, headers=told, timeout=gcs_client.LONG_TIMEOUT, retry=None
            )
        except api.GoogleAPICallError as error:
            if error.code in _FORGOTTEN:
                raise _LostUploadError from None
            raise
        if reply.status_code == 308:
            kept = _KEPT.fullmatch(reply.headers.get("Range", ""))
            return int(kept[1]) + 1 if kept else 0
        self._check_end(reply)
        return self._size

    def _check_end(self, reply: requests.Response) -> None:
        """Take away again what the service made of a part of the bytes: some take a question for the end."""
        try:
            size, generation = int(reply.json()["size"]), int(reply.json()["generation"])
        except (ValueError, KeyError, TypeError):
            raise self._failed("the service ended the upload and did not say with what") from None
        if size != self._size:
            bucket = self._connection.client.bucket(self._connection.bucket.name)
            bucket.blob(self._connection.bucket.prefix + self._key).delete(
                if_generation_match=generation, timeout=gcs_client.QUICK_TIMEOUT, retry=gcs_client.QUICK_RETRY
            )
            raise _LostUploadError

    def _failed(self, what: str) -> Exception:
        return storage_errors.failed_request(self._connection.bucket.url, "write", self._key, f"{what}.")
