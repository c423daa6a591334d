"""Content-Type and Cache-Control of a registry's objects."""

from __future__ import annotations

from modeldrop.format import keys

_TYPES = {
    "bin": "application/octet-stream",
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "md": "text/markdown; charset=utf-8",
    "onnx": "application/octet-stream",
    "txt": "text/plain; charset=utf-8",
    "xml": "application/xml",
}
IMMUTABLE = "public, max-age=31536000, immutable"
NO_CACHE = "no-cache"
_REPLACED = {
    "bom.cdx.json",
    "claim.json",
    "deltas.json",
    "manifest.json",
    "rejected.json",
    "report.html",
    "retired.json",
}


def content_type(key: str) -> str:
    """The media type of an object."""
    name = key.rpartition("/")[2]
    if "." not in name:
        return "application/json" if key.count("/") == 1 else "application/octet-stream"
    return _TYPES.get(name.rpartition(".")[2], "application/octet-stream")


def cache_control(key: str) -> str:
    """``immutable`` for the files of a version; everything that may be replaced is asked for again.

    The manifest among it: prune puts a seal in its place.
    """
    parts = key.split("/")
    immutable = len(parts) > 2 and keys.version_number(parts[1]) is not None and parts[2] not in _REPLACED
    return IMMUTABLE if immutable else NO_CACHE
