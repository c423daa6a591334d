from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError
from modeldrop.format.channel import (
    KEPT_MOVES,
    MAX_BYTES,
    MAX_MOVES,
    Channel,
    Move,
    parse_channel,
    serialize_channel,
)
from tests.format import examples
from tests.format.hostile import CHANNEL, CHANNELS_BY_SCHEMA
from tests.format.strategies import channels, json_values, moves, mutated


def _move(version: int, action: str = "publish") -> Move:
    return Move(
        version=version,
        digest=f"sha256:{version:064x}",
        generation=1,
        nonce=f"n{version}",
        action=action,
        by="dana",
        at="2026-11-20T09:41:07Z",
    )


def _channel(*steps: int | tuple[int, str]) -> Channel:
    first, *later = [_move(*step) if isinstance(step, tuple) else _move(step) for step in steps]
    channel = Channel(first)
    for move in later:
        channel = channel.moved(move)
    return channel


@given(channels())
def test_round_trip(channel: Channel) -> None:
    data = serialize_channel(channel)
    parsed = parse_channel(data)
    assert parsed == channel
    assert serialize_channel(parsed) == data


@given(st.binary() | json_values().map(lambda value: json.dumps(value).encode()))
def test_arbitrary_documents_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_channel(data)


@given(mutated(CHANNEL))
def test_mutated_channels_raise_nothing_else(data: bytes) -> None:
    try:
        channel = parse_channel(data)
    except FormatError:
        return
    assert parse_channel(serialize_channel(channel)) == channel


@pytest.mark.parametrize("change", CHANNELS_BY_SCHEMA.values(), ids=CHANNELS_BY_SCHEMA)
def test_hostile_channels_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_channel(json.dumps({**json.loads(CHANNEL), **change}).encode())


@pytest.mark.parametrize("generations", [(3, 3, 1), (3, 1, 2), (1, 2, 3), (3, 2, 2)])
def test_generations_fall(generations: tuple[int, int, int]) -> None:
    document = json.loads(CHANNEL)
    document["generation"] = generations[0]
    for move, generation in zip(document["history"], generations[1:], strict=True):
        move["generation"] = generation
    with pytest.raises(FormatError, match="history"):
        parse_channel(json.dumps(document).encode())


def test_unknown_fields_and_actions_are_accepted() -> None:
    document = json.loads(CHANNEL)
    document["added_later"] = document["history"][0]["added_later"] = {"x": 1}
    document["action"] = "added-later"
    parsed = parse_channel(json.dumps(document).encode())
    assert parsed.history == examples.channel().history
    assert parsed.present.action == "added-later"


@given(channels(), moves)
def test_a_move_is_the_next_generation(channel: Channel, move: Move) -> None:
    after = channel.moved(move)
    assert after.generation == channel.generation + 1
    assert after.version == move.version
    assert after.history == channel.moves()
    assert serialize_channel(after) != serialize_channel(channel)


def test_fifty_moves_are_kept_and_all_of_a_day() -> None:
    channel = _channel(*range(1, 101))
    assert channel.generation == len(channel.moves()) == 100
    assert len(_channel(*range(1, MAX_MOVES + 10)).history) == MAX_MOVES
    later = channel.moved(channel.present._replace(at="2026-11-21T09:41:07Z"))
    assert len(later.history) == 100
    later = channel.moved(channel.present._replace(at="2026-11-21T09:41:08Z"))
    assert len(later.history) == KEPT_MOVES == 50
    assert [move.generation for move in later.moves()] == list(range(101, 50, -1))
    assert parse_channel(serialize_channel(later)) == later
    assert len(channel.moved(channel.present._replace(at="2026-02-30T09:41:08Z")).history) == KEPT_MOVES


def test_the_longest_moves_fit() -> None:
    longest = Move(
        version=1,
        digest=f"sha256:{1:064x}",
        generation=1,
        nonce="🔎" * 64,
        action="x" * 32,
        by="🔎" * 256,
        at="2026-11-20T09:41:07Z",
        why="🔎" * 4096,
    )
    channel = Channel(longest)
    for _ in range(120):
        channel = channel.moved(longest)
    data = serialize_channel(channel)
    assert len(data) < MAX_BYTES
    assert parse_channel(data) == channel


@pytest.mark.parametrize(
    "change",
    [
        {"why": "a" * 4097},
        {"by": "a" * 257},
        {"by": "a\0"},
        {"why": "caf\udce9"},
        {"digest": "sha256:"},
        {"at": "now"},
        {"version": 0},
    ],
)
def test_what_could_not_be_read_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        serialize_channel(Channel(_move(1)._replace(**change)))


def test_rollback_after_rollback_goes_further_back() -> None:
    channel = _channel(1, 2, 3)
    seen: list[int | None] = []
    while target := channel.rollback_target():
        seen.append(target.version)
        channel = channel.moved(_move(target.version, "rollback"))
    assert seen == [2, 1]
    assert channel.rollback_target() is None


def test_rollback_of_the_first_version_has_no_target() -> None:
    assert _channel(1).rollback_target() is None
    assert _channel(1, 1, 1).rollback_target() is None


def test_rollback_skips_what_was_moved_again() -> None:
    target = _channel(1, 2, 2, 3, (2, "promote")).rollback_target()
    assert target is not None
    assert target.version == 1


def test_what_is_wanted_stays_until_something_else_is() -> None:
    wanted = examples.channel_wanted().wanted
    assert wanted is not None
    published = Channel(_move(1)).moved(_move(2), wanted)
    assert published.wanted == wanted._replace(generation=2)
    back = published.moved(_move(1, "rollback"))
    assert back.wanted == published.wanted
    assert parse_channel(serialize_channel(back)) == back
    assert _channel(1, 2).wanted is None


def test_channels_of_releases_that_know_no_wishes_keep_their_bytes() -> None:
    assert "wanted" not in json.loads(serialize_channel(_channel(1, 2)))


def test_find_digest() -> None:
    channel = _channel(1, 2, 1)
    found = channel.find_digest(f"sha256:{1:064x}")
    assert found is not None
    assert found.generation == 3
    assert channel.find_digest("sha256:" + "f" * 64) is None
