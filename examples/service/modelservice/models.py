"""All models of the process: loaded at the start or on first use, watched, reloaded, and described."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from modeldrop.errors import ModeldropError

from .engines import EngineError
from .loading import MODEL, Serving
from .problems import Problem
from .settings import Settings
from .slots import Slot


class Models:
    """A slot per task.

    Args:
        settings: the service's.
        swapped: told the task and whether it went well, whenever a model was to be replaced.
    """

    def __init__(self, settings: Settings, swapped: Callable[[str, bool], None]) -> None:
        turn = threading.Lock()
        self.slots = {wanted.task: Slot(wanted, settings, turn, swapped) for wanted in settings.wanted}
        self._lazy = settings.lazy
        self._patience = settings.patience
        # Fetching waits for the network: all at once. Opening takes turns.
        self._executor = ThreadPoolExecutor(len(self.slots), thread_name_prefix="load")
        self._reloading = threading.Lock()

    def start(self) -> None:
        """Begin to load, unless that is to wait for the first request. Returns at once."""
        if not self._lazy:
            for slot in self.slots.values():
                slot.start(self._executor)

    def stop(self) -> None:
        """Follow nothing any more."""
        for slot in self.slots.values():
            slot.stop()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def serving(self, task: str) -> Serving:
        """What answers a task; loads it if nobody has, and waits for whoever does.

        Raises:
            Problem: there is nothing that answers, or not yet.
        """
        slot = self.slots[task]
        if slot.off:
            raise Problem(404, "off", f"This service has no model for {task}, and no rules.")
        if slot.serving is None:
            loading = asyncio.wrap_future(slot.start(self._executor))
            try:
                # Shielded: a request that gives up does not take the model from the others.
                await asyncio.wait_for(asyncio.shield(loading), self._patience)
            except TimeoutError:
                raise Problem(503, "loading", f"The model for {task} is being loaded.", retry_after=5) from None
        if slot.serving is None:
            raise Problem(503, "no_model", f"There is no model for {task}. {slot.error}".rstrip(), retry_after=15)
        return slot.serving

    def ready(self) -> bool:
        """Whether every task has what answers it; loads again what could not be had. A lazy service is ready."""
        if self._lazy:
            return True
        for slot in self.slots.values():
            slot.start(self._executor)
        return all(slot.serving is not None or slot.off for slot in self.slots.values())

    def reload(self) -> dict[str, Any]:
        """Ask the registry for every task that is loaded. Slow: not for the event loop.

        Raises:
            Problem: another reload is running, or something could not be had; what answered before still does.
        """
        if not self._reloading.acquire(blocking=False):
            raise Problem(409, "reloading", "Another reload is running.", retry_after=5)
        try:
            return self._reload()
        finally:
            self._reloading.release()

    def describe(self) -> dict[str, Any]:
        """What answers every task, for people and for health checks."""
        return {task: _describe(slot) for task, slot in self.slots.items()}

    def _reload(self) -> dict[str, Any]:
        told, failed = {}, {}
        for task, slot in self.slots.items():
            before = slot.serving
            if before is None and self._lazy:
                continue
            try:
                slot.reload()
            except (ModeldropError, EngineError) as error:
                failed[task] = str(error)
            told[task] = {
                "before": before.describe() if before else None,
                "after": slot.serving.describe() if slot.serving else None,
            }
        if failed:
            raise Problem(503, "reload_failed", "; ".join(f"{task}: {why}" for task, why in failed.items()))
        return told


def _describe(slot: Slot) -> dict[str, Any]:
    serving = slot.serving
    if serving is None:
        return {"kind": None, "error": slot.error}
    snapshot, age = serving.snapshot, slot.age()
    return {
        **serving.describe(),
        "digest": snapshot.digest if snapshot else None,
        "backend": serving.backend,
        "age_seconds": None if age is None else round(age, 1),
        "since": round(serving.since, 1),
        "fetch_seconds": round(snapshot.figures.seconds, 3) if snapshot else None,
        "load_seconds": round(serving.load_seconds, 3),
        "degraded": serving.kind != MODEL,
        "error": slot.error or slot.watch_error(),
    }
