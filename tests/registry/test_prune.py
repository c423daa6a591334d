from __future__ import annotations

import itertools
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import ConflictError, FormatError, NotFoundError, RefusedError, RegistryError
from modeldrop.fetcher.api import fetch
from modeldrop.format import keys
from modeldrop.format.channel import Channel, Move, parse_channel, serialize_channel
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    Retirement,
    Seal,
    find_seal,
    parse_retirement,
    parse_seal,
    serialize_build_record,
    serialize_claim,
    serialize_retirement,
    serialize_seal,
)
from modeldrop.registry.channels import create_if_missing, move_forward, promote, rollback, unretire
from modeldrop.registry.protection import time_text
from modeldrop.registry.prune import Policy, Pruned, duration_text, prune, store_clock
from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import (
    Version,
    find_version,
    get_channel,
    get_version,
    is_retired,
    list_folders,
    read_channel,
    version_numbers,
)
from modeldrop.storage.read.reader import RegistryReader
from modeldrop.storage.write import open_store
from modeldrop.storage.write.folder import LocalStore
from modeldrop.storage.write.store import Unfinished
from tests.helpers.builds import LosesReplies, build_key, contents, edit, make_build, publish_build, publish_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from modeldrop.format.manifest import File
    from modeldrop.storage.write.store import Listed, Store, Stored

HOUR, DAY = 3600.0, 86400.0
POLICY = Policy(keep=2, older_than=7 * DAY, grace=DAY)
TOMBS = {"claim.json", "manifest.json", "retired.json"}
FILES = sum(map(len, contents("s1").values()))


class Bench:
    """A model that was published some time ago: v1 to v<count>, the newest one current."""

    def __init__(self, registry: Path, count: int, *, channel: str | None = "current") -> None:
        self.registry = registry
        self.store: Store = LocalStore(str(registry))
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
        self, later: float = 0, *, policy: Policy = POLICY, store: Store | None = None, apply: bool = True
    ) -> Pruned:
        """Prune so many seconds from now."""
        return prune(store or self.store, "embedder", policy, now=time.time() + later, apply=apply, by="dana")

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
def bench(registry: Path) -> Callable[..., Bench]:
    return lambda count, **options: Bench(registry, count, **options)


def did(pruned: Pruned) -> list[tuple[str, int | None, str]]:
    return [(step.action, step.version, step.outcome) for step in pruned.steps]


def kept(pruned: Pruned) -> dict[int, str]:
    return {one.version: one.why for one in pruned.kept}


# What may go.


def test_a_dry_run_says_what_it_would_do_and_does_nothing(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    before = {path: path.stat().st_mtime_ns for path in four.registry.rglob("*")}
    plan = four.prune(apply=False)
    assert did(plan) == [("retire", 2, ""), ("retire", 1, "")]
    assert plan.steps[0].why == "not among the newest 2, older than 7d"
    assert (plan.frees_now, plan.frees_later) == (0, sum(step.size for step in plan.steps))
    assert plan.steps[0].size == FILES + len("<!doctype html><title>s1</title>")
    assert {path: path.stat().st_mtime_ns for path in four.registry.rglob("*")} == before


def test_the_first_phase_marks_and_deletes_nothing(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    whole = four.left(1)
    assert did(four.prune()) == [("retire", 2, "done"), ("retire", 1, "done")]
    assert four.left(1) == whole | {"retired.json"}
    mark = parse_retirement((four.registry / "embedder/v1/retired.json").read_bytes())
    assert (mark.by, mark.why) == ("dana", "not among the newest 2, older than 7d")
    assert four.numbers() == [1, 2, 3, 4]
    assert fetch(f"{four.registry}/embedder@v1", four.registry.parent / "home").version == 1
    again = four.prune(DAY - 10)
    assert did(again) == []
    assert kept(again)[1].startswith("was retired at 20")


def test_the_second_phase_seals_and_deletes(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    pruned = four.seal()
    assert did(pruned) == [("seal", 1, "done"), ("seal", 2, "done")]
    assert pruned.frees_now == sum(step.size for step in pruned.steps) > 2 * FILES
    assert four.left(1) == four.left(2) == TOMBS
    seal = parse_seal((four.registry / "embedder/v1/manifest.json").read_bytes())
    assert (seal.by, seal.why, seal.manifest) == ("dana", "not among the newest 2, older than 7d", "")
    assert four.numbers() == [3, 4]
    assert find_version(four.store, "embedder", 1) is None
    with pytest.raises(NotFoundError, match=rf"v1 of embedder was pruned on {seal.at[:10]}: not among the newest 2"):
        get_version(four.store, "embedder", 1)
    assert find_build(four.store, "embedder", build_key("s0")) is None
    assert not four.store.exists(keys.build_record("embedder", build_key("s0")))
    assert find_build(four.store, "embedder", build_key("s3")) is not None
    assert did(four.prune(2 * DAY)) == []


def test_a_pruned_number_is_never_used_again_and_the_recipe_can_be_published_again(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    four = bench(4)
    four.seal()
    assert publish_build(four.registry, "s0", channel=None).number == 5
    assert find_version(four.store, "embedder", 1) is None


def test_the_newest_stay_however_old_and_the_young_however_many(bench: Callable[..., Bench]) -> None:
    five = bench(5)
    assert did(five.prune(policy=Policy(keep=5), apply=False)) == []
    assert did(five.prune(policy=Policy(keep=2, older_than=31 * DAY), apply=False)) == []
    old = did(five.prune(policy=Policy(keep=2, older_than=29 * DAY), apply=False))
    assert [number for _, number, _ in old] == [3, 2, 1]


def test_never_one_younger_than_the_grace(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.age(DAY - 60)
    policy = Policy(keep=1, older_than=0, grace=DAY)
    assert did(four.prune(policy=policy, apply=False)) == []
    assert [number for _, number, _ in did(four.prune(70, policy=policy, apply=False))] == [3, 2, 1]


def test_the_age_is_that_of_the_commit_not_of_the_build(bench: Callable[..., Bench]) -> None:
    two = bench(2)  # their manifests say that they were built on 2026-11-20
    os.utime(two.registry / "embedder/v1/manifest.json")
    assert did(two.prune(policy=Policy(keep=1, older_than=DAY), apply=False)) == []


def test_retired_ones_do_not_count_among_the_newest(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    mark = Retirement(time_text(time.time()), "dana", "by hand")
    four.store.create(keys.retired("embedder", 3), serialize_retirement(mark))
    assert [number for _, number, _ in did(four.prune())] == [1]


# What channels protect.


def test_never_one_that_any_channel_names(bench: Callable[..., Bench]) -> None:
    five = bench(5)
    five.write_channel("staging", [(1, 30 * DAY)])
    five.write_channel("pr-17", [(2, 30 * DAY)])
    pruned = five.prune()
    assert did(pruned) == [("retire", 3, "done")]
    assert kept(pruned) == {1: "stays: staging names it", 2: "stays: pr-17 names it"}


def test_when_a_channel_left_it_counts_not_when_it_came(bench: Callable[..., Bench]) -> None:
    five = bench(5)
    # v1 was named for weeks until an hour ago, v2 long before; v3 is what a rollback of staging goes to.
    five.write_channel("staging", [(2, 29 * DAY), (1, 28 * DAY), (3, HOUR), (5, HOUR / 2)])
    pruned = five.prune(apply=False)
    assert did(pruned) == [("retire", 2, "")]
    assert kept(pruned)[1].startswith("stays: staging named it until 20")
    later = five.prune(DAY, apply=False)
    assert [number for _, number, _ in did(later)] == [2, 1]
    assert kept(later) == {3: "stays: a rollback of staging would go to it"}


def test_a_history_cut_short_within_the_grace_protects_all(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.write_channel("staging", [(4, HOUR), (3, HOUR / 2)], first=200)
    pruned = four.prune(apply=False)
    assert did(pruned) == []
    assert kept(pruned)[1].startswith("stays: staging may have named it: its history begins at 20")
    assert len(did(four.prune(DAY, apply=False))) == 2


def test_a_date_that_does_not_exist_is_too_young(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.write_channel("staging", [(1, 30 * DAY), (2, 30 * DAY), (4, 30 * DAY)])
    path = four.registry / "embedder" / "staging"
    moves = Channel(*_broken_dates(path))
    path.write_bytes(serialize_channel(moves))
    pruned = four.prune(apply=False)
    assert did(pruned) == []
    assert kept(pruned)[1] == "stays: staging named it until 2026-02-30T00:00:00Z"


def _broken_dates(path: Path) -> tuple[Move, tuple[Move, ...]]:
    first, *rest = (move._replace(at="2026-02-30T00:00:00Z") for move in parse_channel(path.read_bytes()).moves())
    return first, tuple(rest)


@pytest.mark.parametrize("at", ["2026-02-30T00:00:00Z", "2999-01-01T00:00:00Z"])
def test_a_mark_with_an_impossible_date_never_ripens(bench: Callable[..., Bench], at: str) -> None:
    four = bench(4)
    four.store.create(keys.retired("embedder", 1), serialize_retirement(Retirement(at, "dana", "")))
    pruned = four.prune(100 * DAY, policy=Policy(keep=3))
    assert did(pruned) == []
    assert at in kept(pruned)[1]


def test_a_damaged_mark_or_manifest_is_left_alone(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()
    (four.registry / "embedder/v1/retired.json").write_bytes(b"{")
    (four.registry / "embedder/v2/manifest.json").write_bytes(b"{")
    pruned = four.prune(2 * DAY)
    assert did(pruned) == []
    assert "nobody knows since when" in kept(pruned)[1]
    assert "manifest cannot be read" in kept(pruned)[2]


def test_a_version_that_this_release_cannot_read_is_not_retired(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    edit(four.registry / "embedder/v1/manifest.json", b"modeldrop/manifest/1", b"modeldrop/manifest/2")
    pruned = four.prune(10 * DAY)
    assert did(pruned) == [("retire", 2, "done")]
    assert "stays: its manifest cannot be read: schema: 'modeldrop/manifest/2'" in kept(pruned)[1]


def test_a_channel_that_cannot_be_read_stops_it(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()
    (four.registry / "embedder/staging").write_bytes(b"{}")
    with pytest.raises(FormatError, match=r"embedder/staging: schema: is missing\. Nobody knows what this channel"):
        four.prune(2 * DAY)
    assert four.numbers() == [1, 2, 3, 4]


def test_what_a_channel_names_by_the_second_phase_is_unretired(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()
    four.write_channel("staging", [(1, HOUR)])
    assert did(four.prune(apply=False)) == [("unretire", 1, "")]
    assert did(four.prune(DAY + 10)) == [("unretire", 1, "done"), ("seal", 2, "done")]
    assert not is_retired(four.store, "embedder", 1)
    assert four.numbers() == [1, 3, 4]


def test_a_rollback_that_makes_it_the_next_target_unretires_it(bench: Callable[..., Bench]) -> None:
    four = bench(4, channel=None)
    four.write_channel("current", [(1, 30 * DAY), (3, 20 * DAY), (4, 10 * DAY)])
    four.prune()
    assert is_retired(four.store, "embedder", 1)
    assert rollback(four.store, "embedder", "current", by="dana").after == 3
    with pytest.raises(RefusedError, match="v1 of embedder is retired"):
        rollback(four.store, "embedder", "current", by="dana")
    assert ("unretire", 1, "done") in did(four.prune(2 * DAY))
    assert rollback(four.store, "embedder", "current", by="dana").after == 1


# Abandoned claims and unfinished uploads.


def test_an_abandoned_claim_is_sealed_and_swept(bench: Callable[..., Bench]) -> None:
    two = bench(2)
    two.claim(7)
    assert did(two.prune()) == []
    assert kept(two.prune()) == {7: "is being uploaded: it was written to within the last 24h"}
    pruned = two.prune(DAY + 10)
    assert [(step.action, step.version, step.size, step.outcome) for step in pruned.steps] == [
        ("abandon", 7, len(b"half a model"), "done")
    ]
    assert two.left(7) == {"claim.json", "manifest.json"}
    assert not two.store.exists(keys.build_record("embedder", build_key("lost")))
    with pytest.raises(NotFoundError, match=r"v7 of embedder was pruned on .*: never finished"):
        get_version(two.store, "embedder", 7)
    assert publish_build(two.registry, "new", channel=None).number == 8


def test_any_object_written_within_the_grace_keeps_a_claim(bench: Callable[..., Bench]) -> None:
    two = bench(2)
    two.claim(7)
    two.age(10 * DAY)
    assert did(two.prune(apply=False)) == [("abandon", 7, "")]
    os.utime(two.registry / "embedder/v7/onnx/model.onnx")
    assert did(two.prune(apply=False)) == []


def test_the_build_record_of_another_version_stays(bench: Callable[..., Bench]) -> None:
    three = bench(3)
    forced = publish_folder(three.store, "embedder", three.registry.parent / ".build-s0-fp32-int8", force=True)
    assert three.seal().steps[0].version == 1
    assert find_build(three.store, "embedder", build_key("s0")) == forced.version


class Woken(LocalStore):
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


@pytest.mark.parametrize("sleep", range(2, 10))  # 1 is the claim, then 5 files, report, record, manifest
def test_a_publisher_that_wakes_up_after_its_claim_was_sealed_cannot_commit(
    bench: Callable[..., Bench], tmp_path: Path, sleep: int
) -> None:
    two = bench(2)
    make_build(tmp_path / "late", "late")
    late = Woken(str(two.registry), sleep, lambda: two.prune(3 * DAY))
    with pytest.raises(ConflictError):
        publish_folder(late, "embedder", tmp_path / "late")
    assert two.numbers() == [1, 2]
    assert find_build(two.store, "embedder", build_key("late")) is None
    with pytest.raises(NotFoundError, match="was pruned"):
        get_version(two.store, "embedder", 3)
    # What it wrote after the seal goes with the next run; a run of the same recipe gets a new number.
    two.prune(3 * DAY)
    assert two.left(3) == {"claim.json", "manifest.json"}
    assert did(two.prune(3 * DAY)) == []
    again = publish_folder(two.store, "embedder", tmp_path / "late", adopt_seconds=0.1)
    assert again.version.number == 4


def test_an_owner_who_finishes_just_before_the_seal_has_finished(bench: Callable[..., Bench], tmp_path: Path) -> None:
    two = bench(2)
    make_build(tmp_path / "late", "late")

    class FinishedMeanwhile(LocalStore):
        def create(self, key: str, data: bytes) -> None:
            if key.endswith("v7/manifest.json"):
                super().create(key, (tmp_path / "late/manifest.json").read_bytes())
            super().create(key, data)

    two.claim(7)
    pruned = two.prune(2 * DAY, store=FinishedMeanwhile(str(two.registry)))
    assert did(pruned) == [("abandon", 7, "its owner has finished it")]
    assert two.numbers() == [1, 2, 7]
    assert "onnx/model.onnx" in two.left(7)


def test_an_owner_who_writes_again_before_the_seal_goes_on(bench: Callable[..., Bench]) -> None:
    two = bench(2)
    two.claim(7)
    two.age(10 * DAY)

    class WritesAgain(LocalStore):
        def objects(self, prefix: str) -> Iterator[Listed]:
            if prefix.endswith("/v7"):
                os.utime(two.registry / "embedder/v7/onnx/model.onnx")
            return super().objects(prefix)

    pruned = two.prune(store=WritesAgain(str(two.registry)))
    assert did(pruned) == [("abandon", 7, "its owner is writing to it again")]
    assert "manifest.json" not in two.left(7)


class WithUploads(LocalStore):
    """A folder that has uploads in parts, as a bucket does."""

    def __init__(self, folder: str, *uploads: Unfinished) -> None:
        super().__init__(folder)
        self.uploads = list(uploads)

    def unfinished(self, prefix: str) -> list[Unfinished]:
        return [upload for upload in self.uploads if upload.key.startswith(f"{prefix}/")]

    def abort(self, upload: Unfinished) -> None:
        self.uploads.remove(upload)


def test_uploads_never_finished_are_aborted_after_the_grace(bench: Callable[..., Bench]) -> None:
    two = bench(2)
    now = time.time()
    old = Unfinished("embedder/v2/onnx/model.onnx", "a", now - 2 * DAY)
    twin = Unfinished("embedder/v2/onnx/model.onnx", "b", now - 2 * DAY)
    young = Unfinished("embedder/v2/onnx/model.onnx", "c", now - HOUR)
    other = Unfinished("embedder-large/v2/onnx/model.onnx", "d", now - 2 * DAY)
    store = WithUploads(str(two.registry), old, twin, young, other)
    assert did(two.prune(store=store, apply=False)) == [("abort", 2, "")] * 2
    assert len(store.uploads) == 4
    assert did(two.prune(store=store)) == [("abort", 2, "done")] * 2
    assert store.uploads == [young, other]


def test_an_upload_begun_within_the_grace_keeps_a_claim_and_its_other_uploads(bench: Callable[..., Bench]) -> None:
    two = bench(2)
    two.claim(7)
    two.age(10 * DAY)
    now = time.time()
    first = Unfinished("embedder/v7/onnx/model.onnx_data", "a", now - 2 * DAY)
    second = Unfinished("embedder/v7/onnx/model_fp16.onnx", "b", now - HOUR)
    store = WithUploads(str(two.registry), first, second)
    assert did(two.prune(store=store)) == []
    assert did(two.prune(2 * DAY, store=store)) == [("abandon", 7, "done"), *[("abort", 7, "done")] * 2]


def test_files_put_there_by_hand_are_nobodys_version(bench: Callable[..., Bench]) -> None:
    two = bench(2)
    (two.registry / "embedder/v9").mkdir()
    (two.registry / "embedder/v9/notes.txt").write_text("mine")
    assert did(two.prune(90 * DAY)) == []


# Killed, and in company.


class Killed(BaseException):
    """Nothing catches it: as if the process were gone."""


class Mortal(LocalStore):
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

    def get(self, key: str) -> Stored | None:
        self._call()
        return super().get(key)

    def exists(self, key: str) -> bool:
        self._call()
        return super().exists(key)

    def names(self, prefix: str) -> list[str]:
        self._call()
        return super().names(prefix)

    def objects(self, prefix: str) -> Iterator[Listed]:
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

    def delete(self, key: str, tag: str | None = None) -> None:
        self._call()
        super().delete(key, tag)
        self._call()


def kill() -> None:
    raise Killed


def check_readable(one: Bench) -> None:
    """Whatever is a version is whole, whatever a channel names is a version."""
    for number in one.numbers():
        manifest = get_version(one.store, "embedder", number).manifest
        assert {file.path for file in manifest.files} <= one.left(number), number
    assert get_channel(one.store, "embedder", "current").version in one.numbers()


@pytest.fixture
def every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Bench]]:
    """A registry of its own for every call that a prune makes: v1 to be sealed, v2 retired, v7 abandoned."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # power does not fail here, and it takes long
    first = Bench(tmp_path / "first" / "registry", 4)
    mark = Retirement(time_text(time.time() - 2 * DAY), "dana", "old")
    first.store.create(keys.retired("embedder", 1), serialize_retirement(mark))
    first.claim(7)
    first.age(10 * DAY)

    def copies() -> Iterator[tuple[int, Bench]]:
        for call in itertools.count(1):
            copy = copy_of(first, tmp_path / str(call))
            yield call, copy
            shutil.rmtree(copy.registry)

    return copies()


def copy_of(bench: Bench, registry: Path) -> Bench:
    shutil.copytree(bench.registry, registry)
    other = object.__new__(Bench)
    other.registry, other.store, other.versions = registry, LocalStore(str(registry)), bench.versions
    return other


def test_a_prune_killed_at_any_call_is_finished_by_the_next(every_call: Iterator[tuple[int, Bench]]) -> None:
    for fatal, one in every_call:
        mortal = Mortal(str(one.registry), fatal, kill)
        try:
            one.prune(store=mortal)
        except Killed:
            check_readable(one)
        one.prune()
        assert one.numbers() == [2, 3, 4], fatal
        assert one.left(1) == TOMBS, fatal
        assert one.left(7) == {"claim.json", "manifest.json"}, fatal
        assert is_retired(one.store, "embedder", 2)
        records = {path.stem for path in (one.registry / "embedder/builds").iterdir()}
        assert records == {build_key(f"s{number}") for number in (1, 2, 3)}, fatal
        check_readable(one)
        assert did(one.prune()) == []
        if not mortal.reached:
            break
    assert fatal > 30


def test_a_promote_at_any_call_of_a_prune_never_leaves_a_channel_on_a_sealed_version(
    every_call: Iterator[tuple[int, Bench]],
) -> None:
    promoted = 0
    for fatal, one in every_call:
        said: list[str] = []

        def go(one: Bench = one, said: list[str] = said) -> None:
            for number in (1, 2):
                try:
                    promote(one.store, "embedder", number, f"to-{number}", by="ops")
                except (RefusedError, NotFoundError) as error:
                    said.append(type(error).__name__)
                else:
                    said.append("promoted")

        mortal = Mortal(str(one.registry), fatal, go)
        one.prune(store=mortal)
        if not mortal.reached:
            break
        for _ in range(2):
            one.prune(3 * DAY)
            check_readable(one)
        assert said[0] != "promoted"  # v1 was retired long before
        channel, _ = read_channel(one.store, "embedder", "to-2")
        assert (channel is not None) == (said[1] == "promoted"), fatal
        if channel is not None:
            promoted += 1
            assert (channel.version, find_version(one.store, "embedder", 2)) == (2, one.versions[1])
            assert not is_retired(one.store, "embedder", 2)
    assert promoted > 3


@pytest.mark.parametrize("existing", [True, False], ids=["moved", "made"])
@pytest.mark.parametrize("sleep", [1, 2, 3, 4])
def test_a_promoter_that_sleeps_through_a_whole_prune(bench: Callable[..., Bench], sleep: int, existing: bool) -> None:
    four = bench(4)
    if existing:
        four.write_channel("staging", [(4, 20 * DAY)])

    def prune_all() -> None:
        four.prune()
        four.prune(2 * DAY)
        four.prune(4 * DAY)

    sleeper = Mortal(str(four.registry), sleep, prune_all)
    # Calls: manifest, channel, the write and its reply; then the look, at which it no longer sleeps.
    if sleep == 1:
        with pytest.raises(NotFoundError, match="v1 of embedder was pruned"):
            promote(sleeper, "embedder", 1, "staging", by="ops")
    elif sleep < 4:
        with pytest.raises(RefusedError, match=r"v1 of embedder is retired.*\n.*prune .* --unretire v1"):
            promote(sleeper, "embedder", 1, "staging", by="ops")
    else:
        assert promote(sleeper, "embedder", 1, "staging", by="ops").after == 1
        assert 1 in four.numbers()
        return
    channel, _ = read_channel(four.store, "embedder", "staging")
    assert (channel.version if channel else None) == (4 if existing else None)
    assert 1 not in four.numbers()


def test_a_move_taken_back_leaves_alone_whoever_moved_on(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()

    class MovedOn(LocalStore):
        def names(self, prefix: str) -> list[str]:
            promote(four.store, "embedder", 3, "current", by="dana")
            return super().names(prefix)

    with pytest.raises(RefusedError, match="v1 of embedder is retired"):
        promote(MovedOn(str(four.registry)), "embedder", 1, "current", by="ops")
    assert [move.version for move in get_channel(four.store, "embedder", "current").moves()] == [3, 1, 4]


def test_a_promoter_killed_before_it_looks_keeps_the_version(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()
    with pytest.raises(Killed):
        promote(Mortal(str(four.registry), 4, kill), "embedder", 1, "current", by="ops")
    assert ("unretire", 1, "done") in did(four.prune(2 * DAY))
    check_readable(four)
    assert get_channel(four.store, "embedder", "current").version == 1


def test_a_channel_seen_between_the_seals_brings_the_manifest_back(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()
    before = (four.registry / "embedder/v1/manifest.json").read_bytes()

    class NamedMeanwhile(LocalStore):
        def swap(self, key: str, data: bytes, previous: str | None) -> None:
            super().swap(key, data, previous)
            if key.endswith("v1/manifest.json") and find_seal(data) is not None:
                four.write_channel("staging", [(1, 0)])

    pruned = four.prune(2 * DAY, store=NamedMeanwhile(str(four.registry)))
    assert did(pruned) == [("seal", 1, "staging names it"), ("seal", 2, "done")]
    assert (four.registry / "embedder/v1/manifest.json").read_bytes() == before
    assert find_version(four.store, "embedder", 1) == four.versions[0]
    assert did(four.prune(2 * DAY)) == [("unretire", 1, "done")]


def test_two_prunes_at_once_do_each_other_no_harm(every_call: Iterator[tuple[int, Bench]]) -> None:
    for fatal, one in every_call:
        mortal = Mortal(str(one.registry), fatal, one.prune)
        one.prune(store=mortal)
        check_readable(one)
        one.prune()
        assert one.numbers() == [2, 3, 4], fatal
        assert one.left(1) == TOMBS, fatal
        assert one.left(7) == {"claim.json", "manifest.json"}, fatal
        if not mortal.reached:
            break


def test_lost_replies_prune_once(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.claim(7)
    lossy = LosesReplies(str(four.registry))
    assert did(four.prune(store=lossy)) == [("retire", number, "done") for number in (2, 1)]
    pruned = four.prune(2 * DAY, store=lossy)
    assert sorted(did(pruned)) == [("abandon", 7, "done"), ("seal", 1, "done"), ("seal", 2, "done")]
    assert four.left(1) == TOMBS


def test_a_denied_write_is_one_error_and_the_next_run_goes_on(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()

    class Denied(LocalStore):
        def delete(self, key: str, tag: str | None = None) -> None:
            raise RegistryError("no right to delete")

    with pytest.raises(RegistryError, match="no right to delete"):
        four.prune(2 * DAY, store=Denied(str(four.registry)))
    check_readable(four)
    assert ("sweep", 1, "done") in did(four.prune(2 * DAY))
    assert four.left(1) == four.left(2) == TOMBS


# What others see of it.


def test_a_pruned_version_is_not_fetched_and_a_channel_is_read_once_more(
    bench: Callable[..., Bench], tmp_path: Path
) -> None:
    four = bench(4)
    digest = four.versions[0].digest
    four.seal()
    for pin in ("v1", f"v1@{digest}"):
        with pytest.raises(NotFoundError, match=r"v1 of .*/embedder was pruned on 20"):
            fetch(f"{four.registry}/embedder@{pin}", tmp_path / "home")
    assert fetch(f"{four.registry}/embedder", tmp_path / "home").version == 4


def test_a_reader_that_meets_a_seal_reads_the_channel_once_more(
    bench: Callable[..., Bench], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = bench(4)
    four.seal()
    four.write_channel("staging", [(1, HOUR)])
    get = RegistryReader.get
    read: list[str] = []

    def move_after_reading(reader: RegistryReader, key: str, limit: int) -> bytes | None:
        data = get(reader, key, limit)
        if key.endswith("/staging") and not read:
            promote(four.store, "embedder", 3, "staging", by="ops")
        read.append(key)
        return data

    monkeypatch.setattr(RegistryReader, "get", move_after_reading)
    assert fetch(f"{four.registry}/embedder@staging", tmp_path / "home").version == 3
    assert read.count("embedder/staging") == 2


def test_retired_versions_can_be_fetched_and_not_promoted(bench: Callable[..., Bench], tmp_path: Path) -> None:
    four = bench(4)
    four.prune()
    before = get_channel(four.store, "embedder", "current")
    with pytest.raises(RefusedError, match="prune is about to remove it, so no channel may name it"):
        promote(four.store, "embedder", 1, "current", by="ops")
    after = get_channel(four.store, "embedder", "current")
    assert (after.version, after.generation) == (4, before.generation + 2)
    assert (after.present.action, after.present.why) == ("rollback", "v1 is retired")
    assert fetch(f"{four.registry}/embedder@v1", tmp_path / "home").version == 1


def test_a_publisher_does_not_move_a_channel_to_what_was_retired_meanwhile(bench: Callable[..., Bench]) -> None:
    four = bench(4, channel=None)
    mark = Retirement(time_text(time.time()), "dana", "")
    four.store.create(keys.retired("embedder", 4), serialize_retirement(mark))
    made = create_if_missing(four.store, "embedder", four.versions[3], "current", by="ci")
    assert (made.moved, made.after, made.reason) == (False, None, "v4 is retired: prune is about to remove it")
    assert read_channel(four.store, "embedder", "current") == (None, None)
    four.write_channel("current", [(3, DAY)])
    moved = move_forward(four.store, "embedder", four.versions[3], "current", by="ci")
    assert (moved.moved, moved.after, moved.generation) == (False, 3, 3)


def test_unretire(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.prune()
    assert unretire(four.store, "embedder", 1)
    assert not unretire(four.store, "embedder", 1)
    assert promote(four.store, "embedder", 1, "current", by="ops").after == 1
    four.prune(2 * DAY)
    with pytest.raises(NotFoundError, match="v2 of embedder was pruned"):
        unretire(four.store, "embedder", 2)
    with pytest.raises(NotFoundError, match="no version v9"):
        unretire(four.store, "embedder", 9)


@pytest.mark.parametrize("moment", range(1, 20))
def test_unretire_at_any_call_of_a_prune_is_told_the_truth(bench: Callable[..., Bench], moment: int) -> None:
    three = bench(3)
    three.prune()
    said: list[object] = []

    def go() -> None:
        try:
            said.append(unretire(three.store, "embedder", 1))
        except NotFoundError:
            said.append("pruned")

    three.prune(2 * DAY, store=Mortal(str(three.registry), moment, go))
    if said == [True]:
        assert 1 in three.numbers()
        check_readable(three)
    three.prune(2 * DAY)
    check_readable(three)


def test_rollback_to_what_was_pruned_names_what_is_there(bench: Callable[..., Bench]) -> None:
    four = bench(4, channel=None)
    four.write_channel("current", [(1, 30 * DAY), (4, 20 * DAY)])
    # Pruned by hand: prune itself spares what a rollback goes to.
    seal = serialize_seal(Seal("2026-11-20T00:00:00Z", "dana", "by mistake"))
    (four.registry / "embedder/v1/manifest.json").write_bytes(seal)
    with pytest.raises(
        NotFoundError, match=r"cannot go back: v1 of embedder was pruned on 2026-11-20: by mistake"
    ) as no:
        rollback(four.store, "embedder", "current", by="ops")
    assert no.value.hint.startswith("These versions are there: v2, v3. To name one: modeldrop promote ")


class Counting(LocalStore):
    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.gets: list[str] = []

    def get(self, key: str) -> Stored | None:
        self.gets.append(key)
        return super().get(key)

    def exists(self, key: str) -> bool:
        self.gets.append(key)
        return super().exists(key)


def test_two_hundred_pruned_versions_cost_no_request_each(
    bench: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    two = bench(2)
    seal = serialize_seal(Seal("2026-11-20T00:00:00Z", "dana", "old"))
    for number in range(3, 203):
        claim = Claim(nonce=f"n{number}", build_key=build_key(str(number)), by="", run="", at="2026-11-20T00:00:00Z")
        two.store.create(keys.claim("embedder", number), serialize_claim(claim))
        two.store.create(keys.manifest("embedder", number), seal)
    counting = Counting(str(two.registry))
    assert version_numbers(counting, "embedder") == [1, 2]
    assert counting.gets == []
    assert did(two.prune(store=counting)) == []
    assert len(counting.gets) == 1  # the channel


def test_a_listing_tells_versions_apart(bench: Callable[..., Bench]) -> None:
    four = bench(4)
    four.claim(7)
    four.prune()
    states = [(one.number, one.committed, one.retired, one.emptied) for one in list_folders(four.store, "embedder")]
    assert states == [
        (1, True, True, False),
        (2, True, True, False),
        (3, True, False, False),
        (4, True, False, False),
        (7, False, False, False),
    ]
    four.prune(2 * DAY)
    assert [one.number for one in list_folders(four.store, "embedder") if one.emptied] == [1, 2, 7]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(30 * DAY, "30d"), (DAY, "24h"), (2 * DAY, "2d"), (5400, "90m"), (45, "45s"), (0.5, "0.5s"), (0, "0s")],
)
def test_durations_are_written_as_people_write_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


# On every store.


@pytest.fixture
def published(any_registry: str, tmp_path: Path) -> tuple[Store, list[Version]]:
    """Three versions, the last one current, in a folder and in each cloud."""
    store = open_store(any_registry)
    versions = []
    for seed in "abc":
        make_build(tmp_path / seed, seed)
        versions.append(publish_folder(store, "embedder", tmp_path / seed).version)
    promote(store, "embedder", versions[-1], "current", by="dana")
    return store, versions


KEEP_ONE = Policy(keep=1, older_than=0, grace=DAY)


def later(store: Store, days: float, *, apply: bool = True) -> Pruned:
    return prune(store, "embedder", KEEP_ONE, now=time.time() + days * DAY, apply=apply, by="dana")


def test_any_store_both_phases(published: tuple[Store, list[Version]], tmp_path: Path) -> None:
    store, _ = published
    make_build(tmp_path / "d", "d")

    def crash(_: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        publish_folder(store, "embedder", tmp_path / "d", progress=crash)
    assert did(later(store, 0)) == []
    assert did(later(store, 2, apply=False)) == [("abandon", 4, ""), ("retire", 2, ""), ("retire", 1, "")]
    later(store, 2)
    assert version_numbers(store, "embedder") == [1, 2, 3]
    assert did(later(store, 4)) == [("seal", 1, "done"), ("seal", 2, "done")]
    assert version_numbers(store, "embedder") == [3]
    assert sorted(listed.key for listed in store.objects("embedder/v1")) == [
        f"embedder/v1/{one}" for one in sorted(TOMBS)
    ]
    assert [one.emptied for one in list_folders(store, "embedder")] == [True, True, False, True]
    for number in (1, 2, 4):
        with pytest.raises(NotFoundError, match="was pruned"):
            get_version(store, "embedder", number)
    assert find_build(store, "embedder", build_key("a")) is None
    assert did(later(store, 6)) == []


def test_any_store_named_between_the_seals(published: tuple[Store, list[Version]]) -> None:
    store, versions = published
    later(store, 2)
    sealed = serialize_seal(Seal(time_text(time.time()), "", "", manifest=(stored_manifest(store, 1)).data.decode()))
    store.swap(keys.manifest("embedder", 1), sealed, stored_manifest(store, 1).tag)
    # Killed here, and a promoter that had read the manifest before has written its move and died too.
    move = Move(
        version=1,
        digest=versions[0].digest,
        generation=1,
        nonce="nonce",
        action="promote",
        by="ops",
        at=time_text(time.time()),
    )
    store.create(keys.channel("embedder", "staging"), serialize_channel(Channel(move)))
    assert did(later(store, 4)) == [("seal", 1, "staging names it"), ("seal", 2, "done")]
    assert find_version(store, "embedder", 1) == versions[0]
    assert did(later(store, 4)) == [("unretire", 1, "done")]


def stored_manifest(store: Store, number: int) -> Stored:
    stored = store.get(keys.manifest("embedder", number))
    assert stored is not None
    return stored


def test_any_store_promote_refuses_what_is_retired(published: tuple[Store, list[Version]]) -> None:
    store, _ = published
    later(store, 2)
    for channel in ("current", "staging"):
        with pytest.raises(RefusedError, match="is retired"):
            promote(store, "embedder", 1, channel, by="ops")
    assert get_channel(store, "embedder", "current").version == 3
    assert read_channel(store, "embedder", "staging") == (None, None)
    assert unretire(store, "embedder", 1)
    assert promote(store, "embedder", 1, "current", by="ops").after == 1


def test_any_store_has_a_clock(any_registry: str) -> None:
    store = open_store(any_registry)
    Path(any_registry).mkdir(parents=True, exist_ok=True) if "://" not in any_registry else None
    assert abs(store_clock(store) - time.time()) < 5
    assert store.names("") == []


def test_a_bucket_loses_unfinished_uploads(cloud_registry: str) -> None:
    store: Any = open_store(cloud_registry)
    scheme = cloud_registry.partition("://")[0]
    if scheme == "s3":
        store.client.create_multipart_upload(Bucket=store.bucket.name, Key=store._key("embedder/v1/x"))
    elif scheme == "gs":
        store._xml("POST", "embedder/v1/x", {"uploads": ""})
    # Azure lists none: it drops blocks by itself after a week.
    uploads = store.unfinished("embedder")
    assert len(uploads) == (scheme != "az")
    # Nothing is said of a young one here: moto gives every upload the same date in 2010.
    assert did(later(store, 2)) == [("abort", 1, "done")] * len(uploads)
    assert store.unfinished("embedder") == []
