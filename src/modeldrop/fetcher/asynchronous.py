"""``fetch`` and ``watch`` for asyncio: the work is done in a thread, and the event loop is never blocked.

::

    snapshot = await modeldrop.afetch("s3://acme-models/embedder")
    async for change in modeldrop.changes("s3://acme-models/embedder"):
        model = await asyncio.to_thread(load, change.new)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from modeldrop.config import default_registry
from modeldrop.errors import RefusedError, UsageError
from modeldrop.fetcher.fetch import fetch_with
from modeldrop.fetcher.options import Options, StoppedError, with_overrides
from modeldrop.fetcher.watch.follower import Receiver
from modeldrop.fetcher.watch.watcher import DEFAULT_INTERVAL, Watcher
from modeldrop.format.reference import Reference, parse_reference

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable
    from typing import Unpack

    from modeldrop.fetcher.events import Event
    from modeldrop.fetcher.option_values import OptionValues
    from modeldrop.fetcher.snapshot import Snapshot

_STOP_SECONDS = 10.0


async def afetch(
    reference: str | Reference,
    directory: str | os.PathLike[str] | None = None,
    *,
    options: Options | None = None,
    progress: Callable[[int, int], object] = lambda _done, _total: None,
    on_wait: Callable[[str], object] = lambda _what: None,
    **overrides: Unpack[OptionValues],
) -> Snapshot:
    """``fetch``, awaited. If the task is cancelled the download stops; what has come is kept for the next one.

    Args:
        reference: see ``fetch``.
        directory: see ``fetch``.
        options: see ``fetch``.
        progress: told bytes done and bytes in all, by the event loop.
        on_wait: told what is waited for, by the event loop.
        overrides: fields of ``Options`` by name.

    Raises:
        ModeldropError: see ``fetch``.
    """
    chosen = with_overrides(options, overrides, "afetch")
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Snapshot] = loop.create_future()
    stopped = threading.Event()

    def end(snapshot: Snapshot | None, error: BaseException | None) -> None:
        if found.done():
            return
        if snapshot is not None:
            found.set_result(snapshot)
        else:
            found.set_exception(error or StoppedError())

    def work() -> None:
        snapshot, failure = None, None
        try:
            snapshot = fetch_with(
                reference,
                directory,
                chosen,
                progress=lambda done, total: _tell(loop, progress, done, total),
                on_wait=lambda what: _tell(loop, on_wait, what),
                stopped=stopped.is_set,
            )
        except BaseException as error:  # noqa: BLE001  whoever awaits it raises it
            failure = error
        _tell(loop, end, snapshot, failure)

    # A thread of its own: the loop's would be waited for when the loop ends, and there are only so many of them.
    threading.Thread(target=work, name="modeldrop-fetch", daemon=True).start()
    try:
        return await found
    finally:
        stopped.set()


class Change:
    """A snapshot that has come, for whoever follows a channel with ``changes``.

    Whoever goes on to the next change has taken it.

    Attributes:
        new: the snapshot.
        previous: the one before, which stays on the disk until this one is taken; None for the first.
    """

    def __init__(self, new: Snapshot, previous: Snapshot | None) -> None:
        self.new = new
        self.previous = previous
        self._refused: str | None = None
        self._decided = threading.Event()

    def refuse(self, reason: str) -> None:
        """Do not take it: the link goes back to ``previous``; the version is in quarantine until the channel moves.

        Args:
            reason: why, for the quarantine, ``modeldrop status`` and ``on_event``.

        Raises:
            UsageError: it was taken already.
        """
        if self._decided.is_set():
            raise UsageError(f"v{self.new.version} was taken or refused already.", "Refuse it before the next one.")
        self._refused = reason
        self._decided.set()

    def _wait(self) -> None:
        """Until it is decided; raises what it was refused for."""
        self._decided.wait()
        if self._refused is not None:
            raise RefusedError(self._refused)


def changes(
    reference: str | Reference,
    *,
    directory: str | os.PathLike[str] | None = None,
    interval: float = DEFAULT_INTERVAL,
    options: Options | None = None,
    on_event: Callable[[Event], object] = lambda _event: None,
    **overrides: Unpack[OptionValues],
) -> AsyncGenerator[Change, None]:
    """``watch``, as an asynchronous iterator: a change for the first snapshot, and for every further one.

    A change is taken when the next one is asked for, unless it was refused. Until then nothing else comes: of what the
    channel named meanwhile there is only the last. The watch ends when the iterator is closed: when ``async for`` is
    left in ``async with contextlib.aclosing(…)``, when its task is cancelled, or when nobody has it any more. What was
    not taken by then is neither refused, and comes first the next time.

    Args:
        reference: see ``watch``.
        directory: see ``watch``.
        interval: seconds between two requests, give or take a fifth.
        options: see ``watch``.
        on_event: told, by the event loop, what happens.
        overrides: fields of ``Options`` by name.

    Raises:
        UsageError: an invalid reference or option, at once.
        ModeldropError: when the first change is asked for: see ``watch``; later, if the watch ends by itself.
    """
    chosen = with_overrides(options, overrides, "changes")
    parsed = parse_reference(reference, default_registry()) if isinstance(reference, str) else reference
    return _changes(parsed, directory, interval, chosen, on_event)


async def _changes(
    reference: Reference,
    directory: str | os.PathLike[str] | None,
    interval: float,
    options: Options,
    on_event: Callable[[Event], object],
) -> AsyncGenerator[Change, None]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Change | None] = asyncio.Queue()
    at_hand: list[Change] = []
    closed, idle = threading.Event(), threading.Event()

    def changed(new: Snapshot, previous: Snapshot | None) -> None:
        change = Change(new, previous)
        idle.clear()
        at_hand[:] = [change]
        _tell(loop, queue.put_nowait, change)
        if closed.is_set():
            raise StoppedError
        change._wait()  # noqa: SLF001  its other side
        if closed.is_set():
            raise StoppedError

    def make() -> Watcher:
        return Watcher(
            reference=reference,
            home=directory,
            options=options,
            receiver=Receiver(changed),
            interval=interval,
            tell=lambda event: _tell(loop, on_event, event),
            after=lambda _watcher, _well: idle.set(),
            ended=lambda: _tell(loop, queue.put_nowait, None),
            in_children=False,  # a forked child has no event loop
        )

    watcher = await asyncio.to_thread(make)
    watcher.start()
    try:
        while (change := await queue.get()) is not None:
            yield change
            change._decided.set()  # noqa: SLF001
        if watcher.failure is not None:
            raise watcher.failure
    finally:
        if at_hand and at_hand[0]._refused is not None:  # noqa: SLF001
            await asyncio.to_thread(idle.wait, _STOP_SECONDS)  # the link goes back before the watch ends
        watcher.stop(0)
        closed.set()
        for last in at_hand:
            last._decided.set()  # noqa: SLF001
        await asyncio.to_thread(watcher.stop)


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: object) -> None:
    """Let the event loop call it, if that still runs."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
