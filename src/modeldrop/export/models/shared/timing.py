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
    """Median milliseconds of ``call``: at least 3 calls (1 of what takes over a second), then what fits in 0.15 s.

    Before them it is called once, and again for 50 ms: what is slow is warm sooner, counted in calls.
    """
    begun = time.perf_counter()
    call()
    min_calls = _MIN_CALLS if time.perf_counter() - begun < _SLOW_SECONDS else 1
    while time.perf_counter() < begun + _WARM_UP_SECONDS:
        call()
    times: list[float] = []
    end = time.perf_counter() + _BUDGET_SECONDS
    while len(times) < min_calls or (time.perf_counter() < end and len(times) < _MAX_CALLS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1e3, 3)


def speed_texts(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The batch of one and the batch of 32 that speed is measured on: the longest texts, cut to 32 tokens."""
    longest = sorted(texts, key=len, reverse=True)
    batch = [longest[index % len(longest)] for index in range(BATCH)]
    return batch[:1], batch
