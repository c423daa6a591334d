"""fp16: weights and arithmetic in half precision; inputs and outputs stay fp32, so that callers need not change.

Made by onnxruntime's converter: onnxconverter-common's writes graphs that onnxruntime refuses.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from modeldrop.export.graph_files import ONE_FILE
from modeldrop.export.onnx_files import weight_bytes
from modeldrop.export.onnx_weights import save
from modeldrop.export.quantizers.merged_decoder import join, split_branches


def make(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """See ``Quantizer``. Options: ``keep``, names of nodes that compute in fp32."""
    keep = options["keep"]
    # Inferring shapes serializes the graph, which protobuf cannot beyond 2 GiB.
    large = weight_bytes(source) > ONE_FILE
    model = onnx.load(source)
    parts = split_branches(model)
    if parts:
        # As one, its branches would get outputs of another type than the whole has.
        parts = [halved(part, keep, infer_shapes=not large) for part in parts]
        for part in parts:
            # Casts of inputs come last; onnxruntime puts nodes in order itself, but not in a branch.
            OnnxModel(part).topological_sort(is_deterministic=True)
        join(model, parts)
    else:
        model = halved(model, keep, infer_shapes=not large)
    save(model, target)


def halved(model: onnx.ModelProto, keep: Sequence[str], *, infer_shapes: bool) -> onnx.ModelProto:
    """A graph in half precision, its inputs and outputs in fp32.

    Args:
        model: the graph, which is changed too.
        keep: names of nodes that compute in fp32.
        infer_shapes: find out the types of the values in it; else those that are written in it are believed.
    """
    with warnings.catch_warnings():
        # It warns of every weight that is too small or too large for half precision: fidelity shows what matters.
        warnings.simplefilter("ignore")
        converted: onnx.ModelProto = convert_float_to_float16(
            model, keep_io_types=True, disable_shape_infer=not infer_shapes, node_block_list=keep
        )
    return converted
