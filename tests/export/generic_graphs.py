"""Small ONNX graphs of every kind, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING


def value(name: str, kind: int, shape: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    domains: tuple[str, ...] = (),
) -> Path:
    """Write a graph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    ir_version = helper.find_min_ir_version_for(imports, ignore_unknown=True)
    if ir_version < 4:  # weights are inputs too, there
        inputs = [*inputs, *(value(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, tensors), opset_imports=imports, ir_version=ir_version
    )
    onnx.save(model, path)
    return path


def weights(rows: int = 4, columns: int = 3, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(dtype)


def scorer(path: Path, *, rows: int = 4, opset: int = 17, dtype: Any = np.float32, noise: float = 0.0) -> Path:
    """Scores of three classes, and the label of the highest one, of rows of numbers."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return save(
        path,
        [
            helper.make_node("MatMul", ["x", "w"], ["scores"], name="product"),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
        ],
        [value("x", kind, ["rows", rows])],
        [value("scores", kind, ["rows", 3]), value("label", INT64, ["rows"])],
        {"w": (weights(rows) + noise * weights(rows)[::-1]).astype(dtype)},
        opset=opset,
    )


def with_state(path: Path) -> Path:
    """A graph of fixed shape that takes a state and gives the next one, and a whole number without dimensions."""
    return save(
        path,
        [
            helper.make_node("Add", ["x", "state"], ["sum"]),
            helper.make_node("Cast", ["rate"], ["wide"], to=FLOAT),
            helper.make_node("Mul", ["sum", "wide"], ["next"]),
            helper.make_node("ReduceSum", ["next"], ["y"], keepdims=0),
        ],
        [value("x", FLOAT, [1, 8]), value("state", FLOAT, [1, 8]), value("rate", INT64, [])],
        [value("y", FLOAT, []), value("next", FLOAT, [1, 8])],
    )


def of_strings(path: Path) -> Path:
    """Strings in, the same twice out."""
    return save(
        path,
        [helper.make_node("StringConcat", ["names", "names"], ["twice"])],
        [value("names", STRING, ["n"])],
        [value("twice", STRING, ["n"])],
        opset=20,
    )
