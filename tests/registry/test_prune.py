from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import FormatError, NotFoundError, RefusedError
from modeldrop.fetcher.fetch import fetch
from modeldrop.format import keys
from modeldrop.format.channel import Channel, Move, parse_channel, serialize_channel
from modeldrop.format.records import (
    Retirement,
    parse_retirement,
    parse_seal,
    serialize_retirement,
)
from modeldrop.registry.channels import rollback
from modeldrop.registry.protection import time_text
from modeldrop.registry.prune import PruneRules
from modeldrop.registry.publish import find_build
from modeldrop.registry.versions import (
    find_version,
    get_version,
    is_retired,
)
from tests.helpers.builds import build_key, edit, publish_build
from tests.registry.aged_registry import (
    DAY,
    FILES,
    HOUR,
    SEALED_FILES,
    AgedRegistry,
    outcomes,
    reasons_kept,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_dry_run_says_what_it_would_do_and_does_nothing(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    before = {path: path.stat().st_mtime_ns for path in four.registry.rglob("*")}
    plan = four.prune(apply=False)
    assert outcomes(plan) == [("retire", 2, ""), ("retire", 1, "")]
    assert plan.steps[0].why == "not among the newest 2, older than 7d"
    assert (plan.frees_now, plan.frees_later) == (0, sum(step.size for step in plan.steps))
    beside = [four.registry / "embedder/v2" / name for name in ("report.html", "bom.cdx.json")]
    assert plan.steps[0].size == FILES + sum(path.stat().st_size for path in beside)
    assert {path: path.stat().st_mtime_ns for path in four.registry.rglob("*")} == before


def test_the_first_phase_marks_and_deletes_nothing(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    whole = four.left(1)
    assert outcomes(four.prune()) == [("retire", 2, "done"), ("retire", 1, "done")]
    assert four.left(1) == whole | {"retired.json"}
    mark = parse_retirement((four.registry / "embedder/v1/retired.json").read_bytes())
    assert (mark.by, mark.why) == ("dana", "not among the newest 2, older than 7d")
    assert four.numbers() == [1, 2, 3, 4]
    assert fetch(f"{four.registry}/embedder@v1", four.registry.parent / "home").version == 1
    again = four.prune(DAY - 10)
    assert outcomes(again) == []
    assert reasons_kept(again)[1].startswith("was retired at 20")


def test_the_second_phase_seals_and_deletes(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    pruned = four.seal()
    assert outcomes(pruned) == [("seal", 1, "done"), ("seal", 2, "done")]
    assert pruned.frees_now == sum(step.size for step in pruned.steps) > 2 * FILES
    assert four.left(1) == four.left(2) == SEALED_FILES
    seal = parse_seal((four.registry / "embedder/v1/manifest.json").read_bytes())
    assert (seal.by, seal.why, seal.manifest) == ("dana", "not among the newest 2, older than 7d", "")
    assert four.numbers() == [3, 4]
    assert find_version(four.store, "embedder", 1) is None
    with pytest.raises(NotFoundError, match=rf"v1 of embedder was pruned on {seal.at[:10]}: not among the newest 2"):
        get_version(four.store, "embedder", 1)
    assert find_build(four.store, "embedder", build_key("s0")) is None
    assert find_build(four.store, "embedder", build_key("s3")) is not None
    assert outcomes(four.prune(2 * DAY)) == []


def test_a_pruned_number_is_never_used_again_and_the_recipe_can_be_published_again(
    make_registry: Callable[..., AgedRegistry], tmp_path: Path
) -> None:
    four = make_registry(4)
    four.seal()
    assert publish_build(four.registry, "s0", channel=None).number == 5
    assert find_version(four.store, "embedder", 1) is None


def test_the_newest_stay_however_old_and_the_young_however_many(make_registry: Callable[..., AgedRegistry]) -> None:
    five = make_registry(5)
    assert outcomes(five.prune(rules=PruneRules(keep=5), apply=False)) == []
    assert outcomes(five.prune(rules=PruneRules(keep=2, older_than=31 * DAY), apply=False)) == []
    old = outcomes(five.prune(rules=PruneRules(keep=2, older_than=29 * DAY), apply=False))
    assert [number for _, number, _ in old] == [3, 2, 1]


def test_never_one_younger_than_the_grace(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.age(DAY - 60)
    rules = PruneRules(keep=1, older_than=0, grace=DAY)
    assert outcomes(four.prune(rules=rules, apply=False)) == []
    assert [number for _, number, _ in outcomes(four.prune(70, rules=rules, apply=False))] == [3, 2, 1]


def test_the_age_is_that_of_the_commit_not_of_the_build(make_registry: Callable[..., AgedRegistry]) -> None:
    two = make_registry(2)  # their manifests say that they were built on 2026-11-20
    os.utime(two.registry / "embedder/v1/manifest.json")
    assert outcomes(two.prune(rules=PruneRules(keep=1, older_than=DAY), apply=False)) == []


def test_retired_ones_do_not_count_among_the_newest(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    mark = Retirement(time_text(time.time()), "dana", "by hand")
    four.store.create(keys.retired("embedder", 3), serialize_retirement(mark))
    assert [number for _, number, _ in outcomes(four.prune())] == [1]


def test_never_one_that_any_channel_names(make_registry: Callable[..., AgedRegistry]) -> None:
    five = make_registry(5)
    five.write_channel("staging", [(1, 30 * DAY)])
    five.write_channel("pr-17", [(2, 30 * DAY)])
    pruned = five.prune()
    assert outcomes(pruned) == [("retire", 3, "done")]
    assert reasons_kept(pruned) == {1: "stays: staging names it", 2: "stays: pr-17 names it"}


def test_when_a_channel_left_it_counts_not_when_it_came(make_registry: Callable[..., AgedRegistry]) -> None:
    five = make_registry(5)
    # v1 was named for weeks until an hour ago, v2 long before; v3 is what a rollback of staging goes to.
    five.write_channel("staging", [(2, 29 * DAY), (1, 28 * DAY), (3, HOUR), (5, HOUR / 2)])
    pruned = five.prune(apply=False)
    assert outcomes(pruned) == [("retire", 2, "")]
    assert reasons_kept(pruned)[1].startswith("stays: staging named it until 20")
    later = five.prune(DAY, apply=False)
    assert [number for _, number, _ in outcomes(later)] == [2, 1]
    assert reasons_kept(later) == {3: "stays: a rollback of staging would go to it"}


def test_a_history_cut_short_within_the_grace_protects_all(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.write_channel("staging", [(4, HOUR), (3, HOUR / 2)], first=200)
    pruned = four.prune(apply=False)
    assert outcomes(pruned) == []
    assert reasons_kept(pruned)[1].startswith("stays: staging may have named it: its history begins at 20")
    assert len(outcomes(four.prune(DAY, apply=False))) == 2


def test_a_date_that_does_not_exist_is_too_young(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.write_channel("staging", [(1, 30 * DAY), (2, 30 * DAY), (4, 30 * DAY)])
    path = four.registry / "embedder" / "staging"
    moves = Channel(*_broken_dates(path))
    path.write_bytes(serialize_channel(moves))
    pruned = four.prune(apply=False)
    assert outcomes(pruned) == []
    assert reasons_kept(pruned)[1] == "stays: staging named it until 2026-02-30T00:00:00Z"


def _broken_dates(path: Path) -> tuple[Move, tuple[Move, ...]]:
    first, *rest = (move._replace(at="2026-02-30T00:00:00Z") for move in parse_channel(path.read_bytes()).moves())
    return first, tuple(rest)


@pytest.mark.parametrize("at", ["2026-02-30T00:00:00Z", "2999-01-01T00:00:00Z"])
def test_a_mark_with_an_impossible_date_never_ripens(make_registry: Callable[..., AgedRegistry], at: str) -> None:
    four = make_registry(4)
    four.store.create(keys.retired("embedder", 1), serialize_retirement(Retirement(at, "dana", "")))
    pruned = four.prune(100 * DAY, rules=PruneRules(keep=3))
    assert outcomes(pruned) == []
    assert at in reasons_kept(pruned)[1]


def test_a_damaged_mark_or_manifest_is_left_alone(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.prune()
    (four.registry / "embedder/v1/retired.json").write_bytes(b"{")
    (four.registry / "embedder/v2/manifest.json").write_bytes(b"{")
    pruned = four.prune(2 * DAY)
    assert outcomes(pruned) == []
    assert "it is not known since when" in reasons_kept(pruned)[1]
    assert "manifest cannot be read" in reasons_kept(pruned)[2]


def test_a_version_that_this_release_cannot_read_is_not_retired(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    edit(four.registry / "embedder/v1/manifest.json", b"modeldrop/manifest/1", b"modeldrop/manifest/2")
    pruned = four.prune(10 * DAY)
    assert outcomes(pruned) == [("retire", 2, "done")]
    assert "stays: its manifest cannot be read: schema: 'modeldrop/manifest/2'" in reasons_kept(pruned)[1]


def test_a_channel_that_cannot_be_read_stops_it(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.prune()
    (four.registry / "embedder/staging").write_bytes(b"{}")
    with pytest.raises(FormatError, match=r"embedder/staging: schema: is missing\. It is not known what this channel"):
        four.prune(2 * DAY)
    assert four.numbers() == [1, 2, 3, 4]


def test_what_a_channel_names_by_the_second_phase_is_unretired(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.prune()
    four.write_channel("staging", [(1, HOUR)])
    assert outcomes(four.prune(apply=False)) == [("unretire", 1, "")]
    assert outcomes(four.prune(DAY + 10)) == [("unretire", 1, "done"), ("seal", 2, "done")]
    assert not is_retired(four.store, "embedder", 1)
    assert four.numbers() == [1, 3, 4]


def test_a_rollback_that_makes_it_the_next_target_unretires_it(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4, channel=None)
    four.write_channel("current", [(1, 30 * DAY), (3, 20 * DAY), (4, 10 * DAY)])
    four.prune()
    assert is_retired(four.store, "embedder", 1)
    assert rollback(four.store, "embedder", "current", by="dana").after == 3
    with pytest.raises(RefusedError, match="v1 of embedder is retired"):
        rollback(four.store, "embedder", "current", by="dana")
    assert ("unretire", 1, "done") in outcomes(four.prune(2 * DAY))
    assert rollback(four.store, "embedder", "current", by="dana").after == 1
