"""Looking at ONNX graphs on disk. ``onnx_weights`` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx

from modeldrop.export.messages import GraphDescription
from modeldrop.format.manifest import ANY_RANK, NAMELESS, Tensor

_LONGEST_TYPE = 64

# ONNX's own names of the types, where a manifest has numpy's.
_NUMPY_NAMES = {"float": "float32", "double": "float64"}


def describe_onnx(path: Path) -> GraphDescription:
    """Opset, IR version, operators, inputs, outputs and external data files of a graph."""
    model = onnx.load(path, load_external_data=False)
    # A tree has operators of ai.onnx.ml alone.
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 1)
    weights = {tensor.name for tensor in model.graph.initializer}  # inputs too, in files of IR version 3
    return GraphDescription(
        opset=opset,
        ir_version=model.ir_version,
        inputs=tuple(_tensor(value) for value in model.graph.input if value.name not in weights),
        outputs=tuple(map(_tensor, model.graph.output)),
        external=tuple(external_files(model)),
        operators=tuple(sorted(operators_of(all_graphs(model.graph)))),
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        return Tensor(value.name, _type_name(value.type)[:_LONGEST_TYPE], ())
    if not kind.HasField("shape"):
        return Tensor(value.name, _type_name(value.type), (ANY_RANK,))
    return Tensor(value.name, _type_name(value.type), tuple(map(_dimension, kind.shape.dim)))


def _dimension(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or NAMELESS)


def _type_name(kind: onnx.TypeProto) -> str:
    """A type: of tensors numpy's name, of others such as ``sequence(map(int64, float32))``."""
    if kind.HasField("tensor_type"):
        return _dtype(kind.tensor_type.elem_type)
    if kind.HasField("sequence_type"):
        return f"sequence({_type_name(kind.sequence_type.elem_type)})"
    if kind.HasField("optional_type"):
        return f"optional({_type_name(kind.optional_type.elem_type)})"
    if kind.HasField("map_type"):
        return f"map({_dtype(kind.map_type.key_type)}, {_type_name(kind.map_type.value_type)})"
    return "unknown"


def operators_of(graphs: Iterable[onnx.GraphProto]) -> set[str]:
    """The operators of a model's graphs: ``MatMul``, and ``MatMul/float16`` where a weight of its inputs has that type.

    Operators of other domains begin with them (``com.microsoft.MatMulNBits``), those with bits have these too
    (``com.microsoft.MatMulNBits/8``).
    """
    graphs = tuple(graphs)
    types = {weight.name: weight.data_type for graph in graphs for weight in graph.initializer}
    return {spelled for graph in graphs for node in graph.node for spelled in _spelled(node, types)}


def _spelled(node: onnx.NodeProto, types: Mapping[str, int]) -> Iterator[str]:
    name = f"{node.domain}.{node.op_type}" if node.domain not in {"", "ai.onnx"} else node.op_type
    yield name
    for weight in node.input:
        if weight in types:
            yield f"{name}/{_dtype(types[weight])}"
    for attribute in node.attribute:
        if attribute.name == "bits":
            yield f"{name}/{attribute.i}"


def _dtype(kind: int) -> str:
    dtype: str = onnx.TensorProto.DataType.Name(kind).lower()
    return _NUMPY_NAMES.get(dtype, dtype)


def external_files(model: onnx.ModelProto) -> list[str]:
    """Names of the files beside a graph that hold its weights."""
    entries = (
        entry for graph in all_graphs(model.graph) for tensor in graph.initializer for entry in tensor.external_data
    )
    return sorted({entry.value for entry in entries if entry.key == "location"})


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs inside its nodes: the branches of a decoder with and without a past."""
    yield graph
    for node in graph.node:
        yield from inner_graphs(node)


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a node, and those inside their nodes."""
    for attribute in node.attribute:
        for inner in (attribute.g, *attribute.graphs) if attribute.type in {5, 10} else ():
            yield from all_graphs(inner)


def forget_weight_types(model: onnx.ModelProto) -> None:
    """Remove what a graph says of its weights' shapes besides the weights, as torch's dynamo exporter does.

    onnxruntime's quantizers transpose weights, and leave there what is not true any more.
    """
    for graph in all_graphs(model.graph):
        weights = {tensor.name for tensor in graph.initializer}
        others = [value for value in graph.value_info if value.name not in weights]
        if len(others) < len(graph.value_info):
            del graph.value_info[:]
            graph.value_info.extend(others)


def weight_bytes(path: Path) -> int:
    """Bytes of a graph and of the data beside it."""
    return sum(part.stat().st_size for part in (path, path.with_name(f"{path.name}_data")) if part.is_file())
