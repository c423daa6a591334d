"""Which onnxruntime reads a graph. Source: onnxruntime's table of compatible ONNX versions, and its releases."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_OLDEST = "1.14"
_BY_OPSET = {18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21", 23: "1.22"}
_BY_IR = {9: "1.15", 10: "1.18", 11: "1.22", 12: "1.23"}
# Operators of onnxruntime's own, with their bits: 1.21 refuses 8 bits when it opens the graph.
_BY_OPERATOR = {
    "GatherBlockQuantized/4": "1.20",
    "GroupQueryAttention": "1.16",
    "MatMulNBits/4": "1.17",
    "MatMulNBits/8": "1.22",
    "RotaryEmbedding": "1.16",
}


def min_onnxruntime(opset: int, ir_version: int, operators: Iterable[str] = ()) -> str:
    """The oldest onnxruntime release that loads a graph.

    Args:
        opset: version of the default operator set.
        ir_version: of the file format.
        operators: those of onnxruntime's own that it uses, as ``MatMulNBits/8`` where they have bits.
    """
    releases = [
        _BY_OPSET.get(opset, _OLDEST if opset < min(_BY_OPSET) else "1.23"),
        _BY_IR.get(ir_version, _OLDEST if ir_version < min(_BY_IR) else "1.23"),
        *(_BY_OPERATOR.get(operator, _OLDEST) for operator in operators),
    ]
    return max(releases, key=lambda version: [int(part) for part in version.split(".")])
