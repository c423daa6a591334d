"""Watching a channel from a thread: one conditional request per interval, and the app is handed what is new."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Self

from modeldrop.config import default_registry, home_folder, registry_url
from modeldrop.errors import ModeldropError, RegistryError, UsageError
from modeldrop.fetcher.events import Event, failed_event
from modeldrop.fetcher.fetch import Fetcher
from modeldrop.fetcher.leases import TOUCH_SECONDS
from modeldrop.fetcher.notes import age_of
from modeldrop.fetcher.options import Options, StoppedError, with_overrides
from modeldrop.fetcher.watch.follower import UNAVAILABLE, Follower, Receiver
from modeldrop.fetcher.watch.record import next_delay
from modeldrop.format.names import hex_digest
from modeldrop.format.reference import Reference, parse_reference
from modeldrop.storage.errors import detail
from modeldrop.util.named_tuples import NamedTuple
from modeldrop.util.retry import Deadline, jittered

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Unpack

    from modeldrop.fetcher.notes import Quarantine
    from modeldrop.fetcher.option_values import OptionValues
    from modeldrop.fetcher.snapshot import Snapshot

DEFAULT_INTERVAL = 30.0
_MAX_INTERVAL = 24 * 3600.0
_STOP_SECONDS = 10.0
_SETTLE_SECONDS = 0.2  # multiprocessing says only after the fork that a child is one of its own

# What the thread of a watch imports in its normal course, where that is done late.
_MODULES = (
    "concurrent.futures.thread",
    "importlib.metadata",
    "shutil",
    "modeldrop.fetcher.choose_variant",
    "modeldrop.fetcher.download.download",
    "modeldrop.fetcher.eviction",
    "modeldrop.fetcher.last_good",
    "modeldrop.format.manifest",
    "modeldrop.storage.read.folder",
    "modeldrop.storage.read.runtime",
)
_BUCKET_MODULES = (
    *_MODULES,
    "html",
    "modeldrop.storage.read.bucket",
    "modeldrop.storage.read.obstore_errors",
    "modeldrop.storage.read.s3_region",
)
_running: set[Watcher] = set()


class WatchStatus(NamedTuple):
    """The state of a watch.

    Attributes:
        model: the model's name.
        channel: the channel it follows.
        snapshot: what is in use, None before the first.
        age: seconds since the registry last answered, None where it never did.
        error: why it did not answer, or what it names cannot be had, or why the watch ended by itself; "" where all is
            well.
        untold: why what is in use, or would be, was not taken when it was told; it is told again. "" where it was.
        quarantine: what the channel names and is not used, because it failed here.
        running: whether the watch goes on.
    """

    model: str
    channel: str
    snapshot: Snapshot | None
    age: float | None
    error: str
    untold: str
    quarantine: Quarantine | None
    running: bool


class Watcher:
    """A channel that is followed by a thread of its own; a context manager that stops it.

    ``watch`` makes one for an app. Threads do not survive a fork, and so it is begun again in a forked child: at once
    in a worker that a server forks, when it is first asked for something in a child of multiprocessing, which few
    mean to load models, and never in one that the watch's own thread has forked.

    Args:
        reference: what to follow.
        home: the folder where snapshots are kept; None for the default.
        options: how to fetch.
        receiver: who is told of what is new.
        interval: seconds between two requests, give or take a fifth.
        tell: told what happens, in the watch's thread.
        after: called after each request with the watcher, and whether it went well.
        ended: called when it has ended, by itself or not.
        in_children: whether it goes on in forked children, too.

    Attributes:
        failure: what ended it, if nobody stopped it.

    Raises:
        UsageError: see ``watch``.
        MissingExtraError: see ``watch``.
    """

    def __init__(  # noqa: PLR0913  by name
        self,
        reference: Reference,
        home: os.PathLike[str] | str | None,
        options: Options,
        receiver: Receiver,
        interval: float,
        tell: Callable[[Event], object],
        after: Callable[[Watcher, bool], object] = lambda _watcher, _well: None,
        ended: Callable[[], object] = lambda: None,
        *,
        in_children: bool = True,
    ) -> None:
        if not 0 < interval <= _MAX_INTERVAL:
            raise UsageError("The interval of a watch is more than 0 s and at most 24 h.", "Write such as 30s.")
        folder = home_folder(home)

        def make() -> Fetcher:
            return Fetcher(reference, folder, options, stopped=self._stopping, patient=False)

        self._follower = Follower(make, receiver, tell)
        self._reference = reference
        self._interval = interval
        self._tell = tell
        self._after = after
        self._ended = ended
        self.failure: ModeldropError | None = None
        self._in_children = in_children
        self._new_thread(forked=False)
        self._wanted.set()

    def start(self) -> Self:
        """Begin; returns at once."""
        _running.add(self)
        self._thread.start()
        return self

    @property
    def link(self) -> tuple[str, str]:
        """Which link it moves: the model's name and the link's."""
        return self._reference.model, self._follower.link

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot in use: the last that was taken. None before the first."""
        self._wanted.set()
        return self._follower.snapshot

    def wait(self, timeout: float | None = None) -> Snapshot:
        """The snapshot in use, as soon as there is one.

        Args:
            timeout: seconds to wait at most; None waits as long as the watch runs.

        Raises:
            RegistryError: there is none yet; says why.
            ModeldropError: the watch has ended by itself; says why.
        """
        self._wanted.set()
        with self._news:
            self._news.wait_for(lambda: self.snapshot is not None or not self._thread.is_alive(), timeout)
        if self.failure is not None:
            raise self.failure
        snapshot = self.snapshot
        if snapshot is None:
            refused, note = self._follower.refused, self._follower.note
            why = refused.reason if refused else note.error or note.refusal
            raise RegistryError(f"{self._reference} has given no snapshot yet. {why}".rstrip())
        return snapshot

    def status(self) -> WatchStatus:
        """Its state now."""
        self._wanted.set()
        note = self._follower.note
        return WatchStatus(
            model=self._reference.model,
            channel=self._reference.channel or "",
            snapshot=self.snapshot,
            age=age_of(note.answered),
            error=self.failure.message if self.failure else note.error,
            untold=note.refusal,
            quarantine=self._follower.refused,
            running=self._thread.is_alive(),
        )

    def stop(self, timeout: float = _STOP_SECONDS) -> bool:
        """End it: nothing is handed over any more. What it downloads is left to be resumed.

        Args:
            timeout: seconds to wait for it to end; a request may take a moment. The thread is a daemon.

        Returns:
            Whether it has ended.
        """
        _running.discard(self)
        self._follower.stopping.set()
        self._wanted.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def go_on_in_child(self) -> None:
        """Begin again in a process that was forked from the one where it ran, unless that is not wanted there."""
        if not self._in_children or threading.get_ident() == self._thread.ident:
            _running.discard(self)
            return
        self._follower.stopping = threading.Event()
        self._new_thread(forked=True)
        self._thread.start()

    def _new_thread(self, *, forked: bool) -> None:
        self._wanted = threading.Event()
        self._news = threading.Condition()
        self._thread = threading.Thread(
            target=self._run,
            args=(forked,),
            name=f"modeldrop-watch-{self._reference.model}-{self._reference.channel}",
            daemon=True,
        )

    def _stopping(self) -> bool:
        return self._follower.stopping.is_set()

    def _run(self, forked: bool) -> None:  # noqa: FBT001  as a thread's argument
        try:
            if forked:
                self._wanted.wait(_SETTLE_SECONDS)
                if _is_multiprocessing_child():
                    self._wanted.wait()
                self._follower.go_on()
            self._follow()
        except StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001  a panic in obstore, no memory: whoever waits must hear of it
            self._fail(error)
        finally:
            _running.discard(self)
            self._follower.release()
            with self._news:
                self._news.notify_all()
            self._ended()

    def _follow(self) -> None:
        failures = 0
        self._follower.begin(self._interval)
        # Whoever has nothing asks at once; the others need not all ask at the moment of a rollout.
        wanting = self.snapshot is None or self._follower.note.telling is not None
        delay = 0.0 if wanting else jittered(self._interval, 0)
        while not self._stops_within(delay):
            well = self._poll()
            failures = 0 if well else failures + 1
            self._after(self, well)
            with self._news:
                self._news.notify_all()
            delay = next_delay(self._interval, failures)

    def _fail(self, error: BaseException) -> None:
        """The watch ends by what it could not expect."""
        if not isinstance(error, ModeldropError):
            text = f"The watch of {self._reference} has ended: unexpected {type(error).__name__}: {detail(str(error))}"
            failure = ModeldropError(text, "What is in use stays in use. Start the watch again, and report this.")
            failure.__cause__ = error
            error = failure
        self.failure = error
        with contextlib.suppress(Exception):  # what tells may be what failed
            self._tell(failed_event(self._reference.model, error))

    def _stops_within(self, seconds: float) -> bool:
        """Wait; in between, say that the snapshot is still used."""
        limit = Deadline(seconds)
        while True:
            self._follower.touch()
            left = limit.left()
            if self._follower.stopping.wait(min(left, TOUCH_SECONDS)):
                return True
            if left <= TOUCH_SECONDS:
                return False

    def _poll(self) -> bool:
        try:
            return self._follower.poll()
        except StoppedError:
            raise
        except Exception as error:  # noqa: BLE001  a defect must not end the watch unheard
            text = f"unexpected {type(error).__name__}: {detail(error)}"
            self._tell(Event(UNAVAILABLE, self._reference.model, f"{self._reference.model}: {text}", {"message": text}))
            return False


def _is_multiprocessing_child() -> bool:
    module = sys.modules.get("multiprocessing.process")
    parent = module.parent_process() if module else None
    return parent is not None and parent.pid == os.getppid()


def _import_all(registry: str) -> None:
    """Import now what the thread will need: a child that is forked in the midst of an import cannot import that."""
    for name in _BUCKET_MODULES if "://" in registry else _MODULES:
        import_module(name)
    hex_digest(b"")


def _go_on_in_children() -> None:
    for watcher in list(_running):
        watcher.go_on_in_child()


os.register_at_fork(after_in_child=_go_on_in_children)


def watch(
    reference: str | Reference,
    on_change: Callable[[Snapshot, Snapshot | None], object],
    *,
    directory: str | os.PathLike[str] | None = None,
    interval: float = DEFAULT_INTERVAL,
    options: Options | None = None,
    on_event: Callable[[Event], object] = lambda _event: None,
    in_children: bool = True,
    **overrides: Unpack[OptionValues],
) -> Watcher:
    """Follow a channel in a daemon thread, and hand every new snapshot to ``on_change``.

    What the channel names is fetched, verified, tested if ``self_test`` is asked for, and linked; then
    ``on_change(new, old)`` is called in that thread, the first time with None as the old one. If it raises, the old
    snapshot stays in use, the link goes back to it, and the new version is quarantined until the channel moves. While
    the registry is unavailable or damaged, nothing changes. The snapshot in use is never evicted, nor the one before
    until ``on_change`` has returned.

    Args:
        reference: what to follow, such as ``s3://acme-models/embedder`` or ``embedder@staging``.
        on_change: loads the model.
        directory: the home, where snapshots are kept; default as for ``fetch``.
        interval: seconds between two requests, give or take a fifth.
        options: how to fetch; see ``Options``.
        on_event: told, in that thread, what happens.
        in_children: whether a forked child, such as a worker of gunicorn, goes on with the watch: ``on_change`` is
            then called in each of them for every further move.
        overrides: fields of ``Options`` by name, such as ``self_test=True``.

    Returns:
        The watcher. ``watcher.wait()`` gives the first snapshot, ``watcher.stop()`` ends it.

    Raises:
        UsageError: an invalid or pinned reference, an invalid option, or the home holds this model
            from another registry.
        MissingExtraError: a self-test is asked for, and there is no onnxruntime.
    """
    options = with_overrides(options, overrides, "watch")
    if isinstance(reference, str):
        reference = parse_reference(reference, default_registry())
    _import_all(registry_url(reference.registry))
    return Watcher(
        reference=reference,
        home=directory,
        options=options,
        receiver=Receiver(on_change),
        interval=interval,
        tell=on_event,
        in_children=in_children,
    ).start()
