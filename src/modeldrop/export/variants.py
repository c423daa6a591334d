"""Which variants can be made of a source, and what onnxruntime can fuse in a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modeldrop.format.variants import FP32, OPENVINO, VARIANTS, VariantSpec

LIBRARIES = {"openvino": ("nncf", "openvino")}
"""The libraries that make variants, by the extra of modeldrop that brings them."""

_OPENVINO = [spec for spec in VARIANTS.values() if spec.quantizer == OPENVINO]

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
"""The model_types whose layers onnxruntime can fuse: ``o2`` to ``o4`` are made of these."""


CONVOLUTIONAL = frozenset(
    {
        "bit", "convnext", "convnextv2", "d_fine", "data2vec-audio", "detr", "efficientnet", "focalnet", "hgnet_v2",
        "hubert", "mobilenet_v1", "mobilenet_v2", "mobilevit", "mobilevitv2", "poolformer", "regnet", "resnet",
        "rt_detr", "rt_detr_v2", "sew", "sew-d", "table-transformer", "unispeech", "unispeech-sat", "van", "wav2vec2",
        "wav2vec2-conformer", "wavlm",
    }
)  # fmt: skip
"""The model_types whose work is convolutions: those onnxruntime slows down where it finds ranges while it runs."""


WITHOUT_PRODUCTS = CONVOLUTIONAL & {
    "bit", "efficientnet", "hgnet_v2", "mobilenet_v1", "mobilenet_v2", "regnet", "resnet", "van",
}  # fmt: skip
"""Those of them that have no matrix products that blocks of weights could be made of."""


def openvino_variant(bits: int) -> VariantSpec:
    """The OpenVINO variant whose weights have so many bits."""
    return next(spec for spec in _OPENVINO if spec.options["bits"] == bits)


def makeable(origin: VariantSpec) -> tuple[str, ...]:
    """The variants that can be made of a source whose graphs are those of the variant ``origin``.

    Of ONNX in fp32 all, of other ONNX graphs none but itself; of an OpenVINO graph itself and those of fewer bits,
    unless its weights are quantized already.
    """
    if origin is FP32:
        return tuple(VARIANTS)
    if origin.quantizer != OPENVINO:
        return (origin.name,)
    bits = origin.options["bits"]
    return tuple(spec.name for spec in _OPENVINO if spec is origin or (bits >= 16 and spec.options["bits"] < bits))


def fusions(config: Mapping[str, Any]) -> tuple[str, int, int]:
    """The name of a model's fusions, its number of attention heads and its width; 0 where config.json has none.

    Args:
        config: its config.json; the model_type is one of ``FUSIBLE``.
    """
    return _FUSIONS[config["model_type"]], _first(config, _HEADS), _first(config, _WIDTH)


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((config[name] for name in names if isinstance(config.get(name), int)), 0)
