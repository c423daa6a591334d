from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.registry.channels import move_forward
from modeldrop.registry.publish import publish
from modeldrop.storage.write import open_store
from tests.helpers.builds import make_build, run_python
from tests.helpers.clouds import sign_in
from tests.helpers.killing import crash_at_every_step, crash_at_random, run_forks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.clouds import Servers

FETCH = "import sys; from modeldrop.fetcher.api import fetch; print(fetch(*sys.argv[1:]).path)"
KILLS = 30


@pytest.fixture
def place(request: pytest.FixtureRequest, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder or URL of an empty registry."""
    if request.param == "folder":
        return str(tmp_path / "registry")
    sign_in(monkeypatch, servers["s3"])
    return servers["s3"].registry()


def publish_seed(registry: str, folder: Path, seed: str) -> None:
    make_build(folder / f"build-{seed}", seed)
    store = open_store(registry)
    version = publish(store, "embedder", folder / f"build-{seed}", adopt_seconds=1).version
    move_forward(store, "embedder", version, "current", by="dana")


def fetched_once(registry: str, folder: Path) -> tuple[str, Path]:
    """A reference to v2, and a home that holds v1."""
    (folder / "home").mkdir()
    publish_seed(registry, folder, "a")
    run_python(FETCH, f"{registry}/embedder", folder / "home")
    publish_seed(registry, folder, "b")
    return f"{registry}/embedder", folder / "home"


@pytest.mark.parametrize("place", ["folder", "s3"], indirect=True)
def test_a_fetch_killed_between_any_two_changes_of_the_disk(place: str, tmp_path: Path) -> None:
    reference, home = fetched_once(place, tmp_path)
    found = run_forks(crash_at_every_step, reference, home, tmp_path / "scratch")
    assert found["wrong"] == []
    assert found["steps"] > 30
    assert found["seen"] == sorted(found["seen"])  # once it has moved it stays
    assert set(found["seen"]) == {"v1-int8", "v2-int8"}


def test_a_first_fetch_killed_between_any_two_changes_of_the_disk(registry: Path, tmp_path: Path) -> None:
    publish_seed(str(registry), tmp_path, "a")
    (tmp_path / "home").mkdir()
    found = run_forks(crash_at_every_step, f"{registry}/embedder", tmp_path / "home", tmp_path / "scratch")
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
