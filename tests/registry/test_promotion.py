"""The rules of promotion: every case of the table, and any order of publishes, people and kills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from modeldrop.format.channel import Channel, Move, Wanted
from modeldrop.registry.channels import move_forward, promote, rejection_now, rollback
from modeldrop.registry.promotion import (
    Asked,
    Decision,
    Promotion,
    PromotionRequest,
    assumed_wanted,
    decide,
    last_published,
)
from modeldrop.registry.versions import get_channel, read_channel
from modeldrop.storage.write.folder import FolderStore
from tests.helpers.builds import build_key, publish_build
from tests.helpers.rounds import rounds

if TYPE_CHECKING:
    from pathlib import Path

    from modeldrop.format.records import Rejection
    from modeldrop.registry.versions import Version

NOW = "2026-11-20T12:00:00Z"
RUNS = "https://github.com/acme/models/actions/runs"
UNCHANGED, HELD, MOVED, REJECTED = Promotion.UNCHANGED, Promotion.HELD, Promotion.MOVED, Promotion.REJECTED


def move(version: int, generation: int, action: str = "publish") -> Move:
    return Move(
        version=version,
        digest=f"sha256:{version:064x}",
        generation=generation,
        nonce=f"n{generation}",
        action=action,
        by="dana",
        at=f"2026-11-20T09:0{generation}:00Z",
    )


def wanting(seed: str, run: int, generation: int, *, proposal: bool = False) -> Wanted:
    return Wanted(
        build_key=build_key(seed),
        at=f"2026-11-20T10:{run:02}:00Z",
        run=f"{RUNS}/{run}",
        generation=generation,
        proposal=proposal,
    )


# v2 (b) after v1 (a); the same after a rollback; after a rejected c; where a pull request alone publishes.
B = Channel(move(2, 2), (move(1, 1),), wanting("b", 7, 2))
BACK = Channel(move(1, 3, "rollback"), (move(2, 2), move(1, 1)), wanting("b", 7, 2))
REJECTED_C = Channel(move(2, 2), (move(1, 1),), wanting("c", 7, 2))
C_AFTER_ROLLBACK = Channel(move(1, 3, "rollback"), (move(2, 2), move(1, 1)), wanting("c", 7, 3))
PULL = B._replace(wanted=wanting("b", 7, 2, proposal=True))


def by_clock(at: str, run: str = "") -> Asked:
    return Asked(f"2026-11-20T{at}:00Z", run)


def in_run(number: int, *, proposal: bool = False) -> Asked:
    """A run whose clock is far behind: its number says when it was."""
    return Asked("2026-11-19T00:00:00Z", f"{RUNS}/{number}", proposal)


CASES: dict[str, tuple[Channel | None, int, str, Asked, Promotion, str, Wanted | None]] = {
    "the first publish": (None, 1, "a", in_run(8), MOVED, "", wanting("a", 8, 1)),
    "something new": (B, 3, "c", in_run(8), MOVED, "", wanting("c", 8, 1)),
    "a revert": (B, 1, "a", in_run(8), MOVED, "", wanting("a", 8, 1)),
    "the same again": (B, 2, "b", in_run(8), UNCHANGED, "names this version", wanting("b", 8, 2)),
    "the same run again": (B, 2, "b", in_run(7), UNCHANGED, "names this version", None),
    "an older run of something else": (B, 3, "c", in_run(6), HELD, f"another build: {RUNS}/7", None),
    "an older run of the same": (B, 2, "b", in_run(6), UNCHANGED, "names this version", None),
    "an older run of the same, which a person left": (BACK, 2, "b", in_run(6), HELD, "the same build", None),
    "what a person left, unchanged": (
        BACK, 2, "b", in_run(8), HELD, "was rolled back to v1 by dana at 2026-11-20T09:03:00Z", wanting("b", 8, 2)
    ),
    "something new after a rollback": (BACK, 3, "c", in_run(8), MOVED, "", wanting("c", 8, 1)),
    "what a person went back to is wanted now": (BACK, 1, "a", in_run(8), UNCHANGED, "names", wanting("a", 8, 3)),
    "a build of what was rejected, again": (REJECTED_C, 4, "c", in_run(8), MOVED, "", wanting("c", 8, 1)),
    "the same after a rollback before it": (C_AFTER_ROLLBACK, 4, "c", in_run(8), MOVED, "", wanting("c", 8, 1)),
    "a pull request and main's channel": (B, 3, "c", in_run(8, proposal=True), HELD, "no pull request", None),
    "a pull request of what is there": (B, 2, "b", in_run(8, proposal=True), UNCHANGED, "names", None),
    "a pull request and its own channel": (
        PULL, 3, "c", in_run(8, proposal=True), MOVED, "", wanting("c", 8, 1, proposal=True)
    ),
    "main and a pull request's channel": (PULL, 3, "c", in_run(8), MOVED, "", wanting("c", 8, 1)),
    "by hand, later": (B, 3, "c", by_clock("10:08"), MOVED, "", wanting("c", 8, 1)),
    "by hand, at the same second": (B, 3, "c", by_clock("10:07"), MOVED, "", wanting("c", 7, 1)),
    "by hand, earlier": (B, 3, "c", by_clock("10:06"), HELD, "a later run", None),
    "another repository's run, earlier": (B, 3, "c", by_clock("10:06", f"{RUNS}/x/9"), HELD, "a later run", None),
    "another repository's run, later": (B, 3, "c", by_clock("10:08", f"{RUNS}/x/1"), MOVED, "", wanting("c", 8, 1)),
}  # fmt: skip


def of(asked: Asked, wanted: Wanted | None) -> Wanted | None:
    """The request to remember, with what it was asked with."""
    return wanted and wanted._replace(at=asked.at, run=asked.run)


@pytest.mark.parametrize(("present", "version", "seed", "asked", "became", "why", "wanted"), CASES.values(), ids=CASES)
def test_the_table(
    present: Channel | None, version: int, seed: str, asked: Asked, became: Promotion, why: str, wanted: Wanted | None
) -> None:
    request = PromotionRequest(version=version, build_key=build_key(seed), asked=asked)
    decision = decide(present, request, now=NOW)
    assert (decision.promotion, decision.wanted) == (became, of(asked, wanted))
    assert why in decision.why
    # Once the version is rejected, nothing changes but that it is not moved to, and who was later is remembered.
    rejected = decide(present, request, now=NOW, rejected="its test failed")
    if became is not MOVED:
        assert rejected == decision
    else:
        noted = decision.wanted and decision.wanted._replace(generation=present.generation) if present else None
        assert rejected == Decision(REJECTED, "its test failed", noted)


def test_what_is_remembered_is_not_asked_for_again() -> None:
    """A writer that lost the reply finds its own request, and writes nothing more."""
    request = PromotionRequest(version=2, build_key=build_key("b"), asked=in_run(8))
    noted = B._replace(wanted=decide(B, request, now=NOW).wanted)
    assert noted.wanted is not None
    assert noted.wanted.run == request.asked.run
    assert decide(noted, request, now=NOW) == Decision(UNCHANGED, "it names this version already")


def test_who_has_no_run_asks_for_the_same_again_without_a_note() -> None:
    request = PromotionRequest(version=2, build_key=build_key("b"), asked=by_clock("11:00"))
    assert decide(B, request, now=NOW) == Decision(UNCHANGED, "it names this version already")


def test_a_channel_of_an_earlier_release_wants_what_a_publish_has_made_of_it() -> None:
    for channel, version, seed in ((B, 2, "b"), (BACK, 2, "b")):
        old = channel._replace(wanted=None)
        published = last_published(old)
        assert published.version == version
        wanted = assumed_wanted(published, build_key(seed))
        assert wanted == Wanted(build_key("b"), "2026-11-20T09:02:00Z", "", 2)
        again = decide(
            old._replace(wanted=wanted), PromotionRequest(version=2, build_key=build_key("b"), asked=in_run(8)), now=NOW
        )
        assert again.promotion is (UNCHANGED if channel is B else HELD)
    by_hand = Channel(move(1, 1, "promote"))
    assert last_published(by_hand) == by_hand.present
    with pytest.raises(ValueError, match="must be known"):
        decide(by_hand, PromotionRequest(version=1, build_key=build_key("a"), asked=in_run(8)), now=NOW)


@pytest.mark.parametrize("at", ["2030-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_clock_that_was_far_ahead_holds_nothing_for_ever(at: str) -> None:
    ahead = B._replace(wanted=Wanted(build_key("b"), at, "", 2))
    request = PromotionRequest(version=3, build_key=build_key("c"), asked=by_clock("11:00"))
    assert decide(ahead, request, now=NOW).promotion is MOVED
    a_little = B._replace(wanted=Wanted(build_key("b"), "2026-11-20T20:00:00Z", "", 2))
    assert decide(a_little, request, now=NOW).promotion is HELD


class Line(RuleBasedStateMachine):
    """Runs of one repository that build, are killed, are tried again and end in any order, and people between them.

    The model: main wants the build of the highest run that has come to its end. ``current`` names it, unless a person
    has moved it since that build was first wanted, or it was rejected.
    """

    folder: Path
    """Set by the test."""
    versions: tuple[Version, ...]

    def __init__(self) -> None:
        super().__init__()
        self.store = FolderStore(str(self.folder))
        self.model = ""
        self.begun: dict[int, int] = {}  # run: which version it asks for
        self.asked = (-1, -1)  # the highest run that has ended, and what it asked for
        self.expected: int | None = None
        self.by_hand = False
        self.rejected: set[int] = set()

    @initialize()
    def clean(self) -> None:
        for file in (*self.folder.glob("embedder/.moves/current/*"), self.folder / "embedder/current"):
            file.unlink(missing_ok=True)

    @rule(wants=st.integers(0, 2))
    def begin(self, wants: int) -> None:
        self.begun[len(self.begun)] = wants

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), passes=st.sampled_from([True, True, True, False]))
    def end(self, data: st.DataObject, passes: bool) -> None:
        """A run ends, maybe not for the first time; a killed one is one that never does."""
        run = data.draw(st.sampled_from(sorted(self.begun)))
        wants, number = self.begun[run], self.begun[run] + 1
        good = passes and wants not in self.rejected
        moved = move_forward(
            self.store, "embedder", self.versions[wants], "current", by="ci", asked=in_run(run),
            check=lambda present: None if good else self.reject(wants),
        )  # fmt: skip
        highest, wanted = self.asked
        if self.expected is None:  # there is no channel to remember what was wanted
            if good:
                self.asked, self.expected, self.by_hand = (run, wants), number, False
                assert moved.promotion is MOVED
            else:
                assert (moved.promotion, moved.named) == (REJECTED, None)
            return
        if run < highest:
            assert moved.promotion is (UNCHANGED if self.expected == number else HELD)
        elif self.expected == number:
            assert moved.promotion is UNCHANGED
            self.by_hand = self.by_hand and wants == wanted
            self.asked = (run, wants)
        elif wants == wanted and self.by_hand:
            assert moved.promotion is HELD
            self.asked = (run, wants)
        else:
            assert moved.promotion is (MOVED if good else REJECTED)
            self.asked, self.by_hand = (run, wants), False
            if good:
                self.expected = number
        assert moved.after == self.expected

    def reject(self, wants: int) -> Rejection:
        self.rejected.add(wants)
        return rejection_now("its test ended with exit code 1")

    @precondition(lambda self: self.expected is not None)
    @rule(number=st.integers(1, 3))
    def promote(self, number: int) -> None:
        moved = promote(self.store, "embedder", number, "current", by="dana")
        assert moved.moved is (number != self.expected)
        self.by_hand = self.by_hand or moved.moved
        self.expected = number

    @precondition(lambda self: self.expected is not None)
    @rule()
    def roll_back(self) -> None:
        target = get_channel(self.store, "embedder", "current").rollback_target()
        if target is not None:
            self.expected = rollback(self.store, "embedder", "current", by="dana").after
            self.by_hand = True

    def teardown(self) -> None:
        channel, _ = read_channel(self.store, "embedder", "current")
        assert (None if channel is None else channel.version) == self.expected
        if channel is not None and self.asked[0] >= 0:
            assert channel.wanted is not None
            run, wants = self.asked
            assert (channel.wanted.build_key, channel.wanted.run) == (build_key("abc"[wants]), in_run(run).run)


def test_any_order_ends_where_the_rule_says(registry: Path) -> None:
    Line.folder = registry
    Line.versions = tuple(publish_build(registry, seed, channel=None) for seed in "abc")
    few = settings(max_examples=rounds(25, 400), stateful_step_count=20, deadline=None)
    run_state_machine_as_test(Line, settings=few)
