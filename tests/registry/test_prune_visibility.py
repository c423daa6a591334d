"""What readers and publishers see of a prune."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import NotFoundError, RefusedError
from modeldrop.fetcher.fetch import fetch
from modeldrop.format import keys
from modeldrop.format.records import (
    Claim,
    Retirement,
    Seal,
    serialize_claim,
    serialize_retirement,
    serialize_seal,
)
from modeldrop.registry.channels import move_forward, promote, rollback, unretire
from modeldrop.registry.promotion import Promotion
from modeldrop.registry.protection import time_text
from modeldrop.registry.prune import duration_text
from modeldrop.registry.versions import (
    get_channel,
    list_folders,
    read_channel,
    version_numbers,
)
from modeldrop.storage.read.folder import FolderReader
from tests.helpers.builds import build_key
from tests.registry.aged_registry import (
    DAY,
    HOUR,
    AgedRegistry,
    CountingStore,
    KillableStore,
    check_readable,
    outcomes,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_pruned_version_is_not_fetched_and_a_channel_is_read_once_more(
    make_registry: Callable[..., AgedRegistry], tmp_path: Path
) -> None:
    four = make_registry(4)
    digest = four.versions[0].digest
    four.seal()
    for pin in ("v1", f"v1@{digest}"):
        with pytest.raises(NotFoundError, match=r"v1 of .*/embedder was pruned on 20"):
            fetch(f"{four.registry}/embedder@{pin}", tmp_path / "home")
    assert fetch(f"{four.registry}/embedder", tmp_path / "home").version == 4


def test_a_reader_that_meets_a_seal_reads_the_channel_once_more(
    make_registry: Callable[..., AgedRegistry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = make_registry(4)
    four.seal()
    four.write_channel("staging", [(1, HOUR)])
    get = FolderReader.get
    read: list[str] = []

    def move_after_reading(reader: FolderReader, key: str, limit: int) -> bytes | None:
        data = get(reader, key, limit)
        if key.endswith("/staging") and not read:
            promote(four.store, "embedder", 3, "staging", by="ops")
        read.append(key)
        return data

    monkeypatch.setattr(FolderReader, "get", move_after_reading)
    assert fetch(f"{four.registry}/embedder@staging", tmp_path / "home").version == 3
    assert read.count("embedder/staging") == 2


def test_retired_versions_can_be_fetched_and_not_promoted(
    make_registry: Callable[..., AgedRegistry], tmp_path: Path
) -> None:
    four = make_registry(4)
    four.prune()
    before = get_channel(four.store, "embedder", "current")
    with pytest.raises(RefusedError, match="prune is about to remove it, so no channel may name it"):
        promote(four.store, "embedder", 1, "current", by="ops")
    after = get_channel(four.store, "embedder", "current")
    assert (after.version, after.generation) == (4, before.generation + 2)
    assert (after.present.action, after.present.why) == ("rollback", "v1 is retired")
    assert fetch(f"{four.registry}/embedder@v1", tmp_path / "home").version == 1


def test_a_publisher_does_not_move_a_channel_to_what_was_retired_meanwhile(
    make_registry: Callable[..., AgedRegistry],
) -> None:
    four = make_registry(4, channel=None)
    mark = Retirement(time_text(time.time()), "dana", "")
    four.store.create(keys.retired("embedder", 4), serialize_retirement(mark))
    made = move_forward(four.store, "embedder", four.versions[3], "current", by="ci")
    assert (made.promotion, made.after) == (Promotion.HELD, None)
    assert made.reason.startswith("v4 of embedder is retired: prune is about to remove it")
    assert f"modeldrop prune {four.registry}/embedder --unretire v4" in made.reason
    assert read_channel(four.store, "embedder", "current")[0] is None
    four.store.delete(keys.channel("embedder", "current"))
    four.write_channel("current", [(3, DAY)])
    moved = move_forward(four.store, "embedder", four.versions[3], "current", by="ci")
    assert (moved.moved, moved.after, moved.generation) == (False, 3, 3)


def test_unretire(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
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
def test_unretire_at_any_call_of_a_prune_is_told_the_truth(
    make_registry: Callable[..., AgedRegistry], moment: int
) -> None:
    three = make_registry(3)
    three.prune()
    said: list[object] = []

    def go() -> None:
        try:
            said.append(unretire(three.store, "embedder", 1))
        except NotFoundError:
            said.append("pruned")

    three.prune(2 * DAY, store=KillableStore(str(three.registry), moment, go))
    if said == [True]:
        assert 1 in three.numbers()
        check_readable(three)
    three.prune(2 * DAY)
    check_readable(three)


def test_rollback_to_what_was_pruned_names_what_is_there(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4, channel=None)
    four.write_channel("current", [(1, 30 * DAY), (4, 20 * DAY)])
    # Pruned by hand: prune itself spares what a rollback goes to.
    seal = serialize_seal(Seal("2026-11-20T00:00:00Z", "dana", "by mistake"))
    (four.registry / "embedder/v1/manifest.json").write_bytes(seal)
    with pytest.raises(
        NotFoundError, match=r"cannot go back: v1 of embedder was pruned on 2026-11-20: by mistake"
    ) as no:
        rollback(four.store, "embedder", "current", by="ops")
    assert no.value.hint.startswith("These versions are there: v2, v3. To name one: modeldrop promote ")


def test_two_hundred_pruned_versions_cost_no_request_each(
    make_registry: Callable[..., AgedRegistry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    two = make_registry(2)
    seal = serialize_seal(Seal("2026-11-20T00:00:00Z", "dana", "old"))
    for number in range(3, 203):
        claim = Claim(nonce=f"n{number}", build_key=build_key(str(number)), by="", run="", at="2026-11-20T00:00:00Z")
        two.store.create(keys.claim("embedder", number), serialize_claim(claim))
        two.store.create(keys.manifest("embedder", number), seal)
    counting = CountingStore(str(two.registry))
    assert version_numbers(counting, "embedder") == [1, 2]
    assert counting.gets == []
    assert outcomes(two.prune(store=counting)) == []
    assert len(counting.gets) == 1  # the channel


def test_a_listing_tells_versions_apart(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
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
