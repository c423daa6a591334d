"""What a graph is made of, and which onnxruntime that needs; the soak test of that name opens graphs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from modeldrop.export.onnx_files import all_graphs, operators_of
from modeldrop.export.onnxruntime_releases import min_onnxruntime


def test_operators_are_spelled_with_the_types_of_their_weights() -> None:
    weights = [numpy_helper.from_array(np.ones(4, kind), kind) for kind in ("int8", "float16", "float32")]
    inner = helper.make_graph(
        [helper.make_node("LayerNormalization", ["x", "float16"], ["y"]), helper.make_node("Identity", ["y"], ["z"])],
        "branch", [], [],
    )  # fmt: skip
    nodes = [
        helper.make_node("ConvInteger", ["x", "int8"], ["y"]),
        helper.make_node("MatMulNBits", ["x", "float32"], ["y"], domain="com.microsoft", bits=8),
        helper.make_node("If", ["c"], ["y"], then_branch=inner),
    ]
    graph = helper.make_graph(nodes, "g", [], [], weights)
    assert operators_of(all_graphs(graph)) == {
        "ConvInteger", "ConvInteger/int8", "com.microsoft.MatMulNBits", "com.microsoft.MatMulNBits/8",
        "com.microsoft.MatMulNBits/float32", "If", "LayerNormalization", "LayerNormalization/float16", "Identity",
    }  # fmt: skip
    assert isinstance(graph, onnx.GraphProto)


@pytest.mark.parametrize(
    ("opset", "ir_version", "operators", "oldest"),
    [
        (17, 8, ["MatMul/float32", "ConvInteger/uint8", "com.microsoft.MatMulNBits/float32"], "1.15"),
        (18, 8, ["ConvInteger/int8"], "1.24"),
        (18, 9, ["LayerNormalization", "MatMul/float16"], "1.17"),
        (18, 9, ["Softmax", "MatMul/float16"], "1.17"),
        (18, 9, ["Conv/float16"], "1.15"),
        (18, 9, ["Softmax", "MatMul/float32"], "1.15"),
        (21, 10, ["com.microsoft.MatMulNBits/4", "com.microsoft.GatherBlockQuantized"], "1.20"),
        (20, 8, ["com.microsoft.MatMulNBits/8"], "1.22"),
        (23, 10, [], "1.23"),
        (18, 11, [], "1.23"),
        (99, 99, [], "1.27"),
    ],
)
def test_the_newest_need_decides(opset: int, ir_version: int, operators: list[str], oldest: str) -> None:
    assert min_onnxruntime(opset, ir_version, operators) == oldest
