"""OpenVINO's form of a graph, ``.xml`` with its weights in ``.bin``: made by openvino and nncf alone."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modeldrop.export.messages import GraphDescription
from modeldrop.export.openvino_ir import name_among
from modeldrop.format.manifest import Tensor

# Other modules block these imports to save time; nncf needs one of them.
for _name in ("scipy", "sklearn"):
    if sys.modules.get(_name, sys) is None:
        del sys.modules[_name]

# Both send usage data to their vendor; without this package they send nothing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import nncf  # noqa: E402
import openvino  # noqa: E402
from openvino import opset13 as operators  # noqa: E402
from openvino._offline_transformations import apply_make_stateful_transformation  # noqa: E402

_INT4_BLOCK = 32
_PAST, _PRESENT, _ORDER = "past_key_values.", "present.", "beam_idx"


def make(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """See ``Quantizer``.

    The source may also be a graph of OpenVINO's already, in fp32 or fp16.

    Options: ``bits``, 32 (fp32), 16 (fp16), 8 or 4; ``keep``, names of nodes whose weights stay as they are.
    """
    logging.getLogger("nncf").setLevel(logging.ERROR)
    is_openvino = source.suffix == target.suffix
    model = openvino.Core().read_model(source) if is_openvino else openvino.convert_model(source)
    past = {
        port.get_any_name(): port.get_any_name().replace(_PAST, _PRESENT, 1)
        for port in model.inputs
        if port.get_any_name().startswith(_PAST)
    }
    # A decoder's cache of its encoder is given to it and not given back: that stays an input.
    if past and set(past.values()) <= {port.get_any_name() for port in model.outputs}:
        _keep_cache_as_state(model, past)
    bits = options["bits"]
    if bits < 16:
        kept = nncf.IgnoredScope(patterns=[re.escape(name) for name in options["keep"]], validate=False)
        modes = nncf.CompressWeightsMode
        model = nncf.compress_weights(
            model,
            mode=modes.INT8_ASYM if bits == 8 else modes.INT4_ASYM,
            ignored_scope=kept,
            # Of 4 bits small blocks, and the first and last layers in 8, as nncf has it.
            **({} if bits == 8 else {"group_size": _INT4_BLOCK}),
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(model, target, compress_to_fp16=bits == 16)
    for path in (target, target.with_suffix(".bin")):
        path.chmod(0o644)


def describe_openvino(path: Path, origin: GraphDescription) -> GraphDescription:
    """A graph, and the file that holds its weights.

    Opset and IR version are those of ``origin``, which it was made from; and so are the inputs and outputs, as far as
    it has them still.
    """
    model = openvino.Core().read_model(path)
    known = {tensor.name: tensor for tensor in (*origin.inputs, *origin.outputs)}
    inputs, outputs = (tuple(_tensor(port, known) for port in side) for side in (model.inputs, model.outputs))
    return GraphDescription(
        opset=origin.opset,
        ir_version=origin.ir_version,
        inputs=inputs,
        outputs=outputs,
        external=(path.with_suffix(".bin").name,),
    )


def _tensor(port: Any, known: Mapping[str, Tensor]) -> Tensor:
    name = name_among(port.get_names())
    if name in known:
        return known[name]
    # The names that ONNX has for free dimensions are not kept.
    shape = tuple(
        f"dimension_{axis}" if part.is_dynamic else str(part.get_length())
        for axis, part in enumerate(port.partial_shape)
    )
    return Tensor(name, port.get_element_type().to_dtype().name, shape)


def _keep_cache_as_state(model: openvino.Model, past: Mapping[str, str]) -> None:
    """Have a language model keep its KV cache as a state, as OpenVINO's and optimum-intel's own generators want it.

    They also give it ``beam_idx``: which row of the batch before each row goes on with.

    Args:
        model: it.
        past: the inputs that are its cache, and the outputs that give them back.
    """
    ids = model.input("input_ids")
    order = operators.parameter(openvino.PartialShape([ids.get_partial_shape()[0]]), openvino.Type.i32, name=_ORDER)
    order.output(0).get_tensor().add_names({_ORDER})
    model.add_parameters([order])
    for name in past:
        port = model.input(name)
        readers = port.get_target_inputs()
        chosen = operators.gather(port, order, operators.constant(0))
        for reader in readers:
            reader.replace_source_output(chosen.output(0))
    model.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(model, dict(past))
    # A state that was not written yet is of length 0, and of as many rows as there are texts.
    rows = operators.gather(operators.shape_of(ids, "i64"), operators.constant([0]), operators.constant(0))
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            _, *rest = node.get_output_partial_shape(0)
            lengths = [operators.constant(np.array([0 if part.is_dynamic else part.get_length()])) for part in rest]
            zero = operators.constant(0.0, dtype=node.get_output_element_type(0))
            node.set_arguments([operators.broadcast(zero, operators.concat([rows, *lengths], axis=0))])
    model.validate_nodes_and_infer_types()
