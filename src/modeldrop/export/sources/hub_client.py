"""Calls huggingface_hub: without output, with our rule for CAs and proxies, and with its errors as our own.

It reads most of its settings when it is imported; here the environment is read at each call (``hub_settings.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from modeldrop.errors import MissingExtraError, ModeldropError, SourceError, UsageError
from modeldrop.export.sources import hub_errors, hub_sessions
from modeldrop.util import http


def is_installed() -> bool:
    """Whether huggingface_hub is there to be imported."""
    return find_spec("huggingface_hub") is not None


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
        raise hub_errors.unusable_hub_certificates(error) from None
    if hub.constants.HF_HUB_OFFLINE:
        return  # its own sessions refuse to send anything
    hub_sessions.use_our_sessions(hub)
    if http.is_configured():
        # The client for Xet storage is not made of requests, and reads the environment in its own way.
        hub.constants.HF_HUB_DISABLE_XET = True


def _translated(error: Exception, repository: str, revision: str, file: str) -> ModeldropError | None:
    """The error as the user should read it, or None for one that is not of the Hub, the net or the disk."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _translated(error.__cause__, repository, revision, file)
    what = hub_errors.called(repository, file)
    match error:
        case errors.HFValidationError():
            return UsageError(f"{repository!r} is not a Hugging Face model id.", "A Hub id is org/name.")
        case errors.OfflineModeIsEnabled():
            return SourceError(f"{what} cannot be fetched: HF_HUB_OFFLINE is set.", "Unset HF_HUB_OFFLINE.")
        case errors.EntryNotFoundError():
            return SourceError(f"{repository}@{revision[:12]} has no file {file}.")
        case errors.HfHubHTTPError():
            response = getattr(error, "response", None)
            status = getattr(response, "status_code", 0)
            return hub_errors.explain_answer(
                status, getattr(response, "headers", None) or {}, repository, revision, file
            )
        case errors.FileMetadataError():
            return hub_errors.not_a_hub()
    return _of_the_libraries(error, what)


def _of_the_libraries(error: Exception, what: str) -> ModeldropError | None:
    # By name, because requests (huggingface_hub 0.x), httpx (1.x) and httpx2 are not all installed.
    if "JSONDecodeError" in {kind.__name__ for kind in type(error).__mro__}:
        return hub_errors.not_a_hub()
    library = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    if not library & {"requests", "urllib3", "httpx", "httpcore", "httpx2", "httpcore2"}:
        if not isinstance(error, OSError):
            return None
        if told := hub_errors.of_the_disk(error, what):
            return told
        if not isinstance(error, ConnectionError | TimeoutError):
            return None
    return hub_errors.of_the_net(error, what)
