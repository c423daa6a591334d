"""Makes Google's client: signed in by Google's own chain, with time limits."""

from __future__ import annotations

import itertools
import os
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import google.auth
import google.auth.exceptions
import google.auth.transport
import google.auth.transport.requests
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from modeldrop.storage.requests_adapter import prepare_session
from modeldrop.storage.write.gcs.errors import is_retryable, stated_retry_after
from modeldrop.util.retry import Deadline, backoff, retry

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")

QUICK_TIMEOUT = (4.0, 8.0)
"""Seconds to connect (also: in which some of what is sent must leave), and to wait for the next bytes."""

TIMEOUT = (4.0, 30.0)
"""The same for an upload or a download that is under way."""

LONG_TIMEOUT = (4.0, 120.0)
"""The same where the service has to put large parts together before it answers."""

_SCOPE = "https://www.googleapis.com/auth/devstorage.full_control"
_SIGN_IN_TIMEOUT = (3.0, 8.0)
_SIGN_IN_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Tries again what may succeed in a moment. Called as Google's own Retry, but waits as the service asks.

    Attributes:
        first: seconds between the first two attempts, doubled before each further one. Less by chance.
        longest: between any two.
        limit: within which the last attempt begins.
        again: whether an error may be gone in a moment.
    """

    first: float
    longest: float
    limit: float
    again: Callable[[Exception], bool] = is_retryable

    def __call__(self, ask: Callable[..., _Result]) -> Callable[..., _Result]:
        def attempts(*args: Any, **named: Any) -> _Result:
            deadline = Deadline(self.limit)
            return retry(
                lambda: ask(*args, **named),
                (backoff(failures, self.first, self.longest) for failures in itertools.count(1)),
                lambda error, pause: self.again(error) and pause < deadline.left(),
                asked=stated_retry_after,
                sleep=time.sleep,
            )

        return attempts


QUICK_RETRY = Retry(first=0.2, longest=1.5, limit=5.0)
"""For requests that may be the first: with QUICK_TIMEOUT, an address that nobody answers fails within 10 seconds."""

UPLOAD_RETRY = Retry(first=0.3, longest=5.0, limit=60.0)
"""For an upload or a download that is under way."""


def emulator() -> str:
    """The address of a local stand-in for the service (``STORAGE_EMULATOR_HOST``), or ""."""
    host = os.environ.get("STORAGE_EMULATOR_HOST", "").rstrip("/")
    return host if not host or "://" in host else f"http://{host}"


def make_client(endpoint: str, *, anonymous: bool) -> tuple[storage.Client, requests.Session]:
    """The client, and the session that it shares with the requests of the XML API.

    Args:
        endpoint: the service's address, "" for Google's own.
        anonymous: do not sign in.

    Raises:
        GoogleAuthError, ValueError, OSError: nobody is signed in, or the credentials cannot be used.
    """
    sign_in = _SignIn()
    credentials = AnonymousCredentials() if anonymous else _credentials(sign_in)
    session = google.auth.transport.requests.AuthorizedSession(credentials, auth_request=sign_in)
    prepare_session(session, redirects=False)
    client = storage.Client(
        project=None,  # only the management of buckets needs one
        credentials=credentials,
        _http=session,
        client_options={"api_endpoint": endpoint} if endpoint else None,
        extra_headers={"accept-encoding": "identity"},
    )
    # It would ask for the bucket's metadata beside our own requests, for traces that nobody collects, and with
    # a right that publishers need not have.
    client._bucket_metadata_cache = None  # noqa: SLF001
    return client, session


def _credentials(request: google.auth.transport.Request) -> Any:
    with warnings.catch_warnings():
        # A user without a quota project is fine here: storage needs none.
        warnings.simplefilter("ignore", UserWarning)
        credentials, _ = google.auth.default(scopes=[_SCOPE], request=request)
    return credentials


class _SignIn(google.auth.transport.Request):
    """Requests for tokens. google-auth tries a metadata server that does not answer for half a minute."""

    def __init__(self) -> None:
        session = requests.Session()
        prepare_session(session, redirects=False)
        self._request = google.auth.transport.requests.Request(session)
        self._failing_since: float | None = None

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float | tuple[float, float] | None = None,
        **more: Any,
    ) -> Any:
        begun = time.monotonic()
        asked = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        limits = tuple(min(one or most, most) for one, most in zip(asked, _SIGN_IN_TIMEOUT, strict=True))
        try:
            response = self._request(url, method, body, headers, limits, **more)
        except google.auth.exceptions.TransportError as error:
            since = self._failing_since = self._failing_since or begun
            if time.monotonic() - since > _SIGN_IN_SECONDS:
                # Not a TransportError any more, so that nobody tries again.
                raise google.auth.exceptions.TimeoutError(str(error)) from error
            raise
        self._failing_since = None
        return response
