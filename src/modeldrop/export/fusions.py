"""Which models' layers onnxruntime can fuse: what variants ``o2`` to ``o4`` are made by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# onnxruntime's name of the fusions, by transformers' model_type. Source: optimum's ORTConfigManager.
_FUSIONS: Mapping[str, str] = {
    "albert": "bert",
    "bert": "bert",
    "camembert": "bert",
    "clip": "clip",
    "deberta": "bert",
    "deberta-v2": "bert",
    "deit": "vit",
    "dinov2": "vit",
    "distilbert": "bert",
    "electra": "bert",
    "gpt2": "gpt2",
    "llama": "gpt2",
    "mistral": "gpt2",
    "modernbert": "bert",
    "mpnet": "bert",
    "qwen2": "gpt2",
    "qwen3": "gpt2",
    "roberta": "bert",
    "vit": "vit",
    "xlm-roberta": "bert",
}
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_WIDTH = ("hidden_size", "n_embd", "dim")

FUSIBLE = tuple(_FUSIONS)
"""The model_types that have fusions."""


def fusions(config: Mapping[str, Any]) -> tuple[str, int, int]:
    """The name of a model's fusions, its number of attention heads and its width; 0 for what is found out.

    Args:
        config: its config.json; the model_type is one of ``FUSIBLE``.
    """
    kind = _FUSIONS[config["model_type"]]
    return kind, _first(config, _HEADS), _first(config, _WIDTH)


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)
