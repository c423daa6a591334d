"""A prune that is killed, and one beside promoters and other prunes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import NotFoundError, RefusedError, RegistryError
from modeldrop.format.records import (
    find_seal,
)
from modeldrop.registry.channels import promote
from modeldrop.registry.versions import (
    find_version,
    get_channel,
    is_retired,
    read_channel,
)
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import ReplyLosingStore
from tests.registry.aged_registry import (
    DAY,
    SEALED_FILES,
    AgedRegistry,
    KillableStore,
    Killed,
    check_readable,
    kill,
    outcomes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.mark.rounds
@pytest.mark.slow
def test_a_prune_killed_at_any_call_is_finished_by_the_next(every_call: Iterator[tuple[int, AgedRegistry]]) -> None:
    for fatal, one in every_call:
        mortal = KillableStore(str(one.registry), fatal, kill)
        try:
            one.prune(store=mortal)
        except Killed:
            check_readable(one)
        one.prune()
        assert one.numbers() == [2, 3, 4], fatal
        assert one.left(1) == SEALED_FILES, fatal
        assert one.left(7) == {"claim.json", "manifest.json"}, fatal
        assert is_retired(one.store, "embedder", 2)
        check_readable(one)
        assert outcomes(one.prune()) == []
        if not mortal.reached:
            break
    assert fatal > 30


@pytest.mark.rounds
@pytest.mark.slow
def test_a_promote_at_any_call_of_a_prune_never_leaves_a_channel_on_a_sealed_version(
    every_call: Iterator[tuple[int, AgedRegistry]],
) -> None:
    promoted = 0
    for fatal, one in every_call:
        said: list[str] = []

        def go(one: AgedRegistry = one, said: list[str] = said) -> None:
            for number in (1, 2):
                try:
                    promote(one.store, "embedder", number, f"to-{number}", by="ops")
                except (RefusedError, NotFoundError) as error:
                    said.append(type(error).__name__)
                else:
                    said.append("promoted")

        mortal = KillableStore(str(one.registry), fatal, go)
        one.prune(store=mortal)
        if not mortal.reached:
            break
        for _ in range(2):
            one.prune(3 * DAY)
            check_readable(one)
        assert said[0] != "promoted"  # v1 was retired long before
        channel, _ = read_channel(one.store, "embedder", "to-2")
        assert (channel is not None) == (said[1] == "promoted"), fatal
        if channel is not None:
            promoted += 1
            assert (channel.version, find_version(one.store, "embedder", 2)) == (2, one.versions[1])
            assert not is_retired(one.store, "embedder", 2)
    assert promoted > 3


@pytest.mark.parametrize("existing", [True, False], ids=["moved", "made"])
@pytest.mark.parametrize("sleep", [1, 2, 3, 4, 5, 6])
def test_a_promoter_that_sleeps_through_a_whole_prune(
    make_registry: Callable[..., AgedRegistry], sleep: int, existing: bool
) -> None:
    four = make_registry(4)
    if existing:
        four.write_channel("staging", [(4, 20 * DAY)])

    def prune_all() -> None:
        four.prune()
        four.prune(2 * DAY)
        four.prune(4 * DAY)

    sleeper = KillableStore(str(four.registry), sleep, prune_all)
    # Calls: manifest, channel, the mark where there is no channel, the policy, the write and its reply; then the look,
    # at which it no longer sleeps.
    if sleep == 1:
        with pytest.raises(NotFoundError, match="v1 of embedder was pruned"):
            promote(sleeper, "embedder", 1, "staging", by="ops")
    elif sleep < (5 if existing else 6):
        with pytest.raises(RefusedError, match=r"v1 of embedder is retired.*\n.*prune .* --unretire v1"):
            promote(sleeper, "embedder", 1, "staging", by="ops")
    else:
        assert promote(sleeper, "embedder", 1, "staging", by="ops").after == 1
        assert 1 in four.numbers()
        return
    channel, _ = read_channel(four.store, "embedder", "staging")
    assert (channel.version if channel else None) == (4 if existing else None)
    assert 1 not in four.numbers()


def test_a_move_taken_back_leaves_alone_whoever_moved_on(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.prune()

    class MovedOn(FolderStore):
        def names(self, prefix: str) -> list[str]:
            promote(four.store, "embedder", 3, "current", by="dana")
            return super().names(prefix)

    with pytest.raises(RefusedError, match="v1 of embedder is retired"):
        promote(MovedOn(str(four.registry)), "embedder", 1, "current", by="ops")
    assert [move.version for move in get_channel(four.store, "embedder", "current").moves()] == [3, 1, 4]


def test_a_promoter_killed_before_it_looks_keeps_the_version(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.prune()
    with pytest.raises(Killed):
        promote(KillableStore(str(four.registry), 5, kill), "embedder", 1, "current", by="ops")
    assert ("unretire", 1, "done") in outcomes(four.prune(2 * DAY))
    check_readable(four)
    assert get_channel(four.store, "embedder", "current").version == 1


def test_a_channel_seen_between_the_seals_brings_the_manifest_back(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.prune()
    before = (four.registry / "embedder/v1/manifest.json").read_bytes()

    class NamedMeanwhile(FolderStore):
        def swap(self, key: str, data: bytes, previous: str | None) -> None:
            super().swap(key, data, previous)
            if key.endswith("v1/manifest.json") and find_seal(data) is not None:
                four.write_channel("staging", [(1, 0)])

    pruned = four.prune(2 * DAY, store=NamedMeanwhile(str(four.registry)))
    assert outcomes(pruned) == [("seal", 1, "staging names it"), ("seal", 2, "done")]
    assert (four.registry / "embedder/v1/manifest.json").read_bytes() == before
    assert find_version(four.store, "embedder", 1) == four.versions[0]
    assert outcomes(four.prune(2 * DAY)) == [("unretire", 1, "done")]


@pytest.mark.rounds
@pytest.mark.slow
def test_two_prunes_at_once_do_each_other_no_harm(every_call: Iterator[tuple[int, AgedRegistry]]) -> None:
    for fatal, one in every_call:
        mortal = KillableStore(str(one.registry), fatal, one.prune)
        one.prune(store=mortal)
        check_readable(one)
        one.prune()
        assert one.numbers() == [2, 3, 4], fatal
        assert one.left(1) == SEALED_FILES, fatal
        assert one.left(7) == {"claim.json", "manifest.json"}, fatal
        if not mortal.reached:
            break


def test_lost_replies_prune_once(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.claim(7)
    lossy = ReplyLosingStore(str(four.registry))
    assert outcomes(four.prune(store=lossy)) == [("retire", number, "done") for number in (2, 1)]
    pruned = four.prune(2 * DAY, store=lossy)
    assert sorted(outcomes(pruned)) == [("abandon", 7, "done"), ("seal", 1, "done"), ("seal", 2, "done")]
    assert four.left(1) == SEALED_FILES


def test_a_denied_write_is_one_error_and_the_next_run_goes_on(make_registry: Callable[..., AgedRegistry]) -> None:
    four = make_registry(4)
    four.prune()

    class Denied(FolderStore):
        def delete(self, key: str) -> None:
            raise RegistryError("no right to delete")

    with pytest.raises(RegistryError, match="no right to delete"):
        four.prune(2 * DAY, store=Denied(str(four.registry)))
    check_readable(four)
    assert ("sweep", 1, "done") in outcomes(four.prune(2 * DAY))
    assert four.left(1) == four.left(2) == SEALED_FILES
