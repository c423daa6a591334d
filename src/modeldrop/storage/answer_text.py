"""What the body of an answer says in one line, whatever it is: XML, JSON, a web page, text, or nothing of these.

Loaded only where something failed: a body may come from anybody who stands between us and the service.
"""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

from modeldrop.storage.errors import detail

MAX_BODY = 64 << 10
"""Bytes of a body that are looked at: errors stand at the beginning."""

_MAX_SAID = 300
_CODE = re.compile(r"<Code>\s*([\w.-]+)")
_MESSAGE = re.compile(r"<(?:Message|Details|title)>\s*([^<]+?)\s*<", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>\s*([^<]+?)\s*<", re.IGNORECASE)
_TLS_ONLY = re.compile(
    r"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server|plain HTTP to an SSL-enabled"
    r"|requires TLS|BadStatusLine\(\W*(?:\\x15\\x03|\x15\x03)"
)
_DECLARATION = re.compile(r"\A<\?xml[^>]*>")
_NOT_HTTP = (
    (re.compile(r"BadStatusLine|UnknownProtocol|InvalidHeader"), "it does not answer in HTTP"),
    (re.compile(r"LineTooLong|got more than \d+"), "its answer begins with more headers than any service sends"),
    (re.compile(r"InvalidChunk|IncompleteRead|ChunkedEncoding|Response ended prematurely"), "its answer broke off"),
)
_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|title|h1|center)\b", re.IGNORECASE
)


def read_body(body: str) -> tuple[str, str]:
    """The service's own name of an error, or "", and all that a body says, in one line without secrets."""
    body = body[:MAX_BODY]
    found = _CODE.search(body)
    code, texts = found[1] if found else "", _MESSAGE.findall(body)
    if body.lstrip().startswith("{"):
        code, texts = _read_json(body)
    if not texts and not code:
        texts = [_DECLARATION.sub("", body.lstrip("\ufeff \r\n\t")).lstrip()]
    lines = [unescape(text).strip().partition("\n")[0].rstrip() for text in texts]
    message = " ".join(dict.fromkeys(line for line in lines if line))
    said = ": ".join(part for part in (code, message) if part)
    return code, detail(said, _MAX_SAID) if said else ""


def is_page(body: str) -> bool:
    """Whether it is a web page: no storage service answers with one."""
    return bool(_PAGE.match(body[:MAX_BODY]))


def page_title(body: str) -> str:
    """The title of a web page, in quotes; or ""."""
    title = _TITLE.search(body[:MAX_BODY])
    return f"“{detail(unescape(title[1]), 100)}”" if title else ""


def asks_for_tls(text: str) -> bool:
    """Whether an answer, or what a library says of it, is that of a port for https that was asked without TLS."""
    return bool(_TLS_ONLY.search(text[:MAX_BODY]))


def what_broke(text: str) -> str:
    """What was wrong with an answer that is no HTTP, out of what Python's libraries say of it; "" for all else."""
    return next((said for pattern, said in _NOT_HTTP if pattern.search(text[:MAX_BODY])), "")


def describe(status: int, body: str) -> str:
    """An answer in a few words: its status and first line, or that it is a web page."""
    if is_page(body):
        return f"{status} with a web page {page_title(body)}".rstrip()
    _, said = read_body(body)
    return f"{status} ({said.rstrip('.')})" if said else str(status)


def _read_json(body: str) -> tuple[str, list[str]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "", []
    inner = document.get("error")
    found: dict[str, Any] = inner if isinstance(inner, dict) else document
    texts = [found.get(name) for name in ("message", "Message", "error_description")]
    code = next((found[name] for name in ("status", "Code", "code", "error") if isinstance(found.get(name), str)), "")
    return code, [text for text in texts if isinstance(text, str)]
