"""decoder_model_merged.onnx: two graphs in the branches of one If, for a first step and for steps with a KV cache."""

from __future__ import annotations

from pathlib import Path

import onnx

from modeldrop.export.models.shared.kv_cache import OF_ENCODER
from modeldrop.export.onnx_files import inner_graphs
from modeldrop.export.onnx_weights import save


def split_branches(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """The branches, each a model with the inputs and shared weights of the whole; [] where there are none."""
    nodes = model.graph.node
    if len(nodes) != 1 or nodes[0].op_type != "If":
        return []
    parts = []
    for attribute in nodes[0].attribute:
        branch = attribute.g
        used = {name for node in branch.node for name in node.input}
        shared = [tensor for tensor in model.graph.initializer if tensor.name in used]
        graph = onnx.helper.make_graph(
            branch.node,
            attribute.name,
            model.graph.input,
            branch.output,
            initializer=[*branch.initializer, *shared],
        )
        part = onnx.ModelProto()
        part.CopyFrom(onnx.helper.make_model_gen_version(graph, opset_imports=model.opset_import))
        part.ir_version = model.ir_version
        parts.append(part)
    return parts


def join(model: onnx.ModelProto, parts: list[onnx.ModelProto]) -> None:
    """Put changed branches back into the model that they were split from; what both have equal is shared again."""
    tensors = [{tensor.name: tensor for tensor in part.graph.initializer} for part in parts]
    shared = [name for name, tensor in tensors[0].items() if tensor == tensors[1].get(name)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors[0][name] for name in shared)
    for attribute, part, own in zip(model.graph.node[0].attribute, parts, tensors, strict=True):
        del attribute.g.node[:], attribute.g.initializer[:], attribute.g.value_info[:]
        attribute.g.node.extend(part.graph.node)
        attribute.g.initializer.extend(own[name] for name in own if name not in shared)


def separate(source: Path, folder: Path) -> tuple[Path, Path]:
    """Write the branches as two graphs with no more inputs and outputs than they need: for a first run, and for later.

    What the later runs are given of the encoder they do not give back.
    """
    model = onnx.load(source)
    paths = {}
    for part in split_branches(model):
        later = part.graph.name == "then_branch"
        # Branches have their outputs under the same names, but without types.
        del part.graph.output[:]
        part.graph.output.extend(value for value in model.graph.output if not (later and OF_ENCODER in value.name))
        _prune(part.graph)
        paths[later] = folder / f"{part.graph.name}.onnx"
        save(part, paths[later])
    return paths[False], paths[True]


def _prune(graph: onnx.GraphProto) -> None:
    """Drop what no output needs."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
            needed.update(name for inner in inner_graphs(node) for one in inner.node for name in one.input)
    kept.reverse()
    for held, left in (
        (graph.node, kept),
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed]),
        (graph.input, [value for value in graph.input if value.name in needed]),
    ):
        del held[:]
        held.extend(left)
