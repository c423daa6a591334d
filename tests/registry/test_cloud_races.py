"""Many publishers at once, killed ones, stopped ones and lost replies, on every kind of registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import claimed_numbers, version_numbers
from modeldrop.storage.write import open_store
from tests.helpers import concurrent_publishers
from tests.helpers.builds import build_key
from tests.helpers.clouds import representatives
from tests.helpers.concurrent_publishers import race
from tests.helpers.rounds import rounds
from tests.registry.scenarios import (
    kill_publishers_at_every_step,
    lose_the_reply_to_every_write,
    one_line,
    publish_after_a_rollback,
    publish_seed,
    stop_publishers_and_resume_them_later,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.interface import CloudServer


RACERS, MOVERS = rounds(6, 16), rounds(12, 32)
"""Processes that do the same thing at once."""
STRIDE = 4 // rounds(1, 4)
"""``make soak`` kills publishers to clouds at every step, ``make test`` at every fourth while they upload."""


@pytest.mark.rounds
@representatives("folder", "s3")
def test_so_many_builds_at_once_are_so_many_versions(any_registry: str, tmp_path: Path) -> None:
    results = race(concurrent_publishers.publish_one, RACERS, any_registry, tmp_path, "seed {}")
    numbers = list(range(1, RACERS + 1))
    assert sorted(number for number, _, _ in results) == numbers
    assert not any(adopted for _, adopted, _ in results)
    store = open_store(any_registry)
    assert version_numbers(store, "embedder") == claimed_numbers(store, "embedder") == numbers
    channel = one_line(store)
    assert channel.version == results[-1][0]  # of the last run, whichever number it got
    assert channel.generation == sum(moved for _, _, moved in results)
    for number, (version, _, _) in enumerate(results):
        found = find_build(store, "embedder", build_key(f"seed {number}"))
        assert found is not None
        assert found.number == version


@pytest.mark.rounds
@representatives("folder", "gcs")
def test_one_recipe_many_times_at_once_is_one_version(any_registry: str, tmp_path: Path) -> None:
    results = race(concurrent_publishers.publish_one, RACERS, any_registry, tmp_path, "the same")
    store = open_store(any_registry)
    (number,) = version_numbers(store, "embedder")
    assert {version for version, _, _ in results} == {number}
    assert sorted(adopted for _, adopted, _ in results) == [False] + [True] * (RACERS - 1)
    assert one_line(store).generation == 1


@pytest.mark.rounds
@representatives("folder", "azure")
def test_many_promoters_and_rollbackers_make_one_line(any_registry: str, tmp_path: Path) -> None:
    store = open_store(any_registry)
    for seed in "abcd":
        publish_seed(store, tmp_path, seed)
    moved = sum(race(concurrent_publishers.move_one, MOVERS, any_registry, tmp_path, 1))
    assert one_line(store).generation == 4 + moved
    assert moved >= 3  # v1 to v3 are asked for, and somebody must be the first to move the channel to each


@pytest.mark.rounds
@representatives("folder", "s3")
def test_a_publisher_killed_at_any_step_is_not_seen_and_costs_a_number(any_registry: str, tmp_path: Path) -> None:
    kill_publishers_at_every_step(any_registry, tmp_path, stride=STRIDE if "://" in any_registry else 1)


@representatives("folder", "gcs")
def test_a_publisher_that_slept_cannot_hurt(any_registry: str, tmp_path: Path) -> None:
    stop_publishers_and_resume_them_later(any_registry, tmp_path)


def test_a_lost_reply_never_publishes_promotes_or_rolls_back_twice(
    cloud: CloudServer, cloud_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_reply_to_every_write(cloud, cloud_registry, tmp_path, monkeypatch)


def test_current_never_moves_back_by_itself(any_registry: str, tmp_path: Path) -> None:
    publish_after_a_rollback(any_registry, tmp_path)
