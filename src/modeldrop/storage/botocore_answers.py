"""What botocore's clients are answered: noted for errors, bounded, and refused where it is not what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore import exceptions
from urllib3.exceptions import HTTPError, ReadTimeoutError

from modeldrop.storage.answer_text import MAX_BODY
from modeldrop.storage.sdk_answers import (
    AnswerTooLargeError,
    UnreadableAnswerError,
    beginning,
    bounded,
    expected,
    latest_answer,
    note_answer,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

ANSWER = "Answer"
"""Where ``ClientError.response`` has the ``SdkAnswer``: botocore changes statuses, and drops what it does not know."""

_ROOTS = {
    "ListObjectsV2": b"<ListBucketResult",
    "ListMultipartUploads": b"<ListMultipartUploadsResult",
    "CreateMultipartUpload": b"<InitiateMultipartUploadResult",
    "AssumeRoleWithWebIdentity": b"<AssumeRoleWithWebIdentityResponse",
}
_PROLOGUE = 4096
_FIELDS = {
    "CreateMultipartUpload": ("UploadId",),
    "GetObject": ("ETag", "ContentLength"),
    "HeadObject": ("ETag", "ContentLength"),
    "PutObject": ("ETag",),
    "UploadPart": ("ETag",),
    "AssumeRoleWithWebIdentity": ("Credentials",),
}
_FIELDS_OF_ENTRIES = {
    "CommonPrefixes": ("Prefix",),
    "Contents": ("Key", "Size", "LastModified", "ETag"),
    "Uploads": ("Key", "UploadId", "Initiated"),
}
_FIELDS_FOR_MORE = {
    "ListObjectsV2": ("NextContinuationToken",),
    "ListMultipartUploads": ("NextKeyMarker", "NextUploadIdMarker"),
}


def look_at_answers(client: Any) -> None:
    """Let a client of botocore keep what refusals say, and refuse what lacks what such an answer has.

    Its calls then raise UnreadableAnswerError, too.
    """
    client.meta.events.register("before-parse", _look_at_body)
    client.meta.events.register("after-call", _look_at_fields)


def note_answers(http_session: Any) -> None:
    """Let an HTTP session of botocore note what it is answered, and take only so much of it into memory."""
    send = http_session.send

    def send_noted(request: Any) -> Any:
        streamed, request.stream_output = request.stream_output, True
        response = send(request)
        whole: bytes | None = None
        if response.status_code >= 300:
            whole = beginning(response.raw.stream(), (HTTPError, OSError))
            if len(whole) >= MAX_BODY:
                response.raw.close()  # the rest may be endless
        elif not streamed:
            try:
                whole = b"".join(bounded(response.raw.stream()))
            except AnswerTooLargeError:
                response.raw.close()
                raise
            except ReadTimeoutError as error:
                raise exceptions.ReadTimeoutError(endpoint_url=request.url, error=error) from error
            except (HTTPError, OSError) as error:
                raise exceptions.ConnectionClosedError(
                    error=error, request=request, endpoint_url=request.url
                ) from error
        if whole is not None:
            response._content = whole  # noqa: SLF001
        location = response.headers.get("location")
        note_answer(response.status_code, whole, request.url, location, close=response.raw.close)
        return response

    http_session.send = send_noted


def _look_at_body(operation_model: Any, response_dict: Any, customized_response_dict: dict[str, Any], **_: Any) -> None:
    """Keep a refusal as it came, and refuse a document that was not asked for: botocore takes it for an empty one."""
    if response_dict["status_code"] >= 300:
        customized_response_dict[ANSWER] = latest_answer()
        return
    root = _ROOTS.get(operation_model.name)
    if root is not None and root not in response_dict["body"][:_PROLOGUE]:
        raise UnreadableAnswerError("", latest_answer())


def _look_at_fields(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
    if http_response.status_code >= 300:
        return
    for name in _FIELDS.get(model.name, ()):
        expected(parsed.get(name), name)
    for entries, names in _FIELDS_OF_ENTRIES.items():
        for entry in parsed.get(entries, ()):
            for name in names:
                expected(entry.get(name), name)
    if parsed.get("IsTruncated"):
        for name in _FIELDS_FOR_MORE.get(model.name, ()):
            expected(parsed.get(name), name)
