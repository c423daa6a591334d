from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.fetcher.crash_setup import fetched_once, publish_seed
from tests.helpers.crash_injection import crash_at_every_step, crash_at_random, run_forks
from tests.helpers.rounds import rounds

if TYPE_CHECKING:
    from pathlib import Path


KILLS = rounds(20, 300)
STRIDES = defaultdict(lambda: 2 // rounds(1, 2), s3=4 // rounds(1, 4))
"""``make soak`` kills a fetch before every change of the disk, ``make test`` before every second, fourth from S3."""

pytestmark = pytest.mark.rounds


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_a_fetch_killed_between_any_two_changes_of_the_disk(place: str, tmp_path: Path) -> None:
    reference, home = fetched_once(place, tmp_path)
    found = run_forks(crash_at_every_step, reference, home, tmp_path / "scratch", STRIDES[place.partition(":")[0]])
    assert found["wrong"] == []
    assert found["steps"] > 30
    assert found["seen"] == sorted(found["seen"])  # once it has moved it stays
    assert set(found["seen"]) == {"v1-int8", "v2-int8"}


def test_a_first_fetch_killed_between_any_two_changes_of_the_disk(registry: Path, tmp_path: Path) -> None:
    publish_seed(str(registry), tmp_path, "a")
    (tmp_path / "home").mkdir()
    found = run_forks(
        crash_at_every_step, f"{registry}/embedder", tmp_path / "home", tmp_path / "scratch", STRIDES["folder"]
    )
    assert found["wrong"] == []
    assert found["steps"] > 30
    assert found["seen"] == sorted(found["seen"])
    assert set(found["seen"]) == {"", "v1-int8"}


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_a_fetch_killed_at_random_moments(place: str, tmp_path: Path) -> None:
    reference, home = fetched_once(place, tmp_path)
    found = run_forks(crash_at_random, reference, home, tmp_path / "scratch", KILLS, 7)
    assert found["wrong"] == []
    assert found["steps"] == KILLS
    assert set(found["seen"]) <= {"v1-int8", "v2-int8"}
