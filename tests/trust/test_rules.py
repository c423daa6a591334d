"""The rules of trust, and that nothing which was changed by anybody is taken for what was signed."""

from __future__ import annotations

import base64
import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from modeldrop.errors import FormatError, TrustError
from modeldrop.format.channel import Channel, Move, parse_channel, serialize_channel
from modeldrop.format.signed import CHANNEL_TYPE, STATEMENT_TYPE, parse_envelope
from modeldrop.registry.signing import KeySigner, make_statement, read_keys, sign_channel
from modeldrop.trust.rules import pre_authentication, verify_channel, verify_statement
from tests.helpers.signing import private, public, secret, trusting

if TYPE_CHECKING:
    from collections.abc import Callable

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NOW = "2026-11-29T12:00:00Z"
MOVE = Move(
    version=3, digest=DIGEST, generation=7, nonce="n", action="publish", by="ci", at="2026-11-29T11:00:00Z", why=""
)
L = 2**252 + 27742317777372353535851937790883648493


def signer(*numbers: int) -> KeySigner:
    return KeySigner(read_keys(secret(*numbers), "the test"), None)


def channel(*numbers: int, name: str = "current", model: str = "embedder", expires_in: float = 0) -> Channel:
    return sign_channel(signer(*numbers), model, name, Channel(MOVE), before=None, expires_in=expires_in)


def statement(*numbers: int, model: str = "embedder", digest: str = DIGEST) -> bytes:
    return make_statement(signer(*numbers), model, digest)


def check_channel(found: Channel, *keys: int, threshold: int = 1, now: str = NOW) -> tuple[str, ...]:
    trust = trusting(*keys, threshold=threshold)
    where = "s3://a/embedder/current"
    return verify_channel(trust, found, model="embedder", name="current", where=where, now=now).signers


def check_statement(data: bytes | None, *keys: int, threshold: int = 1, digest: str | None = DIGEST) -> tuple[str, ...]:
    trust = trusting(*keys, threshold=threshold)
    where = "s3://a/embedder/v3/statement.json"
    return verify_statement(trust, data, model="embedder", digest=digest, where=where).signers


def test_what_a_trusted_key_has_signed_is_believed() -> None:
    assert check_channel(channel(1), 1) == check_statement(statement(1), 1) == (public(1),)
    assert check_statement(statement(1), 1, digest=None) == (public(1),)


def test_pae_is_that_of_dsse() -> None:
    assert pre_authentication("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_what_is_not_signed_is_refused() -> None:
    with pytest.raises(TrustError, match=f"current is not signed. Trusted is {public(1)}") as error:
        check_channel(Channel(MOVE), 1)
    assert "modeldrop promote" in error.value.hint
    with pytest.raises(TrustError, match=f"v3/statement.json is missing. Trusted is {public(1)}") as error:
        check_statement(None, 1)
    assert "--vouch" in error.value.hint


def test_another_key_is_refused_and_named() -> None:
    checks: tuple[Callable[[], object], ...] = (
        lambda: check_channel(channel(2), 1),
        lambda: check_statement(statement(2), 1),
    )
    for refused in checks:
        with pytest.raises(
            TrustError, match=f"signed by {public(2)}, which is not trusted here. .*{public(1)}"
        ) as error:
            refused()
        assert "MODELDROP_TRUST" in error.value.hint


def test_a_signature_under_another_keys_name_is_refused() -> None:
    found = channel(2)
    assert found.signed is not None
    (signature,) = found.signed.signatures
    renamed = found.signed._replace(signatures=(signature._replace(keyid=public(1)),))
    with pytest.raises(TrustError, match=f"not that of {public(1)}"):
        check_channel(found._replace(signed=renamed), 1)


def test_an_expired_signature_is_refused() -> None:
    found = channel(1, expires_in=3600)
    assert check_channel(found, 1) == (public(1),)
    with pytest.raises(TrustError, match=r"expired at .*; here it is 2999") as error:
        check_channel(found, 1, now="2999-01-01T00:00:00Z")
    assert "modeldrop refresh" in error.value.hint
    assert check_channel(found, 1, now="") == (public(1),)  # whoever renews it


@pytest.mark.parametrize(
    "change",
    [{"version": 4}, {"digest": OTHER}, {"generation": 8}, {"nonce": "other"}],
    ids=lambda change: next(iter(change)),
)
def test_a_move_that_was_changed_under_its_signature_is_refused(change: dict[str, Any]) -> None:
    found = channel(1)
    with pytest.raises(TrustError, match="what is signed is v3"):
        check_channel(found._replace(present=MOVE._replace(**change)), 1)


def test_the_signature_of_another_channel_or_model_is_refused() -> None:
    for found, said in ((channel(1, name="staging"), "embedder@staging"), (channel(1, model="evil"), "evil@current")):
        with pytest.raises(TrustError, match=f"the signature of another channel: of {said}"):
            check_channel(found, 1)


def test_the_statement_of_another_model_or_version_is_refused() -> None:
    with pytest.raises(TrustError, match="is about the model evil, not about embedder"):
        check_statement(statement(1, model="evil"), 1)
    with pytest.raises(TrustError, match=f"a manifest with the digest {OTHER}, not {DIGEST}"):
        check_statement(statement(1, digest=OTHER), 1)


def test_a_statement_signs_no_channel_and_a_channel_no_statement() -> None:
    moved = channel(1)
    with pytest.raises(TrustError, match="signed as something else"):
        check_channel(moved._replace(signed=parse_envelope(statement(1))), 1)
    document = json.loads(serialize_channel(moved))["signed"]
    with pytest.raises(TrustError, match="signed as something else"):
        check_statement(json.dumps(document).encode(), 1)
    for payload_type in (STATEMENT_TYPE, CHANNEL_TYPE):  # nor if it is renamed: the type is signed
        assert moved.signed is not None
        other = parse_envelope(statement(1))._replace(payload_type=payload_type)
        with pytest.raises(TrustError):
            check_channel(moved._replace(signed=other), 1)


def test_two_signatures_of_one_key_do_not_meet_a_threshold_of_two() -> None:
    found = channel(1)
    assert found.signed is not None
    (one,) = found.signed.signatures
    twice = found._replace(signed=found.signed._replace(signatures=(one, one)))
    with pytest.raises(TrustError, match=rf"signed by 1 of the trusted keys \({public(1)}\); 2 are needed"):
        check_channel(twice, 1, 2, threshold=2)
    renamed = found._replace(signed=found.signed._replace(signatures=(one, one._replace(keyid=public(2)))))
    with pytest.raises(TrustError, match=f"not that of {public(2)}"):
        check_channel(renamed, 1, 2, threshold=2)
    assert check_channel(channel(1, 2), 1, 2, threshold=2) == tuple(sorted([public(1), public(2)]))
    assert len(check_statement(statement(1, 2, 3), 1, 2, threshold=2)) == 2


def test_keys_are_rotated_by_trusting_both_for_a_while() -> None:
    """A version that the old key has signed, under a channel that the new one, or both, have signed."""
    assert check_statement(statement(1), 1, 2) == (public(1),)
    assert check_channel(channel(2), 1, 2) == (public(2),)
    assert check_channel(channel(1, 2), 1) == (public(1),)  # readers that know the old key only
    assert check_channel(channel(1, 2), 2) == (public(2),)
    with pytest.raises(TrustError, match="not trusted here"):
        check_statement(statement(1), 2)


def test_a_key_that_is_not_trusted_does_no_harm() -> None:
    assert check_channel(channel(5, 1, 9), 1) == (public(1),)


class Mutations:
    """Envelopes that were made of one, by whoever has no key; ``other`` is a true one of something else."""

    def __init__(self, envelope: dict[str, Any], other: dict[str, Any], seed: int) -> None:
        self.made: dict[str, dict[str, Any]] = {}
        self._envelope = envelope
        self._chance = random.Random(seed)
        self._payload = base64.b64decode(envelope["payload"])
        self._sig = base64.b64decode(envelope["signatures"][0]["sig"])
        self._bits()
        self._fields(other)
        self._encodings()
        self._keys()

    def _put(self, name: str, *, sig: str = "", keyid: str = "", **more: Any) -> None:
        signature = self._envelope["signatures"][0]
        signatures = [{"keyid": keyid or signature["keyid"], "sig": sig or signature["sig"]}]
        self.made[name] = self._envelope | {"signatures": signatures} | more

    def _bits(self) -> None:
        for at in self._chance.sample(range(512), 160):
            self._put(f"bit {at} of the signature", sig=encoded(flipped(self._sig, at)))
        for at in self._chance.sample(range(len(self._payload) * 8), 160):
            self._put(f"bit {at} of the payload", payload=encoded(flipped(self._payload, at)))
        for length in self._chance.sample(range(len(self._payload)), 30):
            self._put(f"cut to {length}", payload=encoded(self._payload[:length]))
            self._put(f"{length} bytes more", payload=encoded(self._payload + b" " * (length + 1)))
        for length in range(64):
            self._put(f"a signature of {length} bytes", sig=encoded(self._sig[:length]) or "=")
        s = int.from_bytes(self._sig[32:], "little")
        for times in range(1, 15):
            self._put(f"S + {times} L", sig=encoded(self._sig[:32] + (s + times * L).to_bytes(32, "little")))

    def _fields(self, other: dict[str, Any]) -> None:
        values = json.loads(self._payload)
        self._put("the order of its fields", payload=encoded(json.dumps(dict(reversed(values.items()))).encode()))
        self._put("without blanks", payload=encoded(json.dumps(values, separators=(",", ":")).encode()))
        for name in (*values, "later"):
            for value in (None, "x", 1):
                self._put(f"{name} is {value}", payload=encoded(json.dumps(values | {name: value}).encode()))
        self._put("the payload of another", payload=other["payload"])
        self._put("the signature of another", sig=other["signatures"][0]["sig"])
        for kind in ("", STATEMENT_TYPE, CHANNEL_TYPE, "application/json", self._envelope["payloadType"].upper()):
            if kind != self._envelope["payloadType"]:
                self._put(f"as {kind}", payloadType=kind)
        self.made["no signatures"] = self._envelope | {"signatures": []}
        for name in ("payload", "payloadType", "signatures"):
            self.made[f"nothing as {name}"] = self._envelope | {name: None}

    def _encodings(self) -> None:
        for name, text in (("payload", self._envelope["payload"]), ("sig", encoded(self._sig))):
            for how, changed in (
                ("without padding", text.rstrip("=")),
                ("with more padding", f"{text}="),
                ("with a line feed", f"{text}\n"),
                ("with a blank", f" {text}"),
                ("of URLs", text.replace("+", "-").replace("/", "_")),
                ("with other last bits", _other_last_bits(text)),
                ("in hexadecimal digits", base64.b64decode(text).hex()),
            ):
                if changed != text:
                    self._put(f"{name} {how}", **{name: changed})

    def _keys(self) -> None:
        for keyid in (public(2), public(3), "ed25519:", public(1)[:-1], public(1).upper(), "1", "\0"):
            self._put(f"under the key {keyid!r}", keyid=keyid)
        for number in range(20):
            self._put(f"signed by {number + 20}", sig=encoded(private(number + 20).sign(self._payload)))
            self._put(f"signed without PAE and {number}", sig=encoded(private(1).sign(self._payload + bytes(number))))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at // 8] ^= 1 << at % 8
    return bytes(changed)


def _other_last_bits(text: str) -> str:
    """The same bytes in base64 whose last character has bits that mean nothing; as it was where there are none."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = text.rstrip("=")
    return text if body == text else body[:-1] + digits[digits.index(body[-1]) ^ 1] + text[len(body) :]


def test_a_thousand_mutations() -> None:
    """Of a statement and of a channel; the same documents as they were signed are accepted."""
    right, other = json.loads(statement(1)), json.loads(statement(1, digest=OTHER))
    statements = {"as it is": right} | Mutations(right, other, 1).made
    moved, other = (json.loads(serialize_channel(channel(1, name=name))) for name in ("current", "staging"))
    channels = {"as it is": moved} | {
        f"signed: {name}": moved | {"signed": made}
        for name, made in Mutations(moved["signed"], other["signed"], 2).made.items()
    }
    values = (("version", "v4"), ("digest", OTHER), ("generation", 8), ("nonce", "m"), ("signed", None))
    channels |= {f"{name} is {value}": moved | {name: value} for name, value in values}
    assert len(statements) + len(channels) > 1000
    accepted = []
    checks: tuple[tuple[dict[str, Any], Callable[[bytes], object]], ...] = (
        (statements, lambda data: check_statement(data, 1, 2)),
        (channels, lambda data: check_channel(parse_channel(data), 1, 2)),
    )
    for documents, check in checks:
        for name, document in documents.items():
            try:
                check(json.dumps(document).encode())
                accepted.append(name)
            except (FormatError, TrustError):
                pass
    assert accepted == ["as it is", "as it is"]


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"payload": 1}', b"<html>"])
def test_what_is_no_statement_is_refused(data: bytes) -> None:
    with pytest.raises(TrustError, match=r"v3/statement\.json cannot be read"):
        check_statement(data, 1)
