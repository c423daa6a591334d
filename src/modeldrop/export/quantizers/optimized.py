"""Graph optimization: onnxruntime's own, and its fusions of transformers' layers, by optimum's levels.

===== ====================================================================================================
level what is done
===== ====================================================================================================
1     constants are folded, what computes nothing is dropped
2     attention, layer norms and activations become one operator each, of onnxruntime's own
3     as 2, and Gelu is approximated (FastGelu)
4     as 3, in half precision: for GPUs
===== ====================================================================================================

It is what onnxruntime does whenever it opens a graph, and a little more: done once, models open faster. The fusions
must come first: what is quantized has nothing left that they know.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx.external_data_helper import (
    load_external_data_for_model,
    load_external_data_for_tensor,
    uses_external_data,
)
from onnxruntime.transformers.fusion_options import FusionOptions
from onnxruntime.transformers.optimizer import optimize_by_fusion

from modeldrop.export.models.shared.pooling_graph import Detached, attach, detach
from modeldrop.export.onnx_files import all_graphs
from modeldrop.export.onnx_weights import save
from modeldrop.export.quantizers.half import halved
from modeldrop.export.variants import fusions

_LEVELS = onnxruntime.GraphOptimizationLevel
# The same list as in onnxruntime's own optimizer: after these, the fusions of transformers' layers match nothing.
_BEFORE_FUSIONS = (
    "MatMulScaleFusion", "MatMulAddFusion", "MatmulTransposeFusion", "GemmActivationFusion", "BiasSoftmaxFusion",
)  # fmt: skip
_FUSING, _APPROXIMATING, _HALVING = 2, 3, 4
_FLOAT = 4


def make(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """See ``Quantizer``. Options: ``level``, 1 to 4; ``folder``, of config.json."""
    level = options["level"]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".optimizing-") as scratch:
        body, head = _body(source, Path(scratch)) if level >= _FUSING else (source, None)
        # What level 4 is for is not here: of onnxruntime only what holds for every device.
        model = _by_onnxruntime(body, Path(scratch, "optimized.onnx"), extended=level in {_FUSING, _APPROXIMATING})
        if level >= _FUSING:
            config = json.loads((options["folder"] / "config.json").read_text("utf-8"))
            model = _fused(model, Path(scratch), config, approximate=level >= _APPROXIMATING)
        load_external_data_for_model(model, scratch)
    if level >= _HALVING:
        # The types of all values are known from onnxruntime, which knows its own operators; ONNX does not.
        model = halved(model, (), infer_shapes=False)
    if head is not None:
        attach(model, head)
    _drop_unused_domains(model)
    save(model, target)


def _body(source: Path, scratch: Path) -> tuple[Path, Detached | None]:
    """The graph without the appended pooling, for which the fusions' shape inference fails."""
    head = detach(model := onnx.load(source, load_external_data=False))
    if head is None:
        return source, None
    load_external_data_for_model(model, str(source.parent))
    save(model, scratch / "body.onnx")
    return scratch / "body.onnx", head


def _by_onnxruntime(source: Path, target: Path, *, extended: bool) -> onnx.ModelProto:
    """The graph as onnxruntime optimizes it; its weights stay beside ``target``."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = _LEVELS.ORT_ENABLE_EXTENDED if extended else _LEVELS.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    onnxruntime.InferenceSession(
        source,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantSharing", *(_BEFORE_FUSIONS if extended else ())],
    )
    return onnx.load(target, load_external_data=False)


def _fused(model: onnx.ModelProto, folder: Path, config: Mapping[str, Any], *, approximate: bool) -> onnx.ModelProto:
    # They log every pattern that is not there.
    logging.disable(logging.WARNING)
    kind, heads, width = fusions(config)
    _load_what_is_read(model, folder, width)
    options = FusionOptions(kind)
    options.enable_embed_layer_norm = False
    options.enable_gelu_approximation = approximate
    fused: onnx.ModelProto = optimize_by_fusion(model, kind, heads, width, options).model
    return fused


def _load_what_is_read(model: onnx.ModelProto, folder: Path, width: int) -> None:
    """Load what the fusions look at: biases, scales, and attention's matrices, which are put side by side.

    They copy the graph to find shapes. Tables of embeddings and the wide layers are most of its bytes, and only named.
    """
    most = _FLOAT * width**2 if width else sys.maxsize
    for tensor in model.graph.initializer:
        if uses_external_data(tensor) and _FLOAT * math.prod(tensor.dims) <= most:
            load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _drop_unused_domains(model: onnx.ModelProto) -> None:
    """Declare only operator sets that are used: onnxruntime declares all it knows, and older releases refuse some."""
    used = {node.domain for graph in all_graphs(model.graph) for node in graph.node} | {""}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    known = {entry.domain for entry in kept}
    model.opset_import.extend(onnx.helper.make_opsetid(domain, 1) for domain in sorted(used - known))
