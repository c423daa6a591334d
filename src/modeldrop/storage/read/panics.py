"""Catching what obstore's Rust code raises where it does not expect something: no Exception, so nobody else would."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from obstore.exceptions import GenericError

from modeldrop.util.text import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator


class PanickedError(GenericError):
    """obstore panicked; its first line says at what."""


@contextlib.contextmanager
def without_panics() -> Iterator[None]:
    """Turn a panic into an exception.

    Raises:
        PanickedError: obstore panicked.
    """
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # its module cannot be imported
            raise PanickedError(first_line(error)) from None
        raise
