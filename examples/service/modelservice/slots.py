"""A task's slot: what answers it now, how that is brought here, and how it is replaced while requests run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future

import modeldrop
from modeldrop import Snapshot, Watcher
from modeldrop.errors import ModeldropError, UsageError

from .engines import EngineError
from .loading import FALLBACK, MODEL, Serving, load, rules
from .settings import Settings, Wanted

_RETRY_SECONDS = 15.0
_log = logging.getLogger("modelservice")


class Slot:
    """What answers one task.

    Args:
        wanted: the model that should.
        settings: the service's.
        turn: held while a model is opened: one at a time, so that memory for one more is enough.
        swapped: told the task and whether it went well, whenever a model was to be replaced.
    """

    def __init__(
        self, wanted: Wanted, settings: Settings, turn: threading.Lock, swapped: Callable[[str, bool], None]
    ) -> None:
        self.task = wanted.task
        self.off = not (wanted.reference or wanted.fallback or settings.rules)
        self.serving: Serving | None = None
        self.error = ""
        self._wanted = wanted
        self._settings = settings
        self._turn = turn
        self._swapped = swapped
        self._lock = threading.Lock()
        self._flight: Future[None] | None = None
        self._landed = 0.0
        self._watcher: Watcher | None = None
        self._stopped = False

    def start(self, executor: Executor) -> Future[None]:
        """Load, once for the whole process: whoever comes while it is loading waits for the same future.

        What failed is tried again, but not at once; a channel that is watched comes by itself.
        """
        with self._lock:
            if self._flight is None or self._should_retry():
                self._flight = executor.submit(self._settle)
            return self._flight

    def reload(self) -> None:
        """Ask the registry now; keep what there is if that is what it names.

        Raises:
            ModeldropError: it cannot be fetched. What answers stays.
            EngineError: it cannot be used. What answers stays.
        """
        if self._wanted.reference:
            try:
                self._take(self._fetch(self._wanted.reference, self._wanted.variant), MODEL)
            except (ModeldropError, EngineError) as error:
                self.error = str(error)
                raise

    def age(self) -> float | None:
        """Seconds since the registry last said that this is what it names; None where nobody knows."""
        told = self._watcher.status().age if self._watcher else None
        serving = self.serving
        if told is not None or serving is None or serving.snapshot is None or serving.snapshot.age is None:
            return told
        return serving.snapshot.age + time.time() - serving.since

    def watch_error(self) -> str:
        """Why the registry does not answer, or what it names is not used; "" where all is well."""
        if self._watcher is None:
            return ""
        status = self._watcher.status()
        return status.quarantine.reason if status.quarantine else status.error or status.untold

    def stop(self) -> None:
        """Follow the channel no longer. Does not wait: what is under way ends with the process."""
        with self._lock:
            self._stopped = True
            watcher = self._watcher
        if watcher is not None:
            watcher.stop(timeout=0)

    def _should_retry(self) -> bool:
        failed = self.serving is None or self.serving.kind != MODEL
        done = self._flight is not None and self._flight.done()
        waited = time.monotonic() - self._landed > _RETRY_SECONDS
        return bool(self._wanted.reference) and failed and done and waited and self._watcher is None

    def _settle(self) -> None:
        """The model, else the smaller one, else rules; and from then on what the channel names."""
        try:
            self.reload()
        except (ModeldropError, EngineError) as error:
            _log.warning("%s has no model: %s", self.task, error)
        if self.serving is None:
            self.serving = self._second_best()
        self._follow()
        self._landed = time.monotonic()

    def _second_best(self) -> Serving | None:
        if self._wanted.fallback:
            try:
                snapshot = self._fetch(self._wanted.fallback, "auto")
                with self._turn:
                    return load(self.task, snapshot, FALLBACK, self._settings)
            except (ModeldropError, EngineError) as error:
                _log.warning("%s has no smaller model either: %s", self.task, error)
        return rules(self.task, self._settings) if self._settings.rules else None

    def _fetch(self, reference: str, variant: str) -> Snapshot:
        return modeldrop.fetch(
            reference,
            variant=variant,
            on_unavailable=self._settings.on_unavailable,
            self_test=self._settings.self_test,
            timeout=self._settings.fetch_seconds,
        )

    def _follow(self) -> None:
        serving = self.serving
        pinned = serving is not None and serving.snapshot is not None and serving.snapshot.channel is None
        offline = self._settings.on_unavailable == "offline"
        if pinned or offline or not self._wanted.reference or self._watcher:
            return
        try:
            watcher = modeldrop.watch(
                self._wanted.reference,
                lambda new, _old: self._take(new, MODEL),
                interval=self._settings.interval,
                variant=self._wanted.variant,
                self_test=self._settings.self_test,
                timeout=self._settings.fetch_seconds,
            )
        except UsageError as error:  # pinned, and never fetched
            _log.info("%s is not watched: %s", self.task, error.message)
            return
        with self._lock:
            self._watcher = watcher
            stopped = self._stopped
        if stopped:
            watcher.stop(timeout=0)

    def _take(self, snapshot: Snapshot, kind: str) -> None:
        """Answer with another snapshot from now on. Requests that are running end with the one they began with.

        Raises:
            EngineError: it cannot be used; what answers stays, and a watch takes its link back.
        """
        with self._turn:
            before = self.serving
            if before and before.snapshot and (before.kind, before.snapshot.path) == (kind, snapshot.path):
                self.error = ""
                return
            try:
                serving = load(self.task, snapshot, kind, self._settings)
            except EngineError:
                self._swapped(self.task, False)
                raise
            self.error = ""
            self.serving = serving
            if before is not None:
                self._swapped(self.task, True)
        _log.info("%s is answered by %s from now on", self.task, snapshot.path.name)
