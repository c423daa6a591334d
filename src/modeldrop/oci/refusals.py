"""What a container registry's refusals mean: one sentence each, and what to do about it. No I/O."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modeldrop.errors import IntegrityError, ModeldropError, RefusedError, RegistryError
from modeldrop.storage.answer_text import describe, is_page, page_title, read_body
from modeldrop.storage.errors import UNAVAILABLE_SECONDS, UNREACHABLE_SECONDS, detail

if TYPE_CHECKING:
    from modeldrop.oci.credentials import Credentials
    from modeldrop.oci.transport import Answer

_QUOTA = re.compile(r"(?i)quota|storage limit|insufficient storage")
_IMMUTABLE = re.compile(r"(?i)immutable|TAG_ALREADY_EXISTS|ImageTagAlreadyExists")
_READ_ONLY = re.compile(r"(?i)pull.?through|proxy (?:project|cache|repository)|read.?only")

_UPLOAD_LIMIT = (
    "A proxy before the registry limits uploads: client_max_body_size 0 lifts that of nginx, the annotation "
    'nginx.ingress.kubernetes.io/proxy-body-size: "0" that of its ingress.'
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal as the distribution specification has it: a code such as ``DENIED``, or "", and what is said."""

    code: str
    said: str


def read_refusal(answer: Answer) -> Refusal:
    """What an answer of 4xx or 5xx says."""
    try:
        first = json.loads(answer.body)["errors"][0]
        code, message, more = (first.get(name) for name in ("code", "message", "detail"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        _, said = read_body(answer.text)
        return Refusal("", said)
    texts = [text for text in (code, message, more) if isinstance(text, str) and text]
    return Refusal(code if isinstance(code, str) else "", detail(": ".join(texts) or "no reason", 300))


def explain_refusal(
    url: str, verb: str, what: str, answer: Answer, credentials: Credentials, looked: str
) -> ModeldropError:
    """The error for an answer that ends an export.

    Args:
        url: the repository.
        verb: what was tried: ``read`` or ``push``.
        what: the blob or tag, or "".
        answer: the registry's.
        credentials: who has signed in.
        looked: where credentials were looked for.
    """
    is_outage = answer.status in {408, 429} or (answer.status >= 500 and answer.status != 507)
    if not is_outage and (is_page(answer.text) or 300 <= answer.status < 400):
        return no_registry(url, describe(answer.status, answer.text), page_title(answer.text))
    refusal, where = read_refusal(answer), f"{url}{what}"
    why = f" ({refusal.said.rstrip('.')})" if refusal.said else ""
    said = f"the registry answered {answer.status}{why}"
    texts = f"{refusal.code} {refusal.said}"
    if answer.status == 401:
        return _unauthorized(url, verb, said, credentials, looked)
    if is_outage or refusal.code in {"BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN"}:
        return RegistryError(
            f"Could not {verb} {where}: {said}.",
            "The registry is overloaded or down, or something before it. Run the same command again later: what has "
            "been pushed is kept.",
            patience=UNAVAILABLE_SECONDS,
        )
    if refusal.code in {"DIGEST_INVALID", "SIZE_INVALID"}:
        return IntegrityError(
            f"{where} did not arrive as it was sent: {said}.",
            "Something on the way changes what is sent, or a disk has damaged it: modeldrop verify. Then run the same "
            "command again.",
        )
    if _IMMUTABLE.search(texts):
        return RefusedError(
            f"{where} cannot be moved: {said}.", "Tags of this repository never change: choose another tag."
        )
    for applies, what_fails, hint in (
        (
            answer.status == 507 or _QUOTA.search(texts),
            f"{url} has no room for this",
            "Raise the quota there, or remove images that nobody uses.",
        ),
        (
            answer.status == 413,
            f"Could not push {where}, which is too large",
            _UPLOAD_LIMIT,
        ),
        (
            answer.status == 405 or refusal.code == "UNSUPPORTED" or _READ_ONLY.search(texts),
            f"{url} takes no images",
            "It mirrors another registry or is read-only. Name another one.",
        ),
        (
            answer.status == 403 or refusal.code == "DENIED",
            f"Not allowed to {verb} {where}",
            f"The rights to pull from this repository and to push to it are needed. {_who(url, credentials, looked)}",
        ),
        (
            answer.status == 404,
            f"There is no repository {url} to push to",
            "Create it first: Amazon ECR, for one, makes none by itself. Or check its name for a typing error.",
        ),
    ):
        if applies:
            return RegistryError(f"{what_fails}: {said}.", hint)
    return RegistryError(f"Could not {verb} {where}: {said}.", "Check the name, and what the registry allows.")


def no_registry(url: str, answered: str, page: str = "") -> RegistryError:
    """What answers is no container registry. ``answered``: its status and first line; ``page``: a web page's title."""
    hint = "Check the address; a container registry answers at /v2/."
    if page:
        hint = f"A web server, a captive portal or a proxy answers there. {hint}"
    return RegistryError(f"{url}: what answers is no container registry: {answered}.", hint)


def unanswered(url: str, error: OSError, *, seconds: float) -> RegistryError:
    """The error for a request without an answer.

    Args:
        url: the repository.
        error: what Python says.
        seconds: the longest wait for a step.
    """
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in text:
        why = re.search(r"certificate verify failed: ([^(\n]+)", text)
        return RegistryError(
            f"{url}: the certificate of the registry is not trusted: {(why[1] if why else detail(text)).strip()}.",
            "For a private CA set SSL_CERT_FILE (or REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE) to its PEM file.",
        )
    if isinstance(error, ssl.SSLError):
        return RegistryError(
            f"{url}: the registry does not speak TLS there: {detail(text)}.",
            "For a registry without TLS: --plain-http. Else check its port, and HTTPS_PROXY.",
        )
    if isinstance(error, TimeoutError):
        text = f"no answer within {seconds:g} s"
    return RegistryError(
        f"{url}: the registry cannot be reached: {detail(getattr(error, 'strerror', None) or text)}.",
        "Check its name, the network, and HTTPS_PROXY/NO_PROXY.",
        patience=UNREACHABLE_SECONDS,
    )


def _who(url: str, credentials: Credentials, looked: str) -> str:
    if credentials.where:
        return f"Signed in with {credentials.where}."
    return f"Nobody is signed in: no credentials in {looked}. {_sign_in(url)}."


def _sign_in(url: str) -> str:
    host = url.partition("/")[0]
    return f"Sign in: docker login {host}, or podman login {host}"


def _unauthorized(url: str, verb: str, said: str, credentials: Credentials, looked: str) -> RegistryError:
    if credentials.where:
        return RegistryError(
            f"{url}: the registry does not accept the credentials of {credentials.where}: {said}.",
            f"They have expired, were revoked, or are another registry's. {_sign_in(url)}.",
        )
    return RegistryError(
        f"{url}: nobody is signed in, and so may not {verb}: {said}.", f"No credentials in {looked}. {_sign_in(url)}."
    )
