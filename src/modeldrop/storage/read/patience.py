"""Asking for a small document again, for as long as its error says that this may help. Loaded only in trouble."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from modeldrop.errors import RegistryError
from modeldrop.util.retry import Deadline, backoff, jittered, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Callable

_SECONDS = 3.0
_Result = TypeVar("_Result")
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0
"""Seconds before the second attempt, doubled before each further one up to the longest; less by chance."""


def ask_again(
    ask: Callable[[], _Result],
    error: RegistryError,
    *,
    deadline: Deadline,
    retry_after: Callable[[], float],
    tell: Callable[[str], object],
) -> _Result:
    """What ``ask`` returns, once it does.

    Args:
        ask: asks once more.
        error: what it has raised before.
        deadline: of the whole command.
        retry_after: seconds that the service wants to be left alone for; 0 if it does not say.
        tell: told once what is waited for.

    Raises:
        RegistryError: the last one, once its ``patience`` is over since the first, or the deadline.
        Exception: whatever else ``ask`` raises.
    """
    began = time.monotonic()
    tell(f"{error.message} Asking again for up to {min(error.patience, deadline.left()):.0f} s.")
    failures = 1
    while (left := min(began + error.patience - time.monotonic(), deadline.left())) > 0:
        pause = max(jittered(backoff(failures, FIRST_PAUSE, LONGEST_PAUSE)), retry_after())
        deadline.sleep(min(pause, left))
        try:
            return ask()
        except RegistryError as again:
            error, failures = again, failures + 1
    raise error


def ask_retry_after(address: str, certificates: str = "") -> float:
    """What a busy service says in Retry-After, which obstore hides: asked by a request of our own, unsigned.

    Args:
        address: what was asked when it was busy.
        certificates: one more file of CAs to trust, or "".

    Returns:
        Seconds; 0 where it says nothing, or is not busy any more.
    """
    from urllib.error import HTTPError
    from urllib.request import Request

    from modeldrop.util.http import opener

    address = address.partition("?")[0]  # and no signature
    try:
        with opener(address, certificates).open(Request(address, method="HEAD"), timeout=_SECONDS):  # noqa: S310  http or https
            return 0.0
    except HTTPError as error:
        with error:
            said = error.headers.get("Retry-After", "") if error.code in {429, 503} else ""
    except (OSError, ValueError):
        return 0.0
    return parse_retry_after(said)
