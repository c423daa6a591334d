from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError
from modeldrop.format.manifest import serialize_manifest
from modeldrop.format.records import (
    MAX_BYTES,
    BuildRecord,
    Claim,
    Rejection,
    Retirement,
    Seal,
    find_seal,
    parse_build_record,
    parse_claim,
    parse_rejection,
    parse_retirement,
    parse_seal,
    serialize_build_record,
    serialize_claim,
    serialize_rejection,
    serialize_retirement,
    serialize_seal,
)
from tests.format import examples
from tests.format.hostile import (
    BUILD,
    BUILDS_BY_SCHEMA,
    CLAIM,
    CLAIMS_BY_SCHEMA,
    REJECTED,
    REJECTED_BY_SCHEMA,
    RETIRED,
    RETIRED_BY_SCHEMA,
    SEAL,
    SEALS_BY_SCHEMA,
)
from tests.format.strategies import build_records, claims, json_values, mutated, rejections, retirements, seals


@given(claims)
def test_a_claim_round_trips(claim: Claim) -> None:
    data = serialize_claim(claim)
    assert parse_claim(data) == claim
    assert serialize_claim(parse_claim(data)) == data


@given(build_records)
def test_a_build_record_round_trips(record: BuildRecord) -> None:
    data = serialize_build_record(record)
    assert parse_build_record(data) == record
    assert serialize_build_record(parse_build_record(data)) == data


@given(rejections)
def test_a_rejection_round_trips(rejection: Rejection) -> None:
    data = serialize_rejection(rejection)
    assert parse_rejection(data) == rejection
    assert serialize_rejection(parse_rejection(data)) == data


@given(retirements)
def test_a_retirement_round_trips(retirement: Retirement) -> None:
    data = serialize_retirement(retirement)
    assert parse_retirement(data) == retirement
    assert serialize_retirement(parse_retirement(data)) == data


@given(seals)
def test_a_seal_round_trips(seal: Seal) -> None:
    data = serialize_seal(seal)
    assert find_seal(data) == parse_seal(data) == seal
    assert serialize_seal(parse_seal(data)) == data


def test_a_manifest_survives_in_a_seal_byte_for_byte() -> None:
    data = serialize_manifest(examples.manifest())
    assert parse_seal(SEAL).manifest.encode() == data
    assert find_seal(data) is None


@given(st.binary() | json_values().map(lambda value: json.dumps(value).encode()))
def test_arbitrary_documents_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_claim(data)
    with pytest.raises(FormatError):
        parse_build_record(data)
    with pytest.raises(FormatError):
        parse_rejection(data)
    with pytest.raises(FormatError):
        parse_retirement(data)
    assert find_seal(data) is None


@given(mutated(REJECTED))
def test_mutated_rejections_raise_nothing_else(data: bytes) -> None:
    try:
        rejection = parse_rejection(data)
    except FormatError:
        return
    assert parse_rejection(serialize_rejection(rejection)) == rejection


@given(mutated(RETIRED))
def test_mutated_retirements_raise_nothing_else(data: bytes) -> None:
    try:
        retirement = parse_retirement(data)
    except FormatError:
        return
    assert parse_retirement(serialize_retirement(retirement)) == retirement


@given(mutated(serialize_seal(examples.seal())))
def test_mutated_seals_raise_nothing_else(data: bytes) -> None:
    seal = find_seal(data)
    assert seal is None or parse_seal(serialize_seal(seal)) == seal


@given(mutated(CLAIM))
def test_mutated_claims_raise_nothing_else(data: bytes) -> None:
    try:
        claim = parse_claim(data)
    except FormatError:
        return
    assert parse_claim(serialize_claim(claim)) == claim


@given(mutated(BUILD))
def test_mutated_build_records_raise_nothing_else(data: bytes) -> None:
    try:
        record = parse_build_record(data)
    except FormatError:
        return
    assert parse_build_record(serialize_build_record(record)) == record


@pytest.mark.parametrize("change", CLAIMS_BY_SCHEMA.values(), ids=CLAIMS_BY_SCHEMA)
def test_hostile_claims_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_claim(json.dumps({**json.loads(CLAIM), **change}).encode())


@pytest.mark.parametrize("change", BUILDS_BY_SCHEMA.values(), ids=BUILDS_BY_SCHEMA)
def test_hostile_build_records_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_build_record(json.dumps({**json.loads(BUILD), **change}).encode())


@pytest.mark.parametrize("change", REJECTED_BY_SCHEMA.values(), ids=REJECTED_BY_SCHEMA)
def test_hostile_rejections_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_rejection(json.dumps({**json.loads(REJECTED), **change}).encode())


@pytest.mark.parametrize("change", RETIRED_BY_SCHEMA.values(), ids=RETIRED_BY_SCHEMA)
def test_hostile_retirements_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_retirement(json.dumps({**json.loads(RETIRED), **change}).encode())


@pytest.mark.parametrize("change", SEALS_BY_SCHEMA.values(), ids=SEALS_BY_SCHEMA)
def test_hostile_seals_are_refused(change: dict[str, Any]) -> None:
    data = json.dumps({**json.loads(SEAL), **change}).encode()
    with pytest.raises(FormatError):
        parse_seal(data)
    assert find_seal(data) is None


def test_what_could_not_be_read_is_not_written() -> None:
    with pytest.raises(FormatError, match="why: "):
        serialize_retirement(examples.retirement()._replace(why="a" * 513))
    with pytest.raises(FormatError, match="run: "):
        serialize_rejection(examples.rejection()._replace(run="a" * 2049))
    with pytest.raises(FormatError, match="at most 4096 are written"):
        serialize_seal(examples.seal()._replace(by="\x01" * 256, why="\x01" * 512))
    with pytest.raises(FormatError, match="by: "):
        serialize_claim(examples.claim()._replace(by="a" * 257))
    with pytest.raises(FormatError, match="at: "):
        serialize_build_record(examples.build_record()._replace(at=""))


def test_unknown_fields_are_ignored() -> None:
    assert parse_rejection(json.dumps({**json.loads(REJECTED), "later": 1}).encode()) == examples.rejection()
    assert parse_retirement(json.dumps({**json.loads(RETIRED), "later": 1}).encode()) == examples.retirement()
    assert parse_seal(json.dumps({**json.loads(SEAL), "later": 1}).encode()) == examples.undecided_seal()
    assert parse_claim(json.dumps({**json.loads(CLAIM), "later": [1]}).encode()) == examples.claim()
    assert parse_build_record(json.dumps({**json.loads(BUILD), "later": 1}).encode()) == examples.build_record()


def test_large_documents_are_refused() -> None:
    with pytest.raises(FormatError, match="are read"):
        parse_claim(CLAIM + b" " * MAX_BYTES)
    with pytest.raises(FormatError, match="are read"):
        parse_build_record(BUILD + b" " * MAX_BYTES)
