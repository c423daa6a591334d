"""Finished builds with small encoders in them that answer: none is exported."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from modeldrop.format.manifest import Manifest, serialize_manifest
from tests.helpers.builds import MODELS, describe, make_build

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ("the", "harbour", "at", "night", "fold", "dough", "four", "times")


def make_encoder(folder: Path, seed: str, *, width: int = 4, words: tuple[str, ...] = WORDS) -> Manifest:
    """Write the build ``seed``: its tokenizer knows the words, and a text's vector is the mean of theirs."""
    manifest = make_build(folder, seed)
    tokens = Tokenizer(models.WordLevel({word: number for number, word in enumerate(("?", *words))}, unk_token="?"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens.save(str(folder / "tokenizer.json"))
    numbers = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16))
    table = numbers.standard_normal((len(words) + 1, width)).astype(np.float32)
    for path in MODELS.values():
        onnx.save(_graph(table, manifest.golden.output), folder / path)
    shared = (*manifest.variants[0].files[1:], "tokenizer.json")
    paths = sorted({*shared, *MODELS.values()})
    manifest = manifest._replace(
        files=tuple(describe(path, (folder / path).read_bytes()) for path in paths),
        variants=tuple(variant._replace(files=(variant.model, *shared)) for variant in manifest.variants),
    )
    (folder / "manifest.json").write_bytes(serialize_manifest(manifest))
    return manifest


def _graph(table: np.ndarray, output: str) -> onnx.ModelProto:
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("ReduceMean", ["found", "axes"], [output], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", table.shape[1]])],
        [numpy_helper.from_array(table, "table"), axes],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
