"""Says which header or operation a service does not know: by 501, or by 400 with the header's name.

Services differ in how they name it: in ``<Header>``, in their message, by the feature's name, or not at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from modeldrop.errors import RegistryError
from modeldrop.storage import errors as storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from botocore.exceptions import ClientError

CONDITIONS = ("if-none-match", "if-match")
# By boto3's argument: the header that it becomes.
_HEADERS = {
    "IfNoneMatch": "if-none-match",
    "IfMatch": "if-match",
    "Tagging": "x-amz-tagging",
    "ACL": "x-amz-acl",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ChecksumSHA256": "x-amz-checksum-sha256",
    "ChecksumAlgorithm": "x-amz-checksum-algorithm",
    "ChecksumMode": "x-amz-checksum-mode",
    "ContentMD5": "content-md5",
}
# What services call the feature, where they do not name the header.
_WORDS = {
    "if-none-match": "conditional|precondition",
    "if-match": "conditional|precondition",
    "x-amz-tagging": r"tagging|\btags?\b",
    "x-amz-acl": r"\bacls?\b",
    "x-amz-server-side-encryption": r"encryption|\bsse\b|\bkms\b",
    "x-amz-checksum-sha256": "checksum",
    "x-amz-checksum-algorithm": "checksum",
    "x-amz-checksum-mode": "checksum",
}
_SETTINGS = {
    "x-amz-tagging": "tags",
    "x-amz-acl": "acl",
    "x-amz-server-side-encryption": "encryption and encryption-key",
    "x-amz-server-side-encryption-aws-kms-key-id": "encryption-key",
}
_UNKNOWN = re.compile(r"(?i)unsupported|not supported|not implemented|unrecognized|unknown|does not support")


class NotImplementedByServiceError(RegistryError):
    """The service does not know an operation, or a header that was sent with it."""


def headers_of(arguments: Iterable[str]) -> tuple[str, ...]:
    """The headers, small, of a request that not every service knows; from the names of boto3's arguments."""
    return tuple(_HEADERS[name] for name in arguments if name in _HEADERS)


def is_unsupported(error: ClientError, sent: Sequence[str]) -> bool:
    """Whether an answer says that the service does not know what was asked, rather than that it refuses it.

    Args:
        error: the answer.
        sent: what ``headers_of`` gave for the request.
    """
    answer = _answer(error)
    if answer.get("Code") == "NotImplemented" or _status(error) == 501:
        return True
    return _status(error) == 400 and bool(_UNKNOWN.search(str(answer.get("Message")))) and bool(_named(answer, sent))


def unsupported(error: ClientError, url: str, verb: str, key: str, sent: Sequence[str]) -> RegistryError:
    """The error for an answer that ``is_unsupported``: what the service does not know, and what to do without it."""
    answer, status = _answer(error), _status(error)
    named = _named(answer, sent)
    code = str(answer.get("Code") or "").replace(str(status), "")
    said = storage_errors.detail(f"{code}: {answer.get('Message') or 'no reason is given'}".removeprefix(": "), 300)
    said = said.rstrip(".")
    if named in CONDITIONS:
        return storage_errors.no_conditional_writes(
            url, f"it answers {verb} requests with a condition by {status}: {said}"
        )
    asked = [header for header in sent if header in CONDITIONS]
    if asked and not named:
        optional = [header for header in sent if header in _SETTINGS]
        which = f" It does not say whether it lacks these or {', '.join(optional)}." if optional else ""
        refused = storage_errors.no_conditional_writes(
            url, f"it answers {verb} requests with a condition by {status}: {said}"
        )
        return RegistryError(f"{refused.message}{which}", f"{_without(optional)} {refused.hint}".strip())
    where = f"{url}/{key}" if key else url
    what = f"the header {named} of {error.operation_name}" if named else error.operation_name
    return NotImplementedByServiceError(
        f"Could not {verb} {where}: the service does not know {what}. It answers {status}: {said}.",
        _without([named]) or f"Take a newer version of it, or another one. Check it: modeldrop doctor {url}",
    )


def _without(headers: Sequence[str]) -> str:
    settings = " and ".join(dict.fromkeys(_SETTINGS[header] for header in headers if header in _SETTINGS))
    return f"Try without {settings} for this registry in modeldrop.toml." if settings else ""


def _named(answer: Mapping[str, object], sent: Sequence[str]) -> str:
    """The header that an answer names, of those that were sent; "" if it names none."""
    text = f"{answer.get('Header', '')} {answer.get('ArgumentName', '')} {answer.get('Message', '')}".lower()
    for header in sorted(sent, key=len, reverse=True):  # none is taken for one whose name begins like it
        if header in text:
            return header
    return next((header for header in sent if header in _WORDS and re.search(_WORDS[header], text)), "")


def _answer(error: ClientError) -> Mapping[str, object]:
    answer: Mapping[str, object] = error.response.get("Error", {})
    return answer


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
