"""Which release of onnxruntime opens a graph on a CPU, by its operators, opset and IR version.

Measured by opening graphs with each release since 1.15, the oldest that has wheels for Python 3.11;
``tests/soak/test_onnxruntime_releases.py`` does that again. A graph with an opset or an IR version that no row
knows is said to need the newest release that was measured.
"""

from __future__ import annotations

from collections.abc import Iterable

OLDEST, NEWEST = "1.15", "1.27"

BY_OPSET = {18: OLDEST, 19: "1.16", 20: "1.17", 21: "1.18", 22: "1.21", 23: "1.23", 24: "1.24", 25: "1.24", 26: "1.25"}
"""By version of the default operators; what is older than the first row opens everywhere."""

BY_IR = {9: OLDEST, 10: "1.18", 11: "1.23", 12: "1.24", 13: "1.24"}
"""By version of the file format."""

BY_OPERATOR = {
    # Weights of convolutions had to be unsigned.
    "ConvInteger/int8": "1.24",
    "com.microsoft.GatherBlockQuantized": "1.20",
    "com.microsoft.GroupQueryAttention": "1.16",
    "com.microsoft.MatMulNBits": "1.17",
    # The kernel refuses more than 4 bits when the graph is opened.
    "com.microsoft.MatMulNBits/8": "1.22",
    "com.microsoft.RotaryEmbedding": "1.16",
}
"""By operator, as ``onnx_files.operators_of`` spells it: those that not every release can compute."""

_HALF, _HALF_RELEASE = "/float16", "1.17"
_FUNCTIONS = {"LayerNormalization", "Softmax"}
"""Operators that releases before ``_HALF_RELEASE`` compute in half precision as functions of smaller ones, in versions
that graphs of opset 18 do not have: their values have no type of their own, but the weights around them have."""


def min_onnxruntime(opset: int, ir_version: int, operators: Iterable[str] = ()) -> str:
    """The oldest onnxruntime release that opens a graph.

    Args:
        opset: version of the default operators.
        ir_version: of the file format.
        operators: what the graph uses, as ``onnx_files.operators_of`` spells it.
    """
    used = set(operators)
    in_half = not _FUNCTIONS.isdisjoint(used) and any(operator.endswith(_HALF) for operator in used)
    releases = [
        _HALF_RELEASE if in_half else OLDEST,
        OLDEST if opset < min(BY_OPSET) else BY_OPSET.get(opset, NEWEST),
        OLDEST if ir_version < min(BY_IR) else BY_IR.get(ir_version, NEWEST),
        *(BY_OPERATOR.get(operator, OLDEST) for operator in used),
    ]
    return max(releases, key=lambda release: [int(part) for part in release.split(".")])
