"""What GCS's JSON and XML documents, headers and bodies say."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from email.utils import format_datetime
from typing import Any

from tests.servers.gcs_objects import (
    About,
    Object,
    Refusal,
    unknown,
)

JSON_HEADERS = {"Content-Type": "application/json; charset=UTF-8"}


def media_headers(there: Object) -> dict[str, str]:
    """What the headers of an object's media say about it."""
    hashes = f"crc32c={there.crc32c}" + (f",md5={there.md5}" if there.md5 else "")
    headers = {
        "Content-Type": there.about.content_type,
        "ETag": f'"{there.etag}"',
        "Last-Modified": format_datetime(there.updated, usegmt=True),
        "Accept-Ranges": "bytes",
        "x-goog-generation": str(there.generation),
        "x-goog-metageneration": "1",
        "x-goog-hash": hashes,
        "x-goog-storage-class": "STANDARD",
        "x-goog-stored-content-encoding": "identity",
        "x-goog-stored-content-length": str(len(there.data)),
    }
    if there.about.cache_control:
        headers["Cache-Control"] = there.about.cache_control
    for name, value in there.about.metadata.items():
        headers[f"x-goog-meta-{name}"] = value.encode().decode("latin-1")
    return headers


def bucket_resource(name: str, resource: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in resource.items() if not key.startswith("_")}
    fixed = {"kind": "storage#bucket", "id": name, "name": name, "metageneration": "1", "projectNumber": "1"}
    defaults = {"location": "EU", "locationType": "multi-region", "storageClass": "STANDARD"}
    return defaults | shown | fixed


def about_of(document: Mapping[str, Any], kms_key: str) -> About:
    allowed = {"name", "bucket", "contentType", "cacheControl", "metadata", "kmsKeyName", "crc32c", "md5Hash"}
    for name in document:
        if name not in allowed:
            raise unknown(f"{name} in an object's metadata")
    return About(
        document.get("contentType") or "application/octet-stream",
        document.get("cacheControl", ""),
        document.get("metadata", {}),
        kms_key or document.get("kmsKeyName", ""),
    )


def hashes_of(document: Mapping[str, Any]) -> dict[str, str]:
    names = {"crc32c": "crc32c", "md5Hash": "md5"}
    return {short: document[name] for name, short in names.items() if name in document}


def parse_related(content_type: str, body: bytes) -> tuple[dict[str, Any], str, bytes]:
    """The metadata, media type and bytes of a multipart/related body."""
    boundary = re.search(r'boundary="?([^";]+)"?', content_type)
    if not content_type.startswith("multipart/related") or boundary is None:
        raise unknown(f"the media type {content_type}")
    mark = b"--" + boundary[1].encode()
    head, _, rest = body.removeprefix(mark + b"\r\n").partition(b"\r\n" + mark + b"\r\n")
    document = head.partition(b"\r\n\r\n")[2]
    fields, _, data = rest.partition(b"\r\n\r\n")
    said = re.search(rb"(?i)content-type: *([^\r\n]+)", fields)
    return json.loads(document), said[1].decode() if said else "", data[: data.rindex(b"\r\n" + mark + b"--")]


def child_text(element: ET.Element, name: str) -> str:
    return next((child.text or "" for child in element if child.tag.rpartition("}")[2] == name), "")


def page_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def parse_page_token(token: str) -> str:
    return base64.urlsafe_b64decode(token).decode()


def error_document(refusal: Refusal) -> dict[str, Any]:
    error = {"message": refusal.message, "domain": "global", "reason": refusal.reason}
    return {"error": {"code": refusal.status, "message": refusal.message, "errors": [error]}}
