"""The kinds of variants: what each is made by, and the names its files have, which are the ecosystem's.

optimum, sentence-transformers, transformers.js and fastembed find graphs by these names, always in ``onnx/``.
A new kind is a row here, and a module in ``workers/makers`` where none of those there can make it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of variant.

    Attributes:
        name: such as ``int8``.
        suffix: what its files are called beyond the graph's role: ``onnx/model_quantized.onnx``.
        maker: the module in ``workers/makers`` that makes it from the graphs in fp32; "" for those themselves.
        options: what the maker is told.
    """

    name: str
    suffix: str
    maker: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def path(self, role: str) -> str:
        """Path of the graph of a role."""
        return f"onnx/{role}{self.suffix}.onnx"


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("fp32", ""),
        Kind("fp16", "_fp16", "half"),
        Kind("int8-accurate", "_int8", "weight_only", {"bits": 8}),
        # Signed weights in 7 of 8 bits: no sum of two products saturates on a CPU without VNNI, so that every x86
        # answers the same; and as fast as all 8 bits (MiniLM, 32 texts: 29.5 against 30.1 ms). All 8 bits are nearer
        # to the original with VNNI (cosine 0.9896 against 0.9873), and further away without (0.9822).
        Kind("int8", "_quantized", "dynamic", {"weights": "int8", "reduce_range": True}),
        Kind("int8-avx512-vnni", "_qint8_avx512_vnni", "dynamic", {"weights": "int8", "reduce_range": False}),
        Kind("int8-avx2", "_quint8_avx2", "dynamic", {"weights": "uint8", "reduce_range": True}),
        Kind("int8-arm64", "_qint8_arm64", "dynamic", {"weights": "int8", "reduce_range": False}),
        Kind("uint8", "_uint8", "dynamic", {"weights": "uint8", "reduce_range": False}),
        Kind("int4", "_q4", "weight_only", {"bits": 4}),
    )
}
"""Every kind, by its name."""

FP32 = KINDS["fp32"]
