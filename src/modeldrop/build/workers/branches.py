"""decoder_model_merged.onnx: two graphs in the branches of one If, for a first run and for runs with a past."""

from __future__ import annotations

import onnx


def split(model: onnx.ModelProto) -> list[onnx.ModelProto]:
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
