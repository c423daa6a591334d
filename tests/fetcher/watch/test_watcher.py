from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import modeldrop
from modeldrop.errors import ModeldropError, RegistryError, UsageError
from modeldrop.fetcher.fetch import Fetcher
from modeldrop.fetcher.notes import read_quarantine
from modeldrop.fetcher.options import StoppedError
from modeldrop.fetcher.resolve import ResolvedVersion
from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.watch.record import next_delay
from tests.fetcher.watch.watch_setup import SECONDS, WatchSetup
from tests.helpers.waiting import wait_until

if TYPE_CHECKING:
    from modeldrop.fetcher.events import Event
    from modeldrop.fetcher.snapshot import Snapshot


def test_the_thread_hands_over_what_is_new(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    with watch_setup.watcher() as watcher:
        assert watcher.wait(SECONDS).version == 1
        watch_setup.publish("b")
        watch_setup.app.waits_for("v1 to v2")
        watch_setup.app.bad.add(3)
        watch_setup.publish("c")
        watch_setup.app.waits_for("v2 to v3")
    status = watcher.status()
    assert not status.running
    assert (status.model, status.channel) == ("embedder", "current")
    assert watcher.snapshot is not None
    assert watcher.snapshot.version == 2
    assert status.age is not None
    assert watch_setup.app.events[0].name == "following"


def test_the_thread_waits_for_the_first_version(watch_setup: WatchSetup) -> None:
    with watch_setup.watcher() as watcher:
        with pytest.raises(RegistryError, match="has given no snapshot yet"):
            watcher.wait(0.1)
        watch_setup.publish("a")
        assert watcher.wait(SECONDS).version == 1
        assert watcher.link == ("embedder", "current")


def test_the_app_may_stop_the_watch_when_it_is_told(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    known, stopped = threading.Event(), threading.Event()

    def on_change(_new: Snapshot, _old: Snapshot | None) -> None:
        assert known.wait(SECONDS)
        watcher.stop()
        stopped.set()

    watcher = modeldrop.watch(f"{watch_setup.registry}/embedder", on_change, directory=watch_setup.home, interval=60)
    known.set()
    assert stopped.wait(SECONDS)
    assert watcher.stop(SECONDS)
    assert not watcher.status().running


def test_a_download_ends_when_the_watch_does(watch_setup: WatchSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    watch_setup.publish("a")
    prepare, begun = Fetcher.prepare, threading.Event()

    def stops(self: Fetcher, version: ResolvedVersion) -> LocalSnapshot:
        begun.set()
        wait_until(lambda: not self._deadline.left(), "the watch to be stopped")
        return prepare(self, version)

    monkeypatch.setattr(Fetcher, "prepare", stops)
    watcher = watch_setup.watcher()
    assert begun.wait(SECONDS)
    assert watcher.stop(SECONDS)
    assert not list(watch_setup.model.glob("v1-*"))
    assert watcher.snapshot is None
    assert watch_setup.app.log == []
    assert watch_setup.app.names == ["following", "moved"]
    assert not (watch_setup.model / "current").is_symlink()


def test_whoever_is_told_while_the_watch_ends_is_told_again(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower(resume=True)
    assert follower.poll()
    watch_setup.publish("b")
    watch_setup.app.bad.add(2)
    follower.stopping.set()  # its hooks are killed, which is not their fault
    with pytest.raises(StoppedError):
        follower.poll()
    assert read_quarantine(watch_setup.model, "current") is None
    assert watch_setup.link() == 1
    follower.release()
    watch_setup.app.bad.clear()
    again = watch_setup.follower(resume=True)
    assert again.poll()
    assert watch_setup.app.log[-1] == "v1 to v2"
    assert watch_setup.link() == 2


@pytest.mark.parametrize("options", [{"no_such": 1}, {"timeout": 0}, {"interval": 0}, {"interval": 1e9}])
def test_options_that_cannot_be_meant(options: dict[str, Any], watch_setup: WatchSetup) -> None:
    with pytest.raises(UsageError):
        modeldrop.watch(
            f"{watch_setup.registry}/embedder", watch_setup.app.changed, directory=watch_setup.home, **options
        )


def test_pauses_grow_with_failures_and_never_meet() -> None:
    for failures, seconds in ((0, 30), (1, 60), (3, 240), (4, 300), (10_000, 300)):
        drawn = [next_delay(30, failures) for _ in range(200)]
        assert all(0.8 * seconds <= one <= 1.2 * seconds for one in drawn)
        assert max(drawn) - min(drawn) > 0.2 * seconds
    assert next_delay(3600, 5) >= 0.8 * 3600


def test_a_defect_does_not_end_the_watch(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    broken: list[int] = []

    def tell(event: Event) -> None:
        watch_setup.app.events.append(event)
        if event.name == "moved" and not broken:
            broken.append(1)
            raise ZeroDivisionError

    with modeldrop.watch(
        f"{watch_setup.registry}/embedder",
        watch_setup.app.changed,
        directory=watch_setup.home,
        interval=0.02,
        on_event=tell,
    ) as watcher:
        assert watcher.wait(SECONDS).version == 1
    assert any("unexpected ZeroDivisionError" in event.text for event in watch_setup.app.events)


class PanicException(BaseException):
    """What Rust raises where it cannot go on."""


@pytest.mark.parametrize("when", ["moved", "changed", "following"])
def test_whoever_waits_hears_that_the_watch_has_ended_by_itself(when: str, watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    ended = threading.Event()

    def tell(event: Event) -> None:
        watch_setup.app.events.append(event)
        if event.name == when:
            raise PanicException("called `Result::unwrap()` on an `Err` value")
        if event.name == "error":
            ended.set()

    with modeldrop.watch(
        f"{watch_setup.registry}/embedder", watch_setup.app.changed, directory=watch_setup.home, on_event=tell
    ) as watcher:
        assert ended.wait(SECONDS)
        watcher._thread.join(SECONDS)
        why = "unexpected PanicException: called `Result::unwrap"
        with pytest.raises(ModeldropError, match=why):
            watcher.wait()
        status = watcher.status()
    assert not status.running
    assert why in status.error
    assert why in watch_setup.app.events[-1].text


def test_expected_errors_are_sentences(watch_setup: WatchSetup) -> None:
    watch_setup.publish("a")
    follower = watch_setup.follower()
    assert follower.poll()
    os.truncate(Path(watch_setup.registry) / "embedder/current", 0)
    assert not follower.poll()
    text = watch_setup.app.events[-1].text
    assert text.startswith("embedder@current: ")
    assert text.endswith("v1 stays in use.")
    assert issubclass(RegistryError, ModeldropError)
