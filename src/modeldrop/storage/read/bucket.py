"""Reads a registry in a bucket, or behind https, through obstore."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import obstore
from obstore.exceptions import BaseError, NotModifiedError
from obstore.exceptions import NotFoundError as ObjectNotFoundError

from modeldrop.errors import IntegrityError, RegistryError
from modeldrop.storage.read import metadata, runtime
from modeldrop.storage.read.interface import RETRYABLE, UNCHANGED, Document, Fault, FaultKind, Stream, Unchanged, strong
from modeldrop.storage.read.obstore_calls import PanickedError, obstore_call
from modeldrop.storage.read.obstore_client import open_client
from modeldrop.util.retry import Deadline, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from modeldrop.config import RegistrySettings
    from modeldrop.errors import ModeldropError
    from modeldrop.storage.read.direct import DirectReader
    from modeldrop.storage.read.interface import Room
    from modeldrop.storage.read.obstore_client import ObstoreClient

_Result = TypeVar("_Result")
# Seconds. A small document is asked for up to three times, none of them late: a dead address is told in 6 s, one that
# does not answer in 8.
_PAUSES = (0.1, 0.2)
_PATIENCE = 5.0
# Bytes. The direct reader's modules and certificates take 40 ms; it saves 0.6 ms of each MiB.
_DIRECT_AFTER = 64 << 20
_DIRECT_FROM = 1 << 20


class BucketReader:
    """A registry in a bucket; see ``RegistryReader``.

    Args:
        settings: the registry's.

    Raises:
        UsageError: the URL cannot be one.
        RegistryError: the credentials cannot be used.
        MissingExtraError: the credentials need an SDK that is not installed.
    """

    failures: tuple[type[BaseException], ...] = (OSError, BaseError)

    def __init__(self, settings: RegistrySettings) -> None:
        self.url = settings.url
        try:
            with obstore_call():
                runtime.start()
        except PanickedError as error:
            from modeldrop.storage.errors import panicked

            raise panicked(self.url, error) from error
        self._client = open_client(settings)
        self._busy = ""  # what a busy service did not give, the last time that it was busy
        self._metadata_seconds = metadata.QUICK_SECONDS
        self._asked = 0  # bytes of files
        self._direct: DirectReader | None = None

    @property
    def client(self) -> ObstoreClient:
        """What it reads through."""
        return self._client

    def get(self, key: str, limit: int) -> bytes | None:
        found = self.get_if_changed(key, limit, "")
        return found.data if isinstance(found, Document) else None

    def get_if_changed(self, key: str, limit: int, etag: str) -> Document | Literal[Unchanged.UNCHANGED] | None:
        options: Any = {"if_none_match": etag} if etag else None

        def ask(store: Any) -> Document:
            result = obstore.get(store, key, options=options)
            if result.meta["size"] > limit:
                raise IntegrityError(f"{self.url}/{key} has {result.meta['size']} bytes; at most {limit} are read.")
            return Document(bytes(result.bytes()), result.meta["e_tag"] or "", result.meta["version"] or "")

        try:
            return self.ask(key, ask)
        except NotModifiedError:
            return UNCHANGED
        except (FileNotFoundError, ObjectNotFoundError) as error:
            from modeldrop.storage.read.obstore_errors import missing_bucket, parse

            missing = missing_bucket(self._client, parse(error))
            if missing is not None:
                raise missing from error
            return None
        except (OSError, BaseError) as error:
            raise self.failure("read", key, error) from error

    def read(self, key: str, start: int, length: int) -> bytes:
        try:
            return self.ask(key, lambda store: bytes(obstore.get_range(store, key, start=start, length=length)))
        except (OSError, BaseError) as error:
            from modeldrop.storage.read.obstore_errors import parse

            if parse(error).status == 416 or "StartTooLarge" in str(error):  # it has no byte there
                return b""
            raise self.failure("read", key, error) from error

    def stream(
        self, key: str, start: int, length: int | None, etag: str, chunk: int, room: Room | None = None
    ) -> Stream:
        if room is not None and length is not None:
            direct = self._direct_reader(length)
            stream = direct.stream(key, start, length, etag, chunk, room) if direct else None
            if stream is not None:
                return stream
        options: Any = {} if length is None else {"range": (start, start + length)}
        if etag:
            options["if_match"] = etag
        result = self.ask_once(functools.partial(obstore.get, path=key, options=options))
        return Stream(strong(result.meta["e_tag"]), result.meta["size"], _called(result.stream(chunk)))

    def _direct_reader(self, length: int) -> DirectReader | None:
        """What reads so many bytes faster, where so much was asked for before that it is worth its start."""
        self._asked += length
        if self._asked - length < _DIRECT_AFTER or length < _DIRECT_FROM or not runtime.runs_here():
            return None
        if self._direct is None or self._direct.client is not self._client:
            from modeldrop.storage.read.direct import DirectReader

            self._direct = DirectReader(self._client)
        return self._direct

    def fault(self, key: str, error: BaseException) -> Fault:
        from modeldrop.storage.read.obstore_errors import classify, parse

        fault = classify(self._client, key, error)
        if fault.kind is FaultKind.BUSY:
            self._busy = parse(error).address
        return fault

    def retry_after(self) -> float:
        busy, self._busy = self._busy, ""
        if not busy:
            return 0.0
        from modeldrop.storage.read.patience import ask_retry_after

        return ask_retry_after(busy, self._client.address.certificates if self._client.address else "")

    def hang_up(self) -> None:
        if self._direct is not None:
            self._direct.hang_up()

    def ask(self, key: str, ask: Callable[[Any], _Result]) -> _Result:
        """Call ``ask`` with obstore's store, and again where that may help.

        Raises:
            RegistryError: this process was forked since the registry was opened.
            BaseError, OSError: whatever obstore raises at last.
        """
        limit = Deadline(_PATIENCE)

        def again(error: Exception, _pause: float) -> bool:
            answered = isinstance(error, (NotModifiedError, FileNotFoundError, ObjectNotFoundError))
            if (answered and not self._client.late) or not isinstance(error, (OSError, BaseError)):
                return False
            fault = self.fault(key, error)
            if not limit.left():
                return False
            return fault.kind in RETRYABLE or (self._client.late and self._ask_for_identity(fault.error))

        return retry(lambda: self.ask_once(ask), _PAUSES, again)

    def ask_once(self, ask: Callable[[Any], _Result]) -> _Result:
        """Call ``ask`` with obstore's store, and once more where an S3 bucket turns out to be in another region.

        Raises:
            RegistryError, BaseError, OSError: see ``ask``.
        """
        if not runtime.runs_here():  # it would wait for ever
            raise RegistryError(f"{self.url} was opened before this process was forked.", "Open it again: fetch anew.")
        client = self._client  # several threads may find out at once
        try:
            with obstore_call():
                return ask(client.store)
        except BaseError as error:
            if client.scheme != "s3":
                raise
            from modeldrop.storage.read.s3_region import reopen_in_region

            reopened = reopen_in_region(client, error)
            if reopened is None:
                raise
            self._client = reopened
            with obstore_call():
                return ask(reopened.store)

    def _ask_for_identity(self, error: ModeldropError) -> bool:
        """Ask the metadata service once more, and longer, where its silence is why nothing was signed."""
        if not isinstance(error, RegistryError) or not error.patience:
            return False
        self._metadata_seconds = min(2 * self._metadata_seconds, metadata.PATIENT_SECONDS)
        region = self._client.address.region if self._client.address else ""
        self._client = open_client(self._client.settings, region, self._metadata_seconds)
        return True

    def failure(self, verb: str, key: str, error: BaseException) -> RegistryError:
        """The error for a request that failed; ``verb`` says what it was to do."""
        from modeldrop.storage.read.obstore_errors import explain

        return explain(self._client, verb, key, error)


def _called(chunks: Iterable[bytes]) -> Iterator[bytes]:
    with obstore_call():
        yield from chunks
