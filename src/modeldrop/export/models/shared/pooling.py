"""The pooling head of sentence embedders, as ONNX nodes and as PyTorch.

A sentence-transformers model is a list of modules (modules.json). What follows the transformer (Pooling, Dense,
Normalize) is appended to the exported graph, so that it answers ``sentence_embedding`` by itself.
Definitions: sentence_transformers.models.Pooling and Dense.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modeldrop.errors import SourceError, TaskError
from modeldrop.export.bge_m3 import COLBERT_FILE, SPARSE_FILE
from modeldrop.export.sentence_modules import (
    DENSE,
    NORMALIZE,
    POOLING,
    SPLADE,
    dense_activation,
    is_late,
    pooling_modes,
    read_modules,
    splade_mode,
)
from modeldrop.format.tasks import SPARSE_VECTORS, TOKEN_VECTORS
from modeldrop.util.text import first_line

if TYPE_CHECKING:
    import onnx
    import torch

    from modeldrop.export.sentence_config import SentenceConfig

SENTENCE, TOKENS = "sentence_embedding", "token_embeddings"
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
HIDDEN, LOGITS = "last_hidden_state", "logits"


@dataclass(frozen=True)
class Dense:
    """A linear layer after pooling: weight [out, in], bias [out] or None, and its activation's ONNX name."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    activation: str


@dataclass(frozen=True, slots=True)
class TokenLayers:
    """What bge-m3 has besides what is pooled.

    Attributes:
        weighing: what gives every token a weight.
        late: what gives every token but the first a vector.
    """

    weighing: Dense
    late: Dense


@dataclass(frozen=True)
class Head:
    """What follows the transformer.

    Attributes:
        modes: of the pooling; their vectors are concatenated. () where every token keeps a vector (ColBERT).
        dense: layers behind it.
        normalize: whether vectors are made as long as 1.
        truncate_dim: how many numbers of a vector count, None for all; what is left is not normalized again.
        of: the output of the graph that is pooled.
        beside: what it answers besides (bge-m3).
    """

    modes: tuple[str, ...]
    dense: tuple[Dense, ...]
    normalize: bool
    truncate_dim: int | None = None
    of: str = HIDDEN
    beside: TokenLayers | None = None

    @property
    def by_token(self) -> bool:
        """Whether every token keeps a vector: late interaction."""
        return not self.modes

    @property
    def answers(self) -> str:
        """The output that it makes."""
        return TOKENS if self.by_token else SENTENCE

    @property
    def sparse(self) -> bool:
        """Whether vectors have a number for every token of the vocabulary, most of them 0."""
        return self.of == LOGITS


def read_head(folder: Path, config: SentenceConfig) -> Head | None:
    """The head that a source's modules.json describes; None where there is no modules.json.

    Args:
        folder: the source.
        config: its config_sentence_transformers.json.

    Raises:
        TaskError: a module or pooling mode that cannot be appended to the graph.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return None
    modules = read_modules(json.loads(path.read_text("utf-8")))
    if is_late(modules):
        layers = [_dense(folder / module.path) for module in modules if module.kind == DENSE]
        return Head((), tuple(layers), normalize=True)
    for module in modules:
        if module.kind == SPLADE:
            plain = json.loads((folder / module.path / "config.json").read_text("utf-8"))
            return Head((splade_mode(plain),), (), normalize=False, of=LOGITS)
    pooling = next((module for module in modules if module.kind == POOLING), None)
    if pooling is None:
        raise TaskError("modules.json has no Pooling module.", "Add one, or remove modules.json from the source.")
    options = json.loads((folder / pooling.path / "config.json").read_text("utf-8"))
    dense = [_dense(folder / module.path) for module in modules if module.kind == DENSE]
    normalize = modules[-1].kind == NORMALIZE
    modes = pooling_modes(options, config.prompts)
    return Head(modes, tuple(dense), normalize, config.truncate_dim, beside=_token_layers(folder))


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
    """What ``append_head`` and ``append_truncated`` have added to a graph."""

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


def pool(head: Head, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The head in PyTorch: ``hidden`` [batch, sequence, hidden], mask [batch, sequence] → [batch, dimension].

    Where every token keeps a vector: [batch, sequence, dimension].
    """
    import torch

    mask = attention_mask.unsqueeze(-1).float()
    length = mask.sum(1).clamp(min=1e-9)
    pooled = []
    for mode in head.modes:
        if mode.startswith("splade"):
            scores = (hidden * mask).relu().log1p()
            scores = scores.log1p() if mode.endswith("_log") else scores
            pooled.append(scores.sum(1) if "sum" in mode else scores.max(1).values)
        elif mode == "cls":
            pooled.append(hidden[:, 0])
        elif mode == "max":
            pooled.append(hidden.masked_fill(mask == 0, -1e9).max(1).values)
        elif mode == "lasttoken":
            index = (attention_mask * torch.arange(1, attention_mask.shape[1] + 1)).argmax(1)
            pooled.append(hidden[torch.arange(hidden.shape[0]), index])
        elif mode == "weightedmean":
            weight = mask * torch.arange(1, hidden.shape[1] + 1).view(1, -1, 1)
            pooled.append((hidden * weight).sum(1) / weight.sum(1))
        else:
            divisor = length.sqrt() if mode == "mean_sqrt_len_tokens" else length
            pooled.append((hidden * mask).sum(1) / divisor)
    vector = hidden if head.by_token else torch.cat(pooled, 1)
    for layer in head.dense:
        vector = torch.nn.functional.linear(vector, layer.weight, layer.bias)
        if layer.activation != "Identity":
            vector = getattr(torch, layer.activation.lower())(vector)
    if head.normalize:
        vector = torch.nn.functional.normalize(vector, dim=-1)
    return vector if head.by_token else vector[:, : head.truncate_dim]


def answer_beside(head: Head, hidden: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a head makes besides, in PyTorch, by the name of the output; {} where it makes nothing else.

    FlagEmbedding 1.4.2, ``EncoderOnlyEmbedderM3ModelForInference.forward`` (finetune/embedder/encoder_only/m3):
    ``relu(sparse_linear(h))`` [batch, sequence, 1], and ``normalize(colbert_linear(h[:, 1:]) * mask[:, 1:])``
    [batch, sequence - 1, width].
    """
    import torch

    if head.beside is None:
        return {}
    weighing, late = head.beside.weighing, head.beside.late
    weights = torch.nn.functional.linear(hidden, weighing.weight, weighing.bias).relu()
    vectors = torch.nn.functional.linear(hidden[:, 1:], late.weight, late.bias)
    vectors = torch.nn.functional.normalize(vectors * attention_mask[:, 1:, None].float(), dim=-1)
    return {SPARSE_VECTORS: weights, TOKEN_VECTORS: vectors}


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights of a module, by name.

    A pickle is there only where the recipe allows it; and one of tensors alone is all that is loaded.
    """
    import torch
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    if path.is_file():
        return load_file(path)
    pickled: dict[str, torch.Tensor] = torch.load(folder / "pytorch_model.bin", weights_only=True)
    return pickled


def _dense(folder: Path) -> Dense:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    weights = load_weights(folder)
    bias = weights.get("linear.bias")
    return Dense(weights["linear.weight"].float(), None if bias is None else bias.float(), dense_activation(config))


def _token_layers(folder: Path) -> TokenLayers | None:
    """The layers of bge-m3, which are taken together or not at all."""
    if not (folder / SPARSE_FILE).is_file():
        return None
    return TokenLayers(weighing=_linear(folder / SPARSE_FILE), late=_linear(folder / COLBERT_FILE))


def _linear(path: Path) -> Dense:
    """A ``torch.nn.Linear`` that torch has saved. A pickle of tensors alone is loaded."""
    import torch

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        return Dense(weights["weight"].float(), weights["bias"].float(), "Identity")
    except Exception as error:
        raise SourceError(
            f"{path.name} is not what torch saves of a linear layer (weight, bias): {first_line(error)}",
            "Put the file that FlagEmbedding has written beside the weights, or remove it from a copy of the source.",
        ) from error


_PREFIX = "modeldrop_pooling/"
_SHARED = frozenset(
    {
        "h", "one", "two", "flat", "mask", "masked", "counted", "tiny", "length", "unit", "zeros", "ones", "pooled",
    }
)  # fmt: skip
_OUTPUTS = (SENTENCE, TOKENS, SPARSE_VECTORS, TOKEN_VECTORS)
_GRAPH_NAMES = frozenset({HIDDEN, LOGITS, "attention_mask", *_OUTPUTS})


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
