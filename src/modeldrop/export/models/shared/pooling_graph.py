"""Append a pooling head to an exported graph, so that it answers ``sentence_embedding`` by itself.

``pooling.py`` is the same head in PyTorch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modeldrop.export.models.shared.pooling import HIDDEN, LOGITS, SENTENCE, TOKENS
from modeldrop.format.tasks import SPARSE_VECTORS, TOKEN_VECTORS

if TYPE_CHECKING:
    import onnx

    from modeldrop.export.models.shared.pooling import Dense, Head, TokenLayers

# ONNX text syntax: `h` are the hidden states [batch, sequence, hidden], `mask` the mask as [batch, sequence, 1] floats.
_GRAPHS = {
    "cls": "zero = Constant<value_int = 0>()  x = Gather<axis = 1>(h, zero)",
    "mean": "s = ReduceSum<keepdims = 0>(masked, one)  x = Div(s, length)",
    "mean_sqrt_len_tokens": "s = ReduceSum<keepdims = 0>(masked, one)  l = Sqrt(length)  x = Div(s, l)",
    "max": """low = Constant<value_float = -1.0e9>()  yes = Cast<to = 9>(mask)  filled = Where(yes, h, low)
        x = ReduceMax<keepdims = 0>(filled, one)""",
    "weightedmean": """axis = Constant<value_int = 1>()  position = CumSum(ones, axis)  weight = Mul(position, mask)
        wh = Mul(h, weight)  s = ReduceSum<keepdims = 0>(wh, one)  w = ReduceSum<keepdims = 0>(weight, one)
        x = Div(s, w)""",
    "lasttoken": """axis = Constant<value_int = 1>()  position = CumSum(ones, axis)  marked = Mul(position, mask)
        last = ReduceMax<keepdims = 1>(marked, one)  is = Equal(marked, last)  isf = Cast<to = 1>(is)
        picked = Mul(h, isf)  x = ReduceSum<keepdims = 0>(picked, one)""",
}
# The 1 is made of the scores, so that it has their type in half precision too. The logarithm of the highest is the
# highest of logarithms.
_LOG = "zero{n} = Sub({x}, {x})  one{n} = Exp(zero{n})  more{n} = Add({x}, one{n})  l{n} = Log(more{n})"
_TOP = "r = Relu(masked)  m = ReduceMax<keepdims = 0>(r, one)"
_GRAPHS |= {
    "splade_max": f"{_TOP}  {_LOG.format(x='m', n=1)}  x = Identity(l1)",
    "splade_max_log": f"{_TOP}  {_LOG.format(x='m', n=1)}  {_LOG.format(x='l1', n=2)}  x = Identity(l2)",
    "splade_sum": f"r = Relu(masked)  {_LOG.format(x='r', n=1)}  x = ReduceSum<keepdims = 0>(l1, one)",
    "splade_sum_log": f"r = Relu(masked)  {_LOG.format(x='r', n=1)}  {_LOG.format(x='l1', n=2)}"
    "  x = ReduceSum<keepdims = 0>(l2, one)",
}
_WITH_AXES = re.compile(r"ReduceMax<keepdims = (\d)>\((\w+), one\)")
_PREFIX = "modeldrop_pooling/"
_SHARED = frozenset(
    {
        "h", "one", "two", "flat", "mask", "masked", "counted", "tiny", "length", "unit", "zeros", "ones", "pooled",
    }
)  # fmt: skip
_OUTPUTS = (SENTENCE, TOKENS, SPARSE_VECTORS, TOKEN_VECTORS)
_GRAPH_NAMES = frozenset({HIDDEN, LOGITS, "attention_mask", *_OUTPUTS})


def append_head(model: onnx.ModelProto, head: Head) -> None:
    """Make the graph answer ``sentence_embedding`` [batch, dimension] after the output that it is pooled of.

    Where nothing is pooled it answers ``token_embeddings`` [batch, sequence, dimension].

    A ready graph that answers it already stays as it is.
    """
    import onnx

    if any(tensor.name in {SENTENCE, TOKENS} for tensor in model.graph.output):
        return
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    if head.by_token:
        _append_tokens(model, head, opset)
        return
    parts = []
    for number, mode in enumerate(head.modes):
        graph = _GRAPHS[mode]
        if opset < 18:
            graph = _WITH_AXES.sub(r"ReduceMax<keepdims = \1, axes = [1]>(\2)", graph)
        parts.append((f"p{number}_", graph))
    nodes: list[onnx.NodeProto] = _parse(
        f"""h = Identity({head.of})  one = Constant<value_ints = [1]>()  two = Constant<value_ints = [2]>()
        flat = Cast<to = 1>(attention_mask)  mask = Unsqueeze(flat, two)  masked = Mul(h, mask)
        counted = ReduceSum<keepdims = 0>(mask, one)  tiny = Constant<value_float = 1.0e-9>()
        length = Max(counted, tiny)  unit = Constant<value_float = 1.0>()  zeros = Sub(mask, mask)
        ones = Add(zeros, unit)""",
        "",
    )
    for prefix, graph in parts:
        nodes += _parse(graph, prefix)
    pooled = ", ".join(f"{prefix}x" for prefix, _ in parts)
    nodes += _parse(f"pooled = Concat<axis = 1>({pooled})" if len(parts) > 1 else f"pooled = Identity({pooled})", "")
    more, last = _dense_nodes(model, head.dense, "pooled")
    nodes += more
    if head.normalize:
        norm = f"ReduceL2<keepdims = 1>({last}, one)" if opset >= 18 else f"ReduceL2<keepdims = 1, axes = [1]>({last})"
        nodes += _parse(
            f"""norm = {norm}  floor = Constant<value_float = 1.0e-12>()  safe = Max(norm, floor)
            normal = Div({last}, safe)""",
            "",
        )
        last = "normal"
    if head.truncate_dim is not None:
        nodes += _parse(
            f"""begin = Constant<value_ints = [0]>()  end = Constant<value_ints = [{head.truncate_dim}]>()
            kept = Slice({last}, begin, end, one)""",
            "",
        )
        last = "kept"
    nodes += _parse(f"sentence_embedding = Identity({last})", "")
    if head.beside is not None:
        nodes += _beside_nodes(model, head.beside, opset)
    _drop_unused(nodes)
    model.graph.node.extend(nodes)
    hidden = model.graph.output[0].type.tensor_type
    dimension = head.dense[-1].weight.shape[0] if head.dense else hidden.shape.dim[2].dim_value * len(head.modes)
    dimension = min(dimension, head.truncate_dim or dimension)
    batch = hidden.shape.dim[0].dim_param or "batch_size"
    model.graph.output.append(
        onnx.helper.make_tensor_value_info("sentence_embedding", onnx.TensorProto.FLOAT, [batch, dimension])
    )
    if head.beside is not None:
        length = hidden.shape.dim[1].dim_param or "sequence_length"
        for name, shape in (
            (SPARSE_VECTORS, [batch, length, 1]),
            (TOKEN_VECTORS, [batch, f"{length} - 1", head.beside.late.weight.shape[0]]),
        ):
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))


def _beside_nodes(model: onnx.ModelProto, layers: TokenLayers, opset: int) -> list[onnx.NodeProto]:
    """The nodes of a weight for every token, and of a vector for every one but the first, that padding leaves 0."""
    from onnx import numpy_helper

    for name, layer in (("weighing", layers.weighing), ("late", layers.late)):
        for part, values in (("weight", layer.weight.T), ("bias", layer.bias)):
            assert values is not None  # noqa: S101  _linear
            array = values.detach().numpy().copy()
            model.graph.initializer.append(numpy_helper.from_array(array, f"{_PREFIX}{name}_{part}"))
    norm = "ReduceL2<keepdims = 1>(real, two)" if opset >= 18 else "ReduceL2<keepdims = 1, axes = [2]>(real)"
    return _parse(
        f"""product = MatMul(h, weighing_weight)  weight = Add(product, weighing_bias)  {SPARSE_VECTORS} = Relu(weight)
        beyond = Constant<value_ints = [9223372036854775807]>()
        rest = Slice(h, one, beyond, one)  read = Slice(mask, one, beyond, one)
        turned = MatMul(rest, late_weight)  moved = Add(turned, late_bias)  real = Mul(moved, read)
        length2 = {norm}  least = Constant<value_float = 1.0e-12>()  divisor = Max(length2, least)
        {TOKEN_VECTORS} = Div(real, divisor)""",
        "",
    )


def _dense_nodes(model: onnx.ModelProto, layers: tuple[Dense, ...], last: str) -> tuple[list[onnx.NodeProto], str]:
    """The nodes of layers behind the value ``last``, whose weights the graph gets; and the name of what they answer."""
    from onnx import numpy_helper

    nodes: list[onnx.NodeProto] = []
    for number, layer in enumerate(layers):
        weight = numpy_helper.from_array(layer.weight.detach().numpy().T.copy(), f"{_PREFIX}dense{number}_weight")
        model.graph.initializer.append(weight)
        step = f"d{number} = MatMul({last}, dense{number}_weight)"
        if layer.bias is not None:
            bias = numpy_helper.from_array(layer.bias.detach().numpy(), f"{_PREFIX}dense{number}_bias")
            model.graph.initializer.append(bias)
            step += f"  b{number} = Add(d{number}, dense{number}_bias)"
        step += f"  a{number} = {layer.activation}({'b' if layer.bias is not None else 'd'}{number})"
        nodes += _parse(step, "")
        last = f"a{number}"
    return nodes, last


def _append_tokens(model: onnx.ModelProto, head: Head, opset: int) -> None:
    """Make the graph answer ``token_embeddings`` [batch, sequence, dimension]: of every token, as long as 1."""
    import onnx

    nodes = _parse("h = Identity(last_hidden_state)  two = Constant<value_ints = [2]>()", "")
    more, last = _dense_nodes(model, head.dense, "h")
    norm = f"ReduceL2<keepdims = 1>({last}, two)" if opset >= 18 else f"ReduceL2<keepdims = 1, axes = [2]>({last})"
    nodes += more
    nodes += _parse(
        f"""norm = {norm}  floor = Constant<value_float = 1.0e-12>()  safe = Max(norm, floor)
        token_embeddings = Div({last}, safe)""",
        "",
    )
    model.graph.node.extend(nodes)
    batch, length = (dim.dim_param for dim in model.graph.output[0].type.tensor_type.shape.dim[:2])
    shape = [batch or "batch_size", length or "sequence_length", head.dense[-1].weight.shape[0]]
    model.graph.output.append(onnx.helper.make_tensor_value_info(TOKENS, onnx.TensorProto.FLOAT, shape))


def append_truncated(model: onnx.ModelProto, numbers: int) -> None:
    """Make a graph answer the first ``numbers`` of its ``sentence_embedding`` too, as ``sentence_embedding_<numbers>``.

    As sentence-transformers cuts with ``truncate_dim``: what is left is not made as long as 1 again.
    """
    import onnx

    cut = f"{SENTENCE}_{numbers}"
    nodes = [
        onnx.helper.make_node("Constant", [], [f"{_PREFIX}cut_{name}"], f"{_PREFIX}cut_{name}", value_ints=[value])
        for name, value in (("begin", 0), ("end", numbers), ("axis", 1))
    ]
    places = [node.output[0] for node in nodes]
    nodes.append(onnx.helper.make_node("Slice", [SENTENCE, *places], [cut], f"{_PREFIX}cut"))
    model.graph.node.extend(nodes)
    whole = next(tensor for tensor in model.graph.output if tensor.name == SENTENCE)
    batch = whole.type.tensor_type.shape.dim[0].dim_param or "batch_size"
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(cut, whole.type.tensor_type.elem_type, [batch, numbers])
    )


@dataclass(frozen=True, slots=True)
class Detached:
    """What ``append_head`` and ``append_truncated`` had added to a graph, and ``detach`` has taken off."""

    nodes: tuple[onnx.NodeProto, ...]
    weights: tuple[onnx.TensorProto, ...]
    outputs: tuple[onnx.ValueInfoProto, ...]


def detach(model: onnx.ModelProto) -> Detached | None:
    """Remove what was added; None if nothing was."""
    nodes = _taken(model.graph.node, _PREFIX)
    if not nodes:
        return None
    outputs = _taken(model.graph.output, _OUTPUTS)
    return Detached(nodes, _taken(model.graph.initializer, _PREFIX), outputs)


def _taken(parts: Any, prefix: str | tuple[str, ...]) -> tuple[Any, ...]:
    """Take those out whose name begins so."""
    places = [place for place, part in enumerate(parts) if part.name.startswith(prefix)]
    taken = tuple(type(parts[place]).FromString(parts[place].SerializeToString()) for place in places)
    for place in reversed(places):
        del parts[place]
    return taken


def attach(model: onnx.ModelProto, head: Detached) -> None:
    """Put back what ``detach`` has taken off."""
    model.graph.node.extend(head.nodes)
    model.graph.initializer.extend(head.weights)
    model.graph.output.extend(head.outputs)


def _parse(body: str, prefix: str) -> list[onnx.NodeProto]:
    """Nodes from ONNX's text syntax, their names made our own so that they meet none of the model's."""
    import onnx.parser

    graph = onnx.parser.parse_graph(f"g (float[N] a) => (float[N] b) {{ {body} }}")

    def own(name: str) -> str:
        if name in _GRAPH_NAMES or not name:
            return name
        return f"{_PREFIX}{name if name in _SHARED else prefix + name}"

    nodes = list(graph.node)
    for node in nodes:
        node.input[:] = [own(name) for name in node.input]
        node.output[:] = [own(name) for name in node.output]
        (made,) = node.output
        last = "output" if made in {SENTENCE, TOKENS} else made
        node.name = made if made.startswith(_PREFIX) else f"{_PREFIX}{last}"
    return nodes


def _drop_unused(nodes: list[onnx.NodeProto]) -> None:
    while True:
        used = {name for node in nodes for name in node.input} | set(_OUTPUTS)
        unused = [node for node in nodes if not used & set(node.output)]
        if not unused:
            return
        for node in unused:
            nodes.remove(node)
