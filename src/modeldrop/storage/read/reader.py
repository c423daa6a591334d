"""Reads a registry through obstore: small documents whole, files in ranges. It never lists."""

from __future__ import annotations

import contextlib
import functools
import os
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import obstore
from obstore.exceptions import BaseError, NotModifiedError
from obstore.exceptions import NotFoundError as ObjectNotFoundError
from obstore.store import LocalStore, MemoryStore

from modeldrop.config import one_spelling, registry_settings
from modeldrop.errors import IntegrityError, RegistryError
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.retry import Deadline, retry
from modeldrop.util.text import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from modeldrop.storage.read.obstore_client import ObstoreClient
    from modeldrop.storage.read.obstore_errors import Fault

_Result = TypeVar("_Result")
_BLOCK = 1 << 20
_THREADS_VARIABLE = "TOKIO_WORKER_THREADS"
# Seconds. A small document is asked for up to three times, none of them late: a dead address is told in 6 s, one that
# does not answer in 8.
_PAUSES = (0.1, 0.2)
_PATIENCE = 5.0


class _Unchanged(Enum):
    UNCHANGED = "unchanged"


UNCHANGED: Final = _Unchanged.UNCHANGED
"""What ``get_if_changed`` gives for an object that still has the ETag it was asked with."""


class Document(NamedTuple):
    """A small object, and its ETag: "" where the registry gives none."""

    data: bytes
    etag: str


class Stream(NamedTuple):
    """The answer to one request, before its body has come.

    Attributes:
        etag: of the object, if it is strong: two answers with it are of the same bytes. Else "".
        size: bytes of the whole object.
        chunks: the body, as it comes.
    """

    etag: str
    size: int
    chunks: Iterable[bytes]


class RegistryReader:
    """The objects of one registry, by key (``embedder/v1/manifest.json``)."""

    def __init__(self, registry: str) -> None:
        """Open a registry.

        Args:
            registry: its URL, its folder, or its name in modeldrop.toml.

        Raises:
            UsageError: none is named, or it cannot be one.
            RecipeError: modeldrop.toml is wrong.
            RegistryError: the folder is not there, or the credentials cannot be used.
            MissingExtraError: the credentials need an SDK that is not installed.
        """
        settings = registry_settings(registry)
        self._client: ObstoreClient | None = None
        if "://" in settings.url:
            from modeldrop.storage.read.obstore_client import open_client  # a folder needs none of it

            _start_obstore_threads()
            self.url = settings.url
            self._client = open_client(settings)
            return
        self.url = folder = one_spelling(settings.url)
        if not os.path.isdir(folder):  # noqa: PTH112  Path.is_dir raises where a parent may not be searched
            raise RegistryError(f"The registry {folder} is not a folder, or is not there.", "Check path and mount.")
        self._store = LocalStore(folder)

    def get(self, key: str, limit: int) -> bytes | None:
        """A small object of at most ``limit`` bytes, None if there is none.

        Raises:
            RegistryError: it cannot be read.
            IntegrityError: it is larger.
        """
        found = self.get_if_changed(key, limit, "")
        return found.data if isinstance(found, Document) else None

    def get_if_changed(self, key: str, limit: int, etag: str) -> Document | Literal[_Unchanged.UNCHANGED] | None:
        """A small object, unless it still has the ETag ``etag`` ("": whatever it has); one request.

        Returns:
            The object; None if there is none; UNCHANGED.

        Raises:
            RegistryError: it cannot be read.
            IntegrityError: it has more than ``limit`` bytes.
        """
        options: Any = {"if_none_match": etag} if etag else None

        def ask(store: Any) -> Document:
            result = obstore.get(store, key, options=options)
            if result.meta["size"] > limit:
                raise IntegrityError(f"{self.url}/{key} has {result.meta['size']} bytes; at most {limit} are read.")
            return Document(bytes(result.bytes()), result.meta["e_tag"] or "")

        try:
            return self._with_retries(key, ask)
        except NotModifiedError:
            return UNCHANGED
        except (FileNotFoundError, ObjectNotFoundError) as error:
            if self._client is not None:
                from modeldrop.storage.read.obstore_errors import no_bucket, parse

                missing = no_bucket(self._client, parse(error))
                if missing is not None:
                    raise missing from error
            return None
        except (OSError, BaseError) as error:
            raise self._unreadable(key, error) from error

    def read(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes of an object from ``start`` on; fewer where it ends before.

        Raises:
            RegistryError: it cannot be read, or is not there.
        """
        try:
            return self._with_retries(
                key, lambda store: bytes(obstore.get_range(store, key, start=start, length=length))
            )
        except (OSError, BaseError) as error:
            if self._ends_before(key, start, error):
                return b""
            raise self._unreadable(key, error) from error

    def stream(self, key: str, start: int, length: int | None, etag: str, chunk: int) -> Stream:
        """Ask once for a part of an object, and let its body come in pieces.

        Whatever fails, here or while the chunks are read, is raised as it is; ``fault`` says what it means.

        Args:
            key: the object.
            start: its first byte that is wanted.
            length: how many are wanted, at least 1; None: the whole object, which asks for no range.
            etag: refuse it if it has another ETag; "": take any.
            chunk: collect at least so many bytes before they are handed over, except at the end.

        Raises:
            OSError, BaseError: see ``fault``.
        """
        if self._client is None:
            return self._stream_file(key, start, length)
        options: Any = {} if length is None else {"range": (start, start + length)}
        if etag:
            options["if_match"] = etag
        result = self._in_its_region(functools.partial(obstore.get, path=key, options=options))
        told = result.meta["e_tag"] or ""
        return Stream("" if told.startswith("W/") else told, result.meta["size"], result.stream(chunk))

    def fault(self, key: str, error: Exception) -> Fault:
        """What a failure of ``stream`` means for whoever could ask again."""
        from modeldrop.storage.read.obstore_errors import Fault, FaultKind, classify

        if self._client is None:
            return Fault(FaultKind.FINAL, self._unreadable(key, error))
        return classify(self._client, key, error)

    def ended_early(self, key: str) -> RegistryError:
        """The error for an answer that was shorter than it should have been."""
        from modeldrop.storage.errors import unavailable

        return unavailable(self.url, "read", key, "answers end before they are complete")

    def _stream_file(self, key: str, start: int, length: int | None) -> Stream:
        # obstore reads files 8 KiB at a time, each in another thread.
        path = os.path.join(self.url, key)  # noqa: PTH118  a key, which was checked
        size = os.stat(path).st_size  # noqa: PTH116
        return Stream("", size, _blocks(path, start, size if length is None else start + length))

    def _with_retries(self, key: str, ask: Callable[[Any], _Result]) -> _Result:
        """Ask the store, and again where that may help."""
        limit = Deadline(_PATIENCE)

        def again(error: Exception, _pause: float) -> bool:
            answered = isinstance(error, (NotModifiedError, FileNotFoundError, ObjectNotFoundError))
            if answered or not isinstance(error, (OSError, BaseError)):
                return False
            from modeldrop.storage.read.obstore_errors import RETRYABLE

            return self.fault(key, error).kind in RETRYABLE and limit.left() > 0

        return retry(lambda: self._in_its_region(ask), _PAUSES, again)

    def _in_its_region(self, ask: Callable[[Any], _Result]) -> _Result:
        """Ask the store, and once more where an S3 bucket turns out to be in another region."""
        client = self._client  # several threads may find out at once
        if client is None:
            return ask(self._store)
        try:
            return ask(client.store)
        except BaseError as error:
            if client.scheme != "s3":
                raise
            from modeldrop.storage.read.s3_region import reopen_in_region

            reopened = reopen_in_region(client, error)
            if reopened is None:
                raise
            self._client = reopened
            return ask(reopened.store)

    def _ends_before(self, key: str, start: int, error: Exception) -> bool:
        """Whether a range could not be read because the object has no byte there: each store has an error for it."""
        if self._client is not None:
            from modeldrop.storage.read.obstore_errors import parse

            return parse(error).status == 416 or "StartTooLarge" in str(error)
        try:
            return bool(obstore.head(self._store, key)["size"] <= start)
        except (OSError, BaseError):
            return False

    def _unreadable(self, key: str, error: Exception) -> RegistryError:
        if self._client is not None:
            from modeldrop.storage.read.obstore_errors import explain

            return explain(self._client, "read", key, error)
        return RegistryError(
            f"Could not read {self.url}/{key}: {first_line(error)}",
            "Check that this user may read there, and that the file was not removed.",
        )


def _blocks(path: str, start: int, end: int) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123
        while start < end:
            data = os.pread(file.fileno(), min(_BLOCK, end - start), start)
            if not data:
                return
            start += len(data)
            yield data


def _start_obstore_threads() -> None:
    """Let obstore have half as many threads as there are CPUs: the other half verifies and writes.

    With one for each CPU, which is what Tokio starts by itself, they take turns with the threads that take their
    bytes: on 2 CPUs a transfer then takes a sixth more of both. Nothing is done where the environment names a number,
    or where another thread could be reading the environment.
    """
    import threading  # a folder needs none

    if _THREADS_VARIABLE in os.environ or threading.active_count() > 1:
        return
    os.environ[_THREADS_VARIABLE] = str(max(1, _cpus() // 2))
    try:
        with contextlib.suppress(FileNotFoundError):
            obstore.head(MemoryStore(), "nothing")  # the first call of a process starts them
    finally:
        del os.environ[_THREADS_VARIABLE]


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
