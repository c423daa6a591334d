"""The pooling head of sentence embedders: read from the source, and computed by PyTorch.

A sentence-transformers model is a list of modules (modules.json). What follows the transformer (Pooling, Dense,
Normalize) is the head; ``pooling_graph.py`` appends it to the exported graph.
Definitions: sentence_transformers.models.Pooling and Dense.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.errors import SourceError, TaskError
from modeldrop.export.sentence_modules import (
    COLBERT_FILE,
    DENSE,
    NORMALIZE,
    POOLING,
    SPARSE_FILE,
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
    import torch

    from modeldrop.export.sentence_config import SentenceConfig

SENTENCE, TOKENS = "sentence_embedding", "token_embeddings"
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
