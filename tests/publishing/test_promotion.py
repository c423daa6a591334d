"""Where a channel ends after publishes, kills, reverts and rollbacks, in every kind of registry."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.publishing.plan import plan
from modeldrop.registry.channels import promote, rollback
from modeldrop.registry.versions import get_channel
from modeldrop.storage.write import open_store
from tests.helpers.clouds import representatives
from tests.helpers.publisher import MODEL, Publisher, named, publish_built, start_publisher
from tests.helpers.waiting import HANG_SECONDS

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.registry.publish import Published

RUNS = "https://github.com/acme/models/actions/runs"


class Runs:
    """Runs of one repository, one after the other, on a clock that stands still."""

    def __init__(self, publisher: Publisher, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.publisher, self.registry, self._monkeypatch, self.number = publisher, registry, monkeypatch, 0
        monkeypatch.setattr("modeldrop.registry.provenance.now", lambda: "2026-11-20T09:40:00Z")

    def begin(self) -> int:
        """The next run."""
        self.number += 1
        self.go_on(self.number)
        return self.number

    def go_on(self, number: int) -> None:
        """From here on everything is that run's."""
        self._monkeypatch.setenv("MODELDROP_RUN", f"{RUNS}/{number}")

    def publish(self, seed: str, **more: Any) -> Published:
        """In a new run."""
        self.begin()
        (one,) = self.publisher.publish(seed, self.registry, **{"test": "true", **more})
        return one


@pytest.fixture
def runs(publisher: Publisher, any_registry: str, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(publisher, any_registry, monkeypatch)


def became(one: Published) -> tuple[str, bool | None, str, int | None]:
    """How the version got there, whether it was tested, and what became of the channel."""
    return one.how, one.tested, one.promotion, one.channel.after if one.channel else None


@representatives("folder", "s3")
def test_what_was_published_before_it_was_merged_is_promoted_by_the_merge(runs: Runs) -> None:
    runs.publish("a")
    for seed, before in (("b", {"channel": None}), ("c", {"channel": "pr-17", "proposal": True})):
        number = runs.publish(seed, **before).version.number
        assert named(runs.registry) == number - 1
        assert became(runs.publish(seed)) == ("unchanged", True, "moved", number)
    assert (named(runs.registry), named(runs.registry, "pr-17")) == (3, 3)
    # Its own channel a pull request moves as often as it likes; the others' never.
    assert runs.publish("b", channel="pr-17", proposal=True).promotion == "moved"
    held = runs.publish("b", proposal=True)
    assert became(held) == ("unchanged", None, "held", 3)
    assert held.channel is not None
    assert held.channel.reason.startswith("no pull request or merge queue may move it")
    assert f"modeldrop promote {open_store(runs.registry).url}/embedder@v2" in held.channel.reason


@representatives("folder", "gcs")
def test_a_run_killed_before_the_channel_moves_and_run_again(runs: Runs, tmp_path: Path) -> None:
    runs.publish("a")
    runs.begin()
    killed = start_publisher(tmp_path / "killed", "b", "kill -KILL $PPID", runs.registry, f"{RUNS}/{runs.number}")
    assert killed.wait(HANG_SECONDS) == -signal.SIGKILL
    killed.communicate()
    assert named(runs.registry) == 1
    (again,) = runs.publisher.publish("b", runs.registry, test="true")  # the same run, so its number is the same
    assert became(again) == ("unchanged", True, "moved", 2)


@representatives("folder", "azure")
def test_a_revert_goes_back_and_its_revert_forth(runs: Runs) -> None:
    for seed in "ab":
        runs.publish(seed)
    assert became(runs.publish("a")) == ("unchanged", True, "moved", 1)
    assert became(runs.publish("b")) == ("unchanged", True, "moved", 2)
    assert get_channel(open_store(runs.registry), MODEL, "current").generation == 4


@representatives("folder", "s3")
def test_a_rollback_holds_until_something_else_is_wanted(runs: Runs) -> None:
    for seed in "ab":
        runs.publish(seed)
    rollback(open_store(runs.registry), MODEL, "current", by="dana")
    for _ in range(2):
        held = runs.publish("b")
        assert became(held) == ("unchanged", None, "held", 1)
        assert held.channel is not None
        assert "rolled back to v1 by dana" in held.channel.reason
    assert became(runs.publish("c")) == ("built", True, "moved", 3)
    promote(open_store(runs.registry), MODEL, 1, "current", by="dana")
    assert became(runs.publish("c")) == ("unchanged", None, "held", 1)
    assert became(runs.publish("b")) == ("unchanged", True, "moved", 2)


@representatives("folder", "gcs")
def test_an_older_run_that_ends_last_changes_nothing(runs: Runs) -> None:
    """Two commits and the revert of the second, which has ended while the second is still being built."""
    runs.publish("a")
    slow = runs.begin()
    wanted = plan(runs.publisher.request("b", runs.registry, test="true"))
    assert became(runs.publish("a")) == ("unchanged", None, "unchanged", 1)
    runs.go_on(slow)
    (late,) = publish_built(wanted, runs.publisher.built(wanted, "b"))
    assert became(late) == ("built", None, "held", 1)
    assert late.channel is not None
    assert late.channel.reason.startswith(f"a later run has asked for another build: {RUNS}/3. To override: modeldrop")
    assert became(runs.publish("b")) == ("unchanged", True, "moved", 2)


@representatives("folder", "azure")
def test_two_runs_of_one_commit_are_one_move(runs: Runs) -> None:
    runs.begin()
    first = plan(runs.publisher.request("a", runs.registry, test="true"))
    assert became(runs.publish("a")) == ("built", True, "moved", 1)
    (late,) = publish_built(first, runs.publisher.built(first, "a"))
    assert became(late) == ("adopted", None, "unchanged", 1)
    assert get_channel(open_store(runs.registry), MODEL, "current").generation == 1
