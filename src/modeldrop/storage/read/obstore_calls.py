"""Calling obstore: its panics become exceptions, and of a refusal only the beginning is kept."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from obstore.exceptions import BaseError, GenericError

from modeldrop.util.text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 256 << 10


class PanickedError(GenericError):
    """obstore panicked; its first line says at what."""


@contextlib.contextmanager
def obstore_call() -> Iterator[None]:
    """Raise what obstore raises in a form that can be caught and kept.

    Raises:
        PanickedError: obstore's Rust code panicked, which is no Exception.
        BaseError, OSError: whatever else it raises. Of its text, which holds an answer's body twice, 256 KiB are kept.
    """
    try:
        yield
    except (BaseError, OSError) as error:  # a 404 is FileNotFoundError
        text = str(error)
        if len(text) > _MOST:
            error.args = (text[:_MOST],)
        raise
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # its module cannot be imported
            raise PanickedError(first_line(error)) from None
        raise
