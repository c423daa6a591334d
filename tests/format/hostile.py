"""Valid documents, and the changes after which no parser and no schema may accept them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

from modeldrop.format.channel import (
    serialize_channel,
)
from modeldrop.format.manifest import (
    serialize_manifest,
)
from modeldrop.format.records import (
    serialize_build_record,
    serialize_claim,
    serialize_rejection,
    serialize_retirement,
    serialize_seal,
)
from tests.format import examples

Change = Callable[[dict[str, Any]], None]


def setting(*spot: Any) -> Change:
    *route, last, value = spot

    def change(document: Any) -> None:
        for step in route:
            document = document[step]
        document[last] = value

    return change


def removing(*spot: Any) -> Change:
    *route, last = spot

    def change(document: Any) -> None:
        for step in route:
            document = document[step]
        del document[last]

    return change


RECIPES_BY_SCHEMA: dict[str, dict[str, Any]] = {
    "unknown key": {"variant": ["int8"]},
    "unknown task": {"task": "telepathy"},
    "unknown variant": {"variants": ["int3"]},
    "no variant": {"variants": []},
    "variant twice": {"variants": ["int8", "int8"]},
    "variants as text": {"variants": "int8"},
    "threshold of an unknown variant": {"thresholds": {"int3": {}}},
    "unknown metric": {"thresholds": {"int8": {"cosine": 0.9}}},
    "threshold as text": {"thresholds": {"int8": {"top1": "0.9"}}},
    "threshold as boolean": {"thresholds": {"int8": {"top1": True}}},
    "max_length too small": {"max_length": 7},
    "truncate_dim of nothing": {"truncate_dim": 0},
    "opset too low": {"opset": 13},
    "opset too high": {"opset": 21},
    "unknown exporter": {"exporter": "torch"},
    "unknown place of weights": {"external_data": "yes"},
    "layers that are kept of fused ones": {"options": {"o2": {"keep_layers": ["*"]}}},
    "max_length too large": {"max_length": (1 << 20) + 1},
    "max_length as boolean": {"max_length": True},
    "boolean as number": {"allow_pickle": 1},
    "boolean as text": {"trust_remote_code": "false"},
    "NUL in inputs": {"inputs": "a\0"},
    "NUL in texts": {"texts": "a\0"},
    "inputs under both names": {"inputs": "a", "texts": "b"},
    "own metric without a function": {"metric": "quality"},
    "own metric that is no name": {"metric": "quality:f1-score"},
    "threshold of an own metric, without one": {"thresholds": {"int8": {"accuracy": ">= 0.9"}}},
    "threshold of an own metric without a side": {"metric": "q:f", "thresholds": {"int8": {"accuracy": 0.9}}},
    "threshold of an own metric that is none": {"metric": "q:f", "thresholds": {"int8": {"accuracy": "> 0.9"}}},
    "own metric that has no name": {"metric": "q:f", "thresholds": {"int8": {"f1-score": ">= 0.9"}}},
    "relative threshold of what is relative": {"metric": "q:f", "thresholds": {"int8": {"top1": ">= 99%"}}},
    "limits apart, as manifests have them": {"metric": "q:f", "own_thresholds": {"int8": {"accuracy": ">= 1"}}},
    "options of an unknown variant": {"options": {"int3": {}}},
    "unknown option": {"options": {"int8": {"smaller": True}}},
    "size without a unit": {"options": {"int8": {"max_size": "25"}}},
    "size as number": {"options": {"int8": {"max_size": 25}}},
    "speed as text": {"options": {"int8": {"must_be_faster": "yes"}}},
    "speed below zero": {"options": {"int8": {"must_be_faster": -1}}},
    "layers as text": {"options": {"int8": {"keep_layers": "*"}}},
    "search for what is made in one way": {"options": {"int4": {"auto": True}}},
    "options of fp32": {"options": {"fp32": {"max_size": "27%"}}},
}

CLAIM = serialize_claim(examples.claim())
BUILD = serialize_build_record(examples.build_record())
REJECTED = serialize_rejection(examples.rejection())
RETIRED = serialize_retirement(examples.retirement())
SEAL = serialize_seal(examples.undecided_seal())
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
REJECTED_BY_SCHEMA: dict[str, dict[str, Any]] = {
    "no time": {"at": None},
    "no run": {"run": None},
    "reason too long": {"why": "x" * 513},
    "another document": {"schema": "modeldrop/retired/1"},
}
RETIRED_BY_SCHEMA: dict[str, dict[str, Any]] = {
    "no time": {"at": None},
    "by as a number": {"by": 1},
    "reason too long": {"why": "x" * 513},
    "another document": {"schema": "modeldrop/seal/1"},
}
SEALS_BY_SCHEMA: dict[str, dict[str, Any]] = {
    "not sealed": {"sealed": None},
    "sealed without a word": {"sealed": True},
    "no reason": {"sealed": {"at": "2026-11-20T09:44:40Z", "by": ""}},
    "bad time": {"sealed": {"at": "yesterday", "by": "", "why": ""}},
    "manifest as an object": {"manifest": {}},
    "another document": {"schema": "modeldrop/manifest/1"},
}

CHANNEL = serialize_channel(examples.channel())
CHANNELS_BY_SCHEMA: dict[str, dict[str, Any]] = {
    "version as a number": {"version": 1},
    "version of zero": {"version": "v0"},
    "version without v": {"version": "1"},
    "digest of another kind": {"digest": "md5:" + "0" * 32},
    "generation of zero": {"generation": 0},
    "generation of 2**63": {"generation": 1 << 63},
    "generation as a boolean": {"generation": True},
    "no history": {"history": None},
    "history of text": {"history": ["v1"]},
    "unknown schema": {"schema": "modeldrop/channel/2"},
    "bad time": {"at": "2026-11-20"},
    "long reason": {"why": "a" * 4097},
    "no author": {"by": None},
    "wanted as text": {"wanted": "v1"},
    "wanted without a run": {"wanted": {"build_key": "0" * 64, "at": "2026-11-20T09:40:02Z", "generation": 1}},
    "another key": {"wanted": {"build_key": "0", "at": "2026-11-20T09:40:02Z", "run": "", "generation": 1}},
}

MANIFEST_OF_GRAPHS = serialize_manifest(examples.manifest_of_graphs())
CHAIN = ("golden", "chains", 0)
LITERAL = (*CHAIN, "steps", 0, "inputs", "input_ids")
GRID = (*CHAIN, "steps", 1, "inputs", "bias")
LINK = (*CHAIN, "steps", 1, "inputs", "encoder_hidden_states")
CHAINS_BY_SCHEMA: dict[str, Change] = {
    "type that is none": setting(*LITERAL, "dtype", "object"),
    "type as a number": setting(*LITERAL, "dtype", 7),
    "values as text": setting(*LITERAL, "values", ["1", "2", "3"]),
    "negative dimension": setting(*LITERAL, "shape", [1, -3]),
    "too many dimensions": setting(*LITERAL, "shape", [1] * 9),
    "link to a negative step": setting(*LINK, "step", -1),
    "link without a step": setting(*LINK, {"output": "last_hidden_state"}),
    "no steps": setting(*CHAIN, "steps", []),
    "no outputs": setting(*CHAIN, "outputs", []),
    "answer without a shape": setting(*CHAIN, "shape", []),
    "value as null": setting(*CHAIN, "values", [None] * 6),
    "role as a number": setting("variants", 0, "role", 1),
    "graph without a path": setting("variants", 0, "graphs", [{"role": "x", "inputs": [], "outputs": []}]),
}
"""What a JSON Schema can say, and what the parser says."""

MANIFEST = serialize_manifest(examples.manifest())
MANIFESTS_BY_SCHEMA: dict[str, Change] = {
    "negative size": setting("files", 0, "size", -1),
    "size of 2**63": setting("files", 0, "size", 1 << 63),
    "size above the limit": setting("files", 0, "size", (1 << 40) + 1),
    "size as a boolean": setting("files", 0, "size", True),
    "size as text": setting("files", 0, "size", "612"),
    "fractional size": setting("files", 0, "size", 612.5),
    "size missing": removing("files", 0, "size"),
    "opset as a boolean": setting("variants", 0, "opset", True),
    "bad digest": setting("files", 0, "sha256", "0" * 63),
    "digest in capitals": setting("files", 0, "sha256", "A" * 64),
    "digest with a prefix": setting("files", 0, "sha256", "sha256:" + "0" * 64),
    "bad piece digest": setting("files", 0, "pieces", ["x" * 64]),
    "piece as a number": setting("files", 0, "pieces", [1]),
    "piece size of zero": setting("piece_size", 0),
    "piece size below the limit": setting("piece_size", 65535),
    "piece size above the limit": setting("piece_size", (1 << 30) + 1),
    "unknown schema": setting("schema", "modeldrop/manifest/2"),
    "another document": setting("schema", "modeldrop/channel/1"),
    "schema missing": removing("schema"),
    "no variants": setting("variants", []),
    "variants missing": removing("variants"),
    "files as an object": setting("files", {}),
    "file as text": setting("files", 0, "config.json"),
    "variant with a bad name": setting("variants", 0, "name", "../fp32"),
    "variant without files": setting("variants", 0, "files", []),
    "variant naming a file twice": setting("variants", 0, "files", ["onnx/model.onnx", "onnx/model.onnx"]),
    "bad build key": setting("build", "key", "no"),
    "epoch of zero": setting("build", "epoch", 0),
    "toolchain with a number": setting("build", "toolchain", "torch", 2.13),
    "bad time": setting("provenance", "created", "yesterday"),
    "NUL in a text": setting("model", "task", "a\0b"),
    "text too long": setting("model", "task", "a" * 65),
    "negative token": setting("golden", "cases", 0, "inputs", "input_ids", [-1]),
    "token as a boolean": setting("golden", "cases", 0, "inputs", "input_ids", [True]),
    "value as a boolean": setting("golden", "cases", 0, "values", [True]),
    "value as null": setting("golden", "cases", 0, "values", [None]),
    "metric as text": setting("variants", 0, "fidelity", "metrics", "top1", "1"),
    "speed as a number": setting("variants", 0, "speed", 1),
    "recipe as a list": setting("build", "recipe", []),
    "labels with a number": setting("model", "labels", [1]),
}
"""What a JSON Schema can say, and what the parser says."""

HOSTILE_PATHS = {
    "empty": "",
    "absolute": "/etc/passwd",
    "root": "/",
    "parent": "..",
    "parent first": "../x",
    "parent within": "a/../../x",
    "parent last": "a/..",
    "present": ".",
    "present within": "a/./x",
    "empty part": "a//x",
    "folder": "a/",
    "back-slash": "a\\x",
    "UNC": "\\\\server\\share",
    "NUL": "a\0x",
    "line feed": "a\nx",
    "escape": "a\x1b[31m",
    "delete": "a\x7f",
    "C1 control": "a\x85x",
    "zero width": "a\u200bx",
    "soft hyphen": "a\xadx",
    "right to left": "a\u202exnno.exe",
    "line separator": "a\u2028x",
    "lone surrogate": "a\ud800",
    "drive": "C:/x",
    "drive relative": "c:x",
    "alternate stream": "a:x",
    "NFD": unicodedata.normalize("NFD", "é.txt"),
    "blank first": " a",
    "blank last": "a ",
    "dot last": "a./x",
    "three dots": "...",
    "513 bytes": "a/" * 256 + "x",
    "long part": "a" * 256,
    "long part in UTF-8": "é" * 128,
    "manifest": "manifest.json",
    "manifest in capitals": "MANIFEST.json",
    "manifest in full width": "manifest.json".translate({ord("m"): "\uff4d"}),
    "manifest as folder": "manifest.json/x",
    "claim": "claim.json",
    "rejected": "Rejected.json",
    "retired": "retired.json",
    "report": "Report.HTML",
    "own folder": ".modeldrop/x",
    "own folder in capitals": ".ModelDrop",
}


def changed(document: bytes, change: Change) -> bytes:
    """A JSON document after ``change``."""
    parsed = json.loads(document)
    change(parsed)
    return json.dumps(parsed).encode()


def assert_printable(text: str) -> None:
    """No terminal and no log is at the mercy of ``text``."""
    assert text.isprintable()


def rename_file(path: str) -> Change:
    def change(document: Any) -> None:
        old = document["files"][0]["path"]
        document["files"][0]["path"] = path
        for variant in document["variants"]:
            variant["files"] = [path if name == old else name for name in variant["files"]]

    return change


def add_files(*paths: str) -> Change:
    def change(document: Any) -> None:
        document["files"] += [{"path": path, "size": 0, "sha256": "0" * 64, "pieces": []} for path in paths]

    return change
