from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest

import modeldrop
from modeldrop.errors import ModeldropError, NotFoundError, UsageError
from modeldrop.fetcher.fetch import Fetcher
from modeldrop.fetcher.notes import read_quarantine
from modeldrop.fetcher.watch.follower import Follower
from tests.fetcher.crash_setup import publish_seed
from tests.fetcher.watch.watch_setup import WatchSetup, watch_setup
from tests.helpers.waiting import HANG_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator
    from pathlib import Path

    from modeldrop import Change
    from tests.servers.s3 import S3Server

__all__ = ["watch_setup"]
TICKS = 20


def run(program: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(program, HANG_SECONDS)

    asyncio.run(limited())


def working(*names: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(names) and thread.is_alive()]


@pytest.fixture(autouse=True)
def nobody_works_on() -> Iterator[None]:
    yield
    wait_until(lambda: not working("modeldrop-fetch", "modeldrop-watch"), "threads")


@pytest.fixture
def ticks() -> threading.Semaphore:
    """Counts how often an event loop came round while somebody waited for it."""
    return threading.Semaphore(0)


@contextlib.asynccontextmanager
async def heart(ticks: threading.Semaphore) -> AsyncGenerator[None, None]:
    async def beat() -> None:
        while True:
            ticks.release()
            await asyncio.sleep(0.001)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


def wait_for_ticks(ticks: threading.Semaphore) -> None:
    """Returns only if the loop comes round meanwhile."""
    while ticks.acquire(blocking=False):
        pass
    for _ in range(TICKS):
        assert ticks.acquire(timeout=HANG_SECONDS), "the event loop is blocked"


def test_a_fetch_is_awaited(
    watch_setup: WatchSetup, ticks: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_setup.publish("a")
    prepare = Fetcher.prepare

    def slow(self: Fetcher, *arguments: Any) -> Any:
        wait_for_ticks(ticks)
        return prepare(self, *arguments)

    monkeypatch.setattr(Fetcher, "prepare", slow)
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        asyncio.get_running_loop()
        told.append((done, total))

    async def program() -> None:
        async with heart(ticks):
            reference = f"{watch_setup.registry}/embedder"
            snapshot = await modeldrop.afetch(reference, watch_setup.home, progress=progress)
            again = await asyncio.to_thread(modeldrop.fetch, reference, watch_setup.home)
            assert snapshot == again.with_values(figures=snapshot.figures)
            assert told[-1] == (snapshot.downloaded, snapshot.downloaded)
            with pytest.raises(NotFoundError):
                await modeldrop.afetch(f"{reference}@v7", watch_setup.home)
            misspelt: Any = {"varaint": "int8"}
            with pytest.raises(UsageError, match="afetch has no option varaint"):
                await modeldrop.afetch(reference, **misspelt)

    run(program())


def test_a_fetch_that_is_cancelled_ends_although_nothing_comes(s3: S3Server, tmp_path: Path) -> None:
    registry = s3.registry()
    publish_seed(registry, tmp_path, "a")
    s3.rule("silent", match="model_quantized", times=1000)
    reference, home = f"{registry}/embedder", tmp_path / "home"

    def half_way() -> bool:
        return any(path.read_bytes().startswith(b"{") for path in home.rglob("config.json")) and any(
            "model_quantized" in request.path for request in s3.requests()
        )

    async def program() -> None:
        fetching = asyncio.create_task(modeldrop.afetch(reference, home))
        await asyncio.to_thread(wait_until, half_way, "a small file, and a request for a large one")
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await asyncio.to_thread(wait_until, lambda: not working("modeldrop-fetch"), "the thread")
        s3.reset()
        snapshot = await modeldrop.afetch(reference, home)
        assert snapshot.figures.adopted, "what has come is kept"

    run(program())


def versions(change: Change) -> tuple[int | None, int]:
    return change.previous.version if change.previous else None, change.new.version


def follow(setup: WatchSetup, **options: Any) -> AsyncGenerator[Change, None]:
    return modeldrop.changes(f"{setup.registry}/embedder", directory=setup.home, interval=0.02, **options)


def test_changes_are_taken_or_refused(
    watch_setup: WatchSetup, ticks: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch_setup.publish("a")
    poll, names = Follower.poll, []

    def slow(self: Follower) -> bool:
        wait_for_ticks(ticks)
        return poll(self)

    monkeypatch.setattr(Follower, "poll", slow)

    def on_event(event: Any) -> None:
        asyncio.get_running_loop()
        names.append(event.name)

    async def program() -> None:
        async with heart(ticks), contextlib.aclosing(follow(watch_setup, on_event=on_event)) as changes:
            first = await anext(changes)
            assert versions(first) == (None, 1)
            for seed in "bc":  # whoever is slow is told of the last only
                await asyncio.to_thread(watch_setup.publish, seed)
            third = await anext(changes)
            assert versions(third) == (1, 3)
            with pytest.raises(UsageError, match="v1 was taken or refused already"):
                first.refuse("too late")
            third.refuse("it answers nonsense")
            await asyncio.to_thread(wait_until, lambda: watch_setup.link() == 1)
            await asyncio.to_thread(watch_setup.publish, "d")
            assert versions(await anext(changes)) == (1, 4)

    run(program())
    assert "quarantined" in names
    assert watch_setup.link() == 4


def test_a_change_that_is_refused_last_is_quarantined(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    watch_setup.publish("b")
    watch_setup.promote(1)

    async def program() -> None:
        async with contextlib.aclosing(follow(watch_setup)) as changes:
            async for change in changes:
                if change.new.version == 1:
                    await asyncio.to_thread(watch_setup.promote, 2)
                else:
                    change.refuse("it answers nonsense")
                    break

    run(program())
    quarantine = read_quarantine(watch_setup.model, "current")
    assert quarantine is not None
    assert (quarantine.version, quarantine.reason) == (2, "it answers nonsense.")
    assert watch_setup.link() == 1


@pytest.mark.parametrize("how", ["closed", "cancelled", "dropped", "never asked"])
def test_the_watch_ends_with_its_iterator(how: str, watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")

    async def taking(changes: AsyncGenerator[Change, None]) -> None:
        async for _ in changes:
            pass

    async def program() -> None:
        changes = follow(watch_setup)
        if how == "never asked":
            await changes.aclose()
            return
        if how == "cancelled":
            task = asyncio.create_task(taking(changes))
            await asyncio.to_thread(wait_until, lambda: watch_setup.model.joinpath("current").is_symlink())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await anext(changes)
            if how == "closed":
                await changes.aclose()
                assert not working("modeldrop-watch")
        del changes
        await asyncio.to_thread(wait_until, lambda: not working("modeldrop-watch"), "the watch's thread")

    run(program())
    assert read_quarantine(watch_setup.model, "current") is None


def test_a_watch_that_ends_by_itself_is_heard_of(watch_setup: WatchSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicError(BaseException):
        pass

    def panics(_self: Follower) -> bool:
        raise PanicError

    watch_setup.publish("a")
    monkeypatch.setattr(Follower, "poll", panics)

    async def program() -> None:
        with pytest.raises(ModeldropError, match="PanicError"):
            await anext(follow(watch_setup))

    run(program())
    with pytest.raises(UsageError):
        modeldrop.changes("not a reference", interval=1)
