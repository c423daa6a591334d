"""A model that was published some time ago, and stores that fail while it is pruned."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.format import keys
from modeldrop.format.channel import Channel, Move, serialize_channel
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    Retirement,
    serialize_build_record,
    serialize_claim,
    serialize_retirement,
)
from modeldrop.registry.protection import time_text
from modeldrop.registry.prune import Pruned, PruneRules, prune
from modeldrop.registry.versions import (
    get_channel,
    get_version,
    version_numbers,
)
from modeldrop.storage.write.folder import FolderStore
from modeldrop.storage.write.store import UnfinishedUpload
from tests.helpers.builds import build_key, contents, publish_build
from tests.helpers.rounds import rounds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modeldrop.format.manifest import File
    from modeldrop.storage.write.store import ListedObject, Store, StoredObject

HOUR, DAY = 3600.0, 86400.0
RULES = PruneRules(keep=2, older_than=7 * DAY, grace=DAY)
SEALED_FILES = {"claim.json", "manifest.json", "retired.json"}
FILES = sum(map(len, contents("s1").values()))


class AgedRegistry:
    """A model that was published some time ago: v1 to v<count>, the newest one current."""

    def __init__(self, registry: Path, count: int, *, channel: str | None = "current") -> None:
        self.registry = registry
        self.store: Store = FolderStore(str(registry))
        self.versions = [publish_build(registry, f"s{number}", channel=None) for number in range(count)]
        self.age(30 * DAY)
        if channel is not None:
            self.write_channel(channel, [(count, 30 * DAY)])

    def age(self, seconds: float) -> None:
        """Let everything be as old as this, by the clock of the store."""
        then = time.time() - seconds
        for path in self.registry.rglob("*"):
            os.utime(path, (then, then))

    def write_channel(self, name: str, moves: list[tuple[int, float]], first: int = 1) -> None:
        """A channel that was moved to these versions so many seconds ago."""
        channel = None
        for number, (version, ago) in enumerate(moves):
            digest = self.versions[version - 1].digest
            move = Move(
                version=version,
                digest=digest,
                generation=first,
                nonce=f"{name}{number}",
                action="promote",
                by="dana",
                at=time_text(time.time() - ago),
            )
            channel = Channel(move) if channel is None else channel.moved(move)
        assert channel is not None
        self.store.create(keys.channel("embedder", name), serialize_channel(channel))

    def prune(
        self, later: float = 0, *, rules: PruneRules = RULES, store: Store | None = None, apply: bool = True
    ) -> Pruned:
        """Prune so many seconds from now."""
        return prune(store or self.store, "embedder", rules, now=time.time() + later, apply=apply, by="dana")

    def seal(self, later: float = DAY + 10) -> Pruned:
        """Both phases."""
        self.prune()
        return self.prune(later)

    def left(self, number: int) -> set[str]:
        folder = self.registry / "embedder" / f"v{number}"
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def numbers(self) -> list[int]:
        return version_numbers(self.store, "embedder")

    def claim(self, number: int, seed: str = "lost") -> None:
        claim = Claim(nonce=f"nonce {number}", build_key=build_key(seed), by="dana", run="", at="2026-11-20T09:40:02Z")
        self.store.create(keys.claim("embedder", number), serialize_claim(claim))
        record = BuildRecord(number, claim.nonce, claim.at)
        self.store.create(keys.build_record("embedder", build_key(seed)), serialize_build_record(record))
        path = self.registry / "embedder" / f"v{number}" / "onnx/model.onnx"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half a model")


@pytest.fixture
def make_registry(registry: Path) -> Callable[..., AgedRegistry]:
    return lambda count, **options: AgedRegistry(registry, count, **options)


def outcomes(pruned: Pruned) -> list[tuple[str, int | None, str]]:
    return [(step.action, step.version, step.outcome) for step in pruned.steps]


def reasons_kept(pruned: Pruned) -> dict[int, str]:
    return {one.version: one.why for one in pruned.kept}


class SleepingStore(FolderStore):
    """The store of a publisher that sleeps at its ``sleep``-th write while ``meanwhile`` happens."""

    def __init__(self, folder: str, sleep: int, meanwhile: Callable[[], object]) -> None:
        super().__init__(folder)
        self._moments = itertools.count(1)
        self._sleep, self._meanwhile = sleep, meanwhile

    def _moment(self) -> None:
        if next(self._moments) == self._sleep:
            self._meanwhile()

    def create(self, key: str, data: bytes) -> None:
        self._moment()
        super().create(key, data)

    def upload(self, key: str, path: Path, file: File, piece_size: int, progress: Callable[[int], None]) -> None:
        self._moment()
        super().upload(key, path, file, piece_size, progress)


class StoreWithUploads(FolderStore):
    """A folder that has uploads in parts, as a bucket does."""

    def __init__(self, folder: str, *uploads: UnfinishedUpload) -> None:
        super().__init__(folder)
        self.uploads = list(uploads)

    def unfinished(self, prefix: str) -> list[UnfinishedUpload]:
        return [upload for upload in self.uploads if upload.key.startswith(f"{prefix}/")]

    def abort(self, upload: UnfinishedUpload) -> None:
        self.uploads.remove(upload)


class Killed(BaseException):
    """Nothing catches it: as if the process were gone."""


class KillableStore(FolderStore):
    """A store whose user dies before its ``fatal``-th call of any kind, or right after it."""

    def __init__(self, folder: str, fatal: int, before: Callable[[], object]) -> None:
        super().__init__(folder)
        self._calls = itertools.count(1)
        self._fatal, self._before = fatal, before
        self.reached = False

    def _call(self) -> None:
        if next(self._calls) == self._fatal:
            self.reached = True
            self._before()

    def get(self, key: str) -> StoredObject | None:
        self._call()
        return super().get(key)

    def exists(self, key: str) -> bool:
        self._call()
        return super().exists(key)

    def names(self, prefix: str) -> list[str]:
        self._call()
        return super().names(prefix)

    def objects(self, prefix: str) -> Iterator[ListedObject]:
        self._call()
        return super().objects(prefix)

    def create(self, key: str, data: bytes) -> None:
        self._call()
        super().create(key, data)
        self._call()

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        self._call()
        super().swap(key, data, previous)
        self._call()

    def delete(self, key: str) -> None:
        self._call()
        super().delete(key)
        self._call()


def kill() -> None:
    raise Killed


def check_readable(one: AgedRegistry) -> None:
    """Whatever is a version is whole, whatever a channel names is a version."""
    for number in one.numbers():
        manifest = get_version(one.store, "embedder", number).manifest
        assert {file.path for file in manifest.files} <= one.left(number), number
    assert get_channel(one.store, "embedder", "current").version in one.numbers()


@pytest.fixture
def every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, AgedRegistry]]:
    """A registry of its own for every call that a prune makes: v1 to be sealed, v2 retired, v7 abandoned.

    ``make test`` leaves out every second call.
    """
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # power does not fail here, and it takes long
    first = AgedRegistry(tmp_path / "first" / "registry", 4)
    mark = Retirement(time_text(time.time() - 2 * DAY), "dana", "old")
    first.store.create(keys.retired("embedder", 1), serialize_retirement(mark))
    first.claim(7)
    first.age(10 * DAY)

    def copies() -> Iterator[tuple[int, AgedRegistry]]:
        for call in itertools.count(1, 2 // rounds(1, 2)):
            copy = copy_of(first, tmp_path / str(call))
            yield call, copy
            shutil.rmtree(copy.registry)

    return copies()


def copy_of(aged: AgedRegistry, registry: Path) -> AgedRegistry:
    shutil.copytree(aged.registry, registry)
    other = object.__new__(AgedRegistry)
    other.registry, other.store, other.versions = registry, FolderStore(str(registry)), aged.versions
    return other


class CountingStore(FolderStore):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.gets: list[str] = []

    def get(self, key: str) -> StoredObject | None:
        self.gets.append(key)
        return super().get(key)

    def exists(self, key: str) -> bool:
        self.gets.append(key)
        return super().exists(key)
