from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import FormatError
from modeldrop.format import keys
from modeldrop.format.records import Rejection
from modeldrop.registry.channels import move_forward, promote, reject, rejection_now
from modeldrop.registry.promotion import Asked
from modeldrop.registry.prune import PruneRules, prune
from modeldrop.registry.versions import REJECTED, RETIRED, find_rejection, get_channel, read_channel, read_marks
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import ReplyLosingStore, publish_build

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.format.channel import Channel

MARK = Rejection("2026-11-20T09:46:15Z", "dana", "", "its test ended with exit code 1")
DAY = 86400.0


def test_the_first_mark_stays(registry: Path) -> None:
    publish_build(registry)
    store = FolderStore(str(registry))
    assert reject(store, "embedder", 1, MARK) == MARK
    assert reject(store, "embedder", 1, rejection_now("another reason")) == MARK == find_rejection(store, "embedder", 1)
    assert read_marks(store, "embedder", 1) == {REJECTED}
    store.create(keys.retired("embedder", 1), b"{}")
    assert read_marks(store, "embedder", 1) == {REJECTED, RETIRED}


def test_a_mark_whose_reply_was_lost_is_there(registry: Path) -> None:
    publish_build(registry)
    assert reject(ReplyLosingStore(str(registry)), "embedder", 1, MARK) == MARK
    assert find_rejection(FolderStore(str(registry)), "embedder", 1) == MARK


def test_a_damaged_mark_lets_nothing_pass(registry: Path) -> None:
    version = publish_build(registry, channel=None)
    store = FolderStore(str(registry))
    store.create(keys.rejected("embedder", 1), b"{")
    with pytest.raises(FormatError, match=r"embedder/v1/rejected\.json: rejection is not JSON"):
        move_forward(store, "embedder", version, "current", by="ci")
    assert read_channel(store, "embedder", "current") == (None, None)


@pytest.mark.parametrize("existing", [True, False])
def test_a_rejection_during_the_move_takes_it_back(registry: Path, existing: bool) -> None:
    store = FolderStore(str(registry))
    if existing:
        publish_build(registry, "a")
    version = publish_build(registry, "b", channel=None)

    def somebody_elses_fails(_present: Channel | None) -> None:
        reject(store, "embedder", version.number, MARK)

    moved = move_forward(store, "embedder", version, "current", by="ci", check=somebody_elses_fails)
    assert (moved.moved, moved.after, moved.rejection) == (False, 1 if existing else None, MARK)
    assert f"another publisher's test of v{version.number} failed meanwhile" in moved.reason
    if existing:
        channel = get_channel(store, "embedder", "current")
        assert [(move.version, move.action) for move in channel.moves()] == [
            (1, "rollback"),
            (2, "publish"),
            (1, "publish"),
        ]
        # Nobody has done that by hand: what is built instead is not held by it.
        again = publish_build(registry, "c", channel=None)
        instead = replace(again, manifest=again.manifest._replace(build_key=version.manifest.build_key))
        assert move_forward(store, "embedder", instead, "current", by="ci").after == 3
    else:
        assert read_channel(store, "embedder", "current")[0] is None


def test_a_test_that_takes_long_decides_on_what_the_channel_is_then(registry: Path) -> None:
    store = FolderStore(str(registry))
    first, second, third = (publish_build(registry, seed, channel=None) for seed in "abc")
    move_forward(store, "embedder", first, "current", by="ci", asked=Asked("2026-11-20T09:39:00Z"))
    told = []

    def somebody_is_faster(present: Channel | None) -> None:
        told.append(present and present.version)
        if told == [1]:
            move_forward(store, "embedder", third, "current", by="ci", asked=Asked("2026-11-20T09:41:00Z"))

    asked = Asked("2026-11-20T09:40:00Z")
    moved = move_forward(store, "embedder", second, "current", by="ci", asked=asked, check=somebody_is_faster)
    assert (told, moved.moved, moved.after) == ([1], False, 3)
    assert "a later run has asked for another build" in moved.reason
    moved = move_forward(store, "embedder", second, "current", by="ci", check=somebody_is_faster)
    assert (told, moved.after) == ([1, 3], 2)


def test_prune_takes_the_mark_with_the_files(registry: Path) -> None:
    store = FolderStore(str(registry))
    for seed in "ab":
        publish_build(registry, seed)
    reject(store, "embedder", 1, MARK)
    promote(store, "embedder", 2, "staging", by="dana")
    now = (registry / "embedder/v2/manifest.json").stat().st_mtime
    (registry / "embedder/current").unlink()
    for name in (registry / "embedder/.moves").glob("*/*"):
        if name.parent.name == "current":
            name.unlink()
    rules = PruneRules(keep=1, older_than=0, grace=DAY)
    for days in (2, 4):
        prune(store, "embedder", rules, now=now + days * DAY, apply=True, by="ops")
    assert sorted(path.name for path in (registry / "embedder/v1").iterdir()) == [
        "claim.json",
        "manifest.json",
        "retired.json",
    ]
