"""What an error of obstore means: from its half page of text to one sentence of ``storage_errors``.

obstore tells classes of errors apart only roughly, but its text holds the status, the service's answer and
the cause. What is matched here is checked against the release that is pinned.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import PreconditionError

from modeldrop.storage import errors as storage_errors
from modeldrop.util.values import dataclass

if TYPE_CHECKING:
    from modeldrop.errors import ModeldropError, RegistryError
    from modeldrop.storage.read.obstore_client import Access

_STATUS = re.compile(r"status code: (\d{3})[^:]*: ?(.*?)(?:\n\nDebug source:|\Z)", re.DOTALL)
_ADDRESS = re.compile(r"Error performing [A-Z]+ (http\S+) in ")  # Azure's is REDACTED where it holds a signature
_CODE = re.compile(r"<Code>\s*([\w.-]+)")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted"}
_REJECTED = {
    "InvalidAccessKeyId", "InvalidAuthenticationInfo", "InvalidClientTokenId", "InvalidIdentityToken",
    "InvalidSecurity", "InvalidToken", "SignatureDoesNotMatch", "UnrecognizedClientException", "AuthenticationFailed",
    "NotSignedUp",
}  # fmt: skip
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"}
_PRIVATE = {"NoAuthenticationInformation", "PublicAccessNotPermitted", "ResourceNotFound"}
_CAUSES = {
    "ConnectionRefused": "connection refused",
    "dns error": "its name does not resolve",
    "ConnectionReset": "it closes the connection",
    "ConnectionAborted": "it closes the connection",
    "IncompleteMessage": "it closes the connection",
    "UnexpectedEof": "it closes the connection",
    "NetworkUnreachable": "there is no route to it",
    "HostUnreachable": "there is no route to it",
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
_CERTIFICATES = {
    "UnknownIssuer": "its issuer is unknown here",
    "Expired": "it has expired",
    "NotValidYet": "it is not valid yet",
    "NotValidForName": "it is for another host",
    "CaUsedAsEndEntity": "it is a CA's own",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about a failed request.

    Attributes:
        status: of the answer; 0 if there was none.
        code: the service's own name of the error, or "".
        body: the answer's body.
        address: what was asked, or "".
        text: all that obstore says.
    """

    status: int
    code: str
    body: str
    address: str
    text: str


class Kind(Enum):
    """What a failed request means for whoever could make it again."""

    FINAL = "it will fail again"
    CHANGED = "the object is not the one that was asked for"
    BEYOND = "the object has no byte there"
    STALLED = "nothing came, or too slowly"
    WHOLE = "the whole object came instead of a part of it"
    BUSY = "the service asks for patience"
    BROKEN = "anything else, which may heal"


HEALING = frozenset({Kind.STALLED, Kind.BUSY, Kind.BROKEN})
"""Kinds for which it may help to ask the same again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed request: its kind, and the error to raise if no other one succeeds."""

    kind: Kind
    error: ModeldropError


def judge(access: Access, key: str, error: Exception) -> Fault:
    """What a failed request for a part of an object means.

    obstore does not show the headers of an answer it takes for an error, so Retry-After is not to be had: what is
    busy is given longer and longer pauses instead.
    """
    return Fault(_kind(error, parse(error)), explain(access, "read", key, error))


def _kind(error: Exception, answer: Answer) -> Kind:
    if isinstance(error, PreconditionError) or answer.status == 412:
        return Kind.CHANGED
    if answer.status == 416 or "StartTooLarge" in answer.text:
        return Kind.BEYOND
    if answer.status in {429, 503}:
        return Kind.BUSY
    if answer.status:
        return Kind.BROKEN if answer.status == 408 or answer.status >= 500 else Kind.FINAL
    if "Certificate" in answer.text or "Header missing" in answer.text or isinstance(error, FileNotFoundError):
        return Kind.FINAL
    if _serves_no_ranges(answer):
        return Kind.WHOLE
    if "TimedOut" in answer.text and "kind: Connect" not in answer.text:
        return Kind.STALLED
    return Kind.BROKEN


def parse(error: BaseException) -> Answer:
    """Take an error of obstore apart."""
    text = str(error)
    status = _STATUS.search(text)
    body = status[2] if status else ""
    code = _CODE.search(body)
    address = _ADDRESS.search(text)
    return Answer(int(status[1]) if status else 0, code[1] if code else "", body, address[1] if address else "", text)


def no_bucket(access: Access, answer: Answer) -> RegistryError | None:
    """The error if a 404 says that the bucket, not the object, is missing."""
    if answer.code in _NO_BUCKET:
        return storage_errors.no_bucket(access.settings.url, access.what)
    if access.looked and access.scheme == "az" and answer.code in _PRIVATE:
        return storage_errors.no_credentials(access.settings.url, access.looked)
    return None


def explain(access: Access, verb: str, key: str, error: BaseException) -> RegistryError:
    """The one sentence for an error while a registry is read."""
    if access.borrowed is not None and access.borrowed.error is not None:
        return access.borrowed.error
    answer = parse(error)
    url = access.settings.url
    if not answer.status:
        return _unanswered(access, verb, key, answer)
    missing = no_bucket(access, answer)
    if missing is not None:
        return missing
    if _is_elsewhere(access, answer):
        return _sign_in_failed(url, verb, key, answer)
    if answer.code in _EXPIRED or _says_expired(answer):
        return storage_errors.expired(url)
    if answer.status in {401, 403} or answer.code in _REJECTED:
        return _refused(access, verb, key, answer)
    if answer.status in {408, 429} or answer.status >= 500:
        return storage_errors.unavailable(url, verb, key, f"the service answered {answer.status} {answer.code}".strip())
    return storage_errors.failed(url, verb, key, f"the service answered {answer.status} {_brief(answer)}".strip())


def _refused(access: Access, verb: str, key: str, answer: Answer) -> RegistryError:
    url = access.settings.url
    if access.looked:
        return storage_errors.no_credentials(url, access.looked)
    if answer.code == "RequestTimeTooSkewed":
        return storage_errors.failed(url, verb, key, "this machine's clock is off by more than 15 minutes")
    if answer.code in _REJECTED or (answer.status == 401 and access.scheme != "https"):
        return storage_errors.rejected(url, answer.code or str(answer.status))
    # A CDN in front of S3 passes its 403 on.
    unsure = answer.status == 403 and (access.scheme == "s3" or (access.scheme == "https" and bool(answer.code)))
    return storage_errors.denied(url, verb, key, may_be_missing=unsure)


def _unanswered(access: Access, verb: str, key: str, answer: Answer) -> RegistryError:
    url = access.settings.url
    address = urlsplit(answer.address or access.endpoint)
    where = f"{address.scheme}://{address.netloc.rpartition('@')[2]}"
    if "Certificate" in answer.text:
        reason = next((said for name, said in _CERTIFICATES.items() if name in answer.text), "it does not verify")
        return storage_errors.untrusted(url, where, reason)
    reason = next((said for name, said in _CAUSES.items() if name in answer.text), "")
    if "Header missing" in answer.text or _serves_no_ranges(answer):
        what = "does not serve ranges" if _serves_no_ranges(answer) else "does not say how long objects are"
        return storage_errors.failed(url, verb, key, f"{where} {what}, which a registry needs")
    if "UnexpectedRange" in answer.text:
        return storage_errors.failed(url, verb, key, f"{where} answers with other bytes than it was asked for")
    if not reason:
        return storage_errors.failed(url, verb, key, _condensed(answer.text))
    proxy = _proxy_of(address.scheme, address.hostname or "", address.netloc)
    if proxy:
        return storage_errors.unreachable(url, f"{where} through the proxy {proxy}", reason)
    if reason == _CAUSES["dns error"] and access.scheme == "az" and ".blob." in where:
        reason += " (is there such a storage account?)"
    return storage_errors.unreachable(url, where, reason)


def _serves_no_ranges(answer: Answer) -> bool:
    return "RangeNotSupported" in answer.text or "NotPartial" in answer.text


def _proxy_of(scheme: str, host: str, netloc: str) -> str:
    """Host and port of the proxy that a request to this host goes through, or ""."""
    # typeshed does not declare the second.
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    proxies = getproxies_environment()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass_environment(host, proxies) or proxy_bypass_environment(netloc, proxies):
        return ""
    return proxy.rpartition("@")[2].rpartition("://")[2].rstrip("/")


def _is_elsewhere(access: Access, answer: Answer) -> bool:
    """Whether it was not the store that answered, but a service that gives out credentials."""
    asked = urlsplit(answer.address).netloc
    return bool(asked) and asked != urlsplit(access.endpoint).netloc


def _sign_in_failed(url: str, verb: str, key: str, answer: Answer) -> RegistryError:
    host = urlsplit(answer.address).hostname
    if answer.status >= 500:
        return storage_errors.unavailable(url, verb, key, f"{host} answered {answer.status} when asked for credentials")
    if answer.code in _EXPIRED or "expired" in answer.body.lower():
        return storage_errors.expired(url)
    return storage_errors.rejected(url, f"{host} answered {answer.status} {_brief(answer)}".strip())


def _says_expired(answer: Answer) -> bool:
    body = answer.body.lower()
    return answer.status in {400, 401, 403} and any(
        words in body for words in ("has expired", "is expired", "lifetime validation failed", "specified time frame")
    )


def _condensed(text: str) -> str:
    """What obstore says, without the address, the time taken and the inside of its error."""
    return text.partition("\n\nDebug source:")[0].rpartition(" - ")[2]


def _brief(answer: Answer) -> str:
    if answer.code:
        return answer.code
    return storage_errors.detail(answer.body)[:80] if answer.body.strip() and "<" not in answer.body else ""
