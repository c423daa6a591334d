"""The kinds of variants: what each is made by, and the names its files have, which are the ecosystem's.

optimum, sentence-transformers, transformers.js and fastembed find graphs by these names, always in ``onnx/``.
A new kind is a row here, and a module in ``workers/makers`` where none of those there can make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LIBRARIES = {"openvino": ("nncf", "openvino")}
"""What an extra of modeldrop brings that makes variants."""

OPENVINO, STATIC, OPTIMIZED = "openvino", "static", "optimized"

MERGED_PARTS = {"decoder_model_merged": ("decoder_model", "decoder_with_past_model")}
"""The roles of a graph with two branches, and of the graphs of one branch each: for a first run, and for later ones."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of variant.

    Attributes:
        name: such as ``int8``.
        suffix: what its files are called beyond the graph's role: ``onnx/model_quantized.onnx``.
        maker: the module in ``workers/makers`` that makes it from the graphs in fp32; "" for those themselves.
        options: what the maker is told.
        extra: the extra of modeldrop that brings what the maker needs; "" for what ``[build]`` has.
    """

    name: str
    suffix: str
    maker: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: str = ""

    def path(self, role: str) -> str:
        """Path of the graph of a role."""
        if self.maker == OPENVINO:
            return f"openvino/openvino_{role}{self.suffix}.xml"
        return f"onnx/{role}{self.suffix}.onnx"

    def graphs(self, roles: Iterable[str]) -> dict[str, str]:
        """The paths of its graphs, by role.

        Args:
            roles: those of the model's graphs in fp32. OpenVINO cannot run a decoder's two branches in one graph.
        """
        merged = MERGED_PARTS if self.maker == OPENVINO else {}
        return {part: self.path(part) for role in roles for part in merged.get(role, (role,))}

    @property
    def one_graph(self) -> bool:
        """Whether it can be made only of models that are one graph."""
        return self.maker == STATIC or self.fuses

    @property
    def fuses(self) -> bool:
        """Whether it is made by fusing layers, which is possible for some kinds of models only."""
        return self.maker == OPTIMIZED and self.options["level"] > 1


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("fp32", ""),
        Kind("o1", "_O1", OPTIMIZED, {"level": 1}),
        Kind("o2", "_O2", OPTIMIZED, {"level": 2}),
        Kind("o3", "_O3", OPTIMIZED, {"level": 3}),
        Kind("fp16", "_fp16", "half"),
        Kind("o4", "_O4", OPTIMIZED, {"level": 4}),
        Kind("int8-accurate", "_int8", "weight_only", {"bits": 8}),
        # Signed weights in 7 of 8 bits: no sum of two products saturates on a CPU without VNNI, so that every x86
        # answers the same; and as fast as all 8 bits (MiniLM, 32 texts: 29.5 against 30.1 ms). All 8 bits are nearer
        # to the original with VNNI (cosine 0.9896 against 0.9873), and further away without (0.9822).
        Kind("int8", "_quantized", "dynamic", {"weights": "int8", "reduce_range": True}),
        Kind("int8-avx512-vnni", "_qint8_avx512_vnni", "dynamic", {"weights": "int8", "reduce_range": False}),
        Kind("int8-avx2", "_quint8_avx2", "dynamic", {"weights": "uint8", "reduce_range": True}),
        Kind("int8-arm64", "_qint8_arm64", "dynamic", {"weights": "int8", "reduce_range": False}),
        Kind("uint8", "_uint8", "dynamic", {"weights": "uint8", "reduce_range": False}),
        Kind("int8-static", "_static", STATIC),
        Kind("int4", "_q4", "weight_only", {"bits": 4}),
        # Not in openvino_model.xml, where fp16 was first: every kind has files of its own.
        Kind("openvino-fp32", "_fp32", OPENVINO, {"bits": 32}, "openvino"),
        Kind("openvino-fp16", "", OPENVINO, {"bits": 16}, "openvino"),
        Kind("openvino-int8", "_qint8_quantized", OPENVINO, {"bits": 8}, "openvino"),
        Kind("openvino-int4", "_qint4_quantized", OPENVINO, {"bits": 4}, "openvino"),
    )
}
"""Every kind, by its name."""

FP32 = KINDS["fp32"]

_OPENVINO = [kind for kind in KINDS.values() if kind.maker == OPENVINO]


def openvino_kind(bits: int) -> Kind:
    """The kind of an OpenVINO graph whose weights have so many bits."""
    return next(kind for kind in _OPENVINO if kind.options["bits"] == bits)


def makeable(origin: Kind) -> tuple[str, ...]:
    """The kinds that a source gives, whose graphs are of the kind ``origin``.

    Of ONNX in fp32 all; of an OpenVINO graph itself and those of fewer bits, unless its weights are quantized already.
    """
    if origin.maker != OPENVINO:
        return tuple(KINDS)
    bits = origin.options["bits"]
    return tuple(kind.name for kind in _OPENVINO if kind is origin or (bits >= 16 and kind.options["bits"] < bits))
