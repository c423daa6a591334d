"""Take ready ONNX graphs as a model's fp32 variant, and record what they answer: they are the original.

Runs as ``python -m modeldrop.export.workers.adopt REQUEST``; request and answer are those of ``export``. The source
folder has the graphs in ``onnx/``, called as their role, with their data beside them.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import onnx

from modeldrop.errors import SourceError
from modeldrop.export.messages import ExportAnswer, ExportRequest
from modeldrop.export.onnx_files import all_graphs
from modeldrop.export.workers import export
from modeldrop.export.workers.protocol import Events, serve
from modeldrop.util.text import first_line

_QUANTIZED = frozenset(
    {
        "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "GatherBlockQuantized", "MatMulInteger",
        "MatMulNBits", "QAttention", "QGemm", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    }
)  # fmt: skip
_HALF = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
_TEXT = ("input_ids", "attention_mask")


def work(request: ExportRequest, events: Events) -> ExportAnswer:
    """Check the graphs, then do what ``export`` does, with onnxruntime in PyTorch's place."""
    events.step("check")
    for path in sorted((request.checkpoint.folder / "onnx").glob("*.onnx")):
        check(path)
    framework = f"onnxruntime {importlib.metadata.version('onnxruntime')}"
    return replace(export.work(request, events), framework=framework)


def check(path: Path) -> None:
    """Refuse a graph that is not valid, or of which no faithful variant can be made.

    Raises:
        SourceError: names what is wrong: invalid, quantized, half precision, NaN, fixed shapes.
    """
    try:
        onnx.checker.check_model(str(path))
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise SourceError(f"{path.name} is not a valid ONNX graph: {first_line(error)}", "Export it again.") from error
    graphs = list(all_graphs(model.graph))
    kinds = {node.op_type for graph in graphs for node in graph.node}
    if kinds & _QUANTIZED:
        raise SourceError(
            f"{path.name} is quantized already ({min(kinds & _QUANTIZED)}): its variants would be copies of a copy.",
            "Name the graph in fp32.",
        )
    tensors = [tensor for graph in graphs for tensor in graph.initializer]
    half = next((tensor for tensor in tensors if tensor.data_type in _HALF), None)
    if half is not None:
        raise SourceError(f"{path.name} is in half precision ({half.name}).", "Name the graph in fp32.")
    for tensor in tensors:
        _check_finite(tensor, path)
    _check_shapes(model.graph, path)


def _check_finite(tensor: onnx.TensorProto, path: Path) -> None:
    import numpy as np

    if tensor.data_type not in {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}:
        return
    try:
        array = onnx.numpy_helper.to_array(tensor, str(path.parent))
    except Exception as error:
        raise SourceError(
            f"The weight {tensor.name} of {path.name} cannot be read: {first_line(error)}",
            "The file that holds it is missing or truncated: copy it again.",
        ) from error
    # Masks are filled with -inf, and so are the constants they are made of: a few numbers, never a matrix.
    if np.isnan(array).any() or (array.ndim > 1 and min(array.shape) > 1 and not np.isfinite(array).all()):
        raise SourceError(
            f"The weight {tensor.name} of {path.name} holds NaN or infinity.", "Check the training run that saved it."
        )


def _check_shapes(graph: onnx.GraphProto, path: Path) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in weights or len(dims) < 2:
            continue
        free = 2 if value.name in _TEXT else 1
        fixed = [dim.dim_value for dim in dims[:free] if dim.HasField("dim_value")]
        if fixed:
            shape = ", ".join(dim.dim_param or str(dim.dim_value) for dim in dims)
            raise SourceError(
                f"The input {value.name} of {path.name} has the fixed shape [{shape}]: it takes no other batch or "
                "length.",
                "Export it with dynamic_axes (or dynamic_shapes) for batch and sequence.",
            )


if __name__ == "__main__":
    serve(work, ExportRequest)
