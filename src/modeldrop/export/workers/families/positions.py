"""Positions that a graph counts by itself.

Llama's and Qwen's graphs are exported with ``position_ids`` as an input, which programs that embed texts do
not give: sentence-transformers and fastembed know of token ids and masks. PyTorch counts where nothing is given.
"""

from __future__ import annotations

import onnx

_INPUT = "position_ids"
_PREFIX = "modeldrop_positions/"


def number_positions(model: onnx.ModelProto) -> bool:
    """Have a graph count positions from 0, padding included, as PyTorch does; whether it took them as an input.

    Only for graphs that read a text at once: those with a past are told where they are.
    """
    taken = next((tensor for tensor in model.graph.input if tensor.name == _INPUT), None)
    if taken is None:
        return False
    one = onnx.helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])
    nodes = [
        onnx.helper.make_node("Shape", ["input_ids"], [f"{_PREFIX}shape"]),
        onnx.helper.make_node("ConstantOfShape", [f"{_PREFIX}shape"], [f"{_PREFIX}ones"], value=one),
        onnx.helper.make_node("Constant", [], [f"{_PREFIX}axis"], value_int=1),
        onnx.helper.make_node("CumSum", [f"{_PREFIX}ones", f"{_PREFIX}axis"], [_INPUT], exclusive=1),
    ]
    for node in nodes:
        node.name = node.output[0]
    model.graph.input.remove(taken)
    for number, node in enumerate(nodes):
        model.graph.node.insert(number, node)
    return True
