"""Latency: the median over repeated calls after a warm-up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

BATCH = 32
TOKENS = 32
WARM_UP_SECONDS = 0.05
BUDGET_SECONDS = 0.15
MIN_CALLS, _MAX_CALLS = 5, 100
_SLOW_SECONDS = 1.0
_MOST_PATIENCE = 10


def median_ms(call: Callable[[], object]) -> float:
    """Median milliseconds of ``call``; see ``medians_in_turn``."""
    return medians_in_turn([call])[0]


def medians_in_turn(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Median milliseconds of each call, one call after the other in turn: what disturbs one disturbs them all.

    Of each at least 5 calls count (1 of what takes a processor over a second), then what fits in 0.15 s. Where others
    keep the machine busy, it is 0.15 s of a processor: as many calls as on a quiet machine, in up to ten times the
    time, for a few that were held up would tell nothing. Before them each is called once, and again for 50 ms: what is
    slow is warm sooner, counted in calls.
    """
    least = []
    for call in calls:
        begun, begun_work = time.perf_counter(), time.process_time()
        call()
        least.append(1 if time.process_time() - begun_work >= _SLOW_SECONDS else MIN_CALLS)
        while time.perf_counter() < begun + WARM_UP_SECONDS:
            call()
    times: list[list[float]] = [[] for _ in calls]
    budget = BUDGET_SECONDS * len(calls)
    begun, begun_work = time.perf_counter(), time.process_time()

    def is_time_left() -> bool:
        waited, worked = time.perf_counter() - begun, time.process_time() - begun_work
        return waited < budget or (worked < budget and waited < _MOST_PATIENCE * budget)

    for done in range(_MAX_CALLS):
        left = is_time_left()
        for call, own, enough in zip(calls, times, least, strict=True):
            if left or done < enough:
                began = time.perf_counter()
                call()
                own.append(time.perf_counter() - began)
    return [round(statistics.median(own) * 1e3, 3) for own in times]


def speed_texts(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The batch of one and the batch of 32 that speed is measured on: the longest texts, cut to 32 tokens."""
    longest = sorted(texts, key=len, reverse=True)
    batch = [longest[index % len(longest)] for index in range(BATCH)]
    return batch[:1], batch
