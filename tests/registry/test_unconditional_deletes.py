"""Pruning and promoting on services that delete on no condition: that refuse it, ignore it, or say nothing of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import NotFoundError, RefusedError
from modeldrop.fetcher.fetch import fetch
from modeldrop.format import keys
from modeldrop.format.records import Retirement, serialize_retirement
from modeldrop.registry.channels import move_forward, promote, unretire
from modeldrop.registry.protection import time_text
from modeldrop.registry.prune import PruneRules, prune
from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import (
    find_version,
    get_version,
    is_retired,
    list_channels,
    read_channel,
    version_numbers,
)
from modeldrop.storage.write import open_store
from tests.helpers import concurrent_publishers
from tests.helpers.builds import build_key, make_build, publish_folder
from tests.helpers.concurrent_publishers import race
from tests.helpers.rounds import rounds
from tests.registry.aged_registry import DAY, outcomes
from tests.registry.scenarios import one_line, publish_seed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from modeldrop.storage.write.store import Store
    from tests.servers.s3 import S3Server

REFUSALS: dict[str, dict[str, Any]] = {
    "refused by 501": {"kind": "answer", "status": 501, "code": "NotImplemented"},
    "refused by 400": {"kind": "answer", "status": 400, "code": "InvalidRequest"},
    "ignored": {"kind": "ignored"},
}
MARK = serialize_retirement(Retirement("2026-01-01T00:00:00Z", "dana", "old"))
RULES = PruneRules(keep=1, older_than=0, grace=DAY)


@pytest.fixture(params=REFUSALS)
def registry(request: pytest.FixtureRequest, s3: S3Server) -> Iterator[str]:
    """A registry on a server that does so to every DELETE with a condition."""
    s3.reset()
    s3.rule(**REFUSALS[request.param], method="DELETE", header="if-match", times=-1)
    yield s3.registry()
    conditional = [one.path for one in s3.requests() if one.method == "DELETE" and "if-match" in one.headers]
    s3.reset()
    assert conditional == []


def later(store: Store, days: float) -> list[tuple[str, int | None, str]]:
    return outcomes(prune(store, "embedder", RULES, now=time.time() + days * DAY, apply=True, by="dana"))


def test_all_of_prune(registry: str, tmp_path: Path) -> None:
    store = open_store(registry)
    for seed in "abc":
        publish_seed(store, tmp_path, seed)
    promote(store, "embedder", 2, "current", by="dana")
    promote(store, "embedder", 3, "current", by="dana")
    assert later(store, 2) == [("retire", 1, "done")]  # a rollback would go to v2
    assert unretire(store, "embedder", 1)
    assert later(store, 2) == [("retire", 1, "done")]
    assert later(store, 4) == [("seal", 1, "done")]
    assert {one.key.rpartition("/")[2] for one in store.objects("embedder/v1")} == {
        "claim.json",
        "manifest.json",
        "retired.json",
    }
    assert later(store, 6) == []
    assert version_numbers(store, "embedder") == [2, 3]
    with pytest.raises(NotFoundError, match="was pruned"):
        get_version(store, "embedder", 1)
    # The record of the recipe is there, promises nothing, and is replaced at once.
    assert find_build(store, "embedder", build_key("a")) is None
    again = publish_folder(store, "embedder", tmp_path / "build-a", adopt_seconds=3600).version
    assert again.number == 4
    assert find_build(store, "embedder", build_key("a")) == again


def test_what_a_channel_names_is_unretired(registry: str, tmp_path: Path) -> None:
    store = open_store(registry)
    for seed in "ab":
        publish_seed(store, tmp_path, seed)
    store.create(keys.retired("embedder", 1), MARK)
    assert later(store, 2) == [("unretire", 1, "done")]
    assert not is_retired(store, "embedder", 1)


def test_a_channel_that_is_not_to_be_there_is_none(registry: str, tmp_path: Path) -> None:
    store = open_store(registry)
    make_build(tmp_path / "build", "a")
    version = publish_folder(store, "embedder", tmp_path / "build").version

    def retired_meanwhile(_: object) -> None:
        store.create(keys.retired("embedder", 1), MARK)

    moved = move_forward(store, "embedder", version, "current", by="ci", check=retired_meanwhile)
    assert (moved.moved, moved.after) == (False, None)
    assert read_channel(store, "embedder", "current")[0] is None
    with pytest.raises(NotFoundError, match="embedder/current is no channel any more"):
        fetch(f"{registry}/embedder", tmp_path / "home")
    with pytest.raises(RefusedError, match="v1 of embedder is retired"):
        promote(store, "embedder", 1, "current", by="dana")
    assert unretire(store, "embedder", 1)
    assert promote(store, "embedder", 1, "current", by="dana").generation == 1
    assert fetch(f"{registry}/embedder", tmp_path / "home").version == 1


@pytest.mark.parametrize("round_", range(rounds(1, 20)))
def test_publishers_promoters_and_pruners_at_once(any_registry: str, tmp_path: Path, round_: int) -> None:
    """Whatever they do to each other: every channel names a version that is whole, and each recipe has one version."""
    store = open_store(any_registry)
    for seed in "ab":
        make_build(tmp_path / f"build-{seed}", seed)
        publish_folder(store, "embedder", tmp_path / f"build-{seed}")
    for seed in "cd":
        publish_seed(store, tmp_path, seed)
    for number in (1, 2):
        mark = Retirement(time_text(time.time() - 3 * DAY), "dana", "old")
        store.create(keys.retired("embedder", number), serialize_retirement(mark))
    results = race(concurrent_publishers.publish_promote_or_prune, 12, any_registry, tmp_path)
    published = [number for what, number in results if what == "published"]
    assert len(published) == 4
    assert len(set(published)) == 3  # two publish the recipe of v1, which is being sealed
    for number in {3, 4, *(number for what, number in results if what in {"published", "promoted"})}:
        check_whole(store, number)
    for name, channel in list_channels(store, "embedder").items():
        assert find_version(store, "embedder", channel.version) is not None, name
    again = find_build(store, "embedder", build_key("a"))
    assert again is not None
    assert again.number in published
    one_line(store)


def check_whole(store: Store, number: int) -> None:
    """A version is there with all of its files."""
    version = find_version(store, "embedder", number)
    assert version is not None, number
    there = {one.key for one in store.objects(f"embedder/v{number}")}
    assert {f"embedder/v{number}/{file.path}" for file in version.manifest.files} <= there, number
