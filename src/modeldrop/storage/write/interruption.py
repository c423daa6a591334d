"""Uploads in parts that are under way: what they have sent is freed where they fail, and where this process is ended.

A process that is told to end has no time to wait for its threads: the parts that they are sending may take minutes, and
CI kills it after seconds. So whoever ends it frees the uploads itself.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, TypeVar

from modeldrop.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BEGIN_SECONDS = 3.0

_Upload = TypeVar("_Upload")
_changed = threading.Condition()
_beginning = 0
_under_way: dict[object, Callable[[], object]] = {}
_ended = False


@contextlib.contextmanager
def freed_on_failure(begin: Callable[[], _Upload], free: Callable[[_Upload], object]) -> Iterator[_Upload]:
    """Begin an upload, and free what it has sent if anything fails or interrupts it.

    Args:
        begin: begins it; something false says that there is none to free.
        free: frees it; its own failures are not told, since something else failed.

    Raises:
        RegistryError: this process is ending.
    """
    token = object()
    with _noted():
        upload = begin()
        if upload:
            _under_way[token] = lambda: free(upload)
    try:
        yield upload
    except BaseException:
        _free(token)
        raise
    finally:
        _under_way.pop(token, None)


def free_all() -> None:
    """Let no upload begin any more, and free those that are under way. For a process that ends right after it."""
    global _ended  # noqa: PLW0603
    with _changed:
        _ended = True
        # What is just beginning has no name yet to free it by.
        _changed.wait_for(lambda: not _beginning, _BEGIN_SECONDS)
    for token in list(_under_way):
        _free(token)


@contextlib.contextmanager
def _noted() -> Iterator[None]:
    """Note that an upload is just beginning."""
    global _beginning  # noqa: PLW0603
    with _changed:
        if _ended:
            raise RegistryError("Nothing is uploaded any more: this process is ending.")
        _beginning += 1
    try:
        yield
    finally:
        with _changed:
            _beginning -= 1
            _changed.notify_all()


def _free(token: object) -> None:
    free = _under_way.get(token)
    if free is not None:
        with contextlib.suppress(Exception):
            free()
