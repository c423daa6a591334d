"""What the examinations of the clouds share."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from modeldrop.util.retry import with_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ANSWER_SECONDS = 8.0

_Result = TypeVar("_Result")


def seconds_ahead(date: str | None) -> float | None:
    """How far this machine's clock is ahead of a ``Date`` header that came just now, None without a usable one."""
    if not date:
        return None
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None


def soon(action: Callable[[], _Result]) -> _Result:
    """The action's result; it goes on by itself, unheard, where that takes too long.

    Raises:
        TimeoutError: it took more than ANSWER_SECONDS.
        Exception: whatever the action raises.
    """
    return with_timeout(action, ANSWER_SECONDS, "modeldrop-doctor")


def touches(rule: str, registry: str) -> bool:
    """Whether what begins with one prefix may begin with the other."""
    return rule.startswith(registry) or registry.startswith(rule)


def sentence(parts: Iterable[str]) -> str:
    """The parts that say something, with semicolons between."""
    return "; ".join(part for part in parts if part)


def shortened(name: str) -> str:
    """Enough of an access key's id to recognize it. Some services use the same word as its secret."""
    return f"{name[:4]}…{name[-4:]}" if len(name) >= 16 else f"{name[:2]}…"
