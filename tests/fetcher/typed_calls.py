"""Calls that a type checker accepts, and calls that it refuses: mypy reports a ``type: ignore`` that is not needed.

``make lint`` checks this; nothing here is run.
"""

from __future__ import annotations

import modeldrop
from modeldrop import Change, Snapshot


def right(reference: str) -> Snapshot:
    modeldrop.watch(reference, print, variant="int8", self_test=True, interval=5).stop()
    modeldrop.changes(reference, on_unavailable="fail", max_stale=None, keep=1)
    return modeldrop.fetch(reference, variant="int8", timeout=60, min_generation=3, as_name="model.onnx")


async def right_and_awaited(reference: str) -> Change | Snapshot:
    async for change in modeldrop.changes(reference, interval=1.5, accept_older_generation=True):
        change.refuse("as a test")
        return change
    return await modeldrop.afetch(reference, "home", variant="fp32")


async def misspelt(reference: str) -> None:
    modeldrop.fetch(reference, varaint="int8")  # type: ignore[call-arg]
    modeldrop.watch(reference, print, selftest=True)  # type: ignore[call-arg]
    modeldrop.changes(reference, max_age=3)  # type: ignore[call-arg]
    await modeldrop.afetch(reference, time_out=3)  # type: ignore[call-arg]


async def mistyped(reference: str) -> None:
    modeldrop.fetch(reference, timeout="60s")  # type: ignore[arg-type]
    modeldrop.watch(reference, print, variant=8)  # type: ignore[arg-type]
    modeldrop.changes(reference, keep="all")  # type: ignore[arg-type]
    await modeldrop.afetch(reference, self_test="yes")  # type: ignore[arg-type]
