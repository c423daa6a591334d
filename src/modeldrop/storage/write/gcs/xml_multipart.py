"""Large files in parallel parts, by the XML API's multipart uploads.

Google has them; emulators, gateways and some proxies do not. They know no conditions: the object must be known not to
be there, and nobody but the owner of a claim writes the files of a version.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import datetime
from typing import TYPE_CHECKING

from google.api_core import exceptions as api

from modeldrop.storage import errors as storage_errors
from modeldrop.storage.sdk_answers import expected, fields_expected
from modeldrop.storage.write import headers
from modeldrop.storage.write.gcs import checksums
from modeldrop.storage.write.gcs import client as gcs_client
from modeldrop.storage.write.gcs.errors import is_no_bucket, xml_code
from modeldrop.storage.write.multipart import send_all
from modeldrop.storage.write.store import UnfinishedUpload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import requests

    from modeldrop.storage.write.gcs.connection import Connection
    from modeldrop.storage.write.multipart import PartBody

_IN_FLIGHT = 8
_UNSAID = frozenset({401, 408, 429, 500, 502, 503, 504})
"""Statuses that say nothing about what the service has."""
_LACKS = frozenset({"", "NotImplemented", "MethodNotAllowed", "UnsupportedOperation"})


class XMLMultipart:
    """The multipart uploads of a bucket.

    Attributes:
        lacking: the service's answers say that it has none.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.lacking = False

    def begin(self, key: str) -> str:
        """Begin an upload and return its id; "" where the service has no such uploads."""
        if self.lacking:
            return ""
        reply = self._ask("POST", key, {"uploads": ""}, "InitiateMultipartUploadResult", self._headers(key))
        upload_id = "" if reply is None else _text(reply, "UploadId")
        self.lacking = not upload_id
        return upload_id

    def send(self, key: str, upload_id: str, bodies: Sequence[PartBody], progress: Callable[[int], None]) -> int:
        """Send all parts, several at a time, and join them; return the CRC32C of the whole."""
        sent = send_all(bodies, lambda body: self._send(key, upload_id, body, progress), in_flight=_IN_FLIGHT)
        self._complete(key, upload_id, [(body.part.number, etag) for body, etag, _ in sent])
        return checksums.joined((crc32c, body.part) for body, _, crc32c in sent)

    def abort(self, key: str, upload_id: str) -> None:
        """Free an upload's parts.

        Raises:
            NotFound: it is gone.
        """
        self._connection.request("DELETE", self._connection.xml_url(key, {"uploadId": upload_id}))

    def unfinished(self, folder: str) -> list[UnfinishedUpload]:
        """Uploads of objects whose names begin with ``folder``; none where the service has no such uploads."""
        found: list[UnfinishedUpload] = []
        query = {"uploads": "", "prefix": folder, "max-uploads": "1000"}
        while True:
            reply = self._ask("GET", "", query, "ListMultipartUploadsResult")
            if reply is None:
                return []
            for upload in (child for child in reply if _tag(child) == "Upload"):
                with fields_expected():
                    started = datetime.fromisoformat(_text(upload, "Initiated")).timestamp()
                key = _text(upload, "Key").removeprefix(self._connection.bucket.prefix)
                found.append(UnfinishedUpload(key, _text(upload, "UploadId"), started))
            if _text(reply, "IsTruncated") != "true":
                return found
            markers = {
                "key-marker": _text(reply, "NextKeyMarker"),
                "upload-id-marker": _text(reply, "NextUploadIdMarker"),
            }
            if markers.items() <= query.items() or not any(markers.values()):
                raise storage_errors.endless(self._connection.bucket.url, "")
            query |= markers

    def _ask(
        self,
        method: str,
        key: str,
        query: dict[str, str],
        wanted: str,
        told: dict[str, str | bytes] | None = None,
    ) -> ET.Element | None:
        """The document of this name that the XML API answers with; None where what answers is no such API."""
        try:
            reply = self._connection.request(method, self._connection.xml_url(key, query), headers=told)
            document = ET.fromstring(reply.content)  # noqa: S314 -- the service's own answer
        except ET.ParseError:
            return None
        except api.GoogleAPICallError as error:
            gone = isinstance(error, api.NotFound) and is_no_bucket(error)
            if gone or error.code in _UNSAID or xml_code(error) not in _LACKS:
                raise
            return None
        return document if _tag(document) == wanted else None

    def _send(
        self, key: str, upload_id: str, body: PartBody, progress: Callable[[int], None]
    ) -> tuple[PartBody, str, int]:
        crc32c = checksums.verified(body)
        # Explained here, because what was answered is known in this thread alone.
        with self._connection.explained("write", key), body.sending():
            reply = self._connection.request(
                "PUT",
                self._connection.xml_url(key, {"partNumber": str(body.part.number), "uploadId": upload_id}),
                data=body,
                headers={"x-goog-hash": f"crc32c={checksums.encoded(crc32c)}"},
                timeout=gcs_client.TIMEOUT,
                retry=gcs_client.UPLOAD_RETRY,
            )
            etag = expected(reply.headers.get("ETag"), "ETag")
        progress(body.part.length)
        return body, etag, crc32c

    def _complete(self, key: str, upload_id: str, parts: Iterable[tuple[int, str]]) -> requests.Response | None:
        root = ET.Element("CompleteMultipartUpload")
        for number, etag in parts:
            part = ET.SubElement(root, "Part")
            ET.SubElement(part, "PartNumber").text = str(number)
            ET.SubElement(part, "ETag").text = etag
        try:
            return self._connection.request(
                "POST",
                self._connection.xml_url(key, {"uploadId": upload_id}),
                data=ET.tostring(root),
                timeout=gcs_client.LONG_TIMEOUT,
                retry=gcs_client.UPLOAD_RETRY,
            )
        except api.NotFound as error:
            # A reply was lost, and the upload is complete: what is stored is compared anyway.
            if xml_code(error) != "NoSuchUpload":
                raise
            return None

    def _headers(self, key: str) -> dict[str, str | bytes]:
        settings = self._connection.settings
        told: dict[str, str | bytes] = {
            "Content-Type": headers.content_type(key),
            "Cache-Control": headers.cache_control(key),
        }
        if settings.encryption_key:
            told["x-goog-encryption-kms-key-name"] = settings.encryption_key
        return told | {f"x-goog-meta-{name}": value.encode() for name, value in settings.tags.items()}


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(element: ET.Element, name: str) -> str:
    return next((child.text or "" for child in element if _tag(child) == name), "")
