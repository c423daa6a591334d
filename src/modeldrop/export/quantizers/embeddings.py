"""Embeddings in 8 bits, with one scale and a zero point: tables of which every token takes a row.

onnxruntime's quantizer writes the same numbers, but needs five times the bytes of a table beside the whole graph: with
a vocabulary of 250,000 tokens that is more than 4 times the weights in fp32. Here a table is read from the disk, and
rounded some rows at a time; data beside the graph is not loaded at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnxruntime.quantization.quant_utils import compute_data_quant_params, quantize_nparray

from modeldrop.export.onnx_files import all_graphs, forget_weight_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

_UINT8 = onnx.TensorProto.UINT8
_ROWS = 4096


def load_quantized(source: Path, keep: Collection[str], only: Collection[str] | None = None) -> onnx.ModelProto:
    """A graph with the tables of its Gather nodes in 8 bits; other data beside it stays there.

    Args:
        source: the graph in fp32.
        keep: names of nodes whose tables stay as they are.
        only: names of nodes, the tables of others stay; None for all.
    """
    model = onnx.load(source, load_external_data=False)
    forget_weight_types(model)
    graphs = list(all_graphs(model.graph))
    tables = {
        tensor.name: (graph, tensor)
        for graph in graphs
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    made = {
        node.input[0]
        for graph in graphs
        for node in graph.node
        if node.op_type == "Gather" and node.input[0] in tables and _is_chosen(node, keep, only)
    }
    for name in sorted(made):
        holder, table = tables[name]
        holder.initializer.extend(_quantized(table, source.parent))
    # The inner ones first: the node that holds them is copied when its own graph is written.
    for graph in reversed(graphs):
        nodes = []
        for node in graph.node:
            nodes.append(node)
            # Transposed, a table is the layer that scores the next token.
            if node.op_type in {"Gather", "Transpose"} and node.input[0] in made and _is_chosen(node, keep, only):
                name, output = node.input[0], node.output[0]
                node.input[0], node.output[0] = f"{name}_quantized", f"{output}_quantized"
                inputs = [node.output[0], f"{name}_scale", f"{name}_zero_point"]
                nodes.append(onnx.helper.make_node("DequantizeLinear", inputs, [output], f"{node.name}_dequantize"))
        del graph.node[:]
        graph.node.extend(nodes)
    used = Counter(name for graph in graphs for node in graph.node for name in node.input)
    for name in made - used.keys():
        holder, table = tables[name]
        holder.initializer.remove(table)
    return model


def _is_chosen(node: onnx.NodeProto, keep: Collection[str], only: Collection[str] | None) -> bool:
    return node.name not in keep and (only is None or node.name in only)


def _quantized(table: onnx.TensorProto, folder: Path) -> list[onnx.TensorProto]:
    """The table in 8 bits, its scale and its zero point."""
    values = _values(table, folder)
    zero_point, scale = compute_data_quant_params(values, _UINT8, symmetric=False)
    small = np.empty(values.shape, np.uint8)
    for begin in range(0, len(values), _ROWS):
        rows = slice(begin, begin + _ROWS)
        small[rows] = quantize_nparray(_UINT8, values[rows], scale, zero_point)
    tensor = onnx.TensorProto(name=f"{table.name}_quantized", data_type=_UINT8, dims=table.dims)
    tensor.raw_data = small.tobytes()
    return [
        tensor,
        onnx.numpy_helper.from_array(np.asarray(scale, np.float32), f"{table.name}_scale"),
        onnx.numpy_helper.from_array(zero_point, f"{table.name}_zero_point"),
    ]


def _values(table: onnx.TensorProto, folder: Path) -> NDArray[Any]:
    """A tensor's numbers, read from the disk as they are used where they lie beside the graph."""
    if table.data_location != onnx.TensorProto.EXTERNAL:
        return onnx.numpy_helper.to_array(table)
    where = {entry.key: entry.value for entry in table.external_data}
    return np.memmap(folder / where["location"], "<f4", "r", int(where.get("offset", 0)), tuple(table.dims))
