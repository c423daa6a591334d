"""The registry's policy: what a version must have before a channel may name it, whoever moves the channel.

It lies in the registry, beside the models, so that it holds for every promote, rollback, publish and mirror there, from
any machine. That a client obeys it is modeldrop's doing; that nobody goes around it is up to the bucket's own policies:
``modeldrop doctor --policies`` keeps the publisher from writing it, and docs/security.md says who may move channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modeldrop.errors import ConflictError, FormatError, RefusedError, TrustError
from modeldrop.format import keys
from modeldrop.format.policy import ATTESTATION, SIGNATURE, TEST, Policy, parse_policy, serialize_policy
from modeldrop.format.records import TestedMark, parse_tested, serialize_tested
from modeldrop.registry.attestations import check_attestation
from modeldrop.registry.provenance import now, provenance
from modeldrop.registry.signing import read_statement
from modeldrop.registry.versions import error_in_object
from modeldrop.trust.attestation import parse_builder
from modeldrop.trust.rules import make_trust, verify_statement

if TYPE_CHECKING:
    from modeldrop.storage.write.store import Store


def read_policy(store: Store) -> tuple[Policy | None, str | None]:
    """The policy of a registry, None where it has none; and the tag to compare and swap with.

    Raises:
        FormatError: it cannot be read, or asks for what this release cannot check.
    """
    stored = store.get(keys.POLICY_KEY)
    if stored is None:
        return None, None
    try:
        return parse_policy(stored.data), stored.tag
    except FormatError as error:
        error.hint = error.hint or (
            f"Until it can be read no channel is moved. Set it anew: modeldrop policy {store.url} --require …"
        )
        raise error_in_object(error, store, keys.POLICY_KEY) from None


def write_policy(store: Store, policy: Policy) -> None:
    """Set the policy of a registry, whatever it was, even if that cannot be read.

    Raises:
        FormatError: no such policy could be read again.
        UsageError: a key is none, or it names no builder.
        ConflictError: somebody else sets it at the same time.
    """
    _check(policy, "the policy")
    stored = store.get(keys.POLICY_KEY)
    data = serialize_policy(policy)
    try:
        store.swap(keys.POLICY_KEY, data, None if stored is None else stored.tag)
    except ConflictError:
        present = store.get(keys.POLICY_KEY)
        if present is None or present.data != data:
            raise


def require_allowed(store: Store, model: str, channel: str, number: int, digest: str) -> None:
    """Refuse to have a channel name a version that lacks what the registry's policy requires.

    Raises:
        RefusedError: it lacks something, which the message names.
        FormatError: the policy, or the mark of a test, cannot be read.
        MissingExtraError: an attestation is required, and sigstore is not installed here.
    """
    policy, _ = read_policy(store)
    if policy is None or not policy.covers(channel):
        return
    for requirement in policy.require:
        try:
            fault = _lack(store, model, number, digest, policy, requirement)
        except TrustError as error:
            fault = error.message
        if fault:
            raise RefusedError(
                f"v{number} of {model} may not be named by {channel}: {_named(store, policy)} requires "
                f"{'an' if requirement == ATTESTATION else 'a'} {requirement}. {fault}",
                _hint(requirement, f"{store.url}/{model}@v{number}"),
            )


def refuse_unmeetable(store: Store, model: str, channel: str, *, signs: bool, tests: bool) -> None:
    """Refuse to build what no channel could be moved to afterwards, because it will lack what the policy requires.

    Args:
        store: the registry.
        model: the model.
        channel: the channel that is to move right after.
        signs: whether there is a key to sign with.
        tests: whether there is a test.

    Raises:
        RefusedError: it would lack something.
    """
    policy, _ = read_policy(store)
    if policy is None or not policy.covers(channel):
        return
    will_have = {SIGNATURE: signs, TEST: tests, ATTESTATION: False}
    for requirement in policy.require:
        if not will_have[requirement]:
            what = {
                SIGNATURE: "there is no key here to sign with",
                TEST: "it has no test",
                ATTESTATION: "what is built now can be attested to only once it is published",
            }[requirement]
            raise RefusedError(
                f"A new version of {model} could not be named by {channel}: {_named(store, policy)} requires "
                f"{'an' if requirement == ATTESTATION else 'a'} {requirement}, and {what}. Nothing was built.",
                {
                    SIGNATURE: "Set MODELDROP_SIGNING_KEY, or publish in CI.",
                    TEST: "Name one: --test, or test in modeldrop.toml.",
                    ATTESTATION: "Publish with --no-promote, and promote once it is attested: publish-models.yml does "
                    "both where it is given an environment (docs/action.md).",
                }[requirement],
            )


def mark_tested(store: Store, model: str, number: int, digest: str) -> None:
    """Note that the user's test of a version succeeded; a mark that is there already stays.

    Raises:
        RegistryError: the registry cannot be written.
    """
    here = provenance()
    mark = TestedMark(digest=digest, at=now(), by=here.actor, run=here.run)
    try:
        store.create(keys.tested(model, number), serialize_tested(mark))
    except ConflictError:
        return


def _check(policy: Policy, where: str) -> None:
    if SIGNATURE in policy.require:
        make_trust(policy.trust, policy.threshold, where)
    if ATTESTATION in policy.require:
        parse_builder(policy.attested_by, where)


def _lack(store: Store, model: str, number: int, digest: str, policy: Policy, requirement: str) -> str:
    """Why a version lacks what is required; "" if it has it."""
    where = f"{store.url}/{keys.POLICY_KEY}"
    if requirement == SIGNATURE:
        data, address = read_statement(store, model, number), f"{store.url}/{keys.statement(model, number)}"
        trust = make_trust(policy.trust, policy.threshold, where)
        verify_statement(trust, data, model=model, digest=digest, where=address)
        return ""
    if requirement == ATTESTATION:
        check_attestation(store, model, number, digest, parse_builder(policy.attested_by, where))
        return ""
    key = keys.tested(model, number)
    stored = store.get(key)
    if stored is None:
        return f"{store.url}/{key} is missing: no publish has tested it and found it good."
    try:
        mark = parse_tested(stored.data)
    except FormatError as error:
        raise error_in_object(error, store, key) from None
    return "" if mark.digest == digest else f"{store.url}/{key} is about another version: {mark.digest[:19]}…"


def _named(store: Store, policy: Policy) -> str:
    return f"the policy of {store.url} (set by {policy.by} at {policy.at})"


def _hint(requirement: str, reference: str) -> str:
    return {
        SIGNATURE: "Name a version that your CI has signed; or sign this one with its key, once you have looked at it: "
        f"modeldrop promote {reference} --vouch",
        ATTESTATION: "Name a version that your workflow has attested to, or look at this one: modeldrop attest verify "
        f"{reference} --repository OWNER/REPOSITORY",
        TEST: "Publish it again with its test (--test): where it is there already, only the test is run.",
    }[requirement]
