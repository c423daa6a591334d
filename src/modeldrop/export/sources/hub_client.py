"""Calls huggingface_hub: without output, with our rule for CAs and proxies, and with its errors as our own.

It reads most of its settings when it is imported; here the environment is read at each call.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from modeldrop.errors import DiskError, MissingExtraError, ModeldropError, SourceError, UsageError
from modeldrop.util import http
from modeldrop.util.files import expand_user

_PUBLIC = "https://huggingface.co"
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
_TIMEOUT = 10.0
_INVALID = "Invalid credentials in Authorization header"


def wants_offline() -> bool:
    """Whether the environment forbids asking the Hub."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


def endpoint() -> str:
    """Where the Hub is: HF_ENDPOINT or the public one."""
    return (os.environ.get("HF_ENDPOINT") or _PUBLIC).rstrip("/")


def shown_endpoint() -> str:
    """The endpoint as it may be printed: people put passwords of mirrors into it."""
    try:
        parts = urlsplit(endpoint())
    except ValueError:
        return "the address in HF_ENDPOINT"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def timeout() -> float:
    """How long to wait for an answer, in seconds: HF_HUB_ETAG_TIMEOUT or 10."""
    try:
        return float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or _TIMEOUT)
    except ValueError:
        return _TIMEOUT


def cache() -> Path:
    """The client's cache, by the client's own rules; known without importing it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return expand_user(os.environ[variable])
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return expand_user(home) / "hub"


def storage(repository: str) -> Path:
    """The folder of one repository in the cache."""
    return cache() / f"models--{repository.replace('/', '--')}"


@contextmanager
def client(repository: str, revision: str, file: str = "") -> Iterator[Any]:
    """huggingface_hub without progress bars, with the CAs and proxies of ``modeldrop.util.http``.

    Raises:
        MissingExtraError: it is not installed.
        UsageError, SourceError, DiskError: whatever is raised inside, in words for the user.
    """
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise MissingExtraError(
            "Reading a model from the Hugging Face Hub needs huggingface_hub, which is not installed.",
            "pip install 'modeldrop[hub]'",
        ) from error
    bars: Any = import_module("huggingface_hub.utils")
    # An explicit HF_HUB_DISABLE_PROGRESS_BARS makes these calls no-ops that warn.
    quiet = not bars.are_progress_bars_disabled() and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
    if quiet:
        bars.disable_progress_bars()
    try:
        _use_our_sessions(hub)
        yield hub
    except ModeldropError:
        raise
    except Exception as error:
        told = _translated(error, repository, revision, file)
        if told is None:
            raise
        # Not chained: the original may spell out an endpoint with a password in it.
        raise told from None
    finally:
        if quiet:
            bars.enable_progress_bars()


def _use_our_sessions(hub: Any) -> None:
    """Let huggingface_hub make its sessions as we do; those that it has, of another environment, are dropped."""
    try:
        http.ca_bundle()
    except http.CertificatesError as error:
        raise SourceError(str(error), "Fix its path, or unset it.") from None
    if hub.constants.HF_HUB_OFFLINE:
        return  # its own sessions refuse to send anything
    from modeldrop.storage.requests_adapter import new_session

    hub.configure_http_backend(new_session)
    if http.is_configured():
        # The client for Xet storage is not made of requests, and reads the environment in its own way.
        hub.constants.HF_HUB_DISABLE_XET = True


def _translated(error: Exception, repository: str, revision: str, file: str) -> ModeldropError | None:
    """The error as the user should read it, or None for one that is not of the Hub, the net or the disk."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _translated(error.__cause__, repository, revision, file)
    what = f"{file} of {repository}" if file else repository
    match error:
        case errors.HFValidationError():
            return UsageError(f"{repository!r} is not a Hugging Face model id.", "A Hub id is org/name.")
        case errors.OfflineModeIsEnabled():
            return SourceError(f"{what} cannot be fetched: HF_HUB_OFFLINE is set.", "Unset HF_HUB_OFFLINE.")
        case errors.GatedRepoError():
            return SourceError(
                f"{repository} is gated: its files are only for those who accepted its terms.",
                f"Accept them on {shown_endpoint()}/{repository} and set HF_TOKEN to a token of that account.",
            )
        case errors.RevisionNotFoundError():
            return SourceError(
                f"{repository} has no revision {revision!r}.",
                f"Its branches, tags and commits are on {shown_endpoint()}/{repository}/tree/main.",
            )
        case errors.RepositoryNotFoundError():
            return _missing(repository)
        case errors.EntryNotFoundError():
            return SourceError(f"{repository}@{revision[:12]} has no file {file}.")
        case errors.HfHubHTTPError():
            return _refused(error, repository, what)
        case errors.FileMetadataError():
            return not_a_hub()
    return _of_the_net(error, what)


def _missing(repository: str) -> SourceError:
    hint = "Check the spelling. If it is private, set HF_TOKEN to a token that may read it."
    if Path(repository).is_dir():
        hint += f" For the folder of that name write ./{repository}."
    return SourceError(
        f"{repository} is not on {shown_endpoint()}, or is private and "
        f"{'the token may not see it' if _has_token() else 'no token was sent'}.",
        hint,
    )


def _refused(error: Any, repository: str, what: str) -> SourceError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    where = shown_endpoint()
    if status == 401 and headers.get("X-Error-Message") != _INVALID:
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
            f"Try again {wait}" + ("." if _has_token() else "; with HF_TOKEN set the limits are higher."),
        )
    later = "Try again later; HF_HUB_OFFLINE=1 uses what is in the cache." if status >= 500 else ""
    return SourceError(f"{where} answered {status} for {what}.", later)


def _of_the_net(error: Exception, what: str) -> ModeldropError | None:
    # By name, because requests (huggingface_hub 0.x) and httpx (1.x) are not both installed.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    library = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    where = shown_endpoint()
    if "JSONDecodeError" in kinds:
        return not_a_hub()
    if not library & {"requests", "urllib3", "httpx", "httpcore"}:
        if not isinstance(error, OSError):
            return None
        if error.errno in _DISK_ERRORS:
            return DiskError(
                f"{what} cannot be stored in the cache {cache()}: {os.strerror(error.errno)}.",
                "Free some space or set HF_HUB_CACHE to a folder that can be written.",
            )
        if error.errno is None and "Consistency check failed" in str(error):
            return SourceError(f"The download of {what} from {where} ended early.", "Run again.")
        if not isinstance(error, ConnectionError | TimeoutError):
            return None
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
    if "ProxyError" in kinds:
        return SourceError(f"The proxy did not let {where} be reached.", "Check HTTPS_PROXY and NO_PROXY.")
    return SourceError(
        f"{where} cannot be reached for {what}.",
        "Check the network, HTTPS_PROXY and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is in the cache.",
    )


def not_a_hub() -> SourceError:
    """The error for an answer that no Hub gives."""
    return SourceError(
        f"{shown_endpoint()} does not answer as the Hugging Face Hub does.",
        "Check HF_ENDPOINT, and that no proxy answers in its place.",
    )


def _has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())
