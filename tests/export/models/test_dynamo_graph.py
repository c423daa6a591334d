"""Axes of graphs that torch's dynamo has traced."""

from __future__ import annotations

import onnx_ir

from modeldrop.export.models.shared.dynamo_graph import rename_axes


def _value(name: str, *dims: int | str | None) -> onnx_ir.Value:
    return onnx_ir.Value(name=name, shape=onnx_ir.Shape(dims), type=onnx_ir.TensorType(onnx_ir.DataType.FLOAT))


def test_axes_are_renamed_and_those_without_a_name_stay_so() -> None:
    taken = _value("taken", "s72", 4, "2*s72 + s9")
    between = onnx_ir.node("Reshape", [taken])
    between.outputs[0].shape = onnx_ir.Shape([None, None])
    graph = onnx_ir.Graph([taken], [between.outputs[0]], nodes=[between])
    rename_axes(graph, {"s72": "batch_size"})
    assert [str(dim) for dim in taken.shape or ()] == ["batch_size", "4", "2*batch_size + s9"]
    # With one name for both, onnxruntime would plan one size for them: EmbeddingGemma 2 fails so.
    assert [dim.value for dim in between.outputs[0].shape or () if not isinstance(dim, int)] == [None, None]
