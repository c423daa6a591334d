from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from modeldrop.errors import (
    ConflictError,
    FormatError,
    IntegrityError,
    NotFoundError,
    RefusedError,
    UsageError,
)
from modeldrop.format.channel import KEPT_MOVES, Channel, serialize_channel
from modeldrop.format.policy import Policy
from modeldrop.format.reference import parse_reference
from modeldrop.registry.channel_writes import ChannelResult
from modeldrop.registry.channels import move_forward, promote, reject, rejection_now, rollback
from modeldrop.registry.policy import mark_tested, write_policy
from modeldrop.registry.promotion import Asked, Promotion
from modeldrop.registry.signing import new_key, vouch
from modeldrop.registry.versions import Version, get_channel, list_channels, read_channel, resolve_reference
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import ReplyLosingStore, digest_of, edit, publish_build

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from modeldrop.storage.write.store import StoredObject


def summary(result: ChannelResult) -> tuple[str, int | None, int | None, int, bool, str]:
    """All that became of a channel, of a version that nobody rejected."""
    assert result.rejection is None
    return (result.channel, result.before, result.after, result.generation, result.moved, result.reason)


class Bench:
    """A registry with the versions v1, v2, … of one model, none of them named by a channel."""

    def __init__(self, registry: Path, count: int) -> None:
        self.registry = registry
        self.store = FolderStore(str(registry))
        self.versions: list[Version] = [
            publish_build(registry, f"seed {number}", channel=None) for number in range(count)
        ]

    def forward(self, number: int, channel: str = "current", asked: Asked | None = None) -> ChannelResult:
        return move_forward(self.store, "embedder", self.versions[number - 1], channel, by="ci", asked=asked)

    def forget_what_is_wanted(self) -> None:
        """As a release wrote the channel that does not know it."""
        channel, tag = read_channel(self.store, "embedder", "current")
        assert channel is not None
        self.store.swap("embedder/current", serialize_channel(channel._replace(wanted=None)), tag)

    def promote(self, number: int, channel: str = "current", why: str = "") -> ChannelResult:
        return promote(self.store, "embedder", number, channel, by="dana", why=why)

    def rollback(self, expected: int | None = None) -> ChannelResult:
        return rollback(self.store, "embedder", "current", by="dana", expected=expected)

    def channel(self, name: str = "current") -> Channel:
        return get_channel(self.store, "embedder", name)


@pytest.fixture
def bench(registry: Path) -> Callable[[int], Bench]:
    return lambda count: Bench(registry, count)


def test_the_first_publish_makes_the_channel(bench: Callable[[int], Bench]) -> None:
    one = bench(1)
    assert summary(one.forward(1)) == ("current", None, 1, 1, True, "")
    assert summary(one.forward(1)) == ("current", 1, 1, 1, False, "it names this version already")
    move = one.channel().present
    assert (move.action, move.by, move.digest) == ("publish", "ci", one.versions[0].digest)


def test_an_older_run_that_finishes_last_moves_nothing(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    two.forward(2, asked=Asked("2026-11-20T09:40:00Z"))
    moved = two.forward(1, asked=Asked("2026-11-20T09:39:59Z"))
    assert (moved.promotion, moved.after, moved.generation) == (Promotion.HELD, 2, 1)
    assert moved.reason == (
        "a later run has asked for another build: somebody, at 2026-11-20T09:40:00Z. "
        f"To override: modeldrop promote {two.registry}/embedder@v1"
    )


def test_what_a_person_left_is_not_published_again_until_something_else_is_wanted(
    bench: Callable[[int], Bench],
) -> None:
    three = bench(3)
    for number in (1, 2):
        three.forward(number)
    assert three.rollback().after == 1
    again = three.forward(2)
    assert (again.promotion, again.after) == (Promotion.HELD, 1)
    assert "it was rolled back to v1 by dana at 20" in again.reason
    assert again.reason.endswith(f"To override: modeldrop promote {three.registry}/embedder@v2")
    assert three.forward(3).after == 3
    assert three.forward(2).after == 2
    assert three.promote(3).after == 3
    assert "it was promoted to v3 by dana" in three.forward(2).reason


def test_a_channel_of_an_earlier_release_wants_what_a_publish_has_made_of_it(bench: Callable[[int], Bench]) -> None:
    three = bench(3)
    for number in (1, 2):
        three.forward(number)
    three.rollback()
    three.forget_what_is_wanted()
    assert three.forward(2).promotion is Promotion.HELD
    three.forget_what_is_wanted()
    assert three.forward(1).promotion is Promotion.UNCHANGED
    three.forget_what_is_wanted()
    (three.registry / "embedder/v2/manifest.json").unlink()  # nobody can say any more under which key it was built
    assert three.forward(3).after == 3


def test_a_channel_that_only_people_have_moved_wants_what_it_names(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    two.promote(1)
    assert two.forward(1).promotion is Promotion.UNCHANGED
    assert two.channel().wanted is not None
    assert two.forward(2).after == 2


def test_what_is_wanted_is_remembered_without_a_move(bench: Callable[[int], Bench], tmp_path: Path) -> None:
    """Two commits, and the revert of the second while that is still being built: the revert counts, being later."""
    two = bench(2)
    runs = [Asked("2026-11-20T09:40:00Z", f"https://github.com/acme/models/actions/runs/{run}") for run in (5, 6, 7)]
    two.forward(1, asked=runs[0])
    before = two.channel()
    assert two.forward(1, asked=runs[2]).promotion is Promotion.UNCHANGED
    assert two.forward(2, asked=runs[1]).promotion is Promotion.HELD
    after = two.channel()
    assert (after.moves(), after.version) == (before.moves(), 1)
    # Asked again by the same run, nothing is written.
    swaps = Counting(str(two.registry))
    move_forward(swaps, "embedder", two.versions[0], "current", by="ci", asked=runs[2])
    assert [call for call in swaps.calls if call.startswith("swap")] == []


def test_a_lost_reply_to_a_wish_makes_nothing_more(bench: Callable[[int], Bench]) -> None:
    one = bench(1)
    one.forward(1, asked=Asked("2026-11-20T09:40:00Z"))
    lossy = ReplyLosingStore(str(one.registry))
    asked = Asked("2026-11-20T09:41:00Z", "https://github.com/acme/models/actions/runs/2")
    again = move_forward(lossy, "embedder", one.versions[0], "current", by="ci", asked=asked)
    assert again.promotion is Promotion.UNCHANGED
    wanted = one.channel().wanted
    assert wanted is not None
    assert (wanted.at, one.channel().generation) == (asked.at, 1)


def test_channels_are_apart(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    two.forward(1)
    assert summary(two.forward(2, "staging")) == ("staging", None, 2, 1, True, "")
    found = {name: channel.version for name, channel in list_channels(two.store, "embedder").items()}
    assert found == {"current": 1, "staging": 2}


def test_promote_goes_anywhere_and_says_so(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    two.forward(2)
    assert summary(two.promote(1, why="v2 answers in French")) == ("current", 2, 1, 2, True, "")
    move = two.channel().present
    assert (move.action, move.by, move.why) == ("promote", "dana", "v2 answers in French")
    assert summary(two.promote(1)) == ("current", 1, 1, 2, False, "it names this version already")


def test_promote_refuses_what_is_no_version(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    two.forward(1)
    (two.registry / "embedder/v2/manifest.json").unlink()
    with pytest.raises(NotFoundError, match="v2 of embedder has no manifest"):
        two.promote(2)
    with pytest.raises(NotFoundError, match=r"embedder has no version v7 in .*\n.*newest is v1"):
        two.promote(7)
    with pytest.raises(NotFoundError, match=r"no model 'other' in .*\n.*It holds: embedder\."):
        promote(two.store, "other", 1, "current", by="dana")
    assert two.channel().generation == 1
    assert two.store.names("") == ["embedder"]


def test_promote_refuses_a_manifest_edited_by_hand(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    for number in (1, 2):
        two.forward(number)
    manifest = two.registry / "embedder/v1/manifest.json"
    edit(manifest, b"apache-2.0", b"apache-9.0")
    with pytest.raises(IntegrityError, match="changed after it was published"):
        two.promote(1)
    with pytest.raises(IntegrityError, match="changed after it was published"):
        two.rollback()
    manifest.write_text('{"sealed": true}')
    with pytest.raises(FormatError, match=rf"{re.escape(str(manifest))}: schema: is missing"):
        two.promote(1)
    assert two.channel().version == 2


@pytest.mark.parametrize("why", ["x" * 1001, "two\nlines", "\x1b[2Jgone", "\udce9"])
def test_a_reason_must_fit_the_format(bench: Callable[[int], Bench], why: str) -> None:
    one = bench(1)
    with pytest.raises(UsageError, match="A reason is one line of at most 1000"):
        one.promote(1, why=why)
    assert read_channel(one.store, "embedder", "current") == (None, None)
    assert one.promote(1, why="é" * 1000).moved


def test_rollbacks_go_further_back_until_nothing_is_left(bench: Callable[[int], Bench]) -> None:
    three = bench(3)
    for number in (1, 2, 3):
        three.forward(number)
    assert summary(three.rollback()) == ("current", 3, 2, 4, True, "")
    assert summary(three.rollback()) == ("current", 2, 1, 5, True, "")
    with pytest.raises(RefusedError, match="nothing before v1: there is nothing to go back to"):
        three.rollback()
    assert [move.action for move in three.channel().moves()] == ["rollback", "rollback", *["publish"] * 3]


def test_rollback_only_from_the_version_expected(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    for number in (1, 2):
        two.forward(number)
    with pytest.raises(RefusedError, match=r"names v2, not v1: nothing was rolled back"):
        two.rollback(expected=1)
    assert two.rollback(expected=2).after == 1


def test_rollback_needs_a_channel_and_a_version_to_go_to(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    with pytest.raises(NotFoundError, match="has no channel 'current'"):
        two.rollback()
    with pytest.raises(NotFoundError, match="no model 'other'"):
        rollback(two.store, "other", "current", by="dana")
    for number in (1, 2):
        two.forward(number)
    (two.registry / "embedder/v1/manifest.json").unlink()
    with pytest.raises(NotFoundError, match="v1 of embedder has no manifest"):
        two.rollback()
    assert two.channel().version == 2


def test_history_keeps_a_busy_day_and_generations_go_on(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    for number in range(60):
        two.promote(number % 2 + 1, why="é" * 1000)
    channel = two.channel()
    assert channel.generation == 60
    assert len(channel.history) == 59 > KEPT_MOVES
    assert [move.generation for move in channel.moves()] == list(range(60, 0, -1))


def test_a_lost_reply_makes_one_move(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    lossy = ReplyLosingStore(str(two.registry))
    for number in (1, 2):
        moved = promote(lossy, "embedder", number, "current", by="dana")
        assert (moved.moved, moved.after, moved.generation) == (True, number, number)
    assert summary(rollback(lossy, "embedder", "current", by="dana")) == ("current", 2, 1, 3, True, "")
    assert two.channel().generation == 3


def test_a_lost_reply_that_others_have_moved_over_was_still_a_move(bench: Callable[[int], Bench]) -> None:
    three = bench(3)
    three.forward(1)

    class OvertakenAfterwards(FolderStore):
        def swap(self, key: str, data: bytes, previous: str | None) -> None:
            super().swap(key, data, previous)
            three.promote(3)
            raise ConflictError("the reply was lost, and somebody else moved it on")

    moved = promote(OvertakenAfterwards(str(three.registry)), "embedder", 2, "current", by="ops")
    assert summary(moved) == ("current", 1, 2, 2, True, "")
    assert [move.version for move in three.channel().moves()] == [3, 2, 1]


def test_a_publisher_that_is_overtaken_decides_again(bench: Callable[[int], Bench]) -> None:
    three = bench(3)
    three.forward(1, asked=Asked("2026-11-20T09:39:00Z"))

    class OvertakenBefore(FolderStore):
        def swap(self, key: str, data: bytes, previous: str | None) -> None:
            if three.channel().version == 1:
                three.forward(3)
            super().swap(key, data, previous)

    asked = Asked("2026-11-20T09:39:59Z")
    store = OvertakenBefore(str(three.registry))
    moved = move_forward(store, "embedder", three.versions[1], "current", by="ci", asked=asked)
    assert (moved.moved, moved.after) == (False, 3)
    assert three.channel().generation == 2


def test_endless_conflicts_end(bench: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("modeldrop.registry.channel_writes.ATTEMPTS", 30)
    three = bench(3)

    class AlwaysMoved(FolderStore):
        def swap(self, key: str, data: bytes, previous: str | None) -> None:
            promote(three.store, "embedder", 4 - three.channel().version, "current", by="others")
            raise ConflictError("somebody else wrote it")

    three.promote(1)
    with pytest.raises(
        ConflictError, match=r"moved by others 30 times in a row. The last refusal: somebody else wrote"
    ):
        promote(AlwaysMoved(str(three.registry)), "embedder", 2, "current", by="dana")


def test_a_channel_that_nobody_moves_and_nobody_may_write_says_why(
    bench: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("time.sleep", naps.append)
    two = bench(2)
    two.forward(1)

    class Leased(FolderStore):
        def swap(self, key: str, data: bytes, previous: str | None) -> None:
            raise ConflictError("the blob is leased by somebody", "Break the lease.")

    with pytest.raises(ConflictError, match=r"current could not be moved: the blob is leased by somebody") as caught:
        promote(Leased(str(two.registry)), "embedder", 2, "current", by="dana")
    assert caught.value.hint == "Break the lease."
    assert sum(naps) < 5


def test_an_older_run_that_ends_after_a_rollback_moves_nothing(bench: Callable[[int], Bench]) -> None:
    three = bench(3)
    for number, at in ((1, "09:00"), (3, "10:00")):
        three.forward(number, asked=Asked(f"2026-11-20T{at}:00Z"))
    assert three.rollback().after == 1
    late = three.forward(2, asked=Asked("2026-11-20T09:59:00Z"))
    assert (late.promotion, late.after) == (Promotion.HELD, 1)
    assert three.promote(2).after == 2


class Counting(FolderStore):
    """A store that counts requests."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.calls: list[str] = []

    def get(self, key: str) -> StoredObject | None:
        self.calls.append(f"get {key}")
        return super().get(key)

    def exists(self, key: str) -> bool:
        self.calls.append(f"exists {key}")
        return super().exists(key)

    def names(self, prefix: str) -> list[str]:
        self.calls.append(f"names {prefix}")
        return super().names(prefix)

    def swap(self, key: str, data: bytes, previous: str | None) -> None:
        super().swap(key, data, previous)
        self.calls.append(f"swap {key}")


def six_requests(channel: str, number: int) -> list[str]:
    """Those of a promote to a version of which nothing more is to be known."""
    return [
        f"get embedder/v{number}/manifest.json",
        f"get embedder/{channel}",
        "get .settings/policy.json",
        f"swap embedder/{channel}",
        f"names embedder/v{number}",
        f"get embedder/v{number}/manifest.json",
    ]


def test_a_promote_is_six_requests(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    two.forward(1)
    store = Counting(str(two.registry))
    version = resolve_reference(store, parse_reference(f"{two.registry}/embedder@v2"))
    assert promote(store, "embedder", version, "current", by="dana").after == 2
    assert store.calls == six_requests("current", 2)


def test_what_more_a_promote_asks(bench: Callable[[int], Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    two = bench(2)
    two.forward(1)
    two.forward(2, "staging")
    store = Counting(str(two.registry))

    def asked(reference: str, channel: str) -> list[str]:
        store.calls.clear()
        version = resolve_reference(store, parse_reference(f"{two.registry}/embedder@{reference}"))
        assert promote(store, "embedder", version, channel, by="dana").moved
        return store.calls

    assert asked("v2", "current") == six_requests("current", 2)
    assert asked("staging", "next") == [
        "get embedder/staging",
        *six_requests("next", 2)[:2],
        "exists embedder/v2/retired.json",
        *six_requests("next", 2)[2:],
    ]
    mark_tested(two.store, "embedder", 1, two.versions[0].digest)
    write_policy(two.store, Policy(at="2026-11-20T09:41:07Z", by="dana", require=("test",)))
    assert asked("v1", "current") == [
        *six_requests("current", 1)[:3],
        "get embedder/v1/tested.json",
        *six_requests("current", 1)[3:],
    ]
    reject(two.store, "embedder", 1, rejection_now("it has failed since"))
    monkeypatch.setenv("MODELDROP_SIGNING_KEY", new_key()[0])
    vouch(two.store, "embedder", 1, two.versions[0].digest)
    assert asked("v1", "staging") == [
        *six_requests("staging", 1)[:3],
        "get embedder/v1/tested.json",
        "get embedder/v1/statement.json",
        *six_requests("staging", 1)[3:],
        "get embedder/v1/rejected.json",
    ]


def test_resolving_references(bench: Callable[[int], Bench]) -> None:
    two = bench(2)
    for number in (1, 2):
        two.forward(number)
    one = digest_of(two.registry, 1)

    def resolved(text: str) -> int:
        return resolve_reference(two.store, parse_reference(f"{two.registry}/embedder{text}")).number

    assert [resolved(text) for text in ("", "@current", "@v1", f"@v1@{one}", f"@{one}")] == [2, 2, 1, 1, 1]
    with pytest.raises(IntegrityError, match="has the digest"):
        resolved(f"@v2@{one}")
    with pytest.raises(NotFoundError, match="No known move"):
        resolved(f"@sha256:{'0' * 64}")
    with pytest.raises(NotFoundError, match=r"no channel 'staging'.*\n.*Its channels: current"):
        resolved("@staging")
    edit(two.registry / "embedder/v2/manifest.json", b"apache-2.0", b"apache-9.0")
    with pytest.raises(IntegrityError, match="changed after it was published"):
        resolved("")


def test_a_damaged_channel_is_named(bench: Callable[[int], Bench]) -> None:
    one = bench(1)
    # Nobody has ever swapped this one, so there is nothing to mend it from.
    (one.registry / "embedder" / "staging").write_text(json.dumps({"schema": "modeldrop/channel/1"}))
    where = re.escape(f"{one.registry}/embedder/staging")
    with pytest.raises(FormatError, match=f"{where}: version: is missing"):
        one.promote(1, "staging")
