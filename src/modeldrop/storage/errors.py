"""The errors of a bucket: one message and one piece of advice each, whichever library noticed it.

An SDK's exception has a class, a status and half a page of text; a user needs to know which of a dozen things it is,
and what to do. The stores decide which; the messages are here, so that publisher and fetcher say the same.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from modeldrop.errors import MORE_THREADS, NO_THREADS, ConflictError, RegistryError

if TYPE_CHECKING:
    from modeldrop.util.http import CertificatesError

SET_CLOCK = "Set this machine's clock: sudo timedatectl set-ntp true (or chronyc makestep)."
# Compiled when first needed: a fetch that finds all on its disk imports this.
_SECRETS = (
    # Not what follows a service's own code, such as InvalidIdentityToken: it is the reason. Nor GitHub's permission.
    (
        r"(?i)((?:AccountKey|SharedAccessSignature|SharedAccessKey|password|secret|SecretAccessKey"
        r"|(?<!Invalid)(?<!Identity)(?<!Expired)token)(?<!id-token(?=: write\b))\\*['\"]?\s*[=:]\s*\\*['\"]?)"
        r"[^\s;&,'\"\\<]+"
    ),
    (
        r"(?i)((?:\b|[?&])(?:sig|X-Amz-[A-Za-z-]+|X-Goog-[A-Za-z-]+|AWSAccessKeyId|Signature|access_token)=)"
        r"[^&\s'\"<,]+"
    ),
    r"(?i)(Authorization\\*['\"]?\s*[:=]\s*\\*['\"]?)[^'\"\\\n]+",
    r"(?i)(<(?:[\w-]*(?:token|signature|secret|password)[\w-]*|authorization|StringToSign)>)[^<]+",
    r"(?i)\b(Bearer\s+)[A-Za-z0-9._~+/=-]+",
    r"(?i)\b(SharedKey(?:Lite)?\s+[\w-]+:)[^\s'\"<]+",
    r"(://)[^/@\s]+(?=@)",
    r"\b()(?:eyJ[\w-]{5,}\.[\w.-]+|ya29\.[\w-]+)",
)
_HOLDS_SECRET = ("KEY", "PASSWORD", "SECRET", "TOKEN")
_LEAST_SECRET = 8
_MOST = 64 << 10
WHICH_RIGHTS = "Which rights are needed"
"""Begins the advice after a refusal for lack of rights, in whose place ``doctor`` puts the policy."""

UNREACHABLE_SECONDS = 20.0
"""For how long a place that gives no answer is asked again, where there is nothing else: networks start late, too."""

UNAVAILABLE_SECONDS = 120.0
"""The same for a place that answers that it cannot serve just now."""


def redact(text: str) -> str:
    """The text without what could be a secret: signatures, keys, tokens, passwords in URLs."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST_SECRET and name.endswith(_HOLDS_SECRET):
            text = text.replace(value, "[redacted]")
    for pattern in _SECRETS:
        text = re.sub(pattern, r"\1[redacted]", text)
    return text


def detail(error: BaseException | str, limit: int = 200) -> str:
    """The first line of an SDK's message: printable, without secrets, cut to ``limit`` characters."""
    lines = [line.strip() for line in redact(str(error)[:_MOST]).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def no_bucket(url: str, what: str) -> RegistryError:
    """``what``: such as ``bucket acme-models``."""
    return RegistryError(f"{url}: there is no {what}.", "Check its name and account for a typing error, or create it.")


def denied(
    url: str,
    verb: str,
    key: str,
    *,
    may_be_missing: bool = False,
    status: int = 403,
    said: str = "",
    hint: str = "",
) -> RegistryError:
    """The service refused.

    Args:
        url: the registry.
        verb: what was tried: ``read``, ``write``, ``list``, ``delete``.
        key: the object, or "".
        may_be_missing: S3 answers 403 for an object that is not there to whoever may not list the bucket.
        status: what it answered.
        said: what it says, in its own words, or "".
        hint: what that means, where it is known.
    """
    where = f"{url}/{key}" if key else url
    answered = f"the service answered {status}{' ' if said else ''}{said}".rstrip(".")
    message = f"Not allowed to {verb} {where}: {answered}."
    if may_be_missing:
        message = (
            f"Could not {verb} {where}: {answered}. Either this identity has no right to {verb} it, "
            "or it is not there and the identity may not list the bucket (S3 then says 403 instead of 404)."
        )
    doctor = f"{WHICH_RIGHTS}, and who is signed in: modeldrop doctor {url}"
    return RegistryError(message, f"{hint} {doctor}".lstrip())


def archived(url: str, key: str, said: str) -> RegistryError:
    """The object is in a tier that cannot be read."""
    return RegistryError(
        f"{url}/{key} is archived and cannot be read: {said.rstrip('.')}.",
        "Restore it, and keep models in storage classes that are read at once: no lifecycle rule may move them away.",
    )


def key_denied(url: str, key: str, said: str) -> RegistryError:
    """The object may be read, but not the key that it is encrypted with be used."""
    return RegistryError(
        f"{url}/{key} is encrypted, and its key cannot be used: {said.rstrip('.')}.",
        "The key must be enabled, and its policy and this identity's must allow kms:Decrypt.",
    )


def no_credentials(url: str, looked: str, *, late: bool = False) -> RegistryError:
    """Nobody is signed in.

    Args:
        url: the registry.
        looked: where credentials were looked for, and how to get them there.
        late: there should be a metadata service here, and it has not answered.
    """
    if late:
        message = f"{url}: no credentials were found, and the metadata service of this machine does not answer."
        return RegistryError(message, looked, patience=UNREACHABLE_SECONDS)
    return RegistryError(f"{url}: no credentials were found.", looked)


def half_credential(url: str, have: str, missing: str) -> RegistryError:
    """One half of a credential is set and the other is not."""
    return RegistryError(f"{url}: {have} is set, but {missing} is not.", f"Set {missing} too, or unset {have}.")


def expired(url: str, what: str = "the token") -> RegistryError:
    """The credentials were right once."""
    return RegistryError(
        f"{url}: {what} of these credentials has expired.",
        "Sign in again. In a workflow, take credentials after the build, right before publishing.",
    )


def credentials_rejected(url: str, who: str = "") -> RegistryError:
    """The service does not know the credentials, or their signature is wrong."""
    by = f" ({who})" if who else ""
    return RegistryError(
        f"{url}: the service does not accept these credentials{by}.",
        "They are for another account or service, were revoked, or have a typing error. Sign in again.",
    )


def wrong_region(url: str, used: str, there: str) -> RegistryError:
    """The bucket is in another region than the client signs for. ``there`` may be ""."""
    is_in = f"is in the region {there}" if there else "is in another region"
    return RegistryError(
        f"{url}: the bucket {is_in}, not in {used}.",
        f"Set AWS_REGION{'=' + there if there else ''}, or region in modeldrop.toml.",
    )


def wrong_account(url: str, have: str, wanted: str) -> RegistryError:
    """The credentials are those of another storage account."""
    return RegistryError(
        f"{url}: the credentials are for the storage account {have}, not {wanted}.",
        "Name that account in the URL, or use this account's credentials.",
    )


def unreachable(url: str, endpoint: str, reason: str, patience: float = UNREACHABLE_SECONDS) -> RegistryError:
    """The service gives no answer.

    Args:
        url: the registry.
        endpoint: the service's address.
        reason: such as ``connection refused`` or ``its name does not resolve``.
        patience: seconds for which asking again may help.
    """
    return RegistryError(
        f"{url}: {redact(endpoint)} cannot be reached: {reason}.",
        "Check the endpoint, the network, and HTTPS_PROXY/NO_PROXY.",
        patience=patience,
    )


def redirected(url: str, endpoint: str) -> RegistryError:
    """The service sends its clients to another host, which would see a security token or shared access signature."""
    return RegistryError(
        f"{url}: {redact(endpoint)} redirects to another host or port, which is not followed: that would see a secret.",
        "Name that host as the endpoint, if it is to be trusted.",
    )


def untrusted(url: str, endpoint: str, reason: str) -> RegistryError:
    """TLS failed: the certificate is not one that this machine trusts."""
    return RegistryError(
        f"{url}: the certificate of {redact(endpoint)} is not trusted: {reason}.",
        "For a private CA set SSL_CERT_FILE (or AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE) to its PEM file.",
    )


def tls_failed(url: str, endpoint: str, text: str) -> RegistryError:
    """TLS failed, for the reason that ``text``, Python's own, gives."""
    found = re.search(r"certificate verify failed: ([^(\"'\n]+)", text)
    if found or "CERTIFICATE_VERIFY_FAILED" in text:
        return untrusted(url, endpoint, found[1].strip() if found else "it does not verify")
    if re.search(r"(?i)wrong.version.number|record layer failure|packet length too long|http request\b", text):
        return RegistryError(
            f"{url}: {redact(endpoint)} does not speak TLS there.",
            "Its address begins with http://, or it has another port for https: check the endpoint, and HTTPS_PROXY.",
        )
    return unreachable(url, endpoint, f"TLS could not be agreed on ({detail(text)})", 0.0)


def unusable_certificates(error: CertificatesError) -> RegistryError:
    """A variable names a file of certificates that is no such file."""
    return RegistryError(str(error), "Fix its path, or unset it.")


def taken(key: str) -> ConflictError:
    """A conditional write was refused: another writer came first."""
    return ConflictError(f"{key} was written by somebody else meanwhile.", "Run the same command again.")


def unavailable(url: str, verb: str, key: str, reason: str) -> RegistryError:
    """The service answers, and cannot serve just now (5xx, throttling, stalls), after the retries."""
    where = f"{url}/{key}" if key else url
    return RegistryError(
        f"Could not {verb} {where}: {reason}.",
        "The service is overloaded or down. Run the same command again later.",
        patience=UNAVAILABLE_SECONDS,
    )


def too_many_requests(url: str, verb: str, key: str, said: str, seconds: float) -> RegistryError:
    """The service refuses because it is asked too often, after long waiting.

    Args:
        url: the registry.
        verb: what was tried.
        key: the object, or "".
        said: what the service says.
        seconds: for which it wants to be left alone; 0 if it does not say.
    """
    where = f"{url}/{key}" if key else url
    return RegistryError(
        f"Could not {verb} {where}: the service answered 429 ({said}).",
        "Too many ask at once; Cloud Storage takes about one write of the same object a second. "
        f"Run the same command again in {seconds or UNAVAILABLE_SECONDS / 2:.0f} s.",
        patience=UNAVAILABLE_SECONDS,
    )


def unreadable(url: str, verb: str, key: str, endpoint: str, answered: str, *, page: bool = False) -> RegistryError:
    """What answers is no storage service, or something on the way answers in its place.

    Args:
        url: the registry.
        verb: what was tried.
        key: the object, or "".
        endpoint: the service's address.
        answered: what it answered: status and first line.
        page: whether that was a web page.
    """
    where = f"{url}/{key}" if key else url
    hint = "Check the endpoint for a typing error, and what a proxy or gateway on the way does."
    if page:
        hint = (
            "A captive portal, a proxy or a web server answers there, and no storage service: open that address in a "
            "browser, sign in to this network, and check the endpoint and HTTPS_PROXY/NO_PROXY."
        )
    return RegistryError(
        f"Could not {verb} {where}: {redact(endpoint)} answers, but not as this service does: {answered}.",
        f"{hint} Check it: modeldrop doctor {url}",
    )


def endless(url: str, key: str) -> RegistryError:
    """A listing names the same page again as the one that follows."""
    return RegistryError(
        f"Could not list {url}/{key}: the service names one page of the listing as its own next one.",
        "Something between this machine and the service changes or repeats its answers. Try without it.",
    )


def only_tls(url: str, endpoint: str) -> RegistryError:
    """Http was spoken to a port for https."""
    return RegistryError(
        f"{url}: {redact(endpoint)} speaks TLS only: it was asked without.", "Let its address begin with https://."
    )


def failed_request(url: str, verb: str, key: str, error: BaseException | str, hint: str = "") -> RegistryError:
    """Anything else: the first line of what the SDK says."""
    where = f"{url}/{key}" if key else url
    return RegistryError(
        f"Could not {verb} {where}: {detail(error, 400)}", f"{hint} Check it: modeldrop doctor {url}".lstrip()
    )


def no_threads(url: str) -> RegistryError:
    """Reading needs threads, and this process gets none."""
    return RegistryError(f"{url} cannot be read: {NO_THREADS}.", MORE_THREADS)


def panicked(url: str, error: BaseException) -> RegistryError:
    """The library that reads buckets met something that it does not expect."""
    text = detail(error)
    if "spawn" in text:
        return no_threads(url)
    return RegistryError(
        f"{url} cannot be read: obstore panicked: {text}",
        "Check what the cloud's variables hold; if all of it is right, report this with what --debug prints.",
    )


def no_conditional_writes(url: str, what: str) -> RegistryError:
    """The store does not honour create-only or compare-and-swap. ``what``: what it did instead."""
    return RegistryError(
        f"{url} cannot be a registry to publish to: {what}.",
        "Two publishers could overwrite each other there. Use a store with conditional writes: Amazon S3, GCS, "
        "Azure Blob, MinIO, Ceph, Cloudflare R2 or a folder.",
    )
