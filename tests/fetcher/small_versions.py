"""Versions with small real graphs and golden answers, for the self-test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modeldrop.format.golden import Golden, GoldenCase
from modeldrop.format.manifest import Fidelity, Manifest, Variant
from tests.format import examples

if TYPE_CHECKING:
    from collections.abc import Mapping

WORDS, WIDTH = 32, 16
TEXTS = {"short": (3, 4), "a longer one": (5, 6, 7, 8, 9), "größer 🔎": (31, 0, 2)}


def weights() -> np.ndarray[Any, Any]:
    return np.random.default_rng(7).standard_normal((WORDS, WIDTH)).astype(np.float32)


def save_graph(path: Path, table: np.ndarray[Any, Any]) -> None:
    """An embedder: the mean of its tokens' vectors."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    out = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", table.shape[1]])
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["tokens"]),
        helper.make_node("ReduceMean", ["tokens"], ["sentence_embedding"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "embedder", [ids], [out], [numpy_helper.from_array(table, "table")])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def make_version(
    folder: Path,
    table: np.ndarray[Any, Any] | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    built: Mapping[str, float] | None = None,
) -> tuple[Path, Manifest, Variant]:
    """A version whose original has ``weights``, with a graph that has ``table``."""
    save_graph(folder / "onnx" / "model_quantized.onnx", weights() if table is None else table)
    example = examples.manifest()
    variant = example.variants[0]._replace(
        name="int8",
        model="onnx/model_quantized.onnx",
        fidelity=Fidelity(
            {}, {"cosine_mean": 0.98, "cosine_min": 0.93} if thresholds is None else thresholds, {}, len(TEXTS)
        ),
    )
    cases = tuple(
        GoldenCase(text, {"input_ids": ids}, tuple(float(f"{x:.7g}") for x in weights()[list(ids)].mean(0)))
        for text, ids in TEXTS.items()
    )
    golden = Golden("sentence_embedding", cases, {} if built is None else {"int8": built})
    return folder, example._replace(variants=(variant,), golden=golden), variant


def off_by(angle: float) -> np.ndarray[Any, Any]:
    """Weights that answer at about the cosine of ``angle`` to the original's."""
    noise = np.random.default_rng(8).standard_normal((WORDS, WIDTH)).astype(np.float32)
    noise -= (noise * weights()).sum() / (weights() ** 2).sum() * weights()
    return np.asarray(np.cos(angle) * weights() + np.sin(angle) * noise, np.float32)
