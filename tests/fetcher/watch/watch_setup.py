"""A registry, a home, and a program that watches."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import modeldrop
from modeldrop.fetcher.fetch import Fetcher
from modeldrop.fetcher.leases import user_of
from modeldrop.fetcher.options import Options
from modeldrop.fetcher.watch.follower import Follower, Receiver
from modeldrop.fetcher.watch.watcher import Watcher
from modeldrop.format.reference import parse_reference
from modeldrop.registry.channels import move_forward, promote
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, publish_folder
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modeldrop.fetcher.events import Event
    from modeldrop.fetcher.snapshot import Snapshot

SECONDS = HANG_SECONDS


class RecordingApp:
    """A program that loads models: it notes what it is told, and cannot load some versions."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events: list[Event] = []
        self.bad: set[int] = set()
        self.heard = threading.Condition()

    def changed(self, new: Snapshot, old: Snapshot | None) -> None:
        with self.heard:
            self.log.append(f"{f'v{old.version}' if old else 'nothing'} to v{new.version}")
            self.heard.notify_all()
        assert user_of(new.path, time.time())
        assert old is None or user_of(old.path, time.time())
        if new.version in self.bad:
            raise ValueError(f"v{new.version} does not load, password=hunter2")

    def returned(self, good: Snapshot, bad: Snapshot | None) -> None:
        assert bad is not None
        self.log.append(f"back from v{bad.version} to v{good.version}")

    def waits_for(self, line: str) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: line in self.log, SECONDS), self.log

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]


class WatchSetup:
    """A registry, a home, and who watches."""

    def __init__(self, registry: str, folder: Path) -> None:
        self.registry = registry
        self.folder = folder
        self.home = folder / "home"
        self.model = self.home / "embedder"
        self.app = RecordingApp()

    def publish(self, seed: str) -> None:
        make_build(self.folder / f"build-{seed}", seed)
        self.put(seed)

    def put(self, seed: str) -> None:
        """Publish a build that is there."""
        store = open_store(self.registry)
        version = publish_folder(store, "embedder", self.folder / f"build-{seed}", adopt_seconds=0.2).version
        move_forward(store, "embedder", version, "current", by="dana")

    def promote(self, version: int) -> None:
        promote(open_store(self.registry), "embedder", version, "current", by="dana")

    def follower(
        self, *, resume: bool = False, fetcher: type[Fetcher] = Fetcher, reference: str = "", **options: Any
    ) -> Follower:
        parsed = parse_reference(reference or f"{self.registry}/embedder")
        return Follower(
            lambda: fetcher(parsed, self.home, Options(**options)),
            Receiver(self.app.changed, self.app.returned, resume=resume),
            self.app.events.append,
        )

    def watcher(self, **options: Any) -> Watcher:
        return modeldrop.watch(
            f"{self.registry}/embedder",
            self.app.changed,
            directory=self.home,
            interval=0.02,
            on_event=self.app.events.append,
            **options,
        )

    def link(self) -> int:
        """The version that the link names."""
        return int((self.model / "current").readlink().name.partition("-")[0].removeprefix("v"))


@pytest.fixture
def watch_setup(tmp_path: Path) -> WatchSetup:
    return WatchSetup(str(tmp_path / "registry"), tmp_path)


@pytest.fixture(autouse=True)
def released(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Followers that no thread runs let go of their snapshots after the test."""
    made: list[Follower] = []
    begin = Follower.__init__

    def noted(self: Follower, *arguments: Any) -> None:
        begin(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Follower, "__init__", noted)
    yield
    for follower in made:
        follower.release()


def version(follower: Follower) -> int:
    assert follower.snapshot is not None
    return follower.snapshot.version
