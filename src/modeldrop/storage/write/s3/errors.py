"""Turns exceptions of botocore into errors of ``modeldrop.storage.errors``, and says which are worth a retry."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore import exceptions

from modeldrop.errors import DiskError, IntegrityError, ModeldropError, NotFoundError, RegistryError
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.answer_text import asks_for_tls, is_page, page_title, read_body, what_broke
from modeldrop.storage.botocore_answers import ANSWER
from modeldrop.storage.s3_address import is_amazon
from modeldrop.storage.sdk_answers import (
    SdkAnswer,
    UnreadableAnswerError,
    answers_explained,
    explain_unreadable,
    not_the_service,
)
from modeldrop.storage.write.s3.client import signing_in_actions
from modeldrop.storage.write.s3.unsupported import is_unsupported, unsupported

if TYPE_CHECKING:
    import contextlib


class OutOfRangeError(RegistryError):
    """The object has no bytes in the range that was asked for: it is empty, or was replaced."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """The request that failed, for the error's message.

    Attributes:
        url: the registry.
        bucket: the bucket's name.
        verb: what was tried: ``read``, ``write``, ``list``, ``delete``.
        key: the object, or "".
        endpoint: the service's address, "" while it is not known.
        region: the region that requests are signed for.
        headers: those of the request that not every service knows (``unsupported.headers_of``).
    """

    url: str
    bucket: str
    verb: str
    key: str
    endpoint: str = ""
    region: str = ""
    headers: tuple[str, ...] = ()


_MISSING = {"NoSuchKey", "NoSuchUpload", "NoSuchVersion", "404", "NotFound"}
_CONFLICT = {"PreconditionFailed", "412", "ConditionalRequestConflict", "OperationAborted", "409"}
_REJECTED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "InvalidSecurity",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "AuthFailure",
    "AuthorizationHeaderMalformed",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_REGION = {"PermanentRedirect", "TemporaryRedirect", "Redirect", "IllegalLocationConstraintException", "301", "307"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"}
_RETRYABLE = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_SESSION_ENDED = (
    exceptions.UnauthorizedSSOTokenError,
    exceptions.SSOTokenLoadError,
    exceptions.TokenRetrievalError,
)
_STREAM_BROKEN = (
    exceptions.ConnectionClosedError,
    exceptions.ReadTimeoutError,
    exceptions.ResponseStreamingError,
    exceptions.IncompleteReadError,
)
_NOT_REACHED = (
    exceptions.EndpointConnectionError,
    exceptions.ConnectTimeoutError,
    exceptions.ProxyConnectionError,
)
FAILURES = (exceptions.BotoCoreError, exceptions.ClientError, UnreadableAnswerError)
"""What a request fails with: botocore's errors, and an answer that is none."""

_ELEMENT = re.compile(r"[A-Za-z0-9-]{1,40}")


def request_explained() -> contextlib.AbstractContextManager[None]:
    """Around one request: what is raised inside is one of ``FAILURES``, or our own."""
    return answers_explained(exceptions.BotoCoreError, exceptions.ClientError)


def code_of(error: BaseException) -> str:
    """S3's own code for an answer, such as ``NoSuchKey``; its status where it has no body, "" for no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, exceptions.ClientError) else ""


def status_of(error: BaseException) -> int:
    """The HTTP status of an answer, 0 for no answer."""
    if not isinstance(error, exceptions.ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_web_page(error: BaseException) -> bool:
    """Whether a web server answered that is no S3, and not because it is busy, or wants somebody to sign in."""
    if not isinstance(error, exceptions.ClientError):
        return False
    answer = _answer(error)
    known = "x-amz-request-id" in error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return not known and is_page(answer.body) and answer.status < 500 and answer.status not in {401, 403, 408, 429}


def _answer(error: exceptions.ClientError) -> SdkAnswer:
    return error.response.get(ANSWER) or SdkAnswer(status_of(error))


def _redirects_elsewhere(error: exceptions.ClientError) -> bool:
    """Whether it is no S3 that redirects: that names the region."""
    answer = _answer(error)
    return 300 <= answer.status < 400 and answer.status != 304 and code_of(error).isdigit() and not _region_of(error)


def never_reached(error: BaseException) -> bool:
    """Whether no connection was made."""
    return isinstance(error, _NOT_REACHED)


def answered(error: BaseException) -> bool:
    """Whether the service answered."""
    return isinstance(error, (exceptions.ClientError, UnreadableAnswerError))


def is_retryable(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, exceptions.ClientError):
        status = status_of(error)
        if is_web_page(error):
            return False
        return code_of(error) in _RETRYABLE or status == 429 or (status >= 500 and status not in {501, 507})
    if isinstance(error, (exceptions.SSLError, exceptions.FlexibleChecksumError)):
        return False
    return isinstance(error, (*_NOT_REACHED, *_STREAM_BROKEN))


def out_of_range(error: BaseException) -> bool:
    """Whether the object has no bytes in the range that was asked for."""
    return code_of(error) == "InvalidRange" or status_of(error) == 416


def explain(error: Exception, context: RequestContext) -> ModeldropError:
    """The error to raise instead of botocore's.

    ConflictError and NotFoundError are answers that the store acts on; the rest are for people.
    """
    if isinstance(error, UnreadableAnswerError):
        return explain_unreadable(
            error, url=context.url, verb=context.verb, key=context.key, endpoint=_host(context.endpoint)
        )
    if isinstance(error, exceptions.ClientError):
        missing = context.verb == "list" and code_of(error) == "404"
        if missing or is_web_page(error) or _redirects_elsewhere(error):
            return not_the_service(
                _answer(error),
                url=context.url,
                verb=context.verb,
                key=context.key,
                endpoint=_host(context.endpoint),
            )
        return _explain_answer(error, context)
    if isinstance(error, exceptions.FlexibleChecksumError):
        return IntegrityError(
            f"{context.url}/{context.key} arrived with other bytes than its checksum says.", "Try again."
        )
    return _explain_sign_in(error, context) or _explain_connection(error, context)


def _explain_answer(error: exceptions.ClientError, context: RequestContext) -> ModeldropError:
    code, status, url = code_of(error), status_of(error), context.url
    if error.operation_name.startswith("AssumeRole") or error.operation_name == "GetRoleCredentials":
        return _explain_role(error, context)
    if code == "NoSuchBucket":
        there = f" at {storage_errors.redact(context.endpoint)}" if not is_amazon(context.endpoint) else ""
        return storage_errors.no_bucket(url, f"bucket {context.bucket}{there}")
    if code in _MISSING:
        return NotFoundError(f"{url}/{context.key} is not there.", "It was removed by hand, or pruned.")
    if code in _EXPIRED:
        return storage_errors.expired(url)
    if code == "RequestTimeTooSkewed":
        return RegistryError(
            f"{url}: the service refuses requests from this machine, because its clock is wrong by minutes.",
            "Set the clock (chronyc makestep, timedatectl set-ntp true), and try again.",
        )
    there = _region_of(error)
    if code in _REGION or status in {301, 307} or (status == 400 and there not in {"", context.region}):
        return _explain_region(there, context)
    if code in _REJECTED:
        return storage_errors.credentials_rejected(url)
    if code.startswith("KMS.") or "kms:" in str(error):
        return RegistryError(
            f"Could not {context.verb} {url}/{context.key}: its encryption key cannot be used: "
            f"{storage_errors.detail(_message(error))}",
            "Give this identity kms:GenerateDataKey and kms:Decrypt on the key, and check encryption-key.",
        )
    return _explain_refusal(error, context)


def _explain_region(there: str, context: RequestContext) -> ModeldropError:
    if there == context.region:
        return storage_errors.unavailable(
            context.url, context.verb, context.key, "the bucket is new, and not known everywhere yet"
        )
    return storage_errors.wrong_region(context.url, context.region, there)


def _explain_refusal(error: exceptions.ClientError, context: RequestContext) -> ModeldropError:
    code, status = code_of(error), status_of(error)
    if code in {"AccessDenied", "Forbidden", "AllAccessDisabled"} or status in {401, 403}:
        return storage_errors.denied(
            context.url,
            context.verb,
            context.key,
            may_be_missing=context.verb == "read" and bool(context.key),
            status=status,
            said=_message(error),
        )
    if code in _FULL or status == 507:
        return DiskError(f"The store of {context.url} is full: could not {context.verb} {context.key}.", "Free some.")
    if code in _CONFLICT or status in {409, 412}:
        return storage_errors.taken(context.key)
    if code in _DAMAGED:
        return IntegrityError(
            f"{context.url}/{context.key}: what arrived is not what was sent.", "Something on the way changes bytes."
        )
    if is_unsupported(error, context.headers):
        return unsupported(error, context.url, context.verb, context.key, context.headers)
    if status >= 500 or status == 429 or code in _RETRYABLE:
        return storage_errors.unavailable(
            context.url, context.verb, context.key, f"the service answers {status} ({_message(error)})"
        )
    return storage_errors.failed_request(
        context.url, context.verb, context.key, f"the service answers {status} ({_message(error)})"
    )


def _explain_role(error: exceptions.ClientError, context: RequestContext) -> ModeldropError:
    code = code_of(error)
    if _answer(error).is_outage:
        return not_the_service(_answer(error), url=context.url, verb="sign in to", key="", endpoint="")
    if code in _EXPIRED:
        return storage_errors.expired(context.url, "the identity token")
    if code == "UnauthorizedException":
        return storage_errors.expired(context.url, "the session of `aws sso login`")
    return RegistryError(
        f"{context.url}: signing in failed: the role cannot be taken on ({code}): "
        f"{storage_errors.detail(_message(error))}",
        "Check the role's name and its trust policy: docs/storage.md has one for GitHub Actions.",
    )


def _explain_sign_in(error: Exception, context: RequestContext) -> ModeldropError | None:
    url = context.url
    if isinstance(error, exceptions.NoCredentialsError):
        return storage_errors.no_credentials(url, signing_in_actions())
    if isinstance(error, exceptions.PartialCredentialsError):
        fields = _fields(error)
        return storage_errors.half_credential(
            url, f"one half of the credential ({fields.get('provider', 'profile')})", str(fields.get("cred_var", ""))
        )
    if isinstance(error, _SESSION_ENDED) or type(error).__name__.startswith("Login"):
        return storage_errors.expired(url, "the session of `aws sso login` (or `aws login`)")
    if isinstance(error, (exceptions.CredentialRetrievalError, exceptions.MetadataRetrievalError)):
        what = _fields(error).get("provider", "the metadata service")
        return RegistryError(
            f"{url}: no credentials came from {what}: {storage_errors.detail(_fields(error).get('error_msg', error))}",
            "Sign in again, and run that program by hand to see what it says.",
        )
    return None


def _explain_connection(error: Exception, context: RequestContext) -> ModeldropError:
    fields = _fields(error)
    endpoint = _host(fields.get("endpoint_url") or fields.get("proxy_url") or context.endpoint)
    if isinstance(error, exceptions.SSLError):
        return storage_errors.tls_failed(context.url, endpoint, str(error))
    if isinstance(error, _NOT_REACHED):
        return storage_errors.unreachable(context.url, endpoint, _reason(error))
    if isinstance(error, exceptions.ReadTimeoutError):
        return storage_errors.unavailable(context.url, context.verb, context.key, f"{endpoint} stopped answering")
    if isinstance(error, _STREAM_BROKEN):
        reason = what_broke(str(error))
        if asks_for_tls(str(error)):
            return storage_errors.only_tls(context.url, endpoint)
        what = f"{endpoint}: {reason}" if reason else f"{endpoint} broke the connection off"
        return storage_errors.unavailable(context.url, context.verb, context.key, what)
    if isinstance(error, exceptions.BotoCoreError):
        # Its first line may be a heading: what is wrong follows.
        text = " ".join(str(error).split())
        return storage_errors.failed_request(context.url, context.verb, context.key, text)
    return storage_errors.failed_request(context.url, context.verb, context.key, error)


def _region_of(error: exceptions.ClientError) -> str:
    """The region in which S3 says the bucket is, or ""."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    there = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region") or ""
    return there if _ELEMENT.fullmatch(there) else ""


def _message(error: exceptions.ClientError) -> str:
    """What the service says, its own code included, in one line."""
    body = _answer(error).body
    if is_page(body):
        return f"a web page {page_title(body)}".rstrip()
    told = error.response.get("Error", {})
    parts = [str(told.get(name) or "") for name in ("Code", "Message")]
    said = read_body(body)[1] or ": ".join(part for part in parts if part and not part.isdigit())
    return storage_errors.detail(said, 300).rstrip(".") if said else "no reason is given"


def _fields(error: Exception) -> dict[str, Any]:
    return getattr(error, "kwargs", {})


def _host(address: object) -> str:
    """Scheme, host and port of an address: a path would name a bucket, a query could hold a signature."""
    found = re.match(r"[a-z]+://[^/?#]+", str(address))
    return found[0] if found else str(address)


def _reason(error: Exception) -> str:
    text = str(_fields(error).get("error", error))
    if isinstance(error, exceptions.ConnectTimeoutError):
        return "it does not answer"
    if isinstance(error, exceptions.ProxyConnectionError):
        return "the proxy does not let the connection through"
    if any(sign in text for sign in ("resolve", "Name or service", "nodename", "No address", "getaddrinfo")):
        return "its name does not resolve"
    for number, reason in (
        (errno.ECONNREFUSED, "connection refused"),
        (errno.ENETUNREACH, "there is no network"),
        (errno.EHOSTUNREACH, "there is no route to it"),
        (errno.ETIMEDOUT, "it does not answer"),
    ):
        if f"Errno {number}]" in text:
            return reason
    return "no connection could be made"
