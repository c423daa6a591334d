"""Weights in 8 or 4 bits, in blocks with a scale each; computed with activations in 8 bits.

The blocks keep the error small, and no product saturates: the answers are the same on every CPU.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from modeldrop.export.onnx_weights import save
from modeldrop.export.quantizers.embeddings import load_quantized

# Of 4 bits, small blocks with a zero point: MiniLM's cosine is 0.963, and 0.895 with large symmetric ones.
_BLOCKS = {8: 128, 4: 32}
_INT8_ACTIVATIONS = 4


def make(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """See ``Quantizer``. Options: ``bits``, 8 or 4; ``keep``, names of nodes."""
    # It logs every node.
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.CRITICAL)
    bits, keep = options["bits"], options["keep"]
    if bits == 8:
        # There is no 8-bit Gather in blocks: embeddings get one scale for all.
        graph = load_quantized(source, keep)
        onnx.load_external_data_for_model(graph, str(source.parent))
    else:
        graph = onnx.load(source)
    quantizer = MatMulNBitsQuantizer(
        graph,
        bits=bits,
        block_size=_BLOCKS[bits],
        is_symmetric=bits == 8,
        accuracy_level=_INT8_ACTIVATIONS,
        op_types_to_quantize=("MatMul",) if bits == 8 else ("MatMul", "Gather"),
        nodes_to_exclude=keep,
        quant_axes=(("MatMul", 0), ("Gather", 1)),
    )
    quantizer.process()
    save(quantizer.model.model, target)
