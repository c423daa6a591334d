"""What a service answered an SDK last, for the exceptions of an SDK that come only of that.

SDKs expect the answers that they know. At others (a list for an object, a proxy's page, half a document) they fail
somewhere inside, with whatever Python raises there. Such an exception says nothing to a user: what was answered does.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from modeldrop.errors import ModeldropError
from modeldrop.storage import errors as storage_errors
from modeldrop.storage.answer_text import MAX_BODY, asks_for_tls, describe, is_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from modeldrop.errors import RegistryError

MAX_DOCUMENT_ANSWER = 64 << 20
"""Bytes of a listing, or of what an SDK reads whole, that are taken into memory."""

_ADDRESS = re.compile(r"(?:https?://[^/?#@]*)?")
_Value = TypeVar("_Value")
_latest = threading.local()


@dataclass(frozen=True, slots=True)
class SdkAnswer:
    """An answer, as far as errors tell it.

    Attributes:
        status: its status.
        body: the beginning of its body, as text.
        address: scheme, host and port that were asked, or "".
        location: where it redirects to, or "".
    """

    status: int
    body: str = ""
    address: str = ""
    location: str = ""

    @property
    def is_outage(self) -> bool:
        """Whether it says nothing about who asked: whoever should answer is down, or somebody else answers."""
        return self.status == 429 or self.status >= 500 or is_page(self.body)


class UnreadableAnswerError(Exception):
    """What was answered is not what this service answers.

    Args:
        why: what is wrong with it, or "" where nobody can tell.
        answer: what it was, None where that is not known.
    """

    def __init__(self, why: str, answer: SdkAnswer | None) -> None:
        super().__init__(why)
        self.why = why
        self.answer = answer


class AnswerTooLargeError(Exception):
    """More was answered than anything that is read whole can have."""


def note_answer(
    status: int, body: bytes | None, url: str, location: str | None, *, close: Callable[[], object] | None = None
) -> None:
    """Remember an answer in this thread; no body: nobody has read it yet.

    Args:
        status: its status.
        body: its body, as far as that was read; None where it has not been.
        url: what was asked.
        location: where it redirects to.
        close: gives up what has not been read, if what has been makes the SDK fail.
    """
    _latest.close = close if body is None else None
    text = (body or b"")[:MAX_BODY].decode("utf-8", "replace")
    _latest.answer = SdkAnswer(status, text, _ADDRESS.match(url or "")[0], location or "")  # type: ignore[index]


def latest_answer() -> SdkAnswer | None:
    """The last answer in this thread since ``answers_explained`` began."""
    return getattr(_latest, "answer", None)


@contextlib.contextmanager
def answers_explained(*meant: type[Exception]) -> Iterator[None]:
    """Raise UnreadableAnswerError for what comes out of an SDK besides what it raises on purpose.

    What comes of our own code stays as it is: that is a defect, and looks like one.

    Args:
        *meant: what the SDK raises on purpose.
    """
    _latest.answer = _latest.close = None
    known: tuple[type[Exception], ...] = (ModeldropError, UnreadableAnswerError, *meant)
    try:
        with _closed_on_failure():
            yield
    except known:
        raise
    except AnswerTooLargeError as error:
        raise UnreadableAnswerError("", latest_answer()) from error
    except Exception as error:
        if isinstance(error, MemoryError) or not _came_out_of_sdk(error):
            raise
        raise UnreadableAnswerError("", latest_answer()) from error


@contextlib.contextmanager
def _closed_on_failure() -> Iterator[None]:
    """Close the connection of an answer that nobody reads any more."""
    try:
        yield
    except BaseException:
        close = getattr(_latest, "close", None)
        if close is not None:
            with contextlib.suppress(Exception):
                close()
        raise
    finally:
        _latest.close = None  # it holds the answer


@contextlib.contextmanager
def fields_expected() -> Iterator[None]:
    """Around the taking of fields from an answer, and no more: raise UnreadableAnswerError where one is wrong."""
    try:
        yield
    except KeyError as error:
        raise UnreadableAnswerError(f"it lacks {error.args[0]}", latest_answer()) from error
    except (AttributeError, SyntaxError, TypeError, ValueError) as error:
        raise UnreadableAnswerError("", latest_answer()) from error


def expected(value: _Value | None, name: str) -> _Value:
    """A field of an answer, which must be there.

    Raises:
        UnreadableAnswerError: it is not.
    """
    if value is None or value == "":
        raise UnreadableAnswerError(f"it lacks {name}", latest_answer())
    return value


def explain_unreadable(error: UnreadableAnswerError, *, url: str, verb: str, key: str, endpoint: str) -> RegistryError:
    """The error to raise for an answer that is none of this service's."""
    answer = error.answer
    if answer is None or isinstance(error.__cause__, AnswerTooLargeError):
        # The SDK, or we, have refused something else, and say what.
        return storage_errors.failed_request(url, verb, key, error.__cause__ or error)
    return not_the_service(answer, url=url, verb=verb, key=key, endpoint=endpoint, why=error.why)


def not_the_service(answer: SdkAnswer, *, url: str, verb: str, key: str, endpoint: str, why: str = "") -> RegistryError:
    """The error for an answer that this service never gives; ``why``: what shows that."""
    endpoint = answer.address or endpoint
    redirection = f"redirects to {storage_errors.detail(answer.location, 100)}" if answer.location else ""
    answered = ", and ".join(part for part in (describe(answer.status, answer.body), redirection, why) if part)
    if asks_for_tls(answer.body):
        return storage_errors.only_tls(url, endpoint)
    if answer.status in {408, 429} or answer.status >= 500:
        return storage_errors.unavailable(url, verb, key, f"{endpoint} answered {answered}")
    return storage_errors.unreadable(url, verb, key, endpoint, answered, page=is_page(answer.body))


def bounded(chunks: Iterable[bytes], most: int = MAX_DOCUMENT_ANSWER) -> Iterator[bytes]:
    """The chunks of a body.

    Raises:
        AnswerTooLargeError: they are more than ``most`` bytes.
    """
    left = most
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise AnswerTooLargeError(f"its answer has more than {most >> 20} MB")
        yield chunk


def beginning(chunks: Iterable[bytes], failures: tuple[type[Exception], ...]) -> bytes:
    """The beginning of a refusal's body; where it cannot be read to there, what could be: the status says enough."""
    data = bytearray()
    with contextlib.suppress(*failures):
        for chunk in chunks:
            data += chunk
            if len(data) >= MAX_BODY:
                break
    return bytes(data)


def _came_out_of_sdk(error: BaseException) -> bool:
    """Whether the innermost code that is not Python's own is no code of ours."""
    traceback: Any = error.__traceback__
    innermost = ""
    while traceback is not None:
        name = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        if name not in sys.stdlib_module_names:
            innermost = name
        traceback = traceback.tb_next
    return innermost != __name__.partition(".")[0]
