"""The crash and sharing tests of the fetcher, ten times as long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.fetcher.snapshot import LocalSnapshot
from modeldrop.fetcher.verify import find_damage
from tests.fetcher.crash_setup import fetched_once, place
from tests.helpers.builds import publish_build, registry
from tests.helpers.crash_injection import crash_at_random, fetch_together, run_forks

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["place", "registry"]

pytestmark = pytest.mark.soak

KILLS = 300
ROUNDS = 30


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_a_fetch_killed_at_three_hundred_random_moments(place: str, tmp_path: Path) -> None:
    reference, home = fetched_once(place, tmp_path)
    for seed in range(KILLS // 25):  # a process that runs each has its limit of a minute
        (tmp_path / str(seed)).mkdir()
        found = run_forks(crash_at_random, reference, home, tmp_path / str(seed), 25, seed)
        assert found["wrong"] == []
        assert found["steps"] == 25
        assert set(found["seen"]) <= {"v1-int8", "v2-int8"}


@pytest.mark.parametrize("locks", ["work", "dead"])
@pytest.mark.parametrize("stuck", [0, 60], ids=["impatient", "patient"])
def test_fifty_processes_again_and_again(registry: Path, tmp_path: Path, locks: str, stuck: int) -> None:
    publish_build(registry, "a")
    for number in range(ROUNDS):
        home = tmp_path / str(number)
        answers = run_forks(fetch_together, f"{registry}/embedder", home, 50, locks, stuck)
        assert [said for code, said in answers if code] == []
        (path,) = {said[0] for _, said in answers}
        assert list(find_damage(LocalSnapshot(home / "embedder" / path), read_files=True)) == []
