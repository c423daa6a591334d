from __future__ import annotations

import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError
from modeldrop.format.deltas import (
    MAX_BYTES,
    decode_piece,
    delta_path,
    encode_piece,
    parse_delta_index,
    serialize_delta_index,
)
from tests.format import examples
from tests.format.strategies import json_values, mutated

pieces = st.binary(max_size=300)


@given(base=pieces, new=st.binary(min_size=1, max_size=300), width=st.sampled_from([1, 2, 3, 4, 16]))
def test_a_piece_comes_back_whatever_the_lengths(base: bytes, new: bytes, width: int) -> None:
    assert decode_piece(base, encode_piece(base, new, width), len(new), width) == new


@given(base=st.binary(min_size=1, max_size=300), width=st.sampled_from([1, 2, 4]))
def test_what_is_the_same_takes_nothing(base: bytes, width: int) -> None:
    assert encode_piece(base, base, width) == b""
    assert encode_piece(base + b"more", base, width) == b""
    assert encode_piece(base, base + b"\0\0", width) == b""


@given(base=pieces, data=st.binary(max_size=300), size=st.integers(1, 300), width=st.integers(1, 16))
def test_any_bytes_give_a_piece_of_the_size_or_none(base: bytes, data: bytes, size: int, width: int) -> None:
    made = decode_piece(base, data, size, width)
    assert made is None or len(made) == size


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_a_delta_of_another_length_gives_nothing(size: int) -> None:
    assert decode_piece(b"base", zlib.compress(bytes(size + 1)), size) is None
    assert decode_piece(b"base", zlib.compress(bytes(size - 1)), size) is None
    assert decode_piece(b"base", zlib.compress(bytes(size))[:3], size) is None


def test_a_bomb_takes_no_more_memory_than_a_piece() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    tracemalloc.start()
    assert decode_piece(b"", bomb, 1 << 20) is None
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 << 20


def test_an_index_round_trips() -> None:
    data = serialize_delta_index(examples.delta_index())
    assert parse_delta_index(data) == examples.delta_index()
    assert serialize_delta_index(parse_delta_index(data)) == data


def test_a_delta_lies_below_the_beginning_of_its_bases_digest() -> None:
    assert delta_path(f"sha256:{'ab' * 32}", "onnx/model.onnx") == "deltas/abababababababab/onnx/model.onnx"


def _index(**fields: Any) -> bytes:
    document = json.loads(serialize_delta_index(examples.delta_index()))
    document["bases"][0]["files"][0] |= fields
    return json.dumps(document).encode()


STORED = json.loads(_index())["bases"][0]["files"][0]["stored"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"lengths": [4321]}, None),
        ({"lengths": [4321, 1]}, "bases"),
        ({"lengths": [-1, 4322]}, "lengths"),
        ({"lengths": [True, 4321]}, "lengths"),
        ({"lengths": [1 << 31, 0]}, "lengths"),
        ({"base_sha256": "abc"}, "base_sha256"),
        ({"base_size": -1}, "base_size"),
        ({"width": 0}, "width"),
        ({"width": 17}, "width"),
        ({"stored": STORED | {"path": "/etc/passwd"}}, "path"),
        ({"stored": STORED | {"path": "deltas/../../claim.json"}}, "path"),
        ({"stored": STORED | {"path": "manifest.json"}}, "path"),
        ({"stored": STORED | {"pieces": []}}, "bases"),
        ({"stored": STORED | {"size": 1}}, "bases"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(fields: dict[str, Any], field: str | None) -> None:
    if field is None:  # how many pieces there are only the manifest says
        assert parse_delta_index(_index(**fields)).bases[0].files[0].lengths == (4321,)
        return
    with pytest.raises(FormatError) as refused:
        parse_delta_index(_index(**fields))
    assert field in str(refused.value)


@pytest.mark.parametrize("size", [(16 << 20) + 1, 1000])
def test_pieces_that_would_fill_the_memory_are_refused(size: int) -> None:
    document = json.loads(_index()) | {"piece_size": size}
    with pytest.raises(FormatError, match="piece_size"):
        parse_delta_index(json.dumps(document).encode())


def test_two_deltas_are_not_one_object() -> None:
    document = json.loads(_index())
    document["bases"].append(document["bases"][0] | {"manifest": f"sha256:{'0' * 64}"})
    with pytest.raises(FormatError, match="the same file"):
        parse_delta_index(json.dumps(document).encode())
    document["bases"][1] = document["bases"][0]
    with pytest.raises(FormatError, match="names a base twice"):
        parse_delta_index(json.dumps(document).encode())


@given(
    st.one_of(st.binary(max_size=200), json_values().map(lambda value: json.dumps(value).encode()), mutated(_index()))
)
def test_any_bytes_are_an_index_or_refused(data: bytes) -> None:
    try:
        index = parse_delta_index(data)
    except FormatError:
        return
    assert len(serialize_delta_index(index)) <= MAX_BYTES
