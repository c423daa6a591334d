from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from modeldrop.errors import FormatError
from modeldrop.format.channel import Channel, parse_channel, serialize_channel
from modeldrop.format.deltas import parse_delta_index
from modeldrop.format.manifest import Manifest, parse_manifest, serialize_manifest
from modeldrop.format.policy import parse_policy
from modeldrop.format.recipe import METRICS, Recipe
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    Rejection,
    Retirement,
    Seal,
    parse_build_record,
    parse_claim,
    parse_rejection,
    parse_retirement,
    parse_seal,
    parse_tested,
    serialize_build_record,
    serialize_claim,
    serialize_rejection,
    serialize_retirement,
    serialize_seal,
)
from modeldrop.format.signed import parse_envelope, parse_signed_move, parse_statement
from modeldrop.format.tasks import TASKS
from modeldrop.format.variants import VARIANTS
from modeldrop.trust.rules import verify_channel, verify_statement
from tests.format import examples
from tests.format.hostile import (
    BUILD,
    BUILDS_BY_SCHEMA,
    CHAINS_BY_SCHEMA,
    CHANNEL,
    CHANNELS_BY_SCHEMA,
    CLAIM,
    CLAIMS_BY_SCHEMA,
    HOSTILE_PATHS,
    MANIFEST,
    MANIFEST_OF_GRAPHS,
    MANIFESTS_BY_SCHEMA,
    RECIPES_BY_SCHEMA,
    REJECTED,
    REJECTED_BY_SCHEMA,
    RETIRED,
    RETIRED_BY_SCHEMA,
    SEAL,
    SEALS_BY_SCHEMA,
    Change,
    changed,
)
from tests.format.strategies import (
    build_records,
    channels,
    claims,
    manifests,
    mutated,
    recipes,
    rejections,
    retirements,
    seals,
)
from tests.helpers.signing import trusting

SCHEMAS = Path(__file__).parents[2] / "docs/schemas"
NAMES = (
    "manifest", "channel", "claim", "build", "rejected", "tested", "retired", "seal", "policy", "recipe", "envelope",
    "signed-statement", "signed-move", "deltas",
)  # fmt: skip
PARSERS: dict[str, Callable[[bytes], object]] = {
    "manifest": parse_manifest,
    "manifest-graphs": parse_manifest,
    "manifest-generic": parse_manifest,
    "channel": parse_channel,
    "channel-wanted": parse_channel,
    "channel-signed": parse_channel,
    "statement": parse_envelope,
    "claim": parse_claim,
    "build": parse_build_record,
    "rejected": parse_rejection,
    "tested": parse_tested,
    "policy": parse_policy,
    "deltas": parse_delta_index,
    "retired": parse_retirement,
    "seal": parse_seal,
    "seal-undecided": parse_seal,
}
UNSEEN_PATHS = {"long part", "long part in UTF-8", "NFD", "lone surrogate", "manifest in full width"}
"""Paths whose fault is in their bytes or their Unicode form."""


def _schema(name: str) -> dict[str, Any]:
    return json.loads((SCHEMAS / f"{name}.v1.json").read_text("utf-8"))  # type: ignore[no-any-return]


VALIDATORS = {name: Draft202012Validator(_schema(name)) for name in NAMES}


def _accepts(name: str, data: bytes) -> bool:
    return bool(VALIDATORS[name].is_valid(json.loads(data)))


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one(name: str) -> None:
    schema = _schema(name)
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == f"urn:modeldrop:{name}:1"
    for field, value in schema["properties"].items():
        assert value.get("description") or "$ref" in value, field


@given(manifests())
def test_manifests_are_valid(manifest: Manifest) -> None:
    VALIDATORS["manifest"].validate(json.loads(serialize_manifest(manifest)))


@given(channels())
def test_channels_are_valid(channel: Channel) -> None:
    VALIDATORS["channel"].validate(json.loads(serialize_channel(channel)))


@given(claims, build_records)
def test_records_are_valid(claim: Claim, record: BuildRecord) -> None:
    VALIDATORS["claim"].validate(json.loads(serialize_claim(claim)))
    VALIDATORS["build"].validate(json.loads(serialize_build_record(record)))


@given(rejections)
def test_rejections_are_valid(rejection: Rejection) -> None:
    VALIDATORS["rejected"].validate(json.loads(serialize_rejection(rejection)))


@given(retirements, seals)
def test_what_prune_writes_is_valid(retirement: Retirement, seal: Seal) -> None:
    VALIDATORS["retired"].validate(json.loads(serialize_retirement(retirement)))
    VALIDATORS["seal"].validate(json.loads(serialize_seal(seal)))


@given(recipes)
def test_recipes_are_valid(recipe: Recipe) -> None:
    VALIDATORS["recipe"].validate(recipe.to_json())


@pytest.mark.parametrize("change", MANIFESTS_BY_SCHEMA.values(), ids=MANIFESTS_BY_SCHEMA)
def test_hostile_manifests_are_refused(change: Change) -> None:
    assert not _accepts("manifest", changed(MANIFEST, change))


@pytest.mark.parametrize("change", CHAINS_BY_SCHEMA.values(), ids=CHAINS_BY_SCHEMA)
def test_hostile_chains_are_refused(change: Change) -> None:
    assert not _accepts("manifest", changed(MANIFEST_OF_GRAPHS, change))


@given(mutated(MANIFEST_OF_GRAPHS))
def test_what_the_parser_reads_of_graphs_the_schema_accepts(data: bytes) -> None:
    try:
        parse_manifest(data)
    except FormatError:
        return
    VALIDATORS["manifest"].validate(json.loads(data))


@pytest.mark.parametrize("name", sorted(set(HOSTILE_PATHS) - UNSEEN_PATHS))
def test_hostile_paths_are_refused(name: str) -> None:
    validator = VALIDATORS["manifest"].evolve(schema=_schema("manifest")["$defs"]["path"])
    assert validator.is_valid("onnx/größe 1.onnx")
    assert not validator.is_valid(HOSTILE_PATHS[name])


@pytest.mark.parametrize("change", CHANNELS_BY_SCHEMA.values(), ids=CHANNELS_BY_SCHEMA)
def test_hostile_channels_are_refused(change: dict[str, Any]) -> None:
    assert not VALIDATORS["channel"].is_valid({**json.loads(CHANNEL), **change})


@pytest.mark.parametrize("change", CLAIMS_BY_SCHEMA.values(), ids=CLAIMS_BY_SCHEMA)
def test_hostile_claims_are_refused(change: dict[str, Any]) -> None:
    assert not VALIDATORS["claim"].is_valid({**json.loads(CLAIM), **change})


@pytest.mark.parametrize("change", BUILDS_BY_SCHEMA.values(), ids=BUILDS_BY_SCHEMA)
def test_hostile_build_records_are_refused(change: dict[str, Any]) -> None:
    assert not VALIDATORS["build"].is_valid({**json.loads(BUILD), **change})


@pytest.mark.parametrize("change", REJECTED_BY_SCHEMA.values(), ids=REJECTED_BY_SCHEMA)
def test_hostile_rejections_are_refused(change: dict[str, Any]) -> None:
    assert not VALIDATORS["rejected"].is_valid({**json.loads(REJECTED), **change})


@pytest.mark.parametrize("change", RETIRED_BY_SCHEMA.values(), ids=RETIRED_BY_SCHEMA)
def test_hostile_retirements_are_refused(change: dict[str, Any]) -> None:
    assert not VALIDATORS["retired"].is_valid({**json.loads(RETIRED), **change})


@pytest.mark.parametrize("change", SEALS_BY_SCHEMA.values(), ids=SEALS_BY_SCHEMA)
def test_hostile_seals_are_refused(change: dict[str, Any]) -> None:
    assert not VALIDATORS["seal"].is_valid({**json.loads(SEAL), **change})


@pytest.mark.parametrize("value", RECIPES_BY_SCHEMA.values(), ids=RECIPES_BY_SCHEMA)
def test_hostile_recipes_are_refused(value: dict[str, Any]) -> None:
    assert not VALIDATORS["recipe"].is_valid(value)


@given(mutated(MANIFEST))
def test_what_the_parser_reads_the_schema_accepts(data: bytes) -> None:
    try:
        parse_manifest(data)
    except FormatError:
        return
    VALIDATORS["manifest"].validate(json.loads(data))


@pytest.mark.parametrize(
    "name", ["manifest", "channel", "claim", "build", "rejected", "tested", "policy", "retired", "seal", "deltas"]
)
def test_fields_of_later_releases_are_valid(name: str) -> None:
    document = json.loads(examples.documents()[f"{name}.json"])
    assert VALIDATORS[name].is_valid({**document, "added_later": {"x": 1}})


def test_the_recipe_schema_knows_what_the_release_builds() -> None:
    properties = _schema("recipe")["properties"]
    assert properties["task"]["enum"] == [*TASKS, None]
    assert properties["variants"]["items"]["enum"] == list(VARIANTS)
    assert list(properties["thresholds"]["properties"]) == list(VARIANTS)
    for limits in properties["thresholds"]["properties"].values():
        assert list(limits["properties"]) == list(METRICS)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_fixture_is_kept_for_ever(name: str) -> None:
    data = (examples.FIXTURES / f"{name}.json").read_bytes()
    assert data == examples.documents()[f"{name}.json"]
    VALIDATORS["envelope" if name == "statement" else name.partition("-")[0]].validate(json.loads(data))
    expected = {
        "manifest": examples.manifest,
        "manifest-graphs": examples.manifest_of_graphs,
        "manifest-generic": examples.manifest_of_any_graphs,
        "channel": examples.channel,
        "channel-wanted": examples.channel_wanted,
        "channel-signed": examples.channel_signed,
        "statement": examples.statement,
        "claim": examples.claim,
        "build": examples.build_record,
        "rejected": examples.rejection,
        "tested": examples.tested,
        "deltas": examples.delta_index,
        "policy": examples.policy,
        "retired": examples.retirement,
        "seal": examples.seal,
        "seal-undecided": examples.undecided_seal,
    }[name]
    assert PARSERS[name](data) == expected()


def test_what_the_fixtures_sign_is_valid_and_read() -> None:
    signed = examples.channel_signed().signed
    assert signed is not None
    for name, envelope in (("signed-move", signed), ("signed-statement", examples.statement())):
        payload = base64.b64decode(envelope.payload)
        VALIDATORS[name].validate(json.loads(payload))
        later = json.dumps({**json.loads(payload), "added_later": {"x": 1}}).encode()
        for data in (payload, later):
            read = parse_signed_move(data) if name == "signed-move" else parse_statement(data)
            assert read.model == "embedder"
        for field in json.loads(payload):
            if field != "expires":
                without = {key: value for key, value in json.loads(payload).items() if key != field}
                assert not VALIDATORS[name].is_valid(without)
                with pytest.raises(FormatError, match="is missing"):
                    (parse_signed_move if name == "signed-move" else parse_statement)(json.dumps(without).encode())


def test_the_signatures_of_the_fixtures_are_right() -> None:
    """Whoever writes another reader may check his own by them: they are as a rotation leaves them."""
    found = parse_channel((examples.FIXTURES / "channel-signed.json").read_bytes())
    now = "2026-11-30T00:00:00Z"
    data = (examples.FIXTURES / "statement.json").read_bytes()
    for trust in (trusting(1), trusting(2), trusting(1, 2, threshold=2)):  # of the old key, the new one, and both
        move = verify_channel(trust, found, model="embedder", name="current", where="", now=now)
        stated = verify_statement(trust, data, model="embedder", digest=move.digest, where="")
        assert (
            (stated.digest, stated.signers) == (move.digest, move.signers) == (move.digest, tuple(sorted(trust.keys)))
        )
