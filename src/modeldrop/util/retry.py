"""Waiting: a limit for all of it, pauses between attempts, and an action that might never end.

Processes that failed together must not come back together, so chance has a part in every pause.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_Result = TypeVar("_Result")
_LOOK_SECONDS = 0.1
_LONGEST_ASKED = 60.0


def _late(seconds: float, what: str) -> Exception:
    return TimeoutError(f"The time limit of {seconds:g} s is over, waiting for {what}.")


class Deadline:
    """So many seconds from now on, by a clock that nobody sets.

    Args:
        seconds: the limit.
        error: makes the error that ``check`` raises, from the limit and from what was waited for.
        stopped: whether it is over before its time.
    """

    def __init__(
        self,
        seconds: float,
        error: Callable[[float, str], Exception] = _late,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.seconds = seconds
        self._error = error
        self._stopped = stopped
        self._end = time.monotonic() + seconds

    def renewed(self) -> Deadline:
        """The same, from now on."""
        return Deadline(self.seconds, self._error, self._stopped)

    def left(self) -> float:
        """Seconds until it is over; never negative."""
        return 0.0 if self._stopped() else max(0.0, self._end - time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Sleep, no longer than until it is over."""
        end = time.monotonic() + seconds
        while (left := min(end - time.monotonic(), self.left())) > 0:
            time.sleep(min(left, _LOOK_SECONDS))

    def check(self, what: str) -> None:
        """Do nothing while there is time.

        Args:
            what: what is waited for, such as ``12 of 90 MB of embedder/v3``.

        Raises:
            Exception: the time is over; the error is the caller's, TimeoutError by default.
        """
        if not self.left():
            raise self._error(self.seconds, what)


def jittered(seconds: float, low: float = 0.5, high: float = 1.0) -> float:
    """A random time, from ``low`` to ``high`` times as long.

    Without ``random``, whose import takes as long as a small file to fetch.
    """
    return seconds * (low + (high - low) * int.from_bytes(os.urandom(4)) / 0xFFFF_FFFF)


def parse_retry_after(said: str) -> float:
    """The seconds that a header Retry-After asks for, a minute at most; 0 where it says nothing."""
    if said.isdecimal():
        return min(float(said), _LONGEST_ASKED)
    if not said:
        return 0.0
    from email.utils import parsedate_to_datetime

    try:
        return min(max(0.0, parsedate_to_datetime(said).timestamp() - time.time()), _LONGEST_ASKED)
    except ValueError:
        return 0.0


def backoff(failures: int, first: float, longest: float) -> float:
    """The pause after so many failures in a row, before its jitter: doubled by each further one, up to ``longest``."""
    return min(longest, first * 2.0 ** min(failures - 1, 60))


def retry(
    action: Callable[[], _Result],
    pauses: Iterable[float],
    again: Callable[[Exception, float], bool],
    *,
    asked: Callable[[Exception], float] = lambda _: 0.0,
    sleep: Callable[[float], object] = time.sleep,
) -> _Result:
    """The action's result; where it fails and that may help, it is called again.

    Args:
        action: is called once more than there are pauses, at most.
        pauses: seconds between two calls, before their jitter.
        again: told of an error and of the pause that would follow; whether to call again. Not asked after the last.
        asked: seconds that the service wants to be left alone for after an error; the pause is at least that long.
        sleep: waits; it may raise to end it.

    Raises:
        Exception: whatever the last call raised.
    """
    for longest in pauses:
        try:
            return action()
        except Exception as error:
            pause = max(jittered(longest), asked(error))
            if not again(error, pause):
                raise
        sleep(pause)
    return action()


def with_timeout(action: Callable[[], _Result], seconds: float, name: str) -> _Result:
    """The action's result; where it takes too long its thread is left behind, and what comes of it is not heard.

    For what no time limit of a socket covers: looking up a name, a library that hangs, an answer that trickles.

    Args:
        action: runs in a thread of its own, which does not keep the process alive.
        seconds: how long it may take.
        name: the thread's.

    Raises:
        TimeoutError: it took longer.
        Exception: whatever the action raises.
    """
    import threading  # a fetch of what is there already starts no thread

    results: list[_Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:  # noqa: BLE001  it is raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
