from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from tests.fetcher.crash_setup import FETCH, fetched_once, publish_seed
from tests.helpers.builds import run_python
from tests.helpers.clouds import sign_in
from tests.helpers.crash_injection import (
    crash_at_every_step,
    crash_at_every_step_of_deltas,
    crash_at_random,
    crash_at_random_in_deltas,
    run_forks,
)
from tests.helpers.delta_builds import publish_update, small_files_count
from tests.helpers.rounds import rounds

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers


KILLS = rounds(10, 300)
STRIDES = defaultdict(lambda: 4 // rounds(1, 4), s3=8 // rounds(1, 8))
"""``make soak`` kills a fetch before every change of the disk, ``make test`` before every fourth, eighth from S3."""

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


@pytest.fixture
def delta_update(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A reference to v2, which has deltas from v1, and a home that holds v1."""
    sign_in(monkeypatch, servers["s3"])
    small_files_count(monkeypatch)
    registry, home = servers["s3"].registry(), tmp_path / "home"
    publish_update(registry, tmp_path, 1)
    run_python(FETCH, f"{registry}/embedder", home)
    publish_update(registry, tmp_path, 2)
    return f"{registry}/embedder", home


def test_a_fetch_of_deltas_killed_between_any_two_changes_of_the_disk(
    delta_update: tuple[str, Path], tmp_path: Path
) -> None:
    found = run_forks(crash_at_every_step_of_deltas, *delta_update, tmp_path / "scratch", STRIDES["s3"])
    assert found["wrong"] == []
    assert found["steps"] > 30
    assert found["seen"] == sorted(found["seen"])
    assert set(found["seen"]) == {"v1-int8", "v2-int8"}


@pytest.mark.soak
def test_a_fetch_of_deltas_killed_at_random_moments(delta_update: tuple[str, Path], tmp_path: Path) -> None:
    found = run_forks(crash_at_random_in_deltas, *delta_update, tmp_path / "scratch", KILLS, 7)
    assert found["wrong"] == []
    assert found["steps"] == KILLS
    assert set(found["seen"]) <= {"v1-int8", "v2-int8"}


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_a_fetch_killed_at_random_moments(place: str, tmp_path: Path) -> None:
    reference, home = fetched_once(place, tmp_path)
    found = run_forks(crash_at_random, reference, home, tmp_path / "scratch", KILLS, 7)
    assert found["wrong"] == []
    assert found["steps"] == KILLS
    assert set(found["seen"]) <= {"v1-int8", "v2-int8"}
