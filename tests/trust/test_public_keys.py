from __future__ import annotations

import string

import pytest

from modeldrop.errors import UsageError
from modeldrop.trust.public_keys import PREFIX, check_keys, encode, parse_key, split_keys
from modeldrop.trust.rules import make_trust
from tests.helpers.signing import private, public, secret


def test_a_key_is_read_as_it_was_written() -> None:
    assert parse_key(public(1), "here") == private(1).public_key().public_bytes_raw()
    assert len(public(1)) == len(PREFIX) + 48


def test_every_mistyped_character_is_noticed() -> None:
    right = public(1)
    for at in range(len(PREFIX), len(right)):
        for other in string.ascii_letters + string.digits + "-_":
            if other != right[at]:
                with pytest.raises(UsageError, match="is no public key"):
                    parse_key(right[:at] + other + right[at + 1 :], "here")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not begin with ed25519:"),
        ("sha256:00", "does not begin with ed25519:"),
        (public(1)[:-1], "has 47 characters"),
        (public(1) + "A", "has 49 characters"),
        (public(1)[:-1] + "=", "mistyped"),
        (public(1).replace("ed25519:", "ED25519:"), "does not begin"),
        (encode(PREFIX, bytes(32)), "no secret belongs to it"),
        (encode(PREFIX, (2).to_bytes(32, "little")), "no secret belongs to it"),
        (public(1)[:20] + "\n" + public(1)[20:], "has 49 characters"),
        (public(1)[:20] + "ä" + public(1)[21:], "mistyped"),
    ],
)
def test_what_is_no_key_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        parse_key(text, "MODELDROP_TRUST")
    assert error.value.message.startswith("MODELDROP_TRUST: ")
    assert "modeldrop key show" in error.value.hint


def test_a_private_key_in_a_list_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="a private key") as error:
        parse_key(secret(1), "modeldrop.toml")
    assert secret(1)[20:40] not in str(error.value)


def test_a_list_is_split_and_checked() -> None:
    assert split_keys(f" {public(1)},{public(2)}\n{public(3)} ") == (public(1), public(2), public(3))
    assert list(check_keys([public(1), public(2)], "here")) == [public(1), public(2)]
    with pytest.raises(UsageError, match="twice"):
        check_keys([public(1), public(1)], "here")
    with pytest.raises(UsageError, match="no keys"):
        check_keys([], "here")
    with pytest.raises(UsageError, match="17 keys"):
        check_keys([public(number) for number in range(17)], "here")


@pytest.mark.parametrize("threshold", [0, 3])
def test_a_threshold_that_can_never_be_met_is_refused(threshold: int) -> None:
    with pytest.raises(UsageError, match="that can never be met"):
        make_trust([public(1), public(2)], threshold, "here")
