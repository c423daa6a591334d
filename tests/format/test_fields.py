from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import FormatError
from modeldrop.format.json_fields import Fields, check_schema, dump, load_json
from tests.format.strategies import json_values, texts

LIMIT = 16 << 20


@given(st.dictionaries(texts(), json_values(), max_size=4))
def test_dump_is_canonical_and_loads_again(value: dict[str, Any]) -> None:
    data = dump(value)
    assert data == dump(dict(reversed(value.items())))
    assert data.endswith(b"\n")
    assert not data.endswith(b"\n\n")
    assert json.loads(data) == value
    assert load_json(data, "document", limit=LIMIT)._value == value


def test_dump_is_readable() -> None:
    assert dump({"b": ["é"], "a": {}}) == '{\n  "a": {},\n  "b": [\n    "é"\n  ]\n}\n'.encode()


@given(st.binary())
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        load_json(data, "document", limit=LIMIT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"1",
        b"{} {}",
        b"{",
        b'{"a": 1,}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": -1e400}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1, "a": 1}',
        b'{"a": {"b": 1, "b": 2}}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'\xef\xbb\xbf{"a": 1}',
        '{"a": 1}'.encode("utf-16"),
        b'{"a": "\n"}',
    ],
)
def test_what_is_not_strict_json_is_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        load_json(data, "document", limit=LIMIT)


def test_a_surrogate_pair_is_one_character() -> None:
    assert load_json(b'{"a": "\\ud83d\\udd0e"}', "document", limit=LIMIT).text("a") == "🔎"


def test_the_limit_is_in_bytes() -> None:
    load_json(b'{"a": 1}', "document", limit=8)
    with pytest.raises(FormatError, match="at most 7 are read"):
        load_json(b'{"a": 1}', "document", limit=7)


def test_depth() -> None:
    def nested(levels: int) -> bytes:
        return b'{"a": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"

    load_json(nested(32), "document", limit=LIMIT)
    with pytest.raises(FormatError, match="nests deeper than 32"):
        load_json(nested(33), "document", limit=LIMIT)


def test_brackets_in_text_are_no_nesting() -> None:
    text = '[{"\\' * 100
    assert load_json(json.dumps({"a": text}).encode(), "document", limit=LIMIT).text("a") == text


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a":[' + b"1," * 400_001 + b"1]}", "document has more than 400000 values"),
        (b'{"a":[' + b'{"k":1},' * 50_000 + b"1]}", "document has more than 50000 objects"),
        (b'{"a":[' + b"[]," * 50_000 + b"1]}", "document has more than 50000 lists"),
        (b'{"a":"' + b"\\n" * 200_001 + b'"}', "document has more than 200000 back-slashes"),
        (b'"' * 1_000_001, "document has more than 1000000 quotes"),
    ],
)
def test_what_would_take_seconds_or_much_memory_is_refused_unparsed(
    data: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("json.loads", None)
    with pytest.raises(FormatError, match=said):
        load_json(data, "document", limit=LIMIT)


def test_a_manifest_of_digests_as_large_as_one_may_be_is_read() -> None:
    data = dump({"pieces": ["0" * 64] * 220_000})
    assert 15 << 20 < len(data) < LIMIT
    assert len(load_json(data, "document", limit=LIMIT).texts("pieces", limit=220_000)) == 220_000


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10_000_000,
        b'{"a":' * 2_000_000,
        b'{"a":"' + b'\\"' * 2_000_000,
        b'{"a":' + b"\\" * 4_000_000,
        b'"' * 2_000_000,
        b"{" + b",".join(b'"%d":1' % number for number in range(200_000)) + b',"199999":1}',
        b'{"a":' + b"]" * 2_000_000,
    ],
    ids=["arrays", "objects", "quotes", "backslashes", "empty-strings", "repeated-key", "closing"],
)
def test_hostile_sizes_take_linear_time(data: bytes) -> None:
    with pytest.raises(FormatError):
        load_json(data, "document", limit=LIMIT)


@given(st.dictionaries(texts(4), json_values(), max_size=3), texts(4))
def test_every_getter_raises_nothing_else(value: dict[str, Any], name: str) -> None:
    fields = Fields(value, "a.b[0]")
    for get in (
        lambda: fields.text(name),
        lambda: fields.integer(name, low=0, high=9),
        lambda: fields.number(name),
        lambda: fields.boolean(name),
        lambda: fields.texts(name, limit=3),
        lambda: fields.integers(name, low=0, high=9, limit=3),
        lambda: fields.numbers(name, limit=3),
        lambda: fields.child(name),
        lambda: list(fields.children(name, limit=3)),
        fields.refuse_unknown,
    ):
        with contextlib.suppress(FormatError):
            get()


def test_a_boolean_is_no_number() -> None:
    fields = Fields({"a": True, "b": [True]}, "")
    for get in (
        lambda: fields.integer("a", low=0, high=9),
        lambda: fields.number("a"),
        lambda: fields.integers("b", low=0, high=9, limit=9),
        lambda: fields.numbers("b", limit=9),
    ):
        with pytest.raises(FormatError):
            get()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**400, -(10**400)])
def test_numbers_are_finite_even_from_toml(value: float) -> None:
    fields = Fields({"a": value, "b": [value]}, "")
    with pytest.raises(FormatError, match="finite"):
        fields.number("a")
    with pytest.raises(FormatError, match="finite"):
        fields.numbers("b", limit=9)


@pytest.mark.parametrize("name", ["x\n::error::pwned", "\x1b[31m", "long" * 1000])
def test_hostile_names_do_not_reach_a_log_as_they_are(name: str) -> None:
    with pytest.raises(FormatError) as caught:
        Fields({name: "x"}, "metrics").number(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_null_is_absent() -> None:
    fields = Fields({"a": None}, "")
    assert not fields.has("a")
    assert fields.text("a", default="-") == "-"
    with pytest.raises(FormatError, match="a: is missing"):
        fields.text("a")


def test_an_unknown_schema_names_its_reader() -> None:
    fields = Fields({"schema": "modeldrop/manifest/9", "readable_by": "modeldrop>=4.2"}, "")
    with pytest.raises(FormatError, match=r"modeldrop/manifest/9(.|\n)*modeldrop>=4\.2") as caught:
        check_schema(fields, "modeldrop/manifest/1")
    assert caught.value.field == "schema"


@pytest.mark.parametrize("reader", [None, "", "\n::warning::x"])
def test_an_unknown_schema_without_a_usable_reader(reader: str | None) -> None:
    fields = Fields({"schema": "modeldrop/manifest/9", "readable_by": reader}, "")
    with pytest.raises(FormatError) as caught:
        check_schema(fields, "modeldrop/manifest/1")
    assert caught.value.hint == "Install the release that reads it: a newer modeldrop."
