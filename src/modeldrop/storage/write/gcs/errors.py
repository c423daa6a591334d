"""Turns exceptions of Google's client into errors of ``modeldrop.storage.errors``."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from urllib3.exceptions import NameResolutionError

from modeldrop.errors import IntegrityError, ModeldropError, RegistryError
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.answer_text import asks_for_tls, is_page, page_title, read_body, what_broke
from modeldrop.storage.sdk_answers import (
    SdkAnswer,
    UnreadableAnswerError,
    answers_explained,
    explain_unreadable,
    latest_answer,
    not_the_service,
)
from modeldrop.util.retry import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

_RETRYABLE = frozenset({408, 409, 429, 500, 502, 503, 504})
_LOOKED = (
    "In GitHub Actions: permissions: id-token: write, and google-github-actions/auth before this step. "
    "On a laptop: gcloud auth application-default login. Elsewhere: GOOGLE_APPLICATION_CREDENTIALS."
)
_EXPIRED = re.compile(r"(?i)expired|revoked|invalid_grant|reauth|do not contain the necessary fields")
_UNKNOWN = re.compile(r"(?i)invalid jwt|account not found|invalid_client|deleted_client|unauthorized_client")
_KMS = re.compile(r"(?i)cloudkms|kms key|kmskey|cryptokey|encryption key")
_BROKEN = (
    (re.compile(r"was not found"), "it is not there"),
    (re.compile(r"not a valid json|no attribute"), "it is not a JSON object"),
    (re.compile(r"missing fields ([a-z_, ]+)"), "it lacks {}"),
    (re.compile(r"valid type"), "it has no type that Google's SDK knows"),
    (re.compile(r"PEM|[Dd]eserialize|[Kk]ey"), "its private key cannot be read"),
)
MEANT = (InvalidResponse, api.GoogleAPIError, auth.GoogleAuthError, DataCorruption, OSError)
"""What Google's client raises on purpose; OSError: requests' own are such."""

_CODE = re.compile(r"<Code>([^<]*)</Code>")
_NO_OBJECT = re.compile(r"(?i)no such object|notFound|NoSuchKey|not found")
_DIGEST = re.compile(r"(?i)doesn't match calculated|BadDigest|InvalidDigest|CrcMismatch")


def is_retryable(error: Exception) -> bool:
    """Whether the same request may succeed in a moment. Names that do not resolve and bad certificates do not."""
    if isinstance(error, api.GoogleAPICallError):
        return error.code in _RETRYABLE
    if isinstance(error, auth.TransportError):
        cause = error.args[0] if error.args else None
        return isinstance(cause, Exception) and is_retryable(cause)
    if isinstance(error, InvalidResponse):
        return error.response.status_code in _RETRYABLE
    if isinstance(error, requests.exceptions.SSLError) or _caused_by(error, NameResolutionError):
        return False
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, ConnectionError)
    return isinstance(error, kinds)


def said(error: api.GoogleAPICallError) -> str:
    """What the service itself said, without the request that the client puts before it."""
    body = _body(error) if error.response is not None else str(error.message or "")
    if is_page(body):
        return f"a web page {page_title(body)}".rstrip()
    return read_body(body)[1].removesuffix(".") or "no reason is given"


def _body(error: api.GoogleAPICallError) -> str:
    """The body of an answer, in whatever encoding it claims to be."""
    content = getattr(error.response, "content", b"")
    return content.decode("utf-8", "replace") if isinstance(content, bytes) else ""


def is_busy(error: Exception) -> bool:
    """Whether the service refuses because it is asked too often; it says either to the writers of one object."""
    code = error.response.status_code if isinstance(error, InvalidResponse) else getattr(error, "code", None)
    return code in {429, 503}


def stated_retry_after(error: Exception) -> float:
    """Seconds for which the service wants to be left alone; 0 if it does not say."""
    response = getattr(error, "response", None)
    return 0.0 if response is None else parse_retry_after(response.headers.get("Retry-After", ""))


def xml_code(error: api.GoogleAPICallError) -> str:
    """The code of an error of the XML API, "" where it is no such document."""
    code = _CODE.search(_body(error))
    return code[1] if code else ""


def is_no_bucket(error: api.NotFound) -> bool:
    """Whether the bucket itself is missing, and not only an object in it."""
    text = said(error)
    return "bucket does not exist" in text or "NoSuchBucket" in text


def is_no_object(error: api.NotFound) -> bool:
    """Whether the service itself says that there is no such object."""
    return bool(_NO_OBJECT.search(_body(error)))


def is_elsewhere(error: api.NotFound) -> bool:
    """Whether what answered 404 is a web server, and no storage service: those do not answer with a page."""
    return is_page(_body(error))


@contextlib.contextmanager
def explained(url: str, endpoint: str, verb: str, key: str, kms_key: str = "") -> Iterator[None]:
    """Raise our own error for whatever the client raises inside.

    Args:
        url: the registry.
        endpoint: the service's address, "" for Google's own.
        verb: what is being done: ``read``, ``write``, ``list``, ``delete``.
        key: the object, or "".
        kms_key: the key that writes name, or "".
    """
    try:
        with answers_explained(*MEANT):
            yield
    except (*MEANT, UnreadableAnswerError) as error:
        raise _Explainer(url=url, endpoint=endpoint, verb=verb, key=key, kms_key=kms_key).of(error) from None


def unusable_credentials(url: str, error: Exception) -> ModeldropError:
    """What went wrong while credentials were looked for."""
    path = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    where = f"the file that GOOGLE_APPLICATION_CREDENTIALS names ({path})" if path else "gcloud's own file"
    text = str(error)
    if isinstance(error, auth.TimeoutError) or "default credentials were not found" in text:
        return storage_errors.no_credentials(url, _LOOKED)
    if isinstance(error, auth.TransportError | requests.RequestException | auth.RefreshError | auth.OAuthError):
        return _Explainer(url=url, endpoint="", verb="sign in to", key="", kms_key="").of(error)
    reason = ""
    for pattern, words in _BROKEN:
        if found := pattern.search(text):
            reason = words.format(*(", ".join(sorted(group.split(", "))) for group in found.groups()))
            break
    return RegistryError(
        f"{url}: {where} holds no usable credentials: {reason or storage_errors.detail(text).rstrip('.')}.",
        "Download the credentials again, or unset the variable to use another way to sign in.",
    )


class _Explainer:
    def __init__(self, url: str, endpoint: str, verb: str, key: str, kms_key: str) -> None:
        self._url = url
        self._endpoint = endpoint or "https://storage.googleapis.com"
        self._verb = verb
        self._key = key
        self._kms_key = kms_key

    def of(self, error: Exception) -> ModeldropError:
        if isinstance(error, DataCorruption):
            return self._corrupted()
        if isinstance(error, UnreadableAnswerError):
            return explain_unreadable(error, url=self._url, verb=self._verb, key=self._key, endpoint=self._endpoint)
        if isinstance(error, InvalidResponse):
            answer = error.response
            return self._answer(api.from_http_status(answer.status_code, "", response=answer))
        if isinstance(error, api.GoogleAPICallError):
            return self._answer(error)
        if isinstance(error, auth.TransportError | auth.TimeoutError):
            cause = error.args[0] if error.args else None
            return self._no_connection(cause if isinstance(cause, Exception) else error, "Google's sign-in service")
        if isinstance(error, auth.GoogleAuthError):
            return self._sign_in(error)
        if isinstance(error, requests.exceptions.ContentDecodingError):
            return self._unreadable("its body is not in the encoding that it names")
        if isinstance(error, requests.exceptions.InvalidJSONError):
            return self._unreadable()
        # What requests refuses to send (a tag that is no header, an address that is none) is a ValueError.
        if isinstance(error, requests.RequestException | OSError) and not isinstance(error, ValueError):
            return self._no_connection(error, self._endpoint)
        return storage_errors.failed_request(self._url, self._verb, self._key, error)

    def _answer(self, error: api.GoogleAPICallError) -> ModeldropError:
        text, code = said(error), error.code or 0
        if self._kms_key and code in {400, 403, 404} and _KMS.search(text):
            return RegistryError(
                f"Could not {self._verb} {self._url}/{self._key}: the key {self._kms_key} cannot be used: {text}.",
                "It must be enabled and in the bucket's location, and the service account of Cloud Storage "
                "needs roles/cloudkms.cryptoKeyEncrypterDecrypter on it.",
            )
        if _DIGEST.search(text):
            return self._corrupted()
        if isinstance(error, api.NotFound) and is_no_bucket(error):
            return storage_errors.no_bucket(self._url, f"bucket {self._url.split('/')[2]}")
        if code == 401:
            if "Anonymous caller" in text or "anonymous" in text.lower():
                return storage_errors.no_credentials(self._url, f"The service says: {text}. {_LOOKED}")
            return storage_errors.credentials_rejected(self._url, text)
        if code == 403:
            return storage_errors.denied(self._url, self._verb, self._key, said=f"({text})")
        if code == 429:
            return storage_errors.too_many_requests(self._url, self._verb, self._key, text, stated_retry_after(error))
        if code in _RETRYABLE or code >= 500:
            return storage_errors.unavailable(self._url, self._verb, self._key, f"the service answered {code} ({text})")
        if is_page(_body(error)) or code < 400:
            return self._unreadable(answer=SdkAnswer(code, _body(error)))
        return storage_errors.failed_request(self._url, self._verb, self._key, f"the service answered {code} ({text}).")

    def _unreadable(self, why: str = "", answer: SdkAnswer | None = None) -> ModeldropError:
        latest = latest_answer()
        if latest is not None and (answer is None or answer.status == latest.status):
            answer = latest
        answer = answer or SdkAnswer(0)
        return not_the_service(answer, url=self._url, verb=self._verb, key=self._key, endpoint=self._endpoint, why=why)

    def _sign_in(self, error: auth.GoogleAuthError) -> ModeldropError:
        answer = latest_answer()
        if answer is not None and answer.is_outage:
            return self._unreadable()
        text = storage_errors.detail(str(error.args[0]) if error.args else error).rstrip(".")
        if isinstance(error, auth.DefaultCredentialsError):
            if "Anonymous" in text:
                return storage_errors.no_credentials(self._url, f"The bucket is not public. {_LOOKED}")
            return unusable_credentials(self._url, error)
        if _UNKNOWN.search(text):
            return storage_errors.credentials_rejected(self._url, text)
        if _EXPIRED.search(text):
            return storage_errors.expired(self._url)
        return storage_errors.failed_request(self._url, "sign in to", "", text)

    def _no_connection(self, error: Exception, endpoint: str) -> ModeldropError:
        if isinstance(error, requests.exceptions.SSLError):
            return storage_errors.tls_failed(self._url, endpoint, str(error))
        if asks_for_tls(str(error)):
            return storage_errors.only_tls(self._url, endpoint)
        if isinstance(error, requests.exceptions.ProxyError):
            reason = "the proxy does not let this through"
        elif _caused_by(error, NameResolutionError):
            reason = "its name does not resolve"
        elif isinstance(error, requests.ConnectTimeout):
            reason = "nothing answers there"
        elif "refused" in str(error):
            reason = "connection refused"
        elif isinstance(error, requests.Timeout):
            reason = "it stopped answering"
        elif broken := what_broke(str(error)):
            reason = broken
        elif isinstance(error, requests.ConnectionError | ConnectionError):
            reason = "the connection was cut"
        else:
            reason = storage_errors.detail(error).rstrip(".")
        return storage_errors.unreachable(self._url, endpoint, reason)

    def _corrupted(self) -> IntegrityError:
        return IntegrityError(
            f"{self._url}/{self._key} did not arrive as it was sent: its CRC32C is another one.",
            "Run the same command again. If it happens again, a proxy or a disk on the way changes bytes.",
        )


def _caused_by(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether ``kind`` is behind an error; urllib3 keeps causes in ``reason``, requests in ``args``."""
    for _ in range(6):
        if error is None or isinstance(error, kind):
            return error is not None
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return False
