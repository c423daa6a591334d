from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError
from modeldrop.format.records import (
    MAX_BYTES,
    BuildRecord,
    Claim,
    parse_build_record,
    parse_claim,
    serialize_build_record,
    serialize_claim,
)
from tests.format import examples
from tests.format.strategies import build_records, claims, json_values, mutated

CLAIM = serialize_claim(examples.claim())
BUILD = serialize_build_record(examples.build_record())


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


@given(st.binary() | json_values().map(lambda value: json.dumps(value).encode()))
def test_arbitrary_documents_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_claim(data)
    with pytest.raises(FormatError):
        parse_build_record(data)


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


CLAIMS_BY_SCHEMA: dict[str, dict[str, Any]] = {
    "no nonce": {"nonce": None},
    "nonce too long": {"nonce": "x" * 65},
    "bad build key": {"build_key": "x" * 64},
    "run as a number": {"run": 1},
    "bad time": {"at": ""},
    "another document": {"schema": "modeldrop/build/1"},
}
BUILDS_BY_SCHEMA: dict[str, dict[str, Any]] = {
    "no version": {"version": None},
    "version as a path": {"version": "../v1"},
    "version of ten digits": {"version": "v1000000000"},
    "nonce as a number": {"nonce": 1},
    "another document": {"schema": "modeldrop/claim/1"},
}


@pytest.mark.parametrize("change", CLAIMS_BY_SCHEMA.values(), ids=CLAIMS_BY_SCHEMA)
def test_hostile_claims_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_claim(json.dumps({**json.loads(CLAIM), **change}).encode())


@pytest.mark.parametrize("change", BUILDS_BY_SCHEMA.values(), ids=BUILDS_BY_SCHEMA)
def test_hostile_build_records_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_build_record(json.dumps({**json.loads(BUILD), **change}).encode())


def test_what_could_not_be_read_is_not_written() -> None:
    with pytest.raises(FormatError, match="by: "):
        serialize_claim(replace(examples.claim(), by="a" * 257))
    with pytest.raises(FormatError, match="at: "):
        serialize_build_record(replace(examples.build_record(), at=""))


def test_unknown_fields_are_ignored() -> None:
    assert parse_claim(json.dumps({**json.loads(CLAIM), "later": [1]}).encode()) == examples.claim()
    assert parse_build_record(json.dumps({**json.loads(BUILD), "later": 1}).encode()) == examples.build_record()


def test_large_documents_are_refused() -> None:
    with pytest.raises(FormatError, match="are read"):
        parse_claim(CLAIM + b" " * MAX_BYTES)
    with pytest.raises(FormatError, match="are read"):
        parse_build_record(BUILD + b" " * MAX_BYTES)
