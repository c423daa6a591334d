"""Latency: the median over repeated calls after a warm-up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

BATCH = 32
TOKENS = 32
_WARM_UP_SECONDS = 0.05
_BUDGET_SECONDS = 0.15
_MIN_CALLS, _MAX_CALLS = 3, 100
_SLOW_SECONDS = 1.0


def median_ms(call: Callable[[], object]) -> float:
    """Median milliseconds of ``call``; see ``medians_in_turn``."""
    return medians_in_turn([call])[0]


def medians_in_turn(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Median milliseconds of each call, one call after the other in turn: what disturbs one disturbs them all.

    Of each at least 3 calls count (1 of what takes over a second), then what fits in 0.15 s. Before them each is called
    once, and again for 50 ms: what is slow is warm sooner, counted in calls.
    """
    min_calls = _MIN_CALLS
    for call in calls:
        begun = time.perf_counter()
        call()
        if time.perf_counter() - begun >= _SLOW_SECONDS:
            min_calls = 1
        while time.perf_counter() < begun + _WARM_UP_SECONDS:
            call()
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + _BUDGET_SECONDS * len(calls)
    while (done := len(times[0])) < min_calls or (time.perf_counter() < end and done < _MAX_CALLS):
        for call, own in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            own.append(time.perf_counter() - began)
    return [round(statistics.median(own) * 1e3, 3) for own in times]


def speed_texts(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The batch of one and the batch of 32 that speed is measured on: the longest texts, cut to 32 tokens."""
    longest = sorted(texts, key=len, reverse=True)
    batch = [longest[index % len(longest)] for index in range(BATCH)]
    return batch[:1], batch
