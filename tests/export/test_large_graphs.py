"""Graphs whose weights lie beside them, made small here: the limits of protobuf are lowered, not reached."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from modeldrop.export import onnx_files, onnx_weights
from modeldrop.export.quantizers import dynamic, embeddings, quantizer
from modeldrop.format.variants import VARIANTS

VOCABULARY, WIDTH = 5000, 64
IDS = np.array([[0, 7, 4999, 123, 42]], np.int64)


def graph(folder: Path, *, beside: bool) -> Path:
    """Embeddings of two kinds, two layers, and the embeddings again as output layer, as tied models have them."""
    random = np.random.default_rng(0)
    weights = {
        "table": random.normal(0.1, 1, (VOCABULARY, WIDTH)),
        "positions": random.normal(0, 1, (16, WIDTH)),
        "first": random.normal(0, 0.1, (WIDTH, 256)),
        "second": random.normal(0, 0.1, (256, WIDTH)),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"], "words"),
        helper.make_node("Gather", ["positions", "places"], ["where"], "where"),
        helper.make_node("Add", ["words", "where"], ["sum"], "sum"),
        helper.make_node("MatMul", ["sum", "first"], ["inner"], "up"),
        helper.make_node("Relu", ["inner"], ["active"], "relu"),
        helper.make_node("MatMul", ["active", "second"], ["answer"], "down"),
        helper.make_node("Transpose", ["table"], ["tied"], "tied", perm=[1, 0]),
        helper.make_node("MatMul", ["answer", "tied"], ["logits"], "head"),
    ]
    tensors = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    tensors.append(numpy_helper.from_array(np.arange(5), "places"))
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 5])]
    outputs = [
        helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 5, WIDTH]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5, VOCABULARY]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "tied", inputs, outputs, tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    path = folder / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=beside, location="model.onnx_data", size_threshold=0)
    return path


def answer(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"ids": IDS})


def options_of(kind: str, **more: Any) -> dict[str, Any]:
    return {**VARIANTS[kind].options, "keep": [], **more}


@pytest.mark.parametrize("kind", ["int8", "uint8", "int8-avx2"])
def test_embeddings_become_what_the_library_makes_of_them(kind: str, tmp_path: Path) -> None:
    source, theirs, ours = graph(tmp_path, beside=False), tmp_path / "theirs.onnx", tmp_path / "ours.onnx"
    options = options_of(kind)
    quantize_dynamic(
        source,
        theirs,
        per_channel=True,
        reduce_range=options["reduce_range"],
        weight_type=dynamic._TYPES[options["weights"]],
    )
    dynamic.make(source, ours, options)
    for mine, other in zip(answer(ours), answer(theirs), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert ours.stat().st_size == pytest.approx(theirs.stat().st_size, rel=0.01)


@pytest.mark.parametrize("kind", ["int8", "int8-accurate", "int4", "fp16"])
def test_data_beside_a_graph_gives_the_same_variant(kind: str, tmp_path: Path) -> None:
    made = []
    for beside in (False, True):
        folder = tmp_path / str(beside)
        folder.mkdir()
        source = graph(folder, beside=beside)
        there = set(folder.iterdir())
        quantizer(VARIANTS[kind].quantizer)(source, folder / "made.onnx", options_of(kind))
        assert set(folder.iterdir()) == there | {folder / "made.onnx"}
        made.append(answer(folder / "made.onnx"))
    for plain, outside in zip(*made, strict=True):
        np.testing.assert_array_equal(plain, outside)


@pytest.mark.parametrize("kind", ["int8", "int8-accurate", "int4", "fp16"])
def test_a_variant_too_large_for_one_file_has_its_data_beside_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = graph(tmp_path, beside=True)
    for module in (onnx_weights, dynamic):
        monkeypatch.setattr(module, "ONE_FILE", 50_000)
    target = tmp_path / "onnx" / "made.onnx"
    quantizer(VARIANTS[kind].quantizer)(source, target, options_of(kind))
    assert {path.name for path in target.parent.iterdir()} == {"made.onnx", "made.onnx_data"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.parent.iterdir()} == {0o644}
    assert target.stat().st_size < 50_000
    correlation = np.corrcoef(np.ravel(answer(target)[0]), np.ravel(answer(source)[0]))[0, 1]
    assert correlation > 0.95


def test_a_table_that_is_the_last_layer_too_is_there_once(tmp_path: Path) -> None:
    model = embeddings.load_quantized(graph(tmp_path, beside=True), ())
    names = {tensor.name for tensor in model.graph.initializer}
    assert {"table_quantized", "positions_quantized"} <= names
    assert names.isdisjoint({"table", "positions"})


def test_a_table_that_is_to_be_kept_is_kept(tmp_path: Path) -> None:
    source = graph(tmp_path, beside=False)
    kept = embeddings.load_quantized(source, ["words"])
    chosen = embeddings.load_quantized(source, (), ["where"])
    for model in (kept, chosen):
        names = {tensor.name for tensor in model.graph.initializer}
        assert "table" in names
        assert "table_quantized" not in names
        assert "positions_quantized" in names


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.FLOAT, "float32"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.INT64, "int64"),
        (TensorProto.BOOL, "bool"),
    ],
)
def test_types_are_described_by_their_names_in_numpy(kind: int, name: str, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", kind, ["batch", 2])
    answer = helper.make_tensor_value_info("y", kind, ["batch", 2])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [answer])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    found = onnx_files.describe_onnx(tmp_path / "model.onnx")
    assert [tensor.dtype for tensor in (*found.inputs, *found.outputs)] == [name, name]
