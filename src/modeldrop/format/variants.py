"""The table of variants: what each is made by, what its files are called, and when it is chosen.

A new variant is one row here, and a module in ``export/quantizers`` where none of those there can make it. Recipes,
the exporter and the fetcher read this table and keep no list of their own; it imports nothing, because a container
that chooses a variant imports it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modeldrop.util.named_tuples import NamedTuple

OPENVINO, OPTIMIZED, STATIC, WEIGHT_ONLY = "openvino", "optimized", "static", "weight_only"
"""The quantizers that need something special: another runtime, layers that can be fused, calibration data, products."""

MERGED_PARTS = {"decoder_model_merged": ("decoder_model", "decoder_with_past_model")}
"""The roles of a graph with two branches, and of the graphs of one branch each: for a first run, and for later ones."""

# Default thresholds by metric, from the class that is closest to the original to the one that may differ most. Only
# exact variants have one for max_abs: how far single values stray says little about quantized weights.
_CLASSES = ("exact", "half", "accurate", "small", "smallest")
_THRESHOLDS: Mapping[str, tuple[float, ...]] = {
    "cosine_mean": (0.99999, 0.9995, 0.995, 0.98, 0.94),
    "cosine_min": (0.9999, 0.998, 0.98, 0.93, 0.8),
    "correlation": (0.9999, 0.999, 0.995, 0.98, 0.94),
    "top1": (1.0, 0.98, 0.97, 0.95, 0.9),
    "decisions": (1.0, 0.998, 0.995, 0.99, 0.97),
    "spans": (1.0, 0.98, 0.97, 0.95, 0.9),
    "transcript": (1.0, 0.99, 0.98, 0.95, 0.9),
    "boxes": (1.0, 0.98, 0.95, 0.9, 0.8),
    "iou": (0.999, 0.99, 0.97, 0.9, 0.85),
    "nrmse": (1e-3, 0.02, 0.05, 0.15, 0.3),
    "max_abs": (1e-3,),
    "neighbours": (0.99, 0.95, 0.9, 0.75, 0.6),
    "sparse_cosine": (0.9999, 0.998, 0.98, 0.93, 0.8),
    "tokens_cosine": (0.9999, 0.998, 0.98, 0.93, 0.8),
    "kendall_tau": (0.999, 0.98, 0.95, 0.85, 0.75),
    "top10": (1.0, 0.9, 0.9, 0.8, 0.7),
    "top5": (0.99, 0.95, 0.9, 0.8, 0.7),
    "greedy_prefix": (0.99, 0.9, 0.8, 0.5, 0.25),
    "kl": (1e-4, 0.005, 0.02, 0.1, 0.3),
    "perplexity_gap": (1e-3, 0.01, 0.03, 0.1, 0.3),
    "rel_error": (1e-4, 0.02, 0.1, 0.25, 0.4),
    "label_agreement": (1.0, 0.99, 0.98, 0.95, 0.9),
    "rank_agreement": (0.999, 0.98, 0.97, 0.95, 0.9),
}


class VariantSpec(NamedTuple):
    """One row of the table.

    Attributes:
        name: such as ``int8``.
        suffix: what its files are called beyond the graph's role: ``onnx/model_quantized.onnx``. optimum,
            sentence-transformers, transformers.js and fastembed find graphs by these names.
        threshold_class: the class of its default thresholds.
        quantizer: the module in ``export/quantizers`` that makes it from the fp32 graphs; "" for those themselves.
        options: what the quantizer is told.
        extra: the extra of modeldrop that brings what the quantizer needs; "" for what ``[build]`` has.
        searched: whether a recipe's ``auto`` can search for the smallest that meets its thresholds.
        cpu: the architecture and the CPU feature it is tuned to: elsewhere it is slow, or its answers differ from those
            that were verified. None for any.
        rank: its place among what a fetch of ``auto`` may take, lowest first, of variants for the same runtime; None
            for those that are only taken by name.
        rank_without_dot_products: the same on a CPU without 8-bit dot products, where it differs.
        rank_cuda: the same with a CUDA GPU, where it differs.
    """

    name: str
    suffix: str
    threshold_class: str
    quantizer: str = ""
    options: Mapping[str, Any] = {}
    extra: str = ""
    searched: bool = False
    cpu: tuple[str, str] | None = None
    rank: int | None = None
    rank_without_dot_products: int | None = None
    rank_cuda: int | None = None

    def threshold(self, metric: str) -> float | None:
        """The default threshold of a metric; None where there is none."""
        values, index = _THRESHOLDS.get(metric, ()), _CLASSES.index(self.threshold_class)
        return values[index] if index < len(values) else None

    def is_closer_than(self, other: VariantSpec) -> bool:
        """Whether it is of a class that must be closer to the original."""
        return _CLASSES.index(self.threshold_class) < _CLASSES.index(other.threshold_class)

    @property
    def has_small_weights(self) -> bool:
        """Whether its weights have 8 bits or fewer: it is there for its size."""
        return _CLASSES.index(self.threshold_class) > _CLASSES.index("half")

    def path(self, role: str) -> str:
        """Path of the graph of a role in a version."""
        if self.quantizer == OPENVINO:
            return f"openvino/openvino_{role}{self.suffix}.xml"
        return f"onnx/{role}{self.suffix}.onnx"

    def graphs(self, roles: Iterable[str]) -> dict[str, str]:
        """The paths of its graphs, by role.

        Args:
            roles: those of the model's fp32 graphs. OpenVINO cannot run a decoder's two branches in one graph.
        """
        merged = MERGED_PARTS if self.quantizer == OPENVINO else {}
        return {part: self.path(part) for role in roles for part in merged.get(role, (role,))}

    @property
    def one_graph(self) -> bool:
        """Whether it can be made only of models that are one graph."""
        return self.quantizer == STATIC or self.fuses

    @property
    def fuses(self) -> bool:
        """Whether it is made by fusing layers, which is possible for some model types only."""
        return self.quantizer == OPTIMIZED and self.options["level"] > 1


_AVX512_VNNI, _AVX2, _ARM64 = ("x86_64", "avx512_vnni"), ("x86_64", "avx2"), ("aarch64", "asimddp")

# From the most to the least exact: the order in which a recipe's variants are built and shown.
#
# The ranks: the fastest first. int8-accurate computes the same on every CPU, at the speed of fp32 with a quarter of its
# bytes. Without dot products, x86 adds pairs of 8-bit products in 16 bits: int8 and int8-static have weights of 7 bits,
# so that no pair saturates, and answer as they were verified; int8-avx2 answers the same too, but multiplies more
# slowly than they do. int4 gives up too much to be taken without being named.
VARIANTS: Mapping[str, VariantSpec] = {
    row.name: row
    for row in (
        VariantSpec("fp32", "", "exact", rank=50, rank_cuda=3),
        VariantSpec("o1", "_O1", "exact", OPTIMIZED, options={"level": 1}, rank=61),
        VariantSpec("o2", "_O2", "exact", OPTIMIZED, options={"level": 2}, rank=60),
        VariantSpec("o3", "_O3", "half", OPTIMIZED, options={"level": 3}, rank=62),
        VariantSpec("fp16", "_fp16", "half", "half", rank=63, rank_cuda=1),
        VariantSpec("o4", "_O4", "half", OPTIMIZED, options={"level": 4}, rank=64, rank_cuda=2),
        VariantSpec("int8-accurate", "_int8", "accurate", WEIGHT_ONLY, options={"bits": 8}, rank=40),
        # Signed weights in 7 of 8 bits: no sum of two products saturates on a CPU without VNNI, so that every x86
        # answers the same; and as fast as all 8 bits (MiniLM, 32 texts: 29.5 against 30.1 ms). All 8 bits are nearer
        # to the original with VNNI (cosine 0.9896 against 0.9873), and further away without (0.9822).
        VariantSpec(
            "int8",
            "_quantized",
            "small",
            "dynamic",
            options={"weights": "int8", "reduce_range": True},
            searched=True,
            rank=20,
        ),
        VariantSpec(
            "int8-avx512-vnni",
            "_qint8_avx512_vnni",
            "small",
            "dynamic",
            options={"weights": "int8", "reduce_range": False},
            searched=True,
            cpu=_AVX512_VNNI,
            rank=10,
        ),
        VariantSpec(
            "int8-avx2",
            "_quint8_avx2",
            "small",
            "dynamic",
            options={"weights": "uint8", "reduce_range": True},
            searched=True,
            cpu=_AVX2,
            rank=45,
            rank_without_dot_products=35,
        ),
        VariantSpec(
            "int8-arm64",
            "_qint8_arm64",
            "small",
            "dynamic",
            options={"weights": "int8", "reduce_range": False},
            searched=True,
            cpu=_ARM64,
            rank=11,
        ),
        VariantSpec(
            "uint8",
            "_uint8",
            "small",
            "dynamic",
            options={"weights": "uint8", "reduce_range": False},
            searched=True,
            rank=65,
        ),
        VariantSpec("int8-static", "_static", "small", STATIC, rank=30),
        VariantSpec("int4", "_q4", "smallest", WEIGHT_ONLY, options={"bits": 4}),
        # Not in openvino_model.xml, where fp16 was first: every variant has files of its own.
        VariantSpec("openvino-fp32", "_fp32", "exact", OPENVINO, options={"bits": 32}, extra="openvino", rank=3),
        VariantSpec("openvino-fp16", "", "half", OPENVINO, options={"bits": 16}, extra="openvino", rank=2),
        VariantSpec(
            "openvino-int8",
            "_qint8_quantized",
            "accurate",
            OPENVINO,
            options={"bits": 8},
            extra="openvino",
            rank=1,
        ),
        VariantSpec(
            "openvino-int4",
            "_qint4_quantized",
            "smallest",
            OPENVINO,
            options={"bits": 4},
            extra="openvino",
        ),
    )
}
"""Every variant this release builds, by its name."""

FP32 = VARIANTS["fp32"]

DEFAULT_VARIANTS = ("fp32", "int8")
"""What is built where the recipe names no variants, of every source but one of OpenVINO's graphs."""
