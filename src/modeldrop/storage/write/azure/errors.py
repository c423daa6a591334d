"""Turns exceptions of Azure's SDKs into errors of ``modeldrop.storage.errors``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ServiceRequestError

from modeldrop.errors import ConflictError, IntegrityError, ModeldropError, RegistryError
from modeldrop.storage.answer_text import asks_for_tls, read_body, what_broke
from modeldrop.storage.errors import (
    credentials_rejected,
    denied,
    detail,
    expired,
    failed_request,
    half_credential,
    no_bucket,
    no_credentials,
    only_tls,
    taken,
    tls_failed,
    unavailable,
    unreachable,
)
from modeldrop.storage.sdk_answers import (
    SdkAnswer,
    UnreadableAnswerError,
    explain_unreadable,
    latest_answer,
    not_the_service,
)

if TYPE_CHECKING:
    from modeldrop.storage.urls import Bucket
    from modeldrop.storage.write.azure.sign_in import SignIn

_EXISTS = {"BlobAlreadyExists", "ResourceAlreadyExists"}
MISSING = {"BlobNotFound", "ResourceNotFound"}
_CONDITION = {"ConditionNotMet", "TargetConditionNotMet"}
_NO_CONTAINER = {"ContainerNotFound", "ContainerDisabled"}
_FINAL_409 = {"BlobImmutableDueToPolicy", "BlobArchived", "PublicAccessNotPermitted", "InvalidBlobType"}
_UNAUTHENTICATED = {"AuthenticationFailed", "InvalidAuthenticationInfo"}
_FORBIDDEN_401 = {"NoAuthenticationInformation"}
_ENTRA = re.compile(r"\bAADSTS(\d+)\b[^.\n]*")
# Of Microsoft Entra: an assertion, a secret or a session that was valid once.
_ENTRA_EXPIRED = {"50078", "50173", "70008", "70043", "700024", "700082", "7000222"}
_ATTEMPT = re.compile(r"^\t(\w+)Credential: (.+)$", re.MULTILINE)
_ABSENT = re.compile(
    r"unavailable|not (?:found|installed|fully configured)|could not be found|No accounts|requires the|[Pp]lease run"
)
_PRINCIPAL = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID")
_PROOFS = ("AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_FEDERATED_TOKEN_FILE")
_LOOKED = (
    "Looked for AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN, a service principal, a "
    "workload or managed identity and az login. In GitHub Actions: `permissions: id-token: write` and azure/login; "
    "elsewhere: az login."
)


@dataclass(frozen=True, slots=True)
class StoreContext:
    """The store that a request failed at, for the error's message."""

    bucket: Bucket
    sign_in: SignIn
    tags: bool = False


def code(error: BaseException) -> str:
    """The service's own name for what went wrong, "" where it did not say."""
    given = getattr(error, "error_code", None)
    if given:
        return str(getattr(given, "value", given))
    response = getattr(error, "response", None)
    return str(response.headers.get("x-ms-error-code", "")) if response is not None else ""


def status(error: BaseException) -> int | None:
    """The HTTP status, None where no answer came."""
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _answer(error: BaseException) -> SdkAnswer:
    """The answer that an error is about."""
    latest = latest_answer()
    return latest if latest is not None and latest.status == status(error) else SdkAnswer(status(error) or 0)


def _said(error: BaseException) -> str:
    """What the service says, in one line."""
    return read_body(_answer(error).body)[1] or detail(error, 300)


def _is_azure(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    return response is not None and "x-ms-request-id" in response.headers


def _is_damaged(error: BaseException) -> bool:
    """Whether what arrived had another checksum than the one sent with it."""
    return status(error) == 400 and "md5" in f"{code(error)} {error}".lower()


def is_retryable(error: AzureError) -> bool:
    """Whether trying again may help."""
    what, number = code(error), status(error)
    if isinstance(error, ClientAuthenticationError):
        return False
    if number is not None:
        if number == 409:
            return not (what in _EXISTS or what in _FINAL_409 or what.startswith("Lease"))
        return _is_damaged(error) or number in {408, 429} or (number >= 500 and number not in {501, 505})
    # Without an answer: no certificate and no name becomes right by itself; all else may.
    text = str(error)
    return "CERTIFICATE_VERIFY_FAILED" not in text and not _no_such_name(text)


def explain(error: BaseException, context: StoreContext, verb: str, key: str) -> ModeldropError:
    """The error to raise instead of the SDK's, from a request to ``verb`` an object."""
    url, endpoint = context.bucket.url, context.sign_in.endpoint
    number, what = status(error), code(error)
    if isinstance(error, UnreadableAnswerError):
        return explain_unreadable(error, url=url, verb=verb, key=key, endpoint=endpoint)
    if isinstance(error, ClientAuthenticationError) and not what and context.sign_in.identity:
        return _explain_identity(error, url)
    if number is None:
        return _explain_silence(error, context, verb, key)
    if number < 400 or (number < 500 and not _is_azure(error)):
        return not_the_service(_answer(error), url=url, verb=verb, key=key, endpoint=endpoint)
    if what in _NO_CONTAINER or (what == "ResourceNotFound" and context.sign_in.credential is None):
        return _no_container(context)
    if number in {409, 412}:
        return _explain_conflict(error, context, verb, key)
    if number in {401, 403} or what in _UNAUTHENTICATED:
        known = number == 403 and what not in _UNAUTHENTICATED
        return _explain_denied(error, context, verb, key) if known else _explain_authentication(error, context)
    if _is_damaged(error):
        return IntegrityError(f"{url}/{key} did not arrive as it was sent.", "The network damages data. Try again.")
    if number in {408, 429} or number >= 500:
        told = _said(error).rstrip(".").removeprefix(f"{what}: ")
        answered = f"{number} {what}".rstrip()
        return unavailable(url, verb, key, f"the service answered {answered} ({told})")
    return failed_request(url, verb, key, f"the service answered {number} ({_said(error).rstrip('.')}).")


def _explain_silence(error: BaseException, context: StoreContext, verb: str, key: str) -> ModeldropError:
    url, endpoint, text = context.bucket.url, context.sign_in.endpoint, str(error)
    if "SSLError" in text or "[SSL" in text:
        return tls_failed(url, endpoint, text)
    if asks_for_tls(text):
        return only_tls(url, endpoint)
    if "Failed to resolve" in text or "NameResolutionError" in text:
        account = context.bucket.account
        reason_text = (
            f"its name does not resolve. Either there is no storage account {account}, or this network has no DNS"
        )
        return unreachable(url, endpoint, reason_text)
    if isinstance(error, ServiceRequestError):
        return unreachable(url, endpoint, _reason(text))
    if "MD5 mismatch" in text:
        return IntegrityError(f"{url}/{key} did not arrive as it was sent.", "The network damages data. Try again.")
    if isinstance(error, AzureError) and not isinstance(error, HttpResponseError):
        return unavailable(url, verb, key, _reason(text))
    return failed_request(url, verb, key, error)


def _reason(text: str) -> str:
    """What a connection failed of, out of the names of the classes that wrapped it."""
    if "ProxyError" in text or "Unable to connect to proxy" in text:
        return "the proxy (HTTPS_PROXY) refused or could not be reached"
    for name, said in (
        ("Failed to resolve", "its name does not resolve"),
        ("refused", "connection refused"),
        ("timed out", "no answer in time"),
        ("reset by peer", "the connection was reset"),
        ("Remote end closed", "the connection was closed without an answer"),
        ("unreachable", "the network is unreachable"),
    ):
        if name in text:
            return said
    return what_broke(text) or detail(text)


def _no_such_name(text: str) -> bool:
    return "Failed to resolve" in text and "Temporary failure" not in text


def _no_container(context: StoreContext) -> RegistryError:
    what = f"container {context.bucket.name} in the storage account {context.bucket.account}"
    if context.sign_in.credential is None:
        return RegistryError(
            f"{context.bucket.url}: there is no {what}, or it is private and nobody is signed in.",
            "Check its name, or sign in: without `anonymous` in modeldrop.toml and AZURE_SKIP_SIGNATURE.",
        )
    return no_bucket(context.bucket.url, what)


def _explain_conflict(error: BaseException, context: StoreContext, verb: str, key: str) -> ModeldropError:
    url, what = context.bucket.url, code(error)
    if what.startswith("Lease"):
        return ConflictError(
            f"{url}/{key} is leased: somebody holds a lock on this blob.",
            f"Wait for it to end, or break it: az storage blob lease break --account-name {context.bucket.account} "
            f"-c {context.bucket.name} -b {context.bucket.prefix}{key}",
        )
    if what in _EXISTS or what in _CONDITION or status(error) == 412:
        return taken(key)
    if what == "PublicAccessNotPermitted":
        return denied(url, verb, key)
    if what == "BlobImmutableDueToPolicy":
        return RegistryError(
            f"Could not {verb} {url}/{key}: an immutability policy of the container forbids it.",
            "Wait until its retention ends, or use a container without one.",
        )
    if what == "BlobArchived":
        return failed_request(url, verb, key, "the blob is in the archive tier; move it to hot or cool first.")
    return unavailable(url, verb, key, f"the service answered 409 {what}".rstrip())


def _explain_authentication(error: BaseException, context: StoreContext) -> RegistryError:
    url, text = context.bucket.url, f"{getattr(error, 'additional_info', '')} {error}".lower()
    if code(error) in _FORBIDDEN_401 or context.sign_in.credential is None:
        return no_credentials(url, _LOOKED)
    if "date header" in text:
        return RegistryError(
            f"{url}: the service does not accept requests of this time: the clock of this machine is wrong.",
            "Set it (timedatectl, chrony) and run the same command again.",
        )
    if "expired" in text or "not valid in the specified time frame" in text:
        signature = type(context.sign_in.credential).__name__ == "AzureSasCredential"
        return expired(url, "the shared access signature" if signature else "the token")
    return credentials_rejected(url, context.sign_in.how)


def _explain_denied(error: BaseException, context: StoreContext, verb: str, key: str) -> RegistryError:
    url, what = context.bucket.url, code(error)
    if what == "KeyBasedAuthenticationNotPermitted":
        return credentials_rejected(url, "the account allows no keys: sign in with an identity")
    if what == "AccountIsDisabled":
        return unavailable(url, verb, key, f"the storage account {context.bucket.account} is disabled")
    if what == "AuthorizationFailure" and isinstance(context.sign_in.credential, dict):
        # An account key may do all, so it is not that a right is missing.
        refusal = credentials_rejected(url, context.sign_in.how)
        return RegistryError(refusal.message, f"{refusal.hint} Or the account's firewall keeps this network out.")
    sentence = denied(url, verb, key, said=": ".join(dict.fromkeys([what, detail(error, 300)])).strip(": "))
    role = "Storage Blob Data Reader" if verb in {"read", "list"} else "Storage Blob Data Contributor"
    if context.tags and verb == "write":
        role = "Storage Blob Data Owner, because tags are set in modeldrop.toml,"
    needs = f"It needs the role {role} on the container {context.bucket.name}"
    if not context.sign_in.identity:
        needs = f"What signs in is {context.sign_in.how}: it needs the right to {verb}"
    firewall = " (or the account's firewall keeps this network out)" if what == "AuthorizationFailure" else ""
    return RegistryError(sentence.message, f"{needs}{firewall}. {sentence.hint}")


def _explain_identity(error: BaseException, url: str) -> RegistryError:
    text, answer = str(error), latest_answer()
    if answer is not None and answer.is_outage:
        return not_the_service(answer, url=url, verb="sign in to", key="", endpoint="")
    found = _ENTRA.search(text)
    if found:
        if found[1] in _ENTRA_EXPIRED:
            return expired(url, "the sign-in")
        return credentials_rejected(url, detail(found[0]))
    for name, reason in _ATTEMPT.findall(text):
        if not _ABSENT.search(reason):
            host = re.search(r"host='([^']+)'", reason)
            if host and ("SSLError" in reason or "[SSL" in reason):
                return tls_failed(url, f"https://{host[1]}", reason)
            if host:
                return unreachable(url, host[1], _reason(reason))
            return RegistryError(f"{url}: signing in with {name} failed: {detail(reason)}.", "Fix it, or az login.")
    given = {name for name in _PRINCIPAL + _PROOFS if os.environ.get(name)}
    if given >= set(_PRINCIPAL) and not given & set(_PROOFS):
        return half_credential(url, "AZURE_CLIENT_ID", " or ".join(_PROOFS))
    if given & set(_PROOFS) and not given >= set(_PRINCIPAL):
        proof = next(name for name in _PROOFS if name in given)
        return half_credential(url, proof, next(name for name in _PRINCIPAL if name not in given))
    return no_credentials(url, _LOOKED)
