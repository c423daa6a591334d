from __future__ import annotations

import threading

import pytest

from modeldrop.util.retry import Deadline, backoff, jittered, retry, with_timeout
from tests.helpers.waiting import HANG_SECONDS


def test_a_deadline_that_is_over_raises_the_error_of_the_caller() -> None:
    with pytest.raises(TimeoutError, match=r"The time limit of 0 s is over, waiting for a file\."):
        Deadline(0).check("a file")
    with pytest.raises(LookupError, match="0 a file"):
        Deadline(0, lambda seconds, what: LookupError(f"{seconds:g} {what}")).check("a file")
    assert Deadline(0).left() == 0
    Deadline(3600).check("a file")


def test_chance_stays_within_its_limits() -> None:
    assert all(2 <= jittered(4) <= 4 for _ in range(200))
    assert all(0 <= jittered(4, 0) <= 4 for _ in range(200))
    assert len({jittered(4) for _ in range(20)}) > 1


def test_pauses_double_up_to_the_longest() -> None:
    assert [backoff(failures, 0.5, 3) for failures in (1, 2, 3, 4, 10_000)] == [0.5, 1, 2, 3, 3]


def test_what_may_help_is_tried_again_and_nothing_else() -> None:
    errors: list[Exception] = [OSError("one"), OSError("two"), ValueError("three")]
    slept: list[float] = []

    def action() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    def again(error: Exception, pause: float) -> bool:
        assert 0.5 <= pause <= 1
        return isinstance(error, OSError)

    with pytest.raises(ValueError, match="three"):
        retry(action, [1, 1, 1, 1], again, sleep=slept.append)
    assert len(slept) == 2
    assert retry(action, [], again) == "done"
    errors = [OSError("one"), OSError("two")]
    with pytest.raises(OSError, match="two"):
        retry(action, [1], again, sleep=slept.append)


def test_a_pause_is_as_long_as_the_service_asks() -> None:
    errors: list[Exception] = [OSError("7"), OSError("0.1")]
    slept: list[float] = []
    told: list[float] = []

    def action() -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    def again(_error: Exception, pause: float) -> bool:
        told.append(pause)
        return True

    assert retry(action, [1, 1], again, asked=lambda error: float(str(error)), sleep=slept.append) == "done"
    assert slept == told
    assert slept[0] == 7
    assert 0.5 <= slept[1] <= 1


def test_an_action_that_hangs_is_left_behind() -> None:
    assert with_timeout(lambda: 3, 60, "quick") == 3
    with pytest.raises(LookupError, match="gone"):
        with_timeout(lambda: _raise(LookupError("gone")), 60, "quick")
    over = threading.Event()
    with pytest.raises(TimeoutError):  # who waits for the action hears that nothing came
        with_timeout(lambda: over.wait(HANG_SECONDS), 0.05, "slow")
    over.set()


def _raise(error: Exception) -> None:
    raise error
