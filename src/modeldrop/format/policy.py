"""The policy of a registry: what a version must have before a channel may name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.format.codec import (
    DocumentFormat,
    GroupField,
    IntegerField,
    ListField,
    Record,
    TextField,
    TimeField,
)
from modeldrop.format.names import NAME
from modeldrop.util.named_tuples import NamedTuple

if TYPE_CHECKING:
    from modeldrop.format.json_fields import Fields

MAX_BYTES = 64 << 10
SIGNATURE, ATTESTATION, TEST = "signature", "attestation", "test"
REQUIREMENTS = (SIGNATURE, ATTESTATION, TEST)


class Policy(NamedTuple):
    """What a version must have before a channel may name it.

    ``channels`` empty means all of them. ``trust`` and ``threshold`` say whose signatures count, ``attested_by`` whose
    attestations.
    """

    require: tuple[str, ...]
    at: str
    by: str
    channels: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    threshold: int = 1
    attested_by: str = ""

    def covers(self, channel: str) -> bool:
        """Whether it says something of a channel."""
        return bool(self.require) and (not self.channels or channel in self.channels)


def policy_text(policy: Policy) -> str:
    """What a policy requires, and of which channels, for people."""
    if not policy.require:
        return "no channel requires anything"
    said = {
        SIGNATURE: f"a signature by {policy.threshold} of {', '.join(policy.trust)}",
        ATTESTATION: f"an attestation by {policy.attested_by}",
        TEST: "a test that succeeded",
    }
    channels = ", ".join(policy.channels) or "every channel"
    return f"{channels} requires {', '.join(said[one] for one in policy.require)}"


def _check(fields: Fields, policy: Policy) -> None:
    for one in policy.require:
        # What this release cannot check it must not ignore: a channel is moved by nobody then.
        if one not in REQUIREMENTS:
            known = ", ".join(REQUIREMENTS)
            fields.fail(f"{one[:80]!r} cannot be checked by this release, which knows {known}", "promote.require")
    if SIGNATURE in policy.require and not 1 <= policy.threshold <= len(policy.trust):
        fields.fail("has too few keys for its threshold", "promote.trust")
    if ATTESTATION in policy.require and not policy.attested_by:
        fields.fail("must say whose attestation is wanted", "promote.attested_by")


POLICY = DocumentFormat(
    "modeldrop/policy/1",
    "policy",
    Record(
        Policy,
        promote=GroupField(
            "What must be so before a channel is moved.",
            require=ListField(
                "What the version must have: signature, attestation, test. Who does not know one moves no channel.",
                TextField(limit=64),
                limit=16,
                unique=True,
            ),
            channels=ListField(
                "The channels that it is about; all where it is empty.", TextField(pattern=NAME), limit=100, default=()
            ),
            trust=ListField("Public keys whose signatures count.", TextField(limit=128), limit=16, default=()),
            threshold=IntegerField("How many of them must have signed.", low=1, high=16, default=1),
            attested_by=TextField("Whose attestation counts, as modeldrop writes it.", limit=1024, default=""),
        ),
        at=TimeField("When it was set."),
        by=TextField("Who set it.", limit=256),
        check=_check,
    ),
    limit=MAX_BYTES,
)
parse_policy, serialize_policy = POLICY.parse, POLICY.serialize
