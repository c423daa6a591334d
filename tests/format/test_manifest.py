from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldrop.errors import FormatError
from modeldrop.format.manifest import (
    MAX_BYTES,
    Manifest,
    manifest_digest,
    parse_manifest,
    piece_count,
    serialize_manifest,
)
from tests.format import examples
from tests.format.hostile import (
    HOSTILE_PATHS,
    MANIFEST,
    MANIFESTS_BY_SCHEMA,
    Change,
    add_files,
    assert_printable,
    changed,
    removing,
    rename_file,
    setting,
)
from tests.format.strategies import json_values, manifests, mutated
from tests.helpers.rounds import rounds

BEYOND_SCHEMA: dict[str, Change] = {
    "too few pieces": setting("files", 1, "pieces", ["0" * 64] * 5),
    "too many pieces": setting("files", 1, "pieces", ["0" * 64] * 7),
    "pieces of an empty file": setting("files", 0, "size", 0),
    "repeated path": add_files("config.json"),
    "duplicate after case folding": add_files("Config.JSON"),
    "duplicate after folding a folder": add_files("ONNX/model.onnx"),
    "duplicate in full width": add_files("\uff43onfig.json"),
    "duplicate of sharp s": add_files("straße.txt", "strasse.txt"),
    "duplicate in NFD": add_files("é.txt", unicodedata.normalize("NFD", "é.txt")),
    "file that is also a folder": add_files("onnx"),
    "folder that is also a file": add_files("config.json/x"),
    "variant naming an unknown file": setting("variants", 0, "files", ["onnx/model.onnx", "nothing.json"]),
    "graph that is not among the files": setting("variants", 0, "model", "onnx/model_quantized.onnx"),
    "variant twice": setting("variants", 1, "name", "fp32"),
}
"""What only the parser can say."""


@given(manifests())
def test_round_trip(manifest: Manifest) -> None:
    data = serialize_manifest(manifest)
    parsed = parse_manifest(data)
    assert parsed == manifest
    assert serialize_manifest(parsed) == data
    assert manifest_digest(data).startswith("sha256:")


@given(st.binary() | json_values().map(lambda value: json.dumps(value).encode()))
def test_arbitrary_documents_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_manifest(data)


@settings(max_examples=rounds(40, 3000))
@given(mutated(MANIFEST))
def test_mutated_manifests_raise_nothing_else(data: bytes) -> None:
    try:
        manifest = parse_manifest(data)
    except FormatError as error:
        assert_printable(error.message)
        return
    assert parse_manifest(serialize_manifest(manifest)) == manifest


@pytest.mark.parametrize("change", MANIFESTS_BY_SCHEMA.values(), ids=MANIFESTS_BY_SCHEMA)
def test_hostile_values_are_refused(change: Change) -> None:
    with pytest.raises(FormatError):
        parse_manifest(changed(MANIFEST, change))


@pytest.mark.parametrize("change", BEYOND_SCHEMA.values(), ids=BEYOND_SCHEMA)
def test_hostile_relations_are_refused(change: Change) -> None:
    with pytest.raises(FormatError):
        parse_manifest(changed(MANIFEST, change))


@pytest.mark.parametrize("path", HOSTILE_PATHS.values(), ids=HOSTILE_PATHS)
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        parse_manifest(changed(MANIFEST, rename_file(path)))


def test_a_renamed_file_alone_is_no_reason() -> None:
    assert parse_manifest(changed(MANIFEST, rename_file("config2.json"))).files[0].path == "config2.json"


@pytest.mark.parametrize("value", ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1" * 5000])
@pytest.mark.parametrize("field", ['"size": 612', '"cosine_mean": 0.9905', '"batch_1_ms": 1.8'])
def test_numbers_that_are_none(field: str, value: str) -> None:
    assert field.encode() in MANIFEST
    name = field.split(":", maxsplit=1)[0]
    with pytest.raises(FormatError):
        parse_manifest(MANIFEST.replace(field.encode(), f"{name}: {value}".encode()))


@pytest.mark.parametrize(
    "data",
    [
        b"[" * (10 << 20),
        b'{"a":' * (2 << 20),
        MANIFEST[:-2] + b',"x":' + b"[" * (10 << 20),
        MANIFEST[:-2] + b',"schema":"modeldrop/manifest/1"}',
        MANIFEST.replace(b'"size": 612', b'"size": 612, "size": 612'),
        MANIFEST.replace(b"BertModel", b"Bert\xffModel"),
        MANIFEST.replace(b"BertModel", b"Bert\xed\xb0\x80Model"),
        MANIFEST.replace(b"BertModel", b"\\ud800"),
        MANIFEST.replace(b"BertModel", b"\\u0000"),
        MANIFEST + b" " * MAX_BYTES,
        MANIFEST[:-3],
        MANIFEST.decode().encode("utf-16"),
    ],
    ids=[
        "10 MB of nested arrays",
        "10 MB of nested objects",
        "10 MB of nested arrays in a field",
        "repeated key",
        "repeated key of a file",
        "not UTF-8",
        "surrogate in UTF-8",
        "lone surrogate",
        "NUL",
        "too large",
        "truncated",
        "UTF-16",
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_manifest(data)


def test_an_unknown_schema_names_the_release_that_reads_it() -> None:
    def change(document: dict[str, Any]) -> None:
        document.clear()
        document.update({"schema": "modeldrop/manifest/2", "readable_by": "modeldrop>=3.1", "blobs": 1})

    with pytest.raises(FormatError, match=r"modeldrop/manifest/2(.|\n)*modeldrop>=3\.1"):
        parse_manifest(changed(MANIFEST, change))


def test_an_error_names_its_field_from_the_root() -> None:
    for field, change in {
        "files[1].sha256": setting("files", 1, "sha256", ""),
        "variants[1].files[0]": setting("variants", 1, "files", 0, "x"),
        "variants[0].fidelity.worst.cosine_min.value": removing(
            "variants", 0, "fidelity", "worst", "cosine_min", "value"
        ),
        "build.recipe.max_length": setting("build", "recipe", "max_length", 1),
        "golden.cases[1].inputs.input_ids[0]": setting("golden", "cases", 1, "inputs", "input_ids", ["a"]),
    }.items():
        with pytest.raises(FormatError) as caught:
            parse_manifest(changed(MANIFEST, change))
        assert caught.value.field == field


def test_unknown_fields_are_ignored_everywhere() -> None:
    def add(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                add(inner)
            # Maps hold what their keys say; objects may get fields of later releases.
            if not {"torch", "cosine_mean", "cosine_min", "input_ids", "int8", "max_abs"} & set(value):
                value["added_later"] = {"x": [1]}
        elif isinstance(value, list):
            for inner in value:
                add(inner)

    assert parse_manifest(changed(MANIFEST, add)) == parse_manifest(MANIFEST)


def test_what_is_optional_may_be_null_or_absent() -> None:
    def null(document: Any) -> None:
        for holder, name in _optional(document):
            holder[name] = None

    def absent(document: Any) -> None:
        for holder, name in _optional(document):
            del holder[name]

    bare = parse_manifest(changed(MANIFEST, null))
    assert bare == parse_manifest(changed(MANIFEST, absent))
    assert bare.labels == ()
    assert bare.max_length is None
    assert bare.original.speed is None
    assert bare.variants[0].speed is None
    assert bare.provenance.run == ""


def _optional(document: Any) -> list[tuple[Any, str]]:
    return [
        (document["model"], "labels"),
        (document["model"], "max_length"),
        (document["original"], "speed"),
        (document["golden"], "metrics"),
        *((document["source"], name) for name in ("repository", "commit", "licence")),
        *((document["provenance"], name) for name in ("repository", "commit", "run", "actor")),
        *((variant, "speed") for variant in document["variants"]),
        *((variant["fidelity"], name) for variant in document["variants"] for name in ("thresholds", "worst")),
    ]


@given(st.integers(0, 1 << 40), st.integers(64 << 10, 1 << 30))
def test_pieces_cover_a_file(size: int, piece_size: int) -> None:
    count = piece_count(size, piece_size)
    assert (count - 1) * piece_size < size <= count * piece_size or count == size == 0


def test_sizes() -> None:
    manifest = examples.manifest()
    int8 = manifest.variant("int8")
    assert int8 is not None
    assert manifest.variant("int4") is None
    assert manifest.weights_of(int8) == 23_026_053
    assert manifest.size_of(int8) == 23_026_053 + 612 + 112 + 466_247 + 350 + 231_508
    assert manifest.file("config.json").size == 612
    with pytest.raises(KeyError):
        manifest.file("nothing")


def test_weights_are_the_graph_and_its_external_data() -> None:
    manifest = examples.manifest()
    base = manifest.files[0]
    names = (
        "m/model.onnx",
        "m/model.onnx_data",
        "m/model.bin",
        "m/model_q8.onnx",
        "m/modelcard.md",
        "model.onnx",
    )
    files = tuple(base._replace(path=path, size=10**index) for index, path in enumerate(names))
    variant = manifest.variants[0]._replace(model="m/model.onnx", files=names)
    assert manifest._replace(files=files).weights_of(variant) == 111
