"""What the Hub, or the net before it, answers, as the user should read it. Knows neither client of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from email.message import Message
from pathlib import Path

from modeldrop.errors import DiskError, ModeldropError, SourceError
from modeldrop.export.sources.hub_settings import cache, shown_endpoint, token
from modeldrop.util import http

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_INVALID = "Invalid credentials in Authorization header"


def explain_answer(
    status: int, headers: Mapping[str, str] | Message, repository: str, revision: str, file: str = ""
) -> SourceError:
    """The error for an answer of the Hub: its status, and what its headers say of the reason."""
    what, where = called(repository, file), shown_endpoint()
    code = headers.get("X-Error-Code")
    if code == "GatedRepo":
        return SourceError(
            f"{repository} is gated: its files are only for those who accepted its terms.",
            f"Accept them on {where}/{repository} and set HF_TOKEN to a token of that account.",
        )
    if code == "RevisionNotFound":
        return SourceError(
            f"{repository} has no revision {revision!r}.",
            f"Its branches, tags and commits are on {where}/{repository}/tree/main.",
        )
    if code == "RepoNotFound" or (status == 401 and headers.get("X-Error-Message") != _INVALID):
        return _missing(repository)
    if status in (401, 403):
        return SourceError(
            f"{where} refused the token ({status}) for {what}.",
            "Set HF_TOKEN to a valid token that may read this repository; a public one needs none.",
        )
    if status == 429:
        after = headers.get("Retry-After", "")
        wait = f"in {after} s" if after.isdigit() else "in some minutes"
        return SourceError(
            f"{where} allows no more requests for now (429) for {what}.",
            f"Try again {wait}" + ("." if token() else "; with HF_TOKEN set the limits are higher."),
        )
    later = "Try again later; HF_HUB_OFFLINE=1 uses what is in the cache." if status >= 500 else ""
    return SourceError(f"{where} answered {status} for {what}.", later)


def of_the_disk(error: OSError, what: str) -> ModeldropError | None:
    """The error where a download cannot be stored, or is not whole; None for any other."""
    if error.errno in _DISK_ERRORS:
        return DiskError(
            f"{what} cannot be stored in the cache {cache()}: {os.strerror(error.errno)}.",
            "Free some space or set HF_HUB_CACHE to a folder that can be written.",
        )
    if error.errno is None and "Consistency check failed" in str(error):
        return SourceError(f"The download of {what} from {shown_endpoint()} ended early.", "Run again.")
    return None


def of_the_net(error: Exception, what: str) -> SourceError:
    """The error where no answer came."""
    # By name, because requests, httpx and urllib are not all imported.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    where = shown_endpoint()
    if kinds & {"Timeout", "TimeoutException", "TimeoutError"}:
        return SourceError(
            f"{where} did not answer in time for {what}.",
            "Try again; HF_HUB_OFFLINE=1 uses what is in the cache.",
        )
    if "SSLError" in kinds or "CERTIFICATE_VERIFY_FAILED" in str(error):
        reason = f": {http.CA_AS_SERVER}" if http.CA_AS_SERVER in str(error) else ""
        return SourceError(
            f"The certificate of {where} is not trusted here{reason}.",
            "Behind a private CA, set SSL_CERT_FILE to its bundle.",
        )
    if "ProxyError" in kinds or "Tunnel connection failed" in str(error):
        return SourceError(f"The proxy did not let {where} be reached.", "Check HTTPS_PROXY and NO_PROXY.")
    return SourceError(
        f"{where} cannot be reached for {what}.",
        "Check the network, HTTPS_PROXY and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is in the cache.",
    )


def unusable_hub_certificates(error: http.CertificatesError) -> SourceError:
    """A variable names a file of certificates that is no such file."""
    return SourceError(str(error), "Fix its path, or unset it.")


def not_a_hub() -> SourceError:
    """The error for an answer that no Hub gives."""
    return SourceError(
        f"{shown_endpoint()} does not answer as the Hugging Face Hub does.",
        "Check HF_ENDPOINT, and that no proxy answers in its place.",
    )


def called(repository: str, file: str) -> str:
    """How messages call what was asked for."""
    return f"{file} of {repository}" if file else repository


def _missing(repository: str) -> SourceError:
    hint = "Check the spelling. If it is private, set HF_TOKEN to a token that may read it."
    if Path(repository).is_dir():
        hint += f" For the folder of that name write ./{repository}."
    return SourceError(
        f"{repository} is not on {shown_endpoint()}, or is private and "
        f"{'the token may not see it' if token() else 'no token was sent'}.",
        hint,
    )
