"""Turns errors of obstore into those of ``modeldrop.storage.errors``.

obstore tells classes of errors apart only roughly, but its text holds the status, the service's answer and
the cause. What is matched here is checked against the release that is pinned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import PreconditionError

from modeldrop.storage import errors as storage_errors
from modeldrop.storage.answer_text import asks_for_tls, describe, is_page, read_body
from modeldrop.storage.read.interface import Fault, FaultKind
from modeldrop.storage.read.obstore_calls import PanickedError
from modeldrop.storage.read.proxy_filter import REFUSED_PLAIN, REFUSED_TUNNEL
from modeldrop.util import http
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from modeldrop.errors import RegistryError
    from modeldrop.storage.read.obstore_client import ObstoreClient

_STATUS = re.compile(r"status code: (\d{3})[^:]*: ?(.*?)(?:\n\nDebug source:|\Z)", re.DOTALL)
# REDACTED is Azure's where it holds a signature, and that of a POST to STS.
_ADDRESS = re.compile(r"Error performing [A-Z]+ (http\S+) in ")
_POST = "Error performing POST REDACTED"
_LACKING = re.compile(r"([\w-]+) Header missing")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
_REJECTED = {
    "InvalidAccessKeyId", "InvalidAuthenticationInfo", "InvalidClientTokenId", "InvalidIdentityToken",
    "InvalidSecurity", "InvalidToken", "SignatureDoesNotMatch", "UnrecognizedClientException", "AuthenticationFailed",
    "NotSignedUp",
}  # fmt: skip
_ARCHIVED = {"BlobArchived", "BlobBeingRehydrated", "InvalidObjectState"}
_HINTS = {
    "explicit deny": "A policy denies it explicitly: look for a Deny in the policies of the bucket, a VPC endpoint and "
    "the organization.",
    "organization's policy": "A perimeter of VPC Service Controls keeps this network or identity out.",
    "AuthorizationFailure": "Mostly the storage account's firewall: let this network in, or use a private endpoint. A "
    "shared access signature may lack the right, too.",
    "AuthorizationPermissionMismatch": "The identity has no role for the data: Storage Blob Data Reader.",
    "AuthorizationSourceIPMismatch": "The shared access signature is for other IP addresses.",
    "KeyBasedAuthenticationNotPermitted": "The storage account forbids its keys: sign in with an identity.",
    "AccountProblem": "The account, or its billing, is disabled.",
    "AccountIsDisabled": "The account, or its billing, is disabled.",
    "UserProjectMissing": "The requester pays for this bucket: name the project that does.",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_PRIVATE = {"NoAuthenticationInformation", "PublicAccessNotPermitted", "ResourceNotFound"}
_CAUSES = {
    "ConnectionRefused": "connection refused",
    "dns error": "its name does not resolve",
    "Parse(Version": "it does not answer in HTTP (if it speaks TLS only, its address begins with https://)",
    "Parse(TooLarge": "its answer begins with more headers than any service sends",
    "Parse(": "it does not answer in HTTP",
    "ConnectionReset": "it closes the connection",
    "ConnectionAborted": "it closes the connection",
    "IncompleteMessage": "it closes the connection",
    "UnexpectedEof": "it closes the connection",
    "NetworkUnreachable": "there is no route to it",
    "HostUnreachable": "there is no route to it",
    "BadScheme": "its address must begin with https://",
    "InvalidContentType": "it does not speak TLS there (an http:// endpoint?)",
    "ProxyAuthRequired": "the proxy asks for a user name and password",
    "TunnelUnsuccessful": "the proxy refuses to connect to it",
    "TunnelUnexpectedEof": "the proxy refuses to connect to it",
    "proxy authorization required": "the proxy asks for a user name and password",
    "tunnel": "the proxy refuses to connect to it",
    "TimedOut": "no answer in time",
    "kind: Timeout": "no answer in time",
    "kind: Connect": "no connection",
}
_REDIRECTED = (f"{http.NOWHERE.partition('://')[2]},", REFUSED_TUNNEL, REFUSED_PLAIN)
_LASTING = {_CAUSES["BadScheme"], _CAUSES["InvalidContentType"], _CAUSES["ProxyAuthRequired"]}
_CERTIFICATES = {
    "UnknownIssuer": "its issuer is unknown here",
    "Expired": "it has expired",
    "NotValidYet": "it is not valid yet",
    "NotValidForName": "it is for another host",
    "CaUsedAsEndEntity": http.CA_AS_SERVER,
}


class FailedRequest(NamedTuple):
    """What obstore's text says about a failed request.

    Attributes:
        status: of the answer; 0 if there was none.
        code: the service's own name of the error, or "".
        said: what the service says, code and message, in one line without secrets; or "".
        body: the answer's body.
        address: what was asked, or "".
        text: all that obstore says.
    """

    status: int
    code: str
    said: str
    body: str
    address: str
    text: str


def classify(client: ObstoreClient, key: str, error: BaseException) -> Fault:
    """What a failed request for a part of an object means.

    obstore does not show the headers of an answer it takes for an error, so Retry-After is not to be had: what is
    busy is given longer and longer pauses instead.
    """
    return Fault(_kind(error, parse(error)), explain(client, "read", key, error))


def _kind(error: BaseException, request: FailedRequest) -> FaultKind:
    if isinstance(error, PanickedError):
        return FaultKind.FINAL
    if isinstance(error, PreconditionError) or request.status == 412:
        return FaultKind.CHANGED
    if request.status == 416 or "StartTooLarge" in request.text:
        return FaultKind.PAST_END
    if request.status in {429, 503}:
        return FaultKind.BUSY
    if _was_redirected(request):
        return FaultKind.FINAL
    if request.status:
        return FaultKind.OTHER if request.status == 408 or request.status >= 500 else FaultKind.FINAL
    if "Certificate" in request.text or "Header missing" in request.text or isinstance(error, FileNotFoundError):
        return FaultKind.FINAL
    if _serves_no_ranges(request):
        return FaultKind.NO_RANGES
    if "TimedOut" in request.text and "kind: Connect" not in request.text:
        return FaultKind.STALLED
    return FaultKind.OTHER


def parse(error: BaseException) -> FailedRequest:
    """Take an error of obstore apart."""
    text = str(error)
    status = _STATUS.search(text)
    body = status[2] if status else ""
    code, said = read_body(body)
    address = _ADDRESS.search(text)
    return FailedRequest(
        status=int(status[1]) if status else 0,
        code=code,
        said=said,
        body=body,
        address=address[1] if address else "",
        text=text,
    )


def missing_bucket(client: ObstoreClient, request: FailedRequest) -> RegistryError | None:
    """The error if a 404 says that the bucket, not the object, is missing."""
    if request.code in _NO_BUCKET:
        return storage_errors.no_bucket(client.settings.url, client.what)
    if client.searched and client.scheme == "az" and request.code in _PRIVATE:
        return storage_errors.no_credentials(client.settings.url, client.searched, late=client.late)
    return None


def explain(client: ObstoreClient, verb: str, key: str, error: BaseException) -> RegistryError:
    """Our own error for one of obstore while a registry is read."""
    if client.sdk is not None and client.sdk.error is not None:
        return client.sdk.error
    url = client.settings.url
    if isinstance(error, PanickedError):
        return storage_errors.panicked(url, error)
    request = parse(error)
    if not request.status or _was_redirected(request):
        return _unanswered(client, verb, key, request)
    if _is_elsewhere(client, request):
        return _sign_in_failed(client, verb, key, request)
    missing = storage_errors.only_tls(url, client.endpoint) if asks_for_tls(request.body) else None
    missing = missing or missing_bucket(client, request)
    if missing is not None:
        return missing
    if request.code in _EXPIRED or _says_expired(request):
        return storage_errors.expired(url)
    unusable = _unusable_object(url, key, request)
    if unusable is not None:
        return unusable
    if request.status in {401, 403} or request.code in _REJECTED:
        return _refused(client, verb, key, request)
    if request.status in {408, 429} or request.status >= 500:
        return storage_errors.unavailable(url, verb, key, _answered(_answerer(client, request), request))
    return storage_errors.failed_request(url, verb, key, _answered("the service", request), _hint(request))


def _unusable_object(url: str, key: str, request: FailedRequest) -> RegistryError | None:
    """The error for an object that is there, and that this identity may read, and that is not given even so."""
    if request.code in _ARCHIVED:
        return storage_errors.archived(url, key, request.said)
    if request.code.startswith("KMS.") or "kms:" in request.said.lower():
        return storage_errors.key_denied(url, key, request.said)
    return None


def _answered(who: str, request: FailedRequest) -> str:
    if is_page(request.body):
        return f"{who} answered {describe(request.status, request.body)}"
    return f"{who} answered {request.status} {request.said}".rstrip()


def _answerer(client: ObstoreClient, request: FailedRequest) -> str:
    """Who has given an answer: through a plain proxy it may be the proxy's own, which has no code of the service."""
    if request.code or not client.endpoint.startswith("http://"):
        return "the service"
    proxy = _proxy(client.endpoint)
    return f"the proxy {proxy}, or the service behind it," if proxy else "the service"


def _hint(request: FailedRequest) -> str:
    return next((hint for words, hint in _HINTS.items() if words in request.said), "")


def _refused(client: ObstoreClient, verb: str, key: str, request: FailedRequest) -> RegistryError:
    url = client.settings.url
    if client.searched:
        return storage_errors.no_credentials(url, client.searched, late=client.late)
    if request.code == "RequestTimeTooSkewed":
        wrong = "this machine's clock is off by more than 15 minutes"
        return storage_errors.failed_request(url, verb, key, wrong, storage_errors.SET_CLOCK)
    if request.code in _REJECTED or (request.status == 401 and client.scheme != "https"):
        return storage_errors.credentials_rejected(url, request.said or str(request.status))
    # A CDN in front of S3 passes its 403 on. Where S3 says that the object may not be read, it is there.
    unsure = request.status == 403 and (client.scheme == "s3" or (client.scheme == "https" and bool(request.code)))
    unsure = unsure and "s3:GetObject" not in request.said and not _hint(request)
    return storage_errors.denied(
        url, verb, key, may_be_missing=unsure, status=request.status, said=request.said, hint=_hint(request)
    )


def _unanswered(client: ObstoreClient, verb: str, key: str, request: FailedRequest) -> RegistryError:
    url = client.settings.url
    address = urlsplit(_asked(client, request) or client.endpoint)
    where = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
    role = ", which is asked for credentials," if _is_elsewhere(client, request) else ""
    if _was_redirected(request):
        return storage_errors.redirected(url, client.endpoint)
    if "Certificate" in request.text:
        reason = next((said for name, said in _CERTIFICATES.items() if name in request.text), "it does not verify")
        return storage_errors.untrusted(url, where, reason)
    reason = next((said for name, said in _CAUSES.items() if name in request.text), "")
    lacking = _LACKING.search(request.text)
    if lacking or _serves_no_ranges(request):
        what = f"answers without the header {lacking[1]}" if lacking else "does not serve ranges"
        return storage_errors.failed_request(url, verb, key, f"{where} {what}, which a registry needs")
    if "invalid utf-8" in request.text:
        return storage_errors.unreadable(url, verb, key, where, "with an error that is no text")
    if "UnexpectedRange" in request.text:
        return storage_errors.failed_request(url, verb, key, f"{where} answers with other bytes than it was asked for")
    if not reason:
        return storage_errors.failed_request(url, verb, key, _condensed(request.text))
    patience = 0.0 if reason in _LASTING else storage_errors.UNAVAILABLE_SECONDS
    if patience and "kind: Connect" in request.text:
        patience = storage_errors.UNREACHABLE_SECONDS
    proxy = _proxy(where)
    if proxy:
        return storage_errors.unreachable(url, f"{where} through the proxy {proxy}{role}", reason, patience)
    if reason == _CAUSES["dns error"] and client.scheme == "az" and ".blob." in where:
        reason += " (is there such a storage account?)"
    return storage_errors.unreachable(url, f"{where}{role}", reason, patience)


def _proxy(address: str) -> str:
    """The proxy that leads to an address, without its password; or ""."""
    return http.proxy_for(address).rpartition("@")[2].rpartition("://")[2].rstrip("/")


def _asked(client: ObstoreClient, request: FailedRequest) -> str:
    """The address that was asked, as far as it is known."""
    if not request.address and client.address is not None and _POST in request.text:
        return client.address.sts
    return request.address


def _was_redirected(request: FailedRequest) -> bool:
    """Whether a redirection to where secrets must not go was not followed."""
    return any(words in request.text for words in _REDIRECTED)


def _serves_no_ranges(request: FailedRequest) -> bool:
    return "RangeNotSupported" in request.text or "NotPartial" in request.text


def _is_elsewhere(client: ObstoreClient, request: FailedRequest) -> bool:
    """Whether it was not the store that was asked, but a service that gives out credentials."""
    asked = urlsplit(_asked(client, request)).netloc
    return bool(asked) and asked != urlsplit(client.endpoint).netloc


def _sign_in_failed(client: ObstoreClient, verb: str, key: str, request: FailedRequest) -> RegistryError:
    url, host = client.settings.url, urlsplit(_asked(client, request)).hostname
    if request.status == 429 or request.status >= 500:
        answered = _answered(f"{host}, which was asked for credentials,", request)
        return storage_errors.unavailable(url, verb, key, answered)
    if request.code in _EXPIRED or "expired" in request.body.lower():
        return storage_errors.expired(url)
    return storage_errors.credentials_rejected(url, _answered(str(host), request))


def _says_expired(request: FailedRequest) -> bool:
    body = request.body.lower()
    return request.status in {400, 401, 403} and any(
        words in body for words in ("has expired", "is expired", "lifetime validation failed", "specified time frame")
    )


def _condensed(text: str) -> str:
    """What obstore says, without the address, the time taken and the inside of its error."""
    return text.partition("\n\nDebug source:")[0].rpartition(" - ")[2]
