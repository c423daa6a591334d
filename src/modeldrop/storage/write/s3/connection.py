"""A signed-in connection to one bucket: sends requests, again where that may help, and raises our own errors."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from modeldrop.storage import errors as storage_errors
from modeldrop.storage.s3_address import address_here
from modeldrop.storage.write.s3 import errors as s3_errors
from modeldrop.storage.write.s3.client import make_client
from modeldrop.storage.write.s3.unsupported import headers_of
from modeldrop.util import http
from modeldrop.util.retry import backoff, retry, with_timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.config import RegistrySettings
    from modeldrop.storage.s3_address import S3Address
    from modeldrop.storage.urls import Bucket

_FIRST_ANSWER_SECONDS = 8.0
_CONNECT_RETRY_SECONDS = 2.0
_RECONNECT_RETRY_SECONDS = 8.0
_ATTEMPTS = 6
_UPLOAD_ATTEMPTS = 9
_MAX_PAUSE = 4.0

_Result = TypeVar("_Result")


class S3Connection:
    """Sends requests for one bucket. Nobody signs in before the first."""

    def __init__(self, bucket: Bucket, settings: RegistrySettings) -> None:
        self._bucket = bucket
        self._settings = settings
        self._client: Any = None
        self._lock = threading.Lock()
        self._answered = False

    @property
    def address(self) -> S3Address:
        """Where the bucket is asked."""
        return address_here(self._bucket, self._settings)[0]

    @property
    def client(self) -> Any:
        """boto3's S3 client, signed in."""
        with self._lock:
            if self._client is None:
                try:
                    with s3_errors.request_explained():
                        self._client = make_client(self._settings, *address_here(self._bucket, self._settings))
                except http.CertificatesError as error:
                    raise storage_errors.unusable_certificates(error) from None
                except s3_errors.FAILURES as error:
                    raise s3_errors.explain(error, self._context("sign in to", "")) from None
            return self._client

    def object_request(self, verb: str, operation: str, key: str, *, large: bool = False, **arguments: Any) -> Any:
        """Make one of boto3's requests about an object.

        Args:
            verb: what it does: ``read``, ``write``, ``delete``.
            operation: the client's method.
            key: the object, below the registry's prefix.
            large: it is part of an upload.
            **arguments: for the method, besides bucket and key.

        Raises:
            ModeldropError: it failed.
        """
        whole = f"{self._bucket.prefix}{key}"
        return self.call(
            verb,
            key,
            lambda: getattr(self.client, operation)(Bucket=self._bucket.name, Key=whole, **arguments),
            large=large,
            headers=headers_of(arguments),
        )

    def call(
        self,
        verb: str,
        key: str,
        action: Callable[[], _Result],
        *,
        large: bool = False,
        headers: tuple[str, ...] = (),
    ) -> _Result:
        """Call ``action``, again where that may help, and raise our own errors.

        Args:
            verb: what it does: ``read``, ``write``, ``list``, ``delete``.
            key: to what.
            action: sends one request.
            large: it is part of an upload: worth more retries, and its body may take long to send.
            headers: those of the request that not every service knows.
        """
        attempts = _UPLOAD_ATTEMPTS if large else _ATTEMPTS
        _ = self.client
        try:
            if self._answered or large:
                return self._retry(action, attempts)
            return self._first_contact(action, attempts)
        except TimeoutError:
            raise storage_errors.unreachable(
                self._bucket.url,
                self._context(verb, key).endpoint,
                f"it does not answer within {_FIRST_ANSWER_SECONDS:.0f} seconds",
            ) from None
        except s3_errors.FAILURES as error:
            explained = s3_errors.explain(error, self._context(verb, key, headers))
            if verb == "read" and s3_errors.out_of_range(error):
                raise s3_errors.OutOfRangeError(explained.message, explained.hint) from None
            raise explained from None

    def _first_contact(self, action: Callable[[], _Result], attempts: int) -> _Result:
        """The first contact, in a thread that is left behind when nothing answers.

        A name server, eight addresses of one service, a proxy and TLS each have a limit of their own; only
        this bounds their sum.
        """
        given_up = threading.Event()
        failures: list[Exception] = []

        def wait(seconds: float) -> None:
            if given_up.wait(seconds):
                raise TimeoutError  # nobody waits for it any more

        def run() -> _Result:
            return self._retry(action, attempts, failures, wait)

        try:
            return with_timeout(run, _FIRST_ANSWER_SECONDS, "modeldrop-first-contact")
        except TimeoutError:
            given_up.set()
            if failures:
                raise failures[-1] from None
            raise

    def _retry(
        self,
        action: Callable[[], _Result],
        attempts: int,
        failures: list[Exception] | None = None,
        wait: Callable[[float], object] = time.sleep,
    ) -> _Result:
        begun = time.monotonic()

        def noted() -> _Result:
            try:
                with s3_errors.request_explained():
                    return action()
            except Exception as error:
                self._answered |= s3_errors.answered(error)
                if failures is not None:
                    failures.append(error)
                raise

        def again(error: Exception, _pause: float) -> bool:
            limit = _RECONNECT_RETRY_SECONDS if self._answered else _CONNECT_RETRY_SECONDS
            hopeless = s3_errors.never_reached(error) and time.monotonic() - begun > limit
            return not hopeless and s3_errors.is_retryable(error)

        pauses = (backoff(failed, 0.25, _MAX_PAUSE) for failed in range(1, attempts))
        result = retry(noted, pauses, again, sleep=wait)
        self._answered = True
        return result

    def _context(self, verb: str, key: str, headers: tuple[str, ...] = ()) -> s3_errors.RequestContext:
        address = self.address
        return s3_errors.RequestContext(
            url=self._bucket.url,
            bucket=self._bucket.name,
            verb=verb,
            key=key,
            endpoint=address.service,
            region=address.region,
            headers=headers,
        )
